"""The law of grammars: what one accepts, the parser reads as the same call, and it is valid."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_tools_server.events import Answer
from mlx_tools_server.families.shapes.tag_call import write
from mlx_tools_server.grammar.answers import json_answer
from mlx_tools_server.messages import ToolSpec

from .worlds import arguments, calls, parsed, small, tool

TAGS = ("<function=", "<parameter=", "</function>", "</tool_call>")
PLAIN = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
BITS = st.sampled_from(
    ["\n", "\n\n", "</parameter>", "\n</parameter>\n", "</", "<parameter", "\n<parameter", "<",
     "</function>", "<function=f>", "<parameter=a>", " ", "<tool_call>", "</tool_call>", "<think>",
     "\r\n", "[1]", "{", "null", "-1", "x"]
)  # fmt: skip
TEXTS = st.lists(st.one_of(PLAIN, BITS), max_size=7).map("".join)


def can_hold(text: str) -> bool:
    """Return whether a constrained value can be this text, as decision 005 promises."""
    lines = f"{text}\n</parameter>\n</function>".split("\n")
    value = lines[:-2]
    for line, following in zip(value, lines[1:], strict=False):
        if line.startswith(TAGS) or (line.startswith("</parameter>") and line != "</parameter>"):
            return False
        if line == "</parameter>" and following.startswith(("<parameter", "</", "<function=")):
            return False
        if line == "</parameter>" and any(c in following for c in ("<tool_", "<think", "</tool_")):
            return False
    return True


LISTS = st.lists(st.integers(), max_size=3)
# Schemas with values that they allow.
NODES: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "text": ({"type": "string"}, TEXTS),
    "filled text": ({"type": "string", "minLength": 1}, TEXTS.filter(bool)),
    "text or nothing": ({"type": ["string", "null"]}, TEXTS.filter(lambda text: text != "null")),
    "words": ({"enum": ["a", "b c", "", "<x>"]}, st.sampled_from(["a", "b c", "", "<x>"])),
    "integer": ({"type": "integer"}, st.integers()),
    "limited": ({"type": "integer", "minimum": -5, "maximum": 999}, st.integers(-5, 999)),
    "number": ({"type": "number"}, st.floats(-1e50, 1e50).filter(lambda n: not 0 < abs(n) < 1e-50)),
    "boolean": ({"type": "boolean"}, st.booleans()),
    "null": ({"type": "null"}, st.none()),
    "list": ({"type": "array", "items": {"type": "integer"}}, LISTS),
    "object": (
        {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
        st.builds(lambda text: {"a": text}, PLAIN.map(lambda text: text.replace("\x7f", ""))),
    ),
    "list or word": ({"anyOf": [{"const": "all"}, {"type": "array"}]}, st.just("all") | LISTS),
}


@st.composite
def given_calls(draw: st.DrawFn) -> tuple[ToolSpec, dict[str, Any]]:
    """Return a tool, and arguments that its schema allows, in any order."""
    kinds = draw(st.lists(st.sampled_from(sorted(NODES)), max_size=4))
    nodes = {f"p{i}": NODES[kind] for i, kind in enumerate(kinds)}
    values = {name: draw(strategy) for name, (_, strategy) in nodes.items()}
    required = draw(st.sets(st.sampled_from(sorted(values)))) if values else set()
    kept = [name for name in values if name in required or draw(st.booleans())]
    order = draw(st.permutations(kept))
    spec = tool("f", *sorted(required), **{name: node for name, (node, _) in nodes.items()})
    return spec, {name: values[name] for name in order}


@settings(max_examples=250)
@given(given_calls(), st.integers(0, 7), st.booleans())
def test_written_calls(call: tuple[ToolSpec, dict[str, Any]], size: int, sealed: bool) -> None:
    """A valid call that was written is accepted, however it is cut, and read as it was."""
    spec, expected = call
    said = write("f", expected)
    world = small()
    grammar = calls(spec, strict=("f",) if sealed else ()).whole
    texts = [value for value in expected.values() if isinstance(value, str)]

    accepted = world.accepts(grammar, world.decode(world.encode(said)))
    answer, let_go = parsed([spec], said, size=size)

    if all(map(can_hold, texts)):
        assert accepted
        assert not let_go
    if accepted and not let_go:
        assert arguments(answer) == [expected]
        assert not answer.joined("text")


TEXT = {"type": "string"}
OFFER = (
    tool("Read", "path", path={"type": "string"}, limit={"type": "integer", "minimum": 0}),
    tool("Edit", "path", "old", "new", path={"type": "string"}, old={"type": "string"},
         new={"type": "string"}, all={"type": "boolean"}),
    tool("Note", "text", text={"type": "string", "minLength": 2, "maxLength": 30},
         day={"type": "string", "format": "date"}, mark={"type": "string", "pattern": "^#\\w+$"}),
    tool("Todo", "items", items={"type": "array", "maxItems": 3, "items": {
        "type": "object", "properties": {"what": {"type": "string", "maxLength": 9},
        "state": {"enum": ["open", "done"]}}, "required": ["what", "state"]}}),
    tool("Pick", one={"anyOf": [TEXT, {"type": "array", "items": TEXT}]},
         two={"enum": ["a", "ab", 1, None]}, three={"type": ["integer", "null"]}),
    ToolSpec("ping"),
)  # fmt: skip


def check_valid(answer: Answer, tools: tuple[ToolSpec, ...], said: str) -> None:
    """Check that an answer is made of calls that follow their tools' schemas."""
    schemas = {spec.name: spec.parameters for spec in tools}
    assert answer.calls, said
    assert not answer.joined("text"), said
    for part in answer.parts:
        checker = jsonschema.FormatChecker()
        validator = jsonschema.Draft202012Validator(schemas[part.name], format_checker=checker)
        assert not list(validator.iter_errors(json.loads(part.text))), said


def check_drawn(tools: tuple[ToolSpec, ...], seed: int, *, sealed: bool) -> bool:
    """Draw an answer and check it; return whether it came to its end."""
    strict = {spec.name for spec in tools} if sealed else set()
    grammar = calls(*tools, strict=strict)
    said, ended = small().draw(grammar.whole, seed)
    answer, let_go = parsed(tools, said, cut=not ended)
    assert not (let_go and sealed)
    if not ended or let_go:
        return ended
    check_valid(answer, tools, said)
    return True


@pytest.mark.parametrize("sealed", [False, True])
def test_random_answers(sealed: bool) -> None:
    """Whatever a model draws from the masks is, once it has ended, a valid call."""
    ended = [check_drawn(OFFER, seed, sealed=sealed) for seed in range(40)]

    assert sum(ended) > 30


@pytest.mark.slow
@pytest.mark.parametrize("sealed", [False, True])
def test_many_random_answers(sealed: bool) -> None:
    """So it is for a thousand of them."""
    ended = [check_drawn(OFFER, seed, sealed=sealed) for seed in range(1_000, 2_000)]

    assert sum(ended) > 900


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 12},
        "tags": {"type": "array", "items": {"enum": ["x", "y"]}, "maxItems": 3},
        "size": {"$ref": "#/$defs/Size"},
    },
    "required": ["name", "size"],
    "additionalProperties": False,
    "$defs": {"Size": {"anyOf": [{"type": "integer", "maximum": 9}, {"type": "null"}]}},
}


def test_random_json() -> None:
    """Whatever a model draws from the masks of a format is JSON by its schema."""
    grammar = json_answer(SCHEMA, small().grammars)
    assert not grammar.notes
    for seed in range(40):
        said, ended = small().draw(grammar.whole, seed)
        assert ended
        jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(said))
