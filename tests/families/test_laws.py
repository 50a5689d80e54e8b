"""The laws that hold for every text, every cut and every value."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_tools_server.events import Noticed, ParsedEvent, PartDelta, PartEnded, PartStarted, fold
from mlx_tools_server.families import Parser
from mlx_tools_server.families.shapes.tag_call import write

from ..counting import calls_made
from .reading import CODER, THINKER, TOOLS, calls_of, outcomes, pieces, read, tag_parser, told

TAGS = [
    "<tool_call>", "</tool_call>", "<function=run_cmd>", "<function=save_note>", "<function=zz>",
    "</function>", "<parameter=cmd>", "<parameter=body>", "<parameter=file>", "<parameter=mode>",
    "<parameter=zz>", "</parameter>", "<parameter name='x'>", "<think>", "</think>", "<", "</",
    "<par", "</par", "<tool_", '{"name": "run_cmd", "arguments": {"cmd": "x"}}', '{"', "}",
    "\n", "\n\n", " ", "\r\n", "12", "null", "[1]", "stop", "`", "``", "<parameter>",
    "<tool_call>\n<function=run_cmd>\n<parameter=cmd>\n", "<function=run_cmd}", " " * 1100,
    "\n</parameter>\n</function>\n</tool_call>", "</parameter></function>", "\n</parameter>\n",
]  # fmt: skip
WORDS = st.integers(0, 9999).map("w{}".format)
TEXTS = st.lists(st.one_of(st.sampled_from(TAGS), WORDS), max_size=40).map("".join)


def parsers() -> Iterator[Parser]:
    """Return a parser of every kind."""
    yield CODER.parser(TOOLS)
    yield CODER.parser(TOOLS, first_call_only=True)
    yield CODER.parser(TOOLS, stop=("stop", "\n\nw1"))
    yield CODER.parser(())
    yield THINKER.parser(TOOLS)
    yield THINKER.parser(TOOLS, thought_open=True)


@st.composite
def cuts(draw: st.DrawFn) -> tuple[str, list[str]]:
    """Return a text, and the same text in pieces."""
    text = draw(TEXTS)
    places = sorted(draw(st.sets(st.integers(0, len(text)), max_size=12)))
    return text, [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


@settings(max_examples=600)
@given(cuts(), st.booleans())
def test_chunking(cutting: tuple[str, list[str]], cut: bool) -> None:
    """However the text is cut, the events fold to the same answer, whose calls fare the same."""
    text, parts = cutting
    for whole, chopped, single in zip(parsers(), parsers(), parsers(), strict=True):
        expected = told(whole, [text], cut=cut)
        for events in (told(chopped, parts, cut=cut), told(single, list(text), cut=cut)):
            assert fold(expected) == fold(events)
            assert outcomes(expected) == outcomes(events)


@settings(max_examples=400)
@given(TEXTS, st.booleans())
def test_order(text: str, cut: bool) -> None:
    """Parts open, grow and close one after the other, and whole calls hold a JSON object."""
    for parser in parsers():
        events = [event for part in pieces(text, 3) for event in parser.feed(part)]
        events += parser.close(cut=cut)

        open_part = False
        for event in events:
            if isinstance(event, Noticed):
                continue
            assert isinstance(event, PartStarted) is not open_part or not isinstance(
                event, PartStarted
            )
            assert isinstance(event, PartStarted) or open_part
            open_part = not isinstance(event, PartEnded)
        assert not open_part
        assert all(isinstance(arguments, dict) for _, arguments in calls_of(fold(events)))


@settings(max_examples=600)
@given(TEXTS)
def test_nothing_lost(text: str) -> None:
    """Every word that the model said is in the content, a thought or a call."""
    for parser in (CODER.parser(TOOLS), THINKER.parser(TOOLS), CODER.parser(())):
        answer = read(parser, pieces(text, 5))

        said = "".join(part.text + part.name for part in answer.parts)
        for word in re.findall(r"w\d+", text):
            assert word in said


@settings(max_examples=300)
@given(TEXTS)
def test_cut_call_is_never_whole(text: str) -> None:
    """What was cut inside a call is never valid JSON."""
    answer = read(CODER.parser(TOOLS), [text], cut=True)

    for part in answer.parts:
        if not part.complete:
            with pytest.raises(ValueError):  # noqa: PT011  JSON's own error
                json.loads(part.text)


NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.\-]{0,12}", fullmatch=True)
PLAIN = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
OPENERS = st.sampled_from(
    ["<", "<parameter", "<parameters>", "<function>", "</", "\n", "\r\n", "\r", " <tool_call> ",
     "</tool_call>", "<function=", "<parameter=\n", "{", "null", "`<tool_call>`", "\n\n\n"]
)  # fmt: skip
# Values that hold no accepted closer, whatever else they hold.
STRINGS = st.lists(st.one_of(PLAIN, OPENERS), max_size=6).map("".join).filter(
    lambda text: not re.search(r"</(parameter|function)|<(parameter|function)[=\s]", text)
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | STRINGS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
TYPED: dict[str, st.SearchStrategy[Any]] = {
    "string": STRINGS,
    "integer": st.integers(),
    "number": st.floats(allow_nan=False, allow_infinity=False) | st.integers(),
    "boolean": st.booleans(),
    "null": st.none(),
    "array": st.lists(JSON, max_size=4),
    "object": st.dictionaries(NAMES, JSON, max_size=4),
}


@st.composite
def typed_calls(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a schema, and arguments that it allows."""
    kinds = draw(st.dictionaries(NAMES, st.sampled_from(sorted(TYPED)), max_size=4))
    properties = {name: {"type": kind} for name, kind in kinds.items()}
    arguments = {name: draw(TYPED[kind]) for name, kind in kinds.items()}
    return {"type": "object", "properties": properties}, arguments


@settings(max_examples=600)
@given(NAMES, typed_calls(), st.integers(0, 9))
def test_round_trip(name: str, call: tuple[dict[str, Any], dict[str, Any]], size: int) -> None:
    """A call that was written is read back as it was, value by value."""
    schema, arguments = call

    events = told(tag_parser({name: schema}), pieces(write(name, arguments), size))

    assert [(name, arguments)] == calls_of(fold(events))
    assert not fold(events).joined("text")
    assert outcomes(events) == ["ok"]


@settings(max_examples=300)
@given(PLAIN, typed_calls(), PLAIN, st.sampled_from(["run_cmd", "save_note", "elsewhere"]))
def test_call_inside_a_value(
    before: str, call: tuple[dict[str, Any], dict[str, Any]], after: str, tool: str
) -> None:
    """A call that stands inside a value is payload: it is not executed, and nothing is cut."""
    body = f"{before}\n{write(tool, call[1])}\n{after}."
    written = write("save_note", {"file": "a.md", "body": body, "mode": 1})

    answer = read(CODER.parser(TOOLS), pieces(written, 4))

    assert [("save_note", {"file": "a.md", "body": body, "mode": 1})] == calls_of(answer)


@settings(max_examples=200)
@given(st.lists(st.text("abc \n\\\"'é🙂", min_size=1, max_size=6), min_size=1, max_size=30))
def test_strings_leave_at_once(tokens: list[str]) -> None:
    """All of a string but a newline at its end has left before the next token comes."""
    parser = CODER.parser(TOOLS)
    events: list[ParsedEvent] = parser.feed("<tool_call>\n<function=run_cmd>\n<parameter=cmd>\n.")
    so_far = "."
    for token in tokens:
        events += parser.feed(token)
        so_far += token
        sent = "".join(event.text for event in events if isinstance(event, PartDelta))
        value = json.loads(sent + '"}')["cmd"]
        assert so_far.removesuffix("\n") == value or so_far == value


HEAD = "<tool_call>\n<function=save_note>\n<parameter=body>\n"
RUNS = ["<", "</para", "</parameter> ", "</parameter></function>", "<parameter=x>", "\n", " ",
        "<function=x>", "</function>", "</function>\n</tool_call> x", "word ",
        "<tool_call>"]  # fmt: skip


@pytest.mark.parametrize("start", [HEAD, "", "<tool_call>\n<function=save_note>\n"])
@pytest.mark.parametrize("run", RUNS)
def test_linear(run: str, start: str) -> None:
    """Twice the text costs twice the work, for the worst repetitions as well."""

    def work(times: int) -> int:
        return calls_made(lambda: read(CODER.parser(TOOLS), pieces(start + run * times, 4)))

    assert work(1200) < 2.3 * work(600) + 500
