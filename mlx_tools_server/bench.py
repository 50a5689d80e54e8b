"""`bench`: what things cost, measured.

Rules of this file:
- A benchmark prints a table with its units, and says what it measured.
- Timings live here and never in a test's assertion.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from .child import Answer, Child, serving, tool
from .dialects.chat import ChatEncoder
from .errors import StartupError
from .events import Event, Finished, Started, Usage
from .families import FAMILIES
from .families.shapes.tag_call import write
from .kv import BLOCK, MemoryTier, Record, Store, chain, entries, seed
from .messages import ChatRequest, Message, ToolSpec
from .places import KV_FILES

TOKEN_CHARACTERS = 4
REPEATS = 5
REQUESTS = 20
RESTART_WORDS = 1_000
# The longest sequence on which mlx-lm's look-up ends within a minute.
STOCK_TOKENS = 20_000
SIZES = (2_000, 20_000, 200_000, 2_000_000)


def run(arguments: Sequence[str]) -> int:
    """Run the benchmark of this name; return the exit code."""
    benchmarks: dict[str, Callable[[Sequence[str]], None]] = {
        "parser": parser,
        "tokens": tokens,
        "lookup": lookup,
        "restart": restart,
    }
    if not arguments or arguments[0] not in benchmarks:
        raise StartupError("Which benchmark?", f"Give one of: {', '.join(benchmarks)}.")
    benchmarks[arguments[0]](arguments[1:])
    return 0


def lookup(flags: Sequence[str]) -> None:
    """Measure how long it takes to find what is kept of a prompt."""
    _no_flags("lookup", flags)
    # It loads mlx, which takes a while.
    from .engine.layers import StockPromptCache

    print(
        "Look up a prompt that parts from a kept sequence at some token. Median of "
        f"{REPEATS} runs, ms;\nmlx-lm's own is quadratic, and not run on long sequences."
    )
    print(f"{'kept tokens':>12} {'parts at':>9} {'ours':>9} {'mlx-lm':>9}")
    key = seed(b"bench")
    for size in (10_000, 20_000, 100_000):
        kept = list(range(size))
        memory = MemoryTier(1 << 30)
        store = Store(key, memory)
        parents = [key, *chain(key, kept)]
        for i, parent in enumerate(parents[:-1]):
            end = (i + 1) * BLOCK
            memory.add(Record(parents[i + 1], parent, "block", BLOCK, end, None, 1))
        stock = StockPromptCache(10)
        stock.insert_cache("m", kept, [_OneByte()])
        for share in (0.0, 0.05, 0.5, 1.0):
            place = int(size * share)
            prompt = kept[:place] + [-1] * (size - place + 500)
            times = [_milliseconds(partial(store.find, prompt, len(prompt) - 1))]
            if size <= STOCK_TOKENS:
                times.append(_milliseconds(partial(stock.fetch_nearest_cache, "m", prompt)))
            shown = " ".join(f"{time:>9.1f}" for time in times)
            print(f"{size:>12,} {place:>9,} {shown}")


class _OneByte:
    """A layer for mlx-lm's cache, which only wants to know its size and whether it can be cut."""

    nbytes = 1

    def is_trimmable(self) -> bool:
        return True

    def trim(self, count: int) -> int:
        return count


def _milliseconds(look: Callable[[], object]) -> float:
    runs = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        look()
        runs.append(time.perf_counter() - began)
    return statistics.median(runs) * 1e3


def _server_name(flags: Sequence[str]) -> str:
    return "a server with " + " ".join(flags) if flags else "a server of the demo model"


def _no_flags(name: str, flags: Sequence[str]) -> None:
    if flags:
        raise StartupError(f"bench {name} does not know {flags[0]}", "It takes no options.")


def restart(flags: Sequence[str]) -> None:
    """Measure the time to the first token: cold, hot, and after a restart of the server."""
    print(
        f"Ask {_server_name(flags)} about {RESTART_WORDS:,} words, and then again, before and "
        "after a restart."
    )
    words = " ".join(f"river{i % 7} stone" for i in range(RESTART_WORDS // 2))
    first = [{"role": "system", "content": words}, {"role": "user", "content": "Hello"}]
    flags = flags or ["--demo"]

    def ask(child: Child, messages: Sequence[Mapping[str, Any]]) -> Answer:
        body = {"model": "m", "messages": messages, "max_tokens": 20}
        return child.ask(body, lambda _: None)

    with tempfile.TemporaryDirectory() as folder:
        with serving(*flags, "--kv-dir", folder) as child:
            cold = ask(child, first)
        then = [*first, cold.message, {"role": "user", "content": "Thanks"}]
        with serving(*flags, "--kv-dir", folder) as child:
            restarted = ask(child, then)
        kept = sum(entry.nbytes for entry in entries(Path(folder) / KV_FILES))
    with serving(*flags, "--no-kv-disk") as child:
        ask(child, first)
        hot = ask(child, then)
    print(f"{'':>14} {'first token ms':>15} {'cached tokens':>14} {'prompt':>9}")
    for label, answer in (("cold", cold), ("hot", hot), ("restarted", restarted)):
        prompt = answer.usage["prompt_tokens"]
        print(f"{label:>14} {answer.first * 1e3:>15.0f} {answer.cached:>14,} {prompt:>9,}")
    print(f"{kept / 1e6:.1f} MB of it are on disk.")


def tokens(flags: Sequence[str]) -> None:
    """Measure how fast a server answers: the demo model's, or that of the flags given."""
    offered = [
        tool("read_file", "Read a file.", path="File"),
        tool("write_file", "Write a file.", path="File", content="Text"),
    ]
    print(
        f"Ask {_server_name(flags)} for {REQUESTS} tool calls in turn, streamed over HTTP. Medians."
    )
    rates, firsts = [], []
    with serving("--no-kv-disk", *(flags or ["--demo"])) as child:
        for i in range(REQUESTS + 1):
            text = " ".join(f"river{i} stone" for _ in range(8))
            wish = {"role": "user", "content": f'Write "{text}" to notes{i}.txt'}
            body = {"model": "m", "messages": [wish], "tools": offered, "max_tokens": 100}
            answer = child.ask(body, lambda _: None)
            decoded = answer.usage["completion_tokens"] - 1
            # The first request warms up.
            if i and decoded > 0:
                rates.append(decoded / (answer.seconds - answer.first))
                firsts.append(answer.first)
    if not rates:
        raise StartupError("The model said nothing", "Measure another one.")
    print(f"{'tokens/s':>12} {'first token ms':>15}")
    print(f"{statistics.median(rates):>12.0f} {statistics.median(firsts) * 1e3:>15.0f}")


def parser(flags: Sequence[str]) -> None:
    """Measure what reading and rendering one token of a string argument costs."""
    _no_flags("parser", flags)
    print(
        "Parse Qwen3-Coder's call of a tool with one long string argument and render it as\n"
        f"chat.completion.chunks, {TOKEN_CHARACTERS} characters a token. Median of {REPEATS} runs."
    )
    print(f"{'argument':>12} {'tokens':>9} {'us/token':>9} {'worst ms':>9}")
    for size in SIZES:
        line = "    value = compute(first, second) < limit  # a note\n"
        content = (line * (size // len(line) + 1))[:size]
        text = write("write_file", {"path": "a.py", "content": content})
        pieces = [text[at : at + TOKEN_CHARACTERS] for at in range(0, len(text), TOKEN_CHARACTERS)]
        runs = [_time_stream(pieces) for _ in range(REPEATS)]
        typical = statistics.median(total for total, _ in runs) / len(pieces) * 1e6
        worst = min(slowest for _, slowest in runs) * 1e3
        print(f"{size:>10} B {len(pieces):>9} {typical:>9.1f} {worst:>9.2f}")


def _time_stream(pieces: Sequence[str]) -> tuple[float, float]:
    """Return the seconds that the whole stream took, and its slowest token."""
    tool = ToolSpec(
        "write_file",
        parameters={
            "type": "object",
            "properties": {"path": {"type": "string"}, "content": {"type": "string"}},
        },
    )
    request = ChatRequest((Message("user"),), (tool,))
    family = next(family for family in FAMILIES if family.template == "qwen3_coder")
    reader = family.parser([tool])
    encoder = ChatEncoder(request, answer_id="bench", created=0, fingerprint="bench")
    written = 0
    slowest = 0.0

    def render(events: Sequence[Event]) -> None:
        nonlocal written
        for event in events:
            written += sum(map(len, encoder.encode(event)))

    began = time.perf_counter()
    render([Started(0)])
    for piece in pieces:
        before = time.perf_counter()
        render(reader.feed(piece))
        slowest = max(slowest, time.perf_counter() - before)
    render([*reader.close(), Finished("tool_calls", Usage())])
    return time.perf_counter() - began, slowest
