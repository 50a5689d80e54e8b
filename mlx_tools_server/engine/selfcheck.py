"""The self-check's items that need the engine: run on the machine and the backend of a user.

Rules of this file:
- It runs in a process of its own (`python -m mlx_tools_server.engine.selfcheck ITEMS FOLDER
  [options]`) and says a line of JSON for each item, so that whoever started it can end it.
- An item returns what it measured, or raises `Wrong` or `NotHere`. It shows no text of the model.
- The model's own KV cache on disk is never touched: `FOLDER` takes its place.
"""

from __future__ import annotations

import gc
import json
import shutil
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx

from .. import scratch
from ..budgets import DISK_FLOOR
from ..chosen import with_demo_model
from ..config import ServerConfig
from ..events import EngineEvent, Sampled, TokenLogprob, fold
from ..flags import load_config
from ..jsontext import loads
from ..messages import ChatRequest, Message, Options, Sampling, ToolChoice, ToolSpec
from ..places import cache_folder
from .diagnosis import device
from .engine import NEVER, Engine
from .prompts import Prompt
from .reader import ReaderSpec

# Seconds that a model has to be loaded; whoever started this process ends it sooner.
LOADING = 3600.0
# A block of the KV cache and some more.
FIRST, MORE = 300, 60
SAID = 16
# Tokens of an answer that outlasts what is done beside it.
LONG = 4000
# Two tokens whose log probabilities differ by less may change places: in a batch, sums are made in
# another order.
TIE = 0.25
TOGETHER = 4
# Seconds, beyond a few steps, after which the place of a cancelled request must be taken.
LEAVING = 1.0
COLOURS = ["red", "green", "blue"]
PAINT = ToolSpec(
    "paint",
    "Paint something.",
    {
        "type": "object",
        "properties": {
            "colour": {"type": "string", "enum": COLOURS},
            "twice": {"type": "boolean"},
            "litres": {"type": "integer", "minimum": 1, "maximum": 9},
        },
        "required": ["colour", "twice", "litres"],
        "additionalProperties": False,
    },
)


class Wrong(Exception):
    """What an item found is not what it should be."""


class NotHere(Exception):
    """The item makes no sense for this model or these settings."""


@dataclass(frozen=True, slots=True)
class Said:
    """What continued a prompt: tokens, their log probabilities, and how much was cached."""

    tokens: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...]
    cached: int


class Bench:
    """A model and the engines that items start on it; `folder` is for their KV caches."""

    def __init__(self, config: ServerConfig, folder: Path) -> None:
        self.config = config
        self.folder = folder
        self._stack = ExitStack()
        self._shared: Engine | None = None

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._shared = None
        self._stack.close()

    @property
    def shared(self) -> Engine:
        """An engine that keeps nothing on disk, for all items that need just one."""
        if self._shared is None:
            config = replace(self.config, no_kv_disk=True, kv_dir=None, decode_concurrency=TOGETHER)
            self._shared = self._stack.enter_context(_loaded(config))
        return self._shared

    def on_disk(self, ask: Callable[[Engine], Said]) -> Said:
        """Ask an engine that keeps its KV cache in the folder; it is gone when this returns."""
        config = replace(
            self.config, no_kv_disk=False, kv_dir=str(self.folder), kv_disk_bytes=20 * 10**9
        )
        try:
            with _loaded(config) as engine:
                said = ask(engine)
            del engine
        finally:
            gc.collect()
            mx.clear_cache()
        return said


def _loaded(config: ServerConfig) -> Engine:
    engine = Engine(config, "m")
    if not engine.wait_until_loaded(LOADING):
        raise Wrong("the model was not loaded in an hour")
    return engine


def prompt_ids(engine: Engine, count: int, seed: int = 0) -> tuple[int, ...]:
    """Return some tokens of the model's vocabulary, those at its beginning and end left out."""
    span = max(1, engine.model.vocabulary - 300)
    return tuple(100 + (seed * 7919 + i * i + 3 * i) % span for i in range(count))


def say(engine: Engine, ids: tuple[int, ...], tokens: int = SAID) -> Said:
    """Return what continues these tokens, as many as are asked for: none that ends an answer."""
    never = dict.fromkeys(engine.model.eos, NEVER)
    options = Options(max_tokens=tokens, top_logprobs=3, sampling=Sampling(logit_bias=never))
    # What is short and has no tools is not kept on disk.
    spec = ReaderSpec(raw=True, max_tokens=tokens, tools=(PAINT,))
    answer = fold(engine.run(Prompt(ids, spec), options))
    if answer.finished is None:
        raise Wrong(f"the model failed: {answer.failed.message if answer.failed else 'no end'}")
    usage = answer.finished.usage
    return Said(answer.finished.tokens, tuple(answer.logprobs), usage.cached_tokens)


# --- The items ----------------------------------------------------------------------------------


def machine(_: Bench) -> str:
    """The device that the model runs on."""
    told = device()
    size = told.get("max_recommended_working_set_size") or told.get("memory_size")
    return f"{told['kind']}, {told['name']}" + (f", {int(size) / 1e9:.1f} GB" if size else "")


def restore(bench: Bench) -> str:
    """A KV cache read from disk goes on as the one in memory does, to the last bit."""
    if bench.config.draft_model:
        raise NotHere("with a draft model the KV cache is kept in memory only")
    if shutil.disk_usage(bench.folder.parent).free < DISK_FLOOR:
        raise NotHere(f"less than {DISK_FLOOR // 10**9} GB are free, so nothing is kept on disk")
    asked: list[tuple[int, ...]] = []

    def first(engine: Engine) -> Said:
        asked.append(prompt_ids(engine, FIRST))
        return say(engine, asked[0])

    said = bench.on_disk(first)
    engine_ids = asked[0] + said.tokens
    further = tuple(reversed(asked[0][:MORE]))
    cold = bench.on_disk(lambda engine: say(engine, engine_ids + further))
    say(bench.shared, asked[0])
    hot = say(bench.shared, engine_ids + further)
    if cold.cached < FIRST:
        raise Wrong(f"{cold.cached} of {len(engine_ids)} tokens were restored from disk")
    if cold.cached != hot.cached:
        raise Wrong(f"{cold.cached} tokens were restored, and {hot.cached} are kept in memory")
    if cold.tokens != hot.tokens:
        raise Wrong(f"the tokens differ from number {_first_difference(cold, hot)} on")
    if cold.logprobs != hot.logprobs:
        raise Wrong("the tokens are the same, and their log probabilities are not")
    return f"{cold.cached} tokens restored, {len(cold.logprobs)} tokens the same to the last bit"


def masks(bench: Bench) -> str:
    """A call that is demanded comes, and fits its schema."""
    engine = bench.shared
    request = ChatRequest(
        (Message("user", "Hello!"),),
        (PAINT,),
        ToolChoice("required"),
        parallel_tool_calls=False,
        template_kwargs={"enable_thinking": False},
        options=Options(max_tokens=2000),
    )
    prompt = engine.prepare_chat(request)
    if prompt.plan is None or not prompt.plan.guides:
        raise NotHere("calls of this family have no grammar yet")
    answer = fold(engine.run(prompt, request.options))
    if len(answer.calls) != 1 or answer.calls[0].name != PAINT.name:
        raise Wrong(f"{len(answer.calls)} calls came, not the one that was demanded")
    arguments = loads(answer.calls[0].text)
    if not _fits(arguments):
        raise Wrong("the arguments don't fit their schema")
    tokens = answer.finished.usage.completion_tokens if answer.finished else 0
    return f"a call of {tokens} tokens that fits its schema"


def _fits(arguments: Mapping[str, Any]) -> bool:
    litres = arguments.get("litres")
    return (
        set(arguments) == {"colour", "twice", "litres"}
        and arguments["colour"] in COLOURS
        and type(arguments["twice"]) is bool
        and type(litres) is int
        and 1 <= litres <= 9
    )


def threads(bench: Bench) -> str:
    """Requests of several threads at once get the answers that they get one by one."""
    engine = bench.shared
    prompts = [prompt_ids(engine, 40 + 37 * i, seed=i) for i in range(1, TOGETHER + 1)]
    with ThreadPoolExecutor(TOGETHER) as pool:
        together = list(pool.map(lambda ids: say(engine, ids), prompts))
    alone = [say(engine, ids) for ids in prompts]
    ties = 0
    for number, (one, other) in enumerate(zip(together, alone, strict=True), 1):
        if one.tokens == other.tokens:
            continue
        place = _first_difference(one, other)
        if gap(other.logprobs[place]) > TIE:
            raise Wrong(f"answer {number} of {TOGETHER} differs from token {place} on")
        ties += 1
    told = f"{TOGETHER - ties} of {TOGETHER} answers are the same"
    return f"{told}; {ties} parted where two tokens were as likely" if ties else told


def _first_difference(one: Said, other: Said) -> int:
    pairs = enumerate(zip(one.tokens, other.tokens, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one.tokens), len(other.tokens)))


def gap(token: TokenLogprob) -> float:
    """Return how far apart the two likeliest tokens were."""
    likely = sorted((logprob for _, logprob in token.top), reverse=True)
    return likely[0] - likely[1] if len(likely) > 1 else 0.0


def cancel(bench: Bench) -> str:
    """A request whose client goes leaves its place at the next step, to one that waits for it."""
    engine = bench.shared
    places = 1 if engine.sequential else TOGETHER
    running = [_endless(engine, seed) for seed in range(places)]
    with ThreadPoolExecutor(1) as pool:
        try:
            steps = [_sampled(events, 1) for events in running]
            step = _sampled(running[-1], 8) / 8
            waiting = pool.submit(_sampled, _endless(engine, places), 1)
            time.sleep(5 * step)
            if waiting.done():
                raise Wrong(f"more than {places} requests were at work")
            began = time.monotonic()
            running[0].close()
            waiting.result(timeout=LEAVING + 10 * step + 2 * max(steps))
            took = time.monotonic() - began
        except TimeoutError:
            raise Wrong("the place of a request that was cancelled stayed taken") from None
        finally:
            for events in running:
                events.close()
    return f"the next one spoke after {took * 1000:.0f} ms; a step takes {step * 1000:.1f} ms"


def _endless(engine: Engine, seed: int) -> Generator[EngineEvent, None, None]:
    """Return the events of an answer that goes on for long."""
    never = dict.fromkeys(engine.model.eos, NEVER)
    options = Options(max_tokens=LONG, top_logprobs=0, sampling=Sampling(logit_bias=never))
    prompt = Prompt(prompt_ids(engine, 50, 20 + seed), ReaderSpec(raw=True, max_tokens=LONG))
    return engine.run(prompt, options)


def _sampled(events: Generator[EngineEvent, None, None], count: int) -> float:
    """Hear so many tokens of an answer; return the seconds that they took."""
    began = time.monotonic()
    for event in events:
        count -= isinstance(event, Sampled)
        if count <= 0:
            return time.monotonic() - began
    raise Wrong("the answer ended by itself")


ITEMS: Mapping[str, Callable[[Bench], str]] = {
    "machine": machine,
    "restore": restore,
    "masks": masks,
    "threads": threads,
    "cancel": cancel,
}


def main(argv: Sequence[str]) -> int:
    """Run the items that are named first, and say how each went."""
    scratch.set_up(cache_folder())
    names, folder, *options = argv
    with Bench(with_demo_model(load_config(options, {})), Path(folder)) as bench:
        for name in names.split(","):
            began = time.monotonic()
            status, detail = _outcome(ITEMS[name], bench)
            seconds = round(time.monotonic() - began, 2)
            line = {"item": name, "status": status, "detail": detail, "seconds": seconds}
            sys.stdout.write(f"{json.dumps(line)}\n")
            sys.stdout.flush()
    return 0


def _outcome(item: Callable[[Bench], str], bench: Bench) -> tuple[str, str]:
    try:
        return "ok", item(bench)
    except Wrong as wrong:
        return "failed", str(wrong)
    except NotHere as reason:
        return "skipped", str(reason)
    except Exception as error:  # noqa: BLE001  a failed item must not stop the others
        return "failed", f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
