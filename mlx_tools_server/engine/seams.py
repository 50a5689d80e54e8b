"""The one place, with `layers` for its KV cache and `steps`, that touches mlx-lm's private names.

Rules of this file:
- Everything that mlx-lm does not promise (a name with an underscore, a tuple's shape, a module
  function that a method calls by name) is used here and nowhere else, under a name of ours.
- Each such thing stands in `contract`, which is checked when the server starts and in the tests:
  when a new mlx-lm breaks one, the message says which.
"""

from __future__ import annotations

import gc
import logging
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import mlx.core as mx
from mlx_lm import load, server
from mlx_lm.server import APIHandler, ModelProvider
from mlx_lm.server import GenerationContext as Context
from mlx_lm.tokenizer_utils import NewlineTokenizer, TokenizerWrapper

from .layers import PromptCache, fresh_cache
from .sampling import sampler
from .slices import Slice
from .steps import AnswerReader, Guided

log = logging.getLogger(__name__)

__all__ = [
    "APIHandler",
    "Context",
    "GenerationLoop",
    "ModelProvider",
    "TokenizerWrapper",
    "load",
]


@dataclass
class LoopRequest(server.CompletionRequest):
    """A request whose prompt is already token ids.

    `loaded` is what was read of its KV cache, `system` how many tokens its system prompt has, and
    `side` and `asked` what `BlockCache.expect` says of it.
    """

    ids: Sequence[int] = ()
    loaded: Any = ()
    side: bool = False
    asked: bool = False
    system: int = 0


class BlockCache(Protocol):
    """What keeps the KV cache in blocks, in place of mlx-lm's prompt cache."""

    def expect(self, ids: Sequence[int], loaded: Any, *, side: bool, asked: bool) -> None:
        """Hear which prompt is fetched next, and what was loaded of it.

        `side` requests must not displace others; one that is `asked` ends with a user's message.
        """

    def keep_blocks(self, tokens: list[int], layers: Sequence[Any]) -> None:
        """Keep what is computed so far of a prompt."""

    @property
    def nbytes(self) -> int:
        """How much memory it takes."""


class _Matcher:
    """What the loop takes for stop sequences: one answer's reader."""

    def __init__(self, reader: AnswerReader) -> None:
        self._reader = reader

    def matcher(self) -> AnswerReader:
        return self._reader


class GenerationLoop(server.ResponseGenerator):
    """mlx-lm's generation thread, with the hooks that the engine fills.

    The thread starts in the constructor, so a subclass sets its own attributes first.
    """

    def __init__(self, provider: ModelProvider, cache: PromptCache) -> None:
        self._stop_wanted = self._keeps_blocks = False
        super().__init__(provider, cache)

    # Hooks.

    def main(self) -> None:
        """Run in the generation thread; calls `serve_batches`."""
        self.serve_batches()

    def reader(self, spec: Any) -> AnswerReader:
        """Return the reader for the answer that `spec` describes."""
        raise NotImplementedError

    def when_stopping(self) -> None:
        """End what the loop is at: it looks whether it is to stop between requests only."""

    # What the engine calls.

    def serve_batches(self) -> None:
        """Serve requests until the server stops; an exception leaves it ready to be called anew."""
        self.model_provider.tokenizer._detokenizer = _Mute()
        _loop.keep = self.prompt_cache.keep_blocks if self._keeps_blocks else None
        self._generate()

    def use_cache(self, cache: BlockCache) -> None:
        """Keep the KV cache in blocks; call it before `serve_batches`."""
        self.prompt_cache = cache
        self._keeps_blocks = True

    def use_queue(self, queue: Any) -> None:
        """Take requests from `queue`; it has `get(timeout=)` and `get_nowait()`."""
        self.requests = queue

    def set_time_budget(self, seconds: float) -> None:
        """Look for new requests after this long of decoding; machines in step tune their own."""
        if not self._is_distributed:
            self._time_budget = Slice(seconds)

    @property
    def distributed(self) -> bool:
        """Whether several machines serve the model together."""
        return bool(self._is_distributed)

    @property
    def sequential(self) -> bool:
        """Whether the loaded model serves one request at a time."""
        return not self.model_provider.is_batchable or self.cli_args.kv_bits is not None

    @property
    def stopping(self) -> bool:
        """Whether the server was asked to stop."""
        return bool(self._stop)

    def stop_and_join(self) -> None:
        """Stop the loop, on all machines, and wait until its thread is gone."""
        if self._is_distributed and self.is_healthy:
            self._stop_wanted = True
            self.join()
        self._stop = True
        self.when_stopping()
        super().stop_and_join()
        _wait_for_exit(self._generation_thread)

    def release(self) -> None:
        """Drop the model and the caches, in the thread that made them."""
        self.model_provider.reset()
        self.__dict__.pop("prompt_cache", None)
        gc.collect()

    def computes(self) -> bool:
        """Return whether the model can take a single token: if not, no request is to blame."""
        model = self.model_provider.model
        try:
            mx.eval(model(mx.array([[0]]), cache=fresh_cache(model)))
        except Exception as error:  # noqa: BLE001  whatever it raises, it is broken
            log.error("The model fails without any request: %s", error)
            return False
        return True

    @property
    def failed(self) -> bool:
        """Whether the loop ended by a failure."""
        return bool(self._generation_failed)

    def give_up(self) -> None:
        """Mark the loop as dead: it serves nobody any more."""
        self._generation_failed = True

    # mlx-lm's own names.

    def _run_generate(self) -> None:
        self.main()

    def _log_cache_stats(self) -> None:
        """Say nothing: mlx-lm logs the state of its cache with every request."""

    def _next_request(self, timeout: float | None = None) -> Any:
        # Machines in step must leave in the same step, whichever of them was asked to.
        if self._is_distributed and mx.distributed.all_sum(mx.array(int(self._stop_wanted))).item():
            self._stop = True
            return None
        return super()._next_request(timeout)

    def _tokenize(self, tokenizer: Any, request: Any, args: Any) -> tuple[Any, ...]:
        ids = list(request.ids)
        if not self._keeps_blocks:
            return ids, [ids[:]], ["assistant"], "normal", None
        loaded, request.loaded = request.loaded, ()  # the loop may hold the request for long
        self.prompt_cache.expect(ids, loaded, side=request.side, asked=request.asked)
        if not 0 < request.system < len(ids):
            return ids, [ids[:]], ["prompt"], "normal", None
        parts = [ids[: request.system], ids[request.system :]]
        return ids, parts, ["system", "prompt"], "normal", None

    def _make_state_machine(self, model_key: Any, tokenizer: Any, stop_words: Any) -> Any:
        _loop.reader = reader = self.reader(stop_words)
        return _Matcher(reader), reader


def _wait_for_exit(thread: threading.Thread) -> None:
    """Wait until the system's thread has ended too, which joining says from Python 3.13 on only.

    mlx frees what it has compiled for a thread at its very end, and needs the interpreter for it:
    one that shuts down by then ends the process with an abort.
    """
    if sys.version_info >= (3, 13) or thread.native_id is None:
        return
    tasks = Path("/proc/self/task")
    until = time.monotonic() + (2.0 if tasks.exists() else 0.2)
    while time.monotonic() < until and (tasks / str(thread.native_id)).exists() == tasks.exists():
        time.sleep(0.005)


def arguments(
    *, spec: Any, sampling: Any, processors: dict[str, Any], max_tokens: int, **rest: Any
) -> Any:
    """Return a request's arguments. All name the same model: another would drain the batch."""
    return LoopArguments(
        model=server.ModelDescription("default_model", "default_model", None),
        sampling=sampling,
        logits=server.LogitsProcessorArguments(**processors),
        stop_words=spec,
        max_tokens=max_tokens,
        seed=None,  # the sampler has it: a seed here would serve the request alone
        chat_template_kwargs=None,
        **rest,
    )


def loop_request(ids: Sequence[int], **fields: Any) -> LoopRequest:
    """Return a request for these prompt ids."""
    return LoopRequest("text", "", [], None, None, ids, **fields)


def interrupt(context: Context) -> None:
    """Ask the loop to drop an answer; its KV cache is lost."""
    context.stop()


def answer_reader(context: Context) -> Any:
    """Return the reader that the loop made for an answer."""
    return context.text_sm


def _sampler(args: Any, tokenizer: Any) -> Any:
    return sampler(args.sampling, tokenizer)


# The loop calls this module function by its name.
# For a large top_k alone unnecessary with patches/003-validate-request-ranges; seeds need it.
server._make_sampler = _sampler


# For cancelled requests unnecessary with patches/010-keep-prompt-cache-of-cancelled-prefill.
class _Batches(server.BatchGenerator):
    """Hands over what each step of a prefill has computed, so that nothing later can lose it."""

    def next(self) -> Any:
        told = super().next()
        keep: Any = getattr(_loop, "keep", None)
        computing = [] if keep is None else [one.uid for one in told[0] if not one.end_of_prompt]
        for layers, tokens in self.extract_cache(computing).values():
            keep(tokens, layers)
        return told


@dataclass
class LoopArguments(server.GenerationArguments):
    """A request's arguments; `alone` says that it is served alone, and not in a batch."""

    alone: bool = False


_stock_processors = server._make_logits_processors


def _processors(args: Any) -> list[Any]:
    made: list[Any] = _stock_processors(args)
    # Who is served alone gets its reader right before.
    reader, _loop.reader = (_loop.reader if args.alone else None), None
    if reader is not None and reader.guide is not None:
        made.append(Guided(reader, reader.guide))
    return made


# The loop calls this module function by its name.
server._make_logits_processors = _processors


# Each generation thread has its own.
_loop = threading.local()
# The loop calls this class by its name.
server.BatchGenerator = _Batches


def backend_of(tokenizer: TokenizerWrapper) -> Any:
    """Return the `tokenizers.Tokenizer` that does all of the work, or None if Python code helps."""
    inner = tokenizer._tokenizer
    if isinstance(inner, NewlineTokenizer):
        return None
    return getattr(inner, "backend_tokenizer", None)


class _Mute:
    """A detokenizer for the loop, which needs no text: each answer's reader makes its own."""

    last_segment = text = ""

    def reset(self) -> None:
        """Do nothing."""

    def add_token(self, _: int) -> None:
        """Do nothing."""

    def finalize(self) -> None:
        """Do nothing."""


class StateMachine:
    """mlx-lm's own way of telling text, thoughts and calls apart, for one answer."""

    def __init__(self, tokenizer: TokenizerWrapper, *, tools: bool, thought_open: bool) -> None:
        view = tokenizer if tools else _WithoutTools(tokenizer)
        machine = server.make_text_state_machine(view)
        first = tokenizer.response_initial_state or ("reasoning" if thought_open else "normal")
        self._state = machine.make_state(first)

    def split(self, text: str) -> Iterable[tuple[str, str]]:
        """Return (state, text) pairs that are certain by now."""
        self._state, pieces = server.TextStateMachine.split(self._state, text)
        return pieces

    def flush(self) -> tuple[str, str]:
        """Return what was held back, with its state."""
        self._state, text, name = server.TextStateMachine.flush(self._state)
        return name, text


class _WithoutTools:
    """A tokenizer as the state machine sees it, for requests that offer no tools."""

    has_tool_calling = False

    def __init__(self, tokenizer: TokenizerWrapper) -> None:
        self._tokenizer = tokenizer

    @property
    def response_transitions(self) -> dict[str, Any]:
        return {
            state: [edge for edge in edges if edge[1] != "tool"]
            for state, edges in self._tokenizer.response_transitions.items()
        }

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)
