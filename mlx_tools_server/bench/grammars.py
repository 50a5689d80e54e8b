"""`bench grammar`: what constrained calls cost, mask by mask and over HTTP.

Rules of this file:
- Schemas and calls are those that coding agents have; times of masks are those of the processor.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from ..child import serving, tool
from ..engine.scripted import write_checkpoint
from ..errors import StartupError
from ..families import FAMILIES
from ..families.shapes.tag_call import write
from ..grammar.matching import Grammars
from ..messages import ToolSpec
from ..options import Parser
from ..templates import read_ours
from .common import REPEATS, rate, resident, unseen

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


def run(arguments: Sequence[str], prog: str) -> None:
    """Measure what constrained calls cost: with a tokenizer.json if given, or with a small one."""
    parser = Parser(prog=prog, description=run.__doc__)
    parser.add_argument("file", nargs="?", metavar="FILE", help="a tokenizer.json")
    given = parser.parse_args(arguments).file
    if given is not None and not Path(given).is_file():
        raise StartupError(f"There is no file {given}", "Give a tokenizer.json, or nothing.")
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder) / "model")
        description = Path(given or f"{folder}/model/tokenizer.json").read_text("utf-8")
    tokenizer = Tokenizer.from_str(description)
    ends = [i for text in ENDS if (i := tokenizer.token_to_id(text)) is not None]
    before = resident()
    grammars = Grammars(description, tokenizer.get_vocab_size(), ends)
    began = time.perf_counter()
    grammars.compile('%llguidance {}\nstart: ""\n')
    print(
        f"Constrain calls with {tokenizer.get_vocab_size():,} tokens; their tables took "
        f"{time.perf_counter() - began:.1f} s and {resident() - before:.0f} MB, once a model.\n"
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
                answers = list(pool.map(child.ask, [body] * streams, [unseen] * streams))
                rates[which] += [rate(answer) for answer in answers]
            constrained, free = (statistics.median(found[streams:]) for found in rates)
            print(f"{streams:>8} {constrained:>12.0f} {free:>8.0f}")


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
    before = resident()
    kept = [compiled.matcher() for _ in range(MATCHERS)]
    for matcher, token in product(kept, tokenizer.encode(write(*CALLS[0])).ids):
        matcher.consume(token)
    size = (resident() - before) / len(kept)
    masks.sort()
    share = sum(one for one, _ in forced) / sum(all_ for _, all_ in forced)
    return (
        f"{count:>6} {wrote * 1e3:>9.1f} {compile_time * 1e3:>11.1f} {size * 1e3:>11.0f} "
        f"{statistics.median(masks) * 1e6:>8.0f} {masks[len(masks) * 99 // 100] * 1e6:>6.0f} "
        f"{masks[-1] * 1e6:>6.0f} {statistics.mean(takes) * 1e6:>8.1f} {share:>7.0%}"
    )
