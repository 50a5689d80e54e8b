"""How the parser tests read a text: cut into pieces, folded into an answer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from mlx_tools_server.events import Answer, Noticed, ParsedEvent, PartEnded, PartStarted, fold
from mlx_tools_server.families import FAMILIES, Family, Parser, Thinking
from mlx_tools_server.families.shapes.tag_call import TagCallParser
from mlx_tools_server.messages import ToolSpec

CODER = next(family for family in FAMILIES if family.name == "qwen3_coder")
THINKER = Family("thinker", marks=CODER.marks, thinking=Thinking())

STRING = {"type": "string"}
NOTE = ToolSpec(
    "save_note",
    parameters={
        "type": "object",
        "properties": {"file": STRING, "body": STRING, "mode": {"type": "integer"}},
        "required": ["file", "body"],
    },
)
RUN = ToolSpec("run_cmd", parameters={"type": "object", "properties": {"cmd": STRING}})
FIND = ToolSpec(
    "find_text",
    parameters={
        "type": "object",
        "properties": {"needle": STRING, "root": STRING, "depth": {"type": "integer"}},
        "required": ["needle"],
    },
)
TOOLS = (NOTE, RUN, FIND)

# What models say between and inside of calls, whatever they are trained for.
COMMON = (
    '"', "'", "{", "}", "[", "]", "(", ")", ",", ":", "=", "\\", "\n", "\n\n", " ", "`", "<", "</",
    "</think>", "<think>", "null", "True", "1.5", "-", '"name": "run_cmd"', '"arguments": {',
    '"cmd": "ls"', "run_cmd", "run_cmd(", "cmd=", "zz", "\\ud83d", "\\u00e9", "é🙂", "stop", ";",
    '{"name": "run_cmd", "arguments": {"cmd": "x"}}', "\r\n", '"""', " " * 1100,
)  # fmt: skip


def pieces(text: str, size: int) -> list[str]:
    """Cut text into pieces of this many characters; 0 leaves it whole."""
    return [text[at : at + size] for at in range(0, len(text), size)] if size else [text]


def read(parser: Parser, parts: Iterable[str], *, cut: bool = False) -> Answer:
    """Feed the parts and fold what comes out."""
    return fold(told(parser, parts, cut=cut))


def told(parser: Parser, parts: Iterable[str], *, cut: bool = False) -> list[ParsedEvent]:
    """Feed the parts and return what comes out."""
    events: list[ParsedEvent] = []
    for part in parts:
        events += parser.feed(part)
    return events + parser.close(cut=cut)


def outcomes(events: Iterable[ParsedEvent]) -> list[str]:
    """Return what became of each call, and `text` for what only looked like one, sorted last."""
    calls: list[str] = []
    texts = 0
    in_call = False
    for event in events:
        match event:
            case PartStarted(kind):
                in_call = kind == "tool_call"
                calls += ["ok"] if in_call else []
            case Noticed("repaired"):
                assert calls[-1] == "ok"
                calls[-1] = "repaired"
            case Noticed("text"):
                texts += 1
            case PartEnded(complete=False) if in_call:
                calls[-1] = "cut"
            case _:
                pass
    return calls + texts * ["text"]


def read_text(text: str, tools: Sequence[ToolSpec] = TOOLS, size: int = 0) -> Answer:
    """Read a Qwen3-Coder answer."""
    return read(CODER.parser(tools), pieces(text, size))


def calls_of(answer: Answer) -> list[tuple[str, Any]]:
    """Return name and arguments of the whole calls."""
    return [(call.name, json.loads(call.text)) for call in answer.calls]


def tag_parser(tools: Mapping[str, Mapping[str, Any]]) -> TagCallParser:
    """Return a parser for these parameter schemas."""
    return TagCallParser(tools)


@cache
def fragments(family: Family) -> tuple[str, ...]:
    """Return pieces of what a family writes: its markers, and calls cut at any marker."""
    written = [
        family.shape.write("run_cmd", {"cmd": "ls"}),
        family.shape.write("save_note", {"file": "a", "body": "b\nc", "mode": 1}),
    ]
    parts = [part for text in written for part in re.split(r"(?<=[>\]])|(?=[<\[])|\n", text)]
    begun = [text[:at] for text in written for at in range(3, len(text), 7)]
    return tuple(dict.fromkeys(filter(None, [*family.control_texts, *parts, *begun, *COMMON])))
