"""`bench`: what things cost, measured.

Rules of this file:
- A benchmark prints a table with its units, and says what it measured.
- Timings live here and never in a test's assertion.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from .child import Answer, Child, Delta, serving, tool
from .dialects.chat import ChatEncoder
from .engine.scripted import write_checkpoint
from .errors import StartupError
from .events import Event, Finished, Started, Usage
from .families import FAMILIES
from .families.shapes.tag_call import write
from .grammar.matching import Grammars
from .kv import BLOCK, MemoryTier, Record, Store, chain, entries, seed
from .messages import ChatRequest, Message, ToolSpec
from .places import KV_FILES
from .templates import read_ours

TOKEN_CHARACTERS = 4
REPEATS = 5
REQUESTS = 20
RESTART_WORDS = 1_000
# The longest sequence on which mlx-lm's look-up ends within a minute.
STOCK_TOKENS = 20_000
SIZES = (2_000, 20_000, 200_000, 2_000_000)

MATCHERS = 4_000
STREAMS = (1, 8)
STREAM_WORDS = 400
ENDS = ("<|im_end|>", "<|endoftext|>")

_TEXT, _WHOLE = {"type": "string"}, {"type": "integer", "minimum": 0}
TOOLS: Mapping[str, Mapping[str, Any]] = {
    name: {"type": "object", "properties": properties, "required": [*properties][:required]}
    for name, required, properties in (
        ("Read", 1, {"file_path": _TEXT, "offset": _WHOLE, "limit": _WHOLE}),
        ("Write", 2, {"file_path": _TEXT, "content": _TEXT}),
        ("Edit", 3, {"file_path": _TEXT, "old": _TEXT, "new": _TEXT, "all": {"type": "boolean"}}),
        ("Grep", 1, {"pattern": _TEXT, "mode": {"enum": ["content", "files", "count"]}}),
        ("Search", 1, {"query": {"type": "string", "minLength": 2}, "sites": {"type": "array"}}),
    )
}
_CODE = "def first(values):\n    return next(iter(values), None)\n\n\n" * 20
CALLS: Sequence[tuple[str, Mapping[str, Any]]] = (
    ("Read", {"file_path": "/home/me/project/main.py", "limit": 200}),
    ("Read", {"offset": 20, "file_path": "README.md"}),
    ("Write", {"file_path": "first.py", "content": _CODE}),
    ("Write", {"file_path": "a.html", "content": "<ul>\n  <li>One</li>\n</ul>\n" * 20}),
    ("Edit", {"file_path": "first.py", "old": _CODE[:56], "new": _CODE[:112], "all": False}),
    ("Grep", {"pattern": "^class .*:$", "mode": "files"}),
    ("Search", {"query": "constrained decoding", "sites": ["arxiv.org", "github.com"]}),
)


def run(arguments: Sequence[str]) -> int:
    """Run the benchmark of this name; return the exit code."""
    benchmarks: dict[str, Callable[[Sequence[str]], None]] = {
        "parser": parser,
        "tokens": tokens,
        "lookup": lookup,
        "restart": restart,
        "grammar": grammar,
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
        return child.ask(body, _unseen)

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
            answer = child.ask(body, _unseen)
            # The first request warms up.
            if i and answer.usage["completion_tokens"] > 1:
                rates.append(_rate(answer))
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


def grammar(flags: Sequence[str]) -> None:
    """Measure what constrained calls cost: with a tokenizer.json if given, or with a small one."""
    if len(flags) > 1 or (flags and not Path(flags[0]).is_file()):
        raise StartupError("bench grammar takes one file", "Give a tokenizer.json, or nothing.")
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder) / "model")
        description = Path(flags[0] if flags else f"{folder}/model/tokenizer.json").read_text(
            "utf-8"
        )
    tokenizer = Tokenizer.from_str(description)
    ends = [i for text in ENDS if (i := tokenizer.token_to_id(text)) is not None]
    before = _resident()
    grammars = Grammars(description, tokenizer.get_vocab_size(), ends)
    began = time.perf_counter()
    grammars.compile('%llguidance {}\nstart: ""\n')
    print(
        f"Constrain calls with {tokenizer.get_vocab_size():,} tokens; their tables took "
        f"{time.perf_counter() - began:.1f} s and {_resident() - before:.0f} MB, once a model.\n"
        f"Processor time of the masks of {len(CALLS)} calls, token by token, and memory of a\n"
        "matcher behind the first of them."
    )
    print(
        f"{'tools':>6} {'write ms':>9} {'compile ms':>11} {'matcher KB':>11} {'mask us':>8} "
        f"{'p99':>6} {'max':>6} {'take us':>8} {'forced':>7}"
    )
    for count in (1, 20, 60):
        print(_constrained(grammars, tokenizer, count))
    _streams()


def _streams() -> None:
    """Print how fast streams of one call are, constrained and free, in turns."""
    said = write("write_file", {"path": "a.txt", "content": "word " * STREAM_WORDS})
    wish = {"role": "user", "content": f"[[SCRIPT]]{said}[[/SCRIPT]]"}
    offered = [tool("write_file", "Write a file.", path="File", content="Text")]
    body = {"model": "m", "messages": [wish], "tools": offered}
    print(
        f"\nStreams of a call with {STREAM_WORDS} words, from the scripted checkpoint over HTTP.\n"
        f"Tokens/s of one stream, median of {REPEATS} runs in turns."
    )
    print(f"{'streams':>8} {'constrained':>12} {'free':>8}")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        write_checkpoint(Path(folder), chat_template=read_ours("qwen3_coder"))
        flags = ("--model-path", folder, "--trust-remote-code", "--no-kv-disk", "--constrain")
        servers = [stack.enter_context(serving(*flags, how)) for how in ("calls", "off")]
        pool = stack.enter_context(ThreadPoolExecutor(max(STREAMS)))
        for streams in STREAMS:
            rates: list[list[float]] = [[], []]
            for _, (which, child) in product(range(REPEATS + 1), enumerate(servers)):
                answers = list(pool.map(child.ask, [body] * streams, [_unseen] * streams))
                rates[which] += [_rate(answer) for answer in answers]
            constrained, free = (statistics.median(found[streams:]) for found in rates)
            print(f"{streams:>8} {constrained:>12.0f} {free:>8.0f}")


def _unseen(_: Delta) -> None:
    """Show nothing of an answer."""


def _rate(answer: Answer) -> float:
    """Return how many tokens a second an answer had behind its first one."""
    return float((answer.usage["completion_tokens"] - 1) / (answer.seconds - answer.first))


def _constrained(grammars: Grammars, tokenizer: Tokenizer, count: int) -> str:
    """Return the row of the table for this many tools."""
    family = next(family for family in FAMILIES if family.template == "qwen3_coder")
    tools = [
        ToolSpec(f"{name}{i or ''}", parameters=parameters)
        for i in range(count)
        for name, parameters in TOOLS.items()
    ][:count]
    began = time.perf_counter()
    written = family.grammar(tools, grammars)
    wrote = time.perf_counter() - began
    assert written is not None
    began = time.perf_counter()
    compiled = grammars.compile(written.whole)
    compile_time = time.perf_counter() - began
    row = np.zeros(grammars.words, dtype=np.int32)
    masks, takes, forced = [], [], []
    for name, arguments in CALLS:
        matcher = compiled.matcher()
        for token in tokenizer.encode(write(name, arguments), add_special_tokens=False).ids:
            began = time.thread_time()
            matcher.mask(row)
            masked = time.thread_time()
            if not matcher.consume(token):  # a tool that is not among so few
                break
            masks.append(masked - began)
            takes.append(time.thread_time() - masked)
        else:
            forced.append((matcher.forced, matcher.taken))
    before = _resident()
    kept = [compiled.matcher() for _ in range(MATCHERS)]
    for matcher, token in product(kept, tokenizer.encode(write(*CALLS[0])).ids):
        matcher.consume(token)
    size = (_resident() - before) / len(kept)
    masks.sort()
    share = sum(one for one, _ in forced) / sum(all_ for _, all_ in forced)
    return (
        f"{count:>6} {wrote * 1e3:>9.1f} {compile_time * 1e3:>11.1f} {size * 1e3:>11.0f} "
        f"{statistics.median(masks) * 1e6:>8.0f} {masks[len(masks) * 99 // 100] * 1e6:>6.0f} "
        f"{masks[-1] * 1e6:>6.0f} {statistics.mean(takes) * 1e6:>8.1f} {share:>7.0%}"
    )


def _resident() -> float:
    """Return the megabytes of this process that are in memory."""
    asked = subprocess.run(["ps", "-o", "rss=", "-p", str(os.getpid())], capture_output=True)
    return int(asked.stdout or 0) / 1e3


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
