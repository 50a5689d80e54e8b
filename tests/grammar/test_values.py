"""What a value may be, schema by schema, as text between its tags."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from mlx_tools_server.messages import ToolSpec
from mlx_tools_server.schema import problem

from .worlds import arguments, call, calls, parameter, parsed, small, tool

TEXT = {"type": "string"}
LONE = "a\n</parameter>\nb"

# Schema of the parameter, texts that it allows, and texts that it does not allow.
VALUES: dict[str, tuple[Any, list[str], list[str]]] = {
    "text": (
        TEXT,
        ["", "\n", "a", " a ", "a\n\nb\n", "null", "12", '{"a": 1}', "x </parameter> y", LONE,
         "say </function>", "`<parameter=x>`", "  <parameter=x>", "<param", "</parameters>",
         "<div>\n</div>", "<tool_call>", "a<tool_call>b</tool_call>c", "<think>\nx", "a\r\n",
         "</parameter>\n<div>", "\n</parameter>\n\n", "日本語 🙂", "\\n", "<", "</"],
        ["</parameter>", "a\n</parameter>\n</parameter>", "</parameter>\n</div>",
         "a\n</parameter> b"],
    ),
    "a text that is not empty": (
        {"type": "string", "minLength": 1}, ["a", "\n", "\na", " ", "<tool_call>", LONE], [""],
    ),
    "a text of some length": (
        {"type": "string", "minLength": 2, "maxLength": 4},
        ["ab", "日本語", "a\nb", "\n\n", "<a>"], ["", "a", "abcde", "x\n</parameter>\ny"],
    ),
    "a pattern": (
        {"type": "string", "pattern": "^[a-z]+-\\d{2}$"}, ["a-12", "abc-00"], ["a-1", "A-12", ""],
    ),
    "a pattern that is found anywhere": (
        {"type": "string", "pattern": "b+"}, ["abbc", "b", "a\nb\n"], ["", "ac"],
    ),
    "a pattern with a length": (
        {"type": "string", "pattern": "^a*$", "maxLength": 3}, ["", "aaa"], ["aaaa", "b"],
    ),
    "a date": (
        {"type": "string", "format": "date"}, ["2024-02-29", "1999-12-31"],
        ["2024-02-30", "2023-02-29", "today", ""],
    ),
    "an unknown format is any text": ({"type": "string", "format": "sort-of"}, ["x", ""], []),
    "words": ({"enum": ["a", "ab", "c d"]}, ["a", "ab", "c d"], ["b", "", "abc", "c"]),
    "words with lines": ({"enum": ["a", "a\nb", ""]}, ["a", "a\nb", ""], ["b", "\nb"]),
    "a constant": ({"const": "x"}, ["x"], ["y", ""]),
    "words and other values": (
        {"enum": ["a", 1, None, True]}, ["a", "1", "null", "true"],
        ["2", "false", "b", "None", "True"],
    ),
    "numbers of a list": ({"type": "integer", "enum": [1, 20]}, ["1", "20"], ["2", "1.0"]),
    "true or false": ({"type": "boolean"}, ["true", "false", "True", "False"], ["yes", "1", ""]),
    "nothing": ({"type": "null"}, ["null", "None"], ["", "0"]),
    "an integer": (
        {"type": "integer"}, ["0", "-1", "123456789012345678901234567890"],
        ["three", "1.5", "01", "", "1 ", "+1", '"1"'],
    ),
    "an integer in a range": (
        {"type": "integer", "minimum": 1, "maximum": 12}, ["1", "12"], ["0", "13", "1.0"],
    ),
    "a number": ({"type": "number"}, ["1", "-0.5", "1e5", "2.5E-7"], ["1e999", ".5", "NaN", "one"]),
    "an integer or nothing": (
        {"type": ["integer", "null"]}, ["5", "null", "None"], ["", "x", "5.5"],
    ),
    "a nullable integer of another API": ({"type": "int", "nullable": True}, ["5", "null"], ["x"]),
    "a text or nothing": ({"anyOf": [TEXT, {"type": "null"}]}, ["null", "x", "", "5"], []),
    "a list": (
        {"type": "array", "items": {"type": "integer"}}, ["[]", "[1, 2]", "[1,2]", "[\n  1\n]"],
        ["1", "[1.5]", "[1,  2]", '["1"]', "[1"],
    ),
    "an object": (
        {"type": "object", "properties": {"a": TEXT, "b": {"type": "boolean"}}, "required": ["a"],
         "additionalProperties": False},
        ['{"a": "x"}', '{"a": "\\n\\u00e9", "b": true}', '{"a":"</parameter>"}'],
        ["{}", '{"b": true}', '{"a": 1}', '{"a": "x", "c": 1}', "a"],
    ),
    "a text or a list of texts": (
        {"anyOf": [TEXT, {"type": "array", "items": TEXT}]},
        ["a", "", '["a"]', "[a-z]+", "[[a]]"[1:], "a\n[1]"], ["[1]", " [1]", '["a", 1]', "[\n1]"],
    ),
    "a text or a number in a range": (
        {"anyOf": [TEXT, {"type": "integer", "minimum": 0}]}, ["a", "5", "a5"], ["-5", "5 a"],
    ),
    "words or a number": (
        {"anyOf": [{"enum": ["all"]}, {"type": "integer"}]}, ["all", "5"], ["al", ""],
    ),
    "a reference": ({"$ref": "#/$defs/Level"}, ["low", "high"], ["middle"]),
    "a list of references": (
        {"type": "array", "items": {"$ref": "#/$defs/Level"}}, ['["low"]'], ['["x"]'],
    ),
    "a tree": (
        {"$ref": "#/$defs/Tree"}, ['{"v": 1, "l": {"v": 2}}'], ['{"l": {"v": 2}}', '{"v": "x"}'],
    ),
    "all of some": (
        {"allOf": [{"type": "integer"}, {"minimum": 3}]}, ["3"], ["2", "x"],
    ),
    "anything": ({}, ["a", "1", "", '{"a": 1}', "[1"], []),
    "anything by a schema that is true": (True, ["a"], []),
    "a union that never ends": ({"$ref": "#/properties/x"}, ["a"], []),
}  # fmt: skip
DEFINITIONS = {
    "Level": {"enum": ["low", "high"]},
    "Tree": {
        "type": "object",
        "properties": {"v": {"type": "integer"}, "l": {"$ref": "#/$defs/Tree"}},
        "required": ["v"],
    },
}


def is_valid(value: Any, spec: ToolSpec) -> bool:
    """Return whether a schema allows these arguments; ours knows some that jsonschema doesn't."""
    try:
        return jsonschema.Draft202012Validator(spec.parameters).is_valid(value)
    except (jsonschema.exceptions.UnknownType, RecursionError):
        return problem(value, spec.parameters) is None


@pytest.mark.parametrize("name", VALUES)
def test_values(name: str) -> None:
    """A value that a schema allows may be said, is read as it was meant, and no other may come."""
    node, allowed, refused = VALUES[name]
    spec = tool("f", "x", x=node)
    spec.parameters["$defs"] = DEFINITIONS  # type: ignore[index]
    grammar = calls(spec, strict=("f",)).whole

    for text in allowed:
        said = call("f", parameter("x", text))
        assert small().accepts(grammar, said), text
        answer, _ = parsed([spec], said)
        (value,) = (each["x"] for each in arguments(answer))
        assert is_valid({"x": value}, spec)
        assert not isinstance(value, str) or value == text
    for text in refused:
        assert not small().accepts(grammar, call("f", parameter("x", text))), text


# Schema of the parameter, and the keywords that its grammar does not ensure.
NOTES: dict[str, tuple[Any, set[str]]] = {
    "nothing is left out": ({"type": "string", "pattern": "^a$", "description": "An a."}, set()),
    "look-ahead": ({"type": "string", "pattern": "^(?=a)"}, {"pattern"}),
    "look-ahead in a list": (
        {"type": "array", "items": {"type": "string", "pattern": "^(?!a)b"}}, {"pattern"},
    ),
    "an unknown format": ({"type": "string", "format": "sort-of"}, {"format"}),
    "unique items": ({"type": "array", "uniqueItems": True}, {"uniqueItems"}),
    "unique items that are not asked for": ({"type": "array", "uniqueItems": False}, set()),
    "not": ({"type": "string", "not": {"const": "a"}}, {"not"}),
    "if": ({"type": "object", "if": {}, "then": {}}, {"if", "then"}),
    "an overlapping choice": (
        {"oneOf": [{"type": "integer"}, {"type": "integer", "minimum": 3}]}, {"oneOf"},
    ),
    "a remote reference": ({"type": "array", "items": {"$ref": "http://x/y"}}, {"$ref"}),
    "words that no text can be": ({"enum": ["</parameter>"]}, {"enum"}),
    "a contradiction": ({"type": "boolean", "enum": ["yes"]}, {"enum"}),
}  # fmt: skip


@pytest.mark.parametrize("name", NOTES)
def test_notes(name: str) -> None:
    """What a grammar can't ensure is left out and named, with the tool and the parameter."""
    node, expected = NOTES[name]

    notes = calls(tool("f", x=node)).notes

    assert {note.keyword for note in notes} == expected
    assert all(str(note).endswith(" of f.x") for note in notes)


def test_loose() -> None:
    """A loose grammar ensures names and types, whatever the schemas say."""
    spec = tool("f", "x", x={"type": "integer", "minimum": 3}, y={"type": "string", "pattern": "a"})
    grammar = calls(spec, loose=True)

    assert small().accepts(grammar.whole, call("f", parameter("x", "1"), parameter("y", "b")))
    assert not small().accepts(grammar.whole, call("f", parameter("x", "a")))
    assert {note.keyword for note in grammar.notes} == {"minimum", "pattern"}
