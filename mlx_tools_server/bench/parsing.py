"""`bench parser`: what reading one token of a call costs, and rendering it.

Rules of this file:
- It is the parser and the encoder that the server uses, with nothing around them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

from ..dialects.chat import ChatEncoder
from ..events import EngineEvent, Finished, Noticed, Started, Usage
from ..families import FAMILIES
from ..families.shapes.tag_call import write
from ..messages import ChatRequest, Message, ToolSpec
from .common import REPEATS, no_options

TOKEN_CHARACTERS = 4
SIZES = (2_000, 20_000, 200_000, 2_000_000)


def run(arguments: Sequence[str], prog: str) -> None:
    """Measure what reading and rendering one token of a string argument costs."""
    no_options(arguments, prog, run.__doc__)
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

    def render(events: Sequence[EngineEvent]) -> None:
        nonlocal written
        for event in events:
            if not isinstance(event, Noticed):
                written += sum(map(len, encoder.encode(event)))

    began = time.perf_counter()
    render([Started(0)])
    for piece in pieces:
        before = time.perf_counter()
        render(reader.feed(piece))
        slowest = max(slowest, time.perf_counter() - before)
    render([*reader.close(), Finished("tool_calls", Usage())])
    return time.perf_counter() - began, slowest
