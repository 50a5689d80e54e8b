"""The one place that touches mlx-lm's private names, and the list of what it relies on.

Rules of this file:
- Everything that mlx-lm does not promise (a name with an underscore, a tuple's shape, a module
  function that a method calls by name) is used here and nowhere else, under a name of ours.
- Each such thing stands in `CONTRACT`, which is checked when the server starts and in the tests:
  when a new mlx-lm breaks one, the message says which.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Protocol

import mlx.core as mx
from mlx_lm import sample_utils, server
from mlx_lm.models import cache as mlx_cache
from mlx_lm.server import APIHandler, ModelProvider
from mlx_lm.server import GenerationContext as Context
from mlx_lm.tokenizer_utils import TokenizerWrapper

from ..errors import StartupError
from .sampling import sampler

__all__ = [
    "APIHandler",
    "Context",
    "GenerationLoop",
    "ModelProvider",
    "PromptCache",
    "TokenizerWrapper",
    "check_contract",
]

# What the code below relies on: the parameters of each function, or the fields of a dataclass.
CONTRACT: dict[str, tuple[Any, str]] = {
    "ResponseGenerator.__init__": (server.ResponseGenerator, "self model_provider prompt_cache"),
    "ResponseGenerator._generate": (server.ResponseGenerator, "self"),
    "ResponseGenerator._run_generate": (server.ResponseGenerator, "self"),
    "ResponseGenerator._tokenize": (server.ResponseGenerator, "self tokenizer request args"),
    "ResponseGenerator._log_cache_stats": (server.ResponseGenerator, "self"),
    "ResponseGenerator._make_state_machine": (
        server.ResponseGenerator,
        "self model_key tokenizer stop_words",
    ),
    "ResponseGenerator.generate": (
        server.ResponseGenerator,
        "self request generation_args progress_callback",
    ),
    "ResponseGenerator.stop_and_join": (server.ResponseGenerator, "self"),
    "ModelProvider.__init__": (server.ModelProvider, "self cli_args"),
    "ModelProvider.load": (
        server.ModelProvider,
        "self model_path adapter_path draft_model_path",
    ),
    "ModelProvider.load_default": (server.ModelProvider, "self"),
    "APIHandler.__init__": (
        server.APIHandler,
        "self response_generator args system_fingerprint kwargs",
    ),
    "_make_sampler": (server, "args tokenizer"),
    "_make_logits_processors": (server, "args"),
    "TimeBudget.__init__": (server.TimeBudget, "self budget iterations sync_frequency"),
    "LRUPromptCache.__init__": (mlx_cache.LRUPromptCache, "self max_size max_bytes"),
    "LRUPromptCache.fetch_nearest_cache": (mlx_cache.LRUPromptCache, "self model tokens"),
    "LRUPromptCache.insert_cache": (
        mlx_cache.LRUPromptCache,
        "self model tokens prompt_cache cache_type",
    ),
    "PromptTrie.search": (mlx_cache.PromptTrie, "self model tokens"),
    "TextStateMachine.make_state": (server.TextStateMachine, "self initial"),
    "TextStateMachine.split": (server.TextStateMachine, "state text"),
    "TextStateMachine.flush": (server.TextStateMachine, "state"),
    "make_text_state_machine": (server, "tokenizer stop_words"),
    "make_sampler": (
        sample_utils,
        "temp top_p min_p min_tokens_to_keep top_k xtc_probability xtc_threshold"
        " xtc_special_tokens",
    ),
}
FIELDS: dict[type, str] = {
    server.CompletionRequest: "request_type prompt messages tools role_mapping",
    server.GenerationArguments: "model sampling logits stop_words max_tokens num_draft_tokens"
    " logprobs top_logprobs seed chat_template_kwargs",
    server.GenerationContext: "has_tool_calling has_thinking tool_parser text_sm initial_state"
    " prompt prompt_cache_count _should_stop",
    server.ModelDescription: "model draft adapter",
    server.Response: "text token logprob finish_reason top_tokens",
    mlx_cache.PromptTrieResult: "model exact shorter longer common_prefix",
}


def broken_seams() -> list[str]:
    """Return what of the contract this mlx-lm does not keep, one line each."""
    broken = []
    for name, (owner, expected) in CONTRACT.items():
        function = getattr(owner, name.rpartition(".")[2], None)
        found = " ".join(inspect.signature(function).parameters) if function else "missing"
        if found != expected:
            broken.append(f"{name}({expected}) is now ({found})")
    for owner, expected in FIELDS.items():
        found = " ".join(getattr(owner, "__dataclass_fields__", ()))
        if found != expected:
            broken.append(f"{owner.__name__} has the fields {found}, not {expected}")
    return broken


def check_contract() -> None:
    """Raise StartupError if the installed mlx-lm is not the one this code was written for."""
    if broken := broken_seams():
        raise StartupError(
            f"mlx-lm {version('mlx-lm')} differs from what this server needs: {broken[0]}",
            "Install a version that fits: pip install 'mlx-lm>=0.32.1,<0.33'",
        )


class AnswerReader(Protocol):
    """Sees each token of one answer in the generation loop, and may end the answer there."""

    def advance(self, token: int) -> bool:
        """Read a token; True ends the answer, and its KV cache is kept."""


@dataclass
class LoopRequest(server.CompletionRequest):
    """A request whose prompt is already token ids."""

    ids: Sequence[int] = ()


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
        super().__init__(provider, cache)

    # Hooks.

    def main(self) -> None:
        """Run in the generation thread; calls `serve_batches`."""
        self.serve_batches()

    def reader(self, spec: Any) -> AnswerReader:
        """Return the reader for the answer that `spec` describes."""
        raise NotImplementedError

    # What the engine calls.

    def serve_batches(self) -> None:
        """Serve requests until the server stops; an exception leaves it ready to be called anew."""
        self._generate()

    def use_queue(self, queue: Any) -> None:
        """Take requests from `queue`; it has `get(timeout=)` and `get_nowait()`."""
        self.requests = queue

    def set_time_budget(self, seconds: float) -> None:
        """Look for new requests after this long of decoding; machines in step tune their own."""
        if not self._is_distributed:
            self._time_budget = server.TimeBudget(budget=seconds)

    @property
    def distributed(self) -> bool:
        """Whether several machines serve the model together."""
        return bool(self._is_distributed)

    @property
    def rank(self) -> int:
        """This machine's number; 0 talks to clients."""
        return int(self._rank)

    @property
    def stopping(self) -> bool:
        """Whether the server was asked to stop."""
        return bool(self._stop)

    def give_up(self) -> None:
        """Mark the loop as dead: it serves nobody any more."""
        self._generation_failed = True

    # mlx-lm's own names.

    def _run_generate(self) -> None:
        self.main()

    def _log_cache_stats(self) -> None:
        """Say nothing: mlx-lm logs the state of its cache with every request."""

    def _tokenize(self, tokenizer: Any, request: Any, args: Any) -> tuple[Any, ...]:
        ids = list(request.ids)
        return ids, [ids[:]], ["assistant"], "normal", None

    def _make_state_machine(self, model_key: Any, tokenizer: Any, stop_words: Any) -> Any:
        reader = self.reader(stop_words)
        return _Matcher(reader), reader


def arguments(
    *, spec: Any, sampling: Any, processors: dict[str, Any], max_tokens: int, **rest: Any
) -> Any:
    """Return a request's arguments. All name the same model: another would drain the batch."""
    return server.GenerationArguments(
        model=server.ModelDescription("default_model", "default_model", None),
        sampling=sampling,
        logits=server.LogitsProcessorArguments(**processors),
        stop_words=spec,
        max_tokens=max_tokens,
        seed=None,  # the sampler has it: a seed here would serve the request alone
        chat_template_kwargs=None,
        **rest,
    )


def loop_request(ids: Sequence[int]) -> LoopRequest:
    """Return a request for these prompt ids."""
    return LoopRequest("text", "", [], None, None, ids)


def interrupt(context: Context) -> None:
    """Ask the loop to drop an answer; its KV cache is lost."""
    context.stop()


def answer_reader(context: Context) -> Any:
    """Return the reader that the loop made for an answer."""
    return context.text_sm


def _sampler(args: Any, tokenizer: Any) -> Any:
    return sampler(args.sampling, tokenizer)


# The loop calls this module function by its name.
server._make_sampler = _sampler


class _LinearTrie(mlx_cache.PromptTrie):
    """Finds some longer sequence by walking down once, where mlx-lm compares all of them."""

    def search(self, model: Any, tokens: list[int]) -> Any:
        node = self._trie.get(model)
        if node is None:
            return mlx_cache.PromptTrieResult(model, None, None, None, 0)
        depth, last = 0, 0
        while depth < len(tokens) and tokens[depth] in node:
            node = node[tokens[depth]]
            depth += 1
            if "__value__" in node:
                last = depth
        if last and last == len(tokens):
            return mlx_cache.PromptTrieResult(model, tokens, None, None, 0)
        longer = None
        if depth:
            path = tokens[:depth]
            while "__value__" not in node:
                token, node = next(iter(node.items()))
                path.append(token)
            longer = path
        shorter = tokens[:last] if last else None
        return mlx_cache.PromptTrieResult(model, None, shorter, longer, depth)


class PromptCache(mlx_cache.LRUPromptCache):
    """mlx-lm's in-memory prompt cache, without the ways in which it stops the server."""

    def __init__(self, max_size: int, max_bytes: int | None) -> None:
        super().__init__(max_size, 1 << 63 if max_bytes is None else max_bytes)
        self._trie = _LinearTrie()

    def fetch_nearest_cache(self, model: Any, tokens: list[int]) -> tuple[Any, list[int]]:
        """Return a cache for a prefix of the tokens, and the rest, which is never empty."""
        found, rest = super().fetch_nearest_cache(model, tokens[:-1])
        return found, rest + tokens[-1:]

    def insert_cache(
        self, model: Any, tokens: list[int], prompt_cache: Any, *, cache_type: str = "assistant"
    ) -> None:
        """Keep a cache; it is computed first, so that a later failure can't spoil it."""
        mx.eval([part.state for part in prompt_cache])
        super().insert_cache(model, tokens, prompt_cache, cache_type=cache_type)


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
