"""Whether arguments fit their schema, and schemas that would hold the server.

Rules of this file:
- The schemas of clients are hostile: nothing raises, takes long or reaches the network.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_tools_server.jsontext import dumps
from mlx_tools_server.schema import Parameters, problem

Schema = dict[str, Any]
STRING, INTEGER, NULL = {"type": "string"}, {"type": "integer"}, {"type": "null"}

# Validity: a value, a schema, words of what is wrong (None where nothing is).
EDIT = {
    "type": "object",
    "properties": {"path": STRING, "lines": {"type": "array", "items": INTEGER}},
    "required": ["path"],
    "additionalProperties": False,
}
PROBLEMS: dict[str, tuple[Any, Any, str | None]] = {
    "all is well": ({"path": "a", "lines": [1]}, EDIT, None),
    "a name is missing": ({}, EDIT, "'path' is a required property"),
    "a name too many": ({"path": "a", "b": 1}, EDIT, "'b' was unexpected"),
    "a wrong type, and where": ({"path": "a", "lines": [1, "x"]}, EDIT, "lines/1: 'x' is not"),
    "a long value is cut": ({"path": ["x" * 999]}, EDIT, "path: ['xxx"),
    "not in the enum": ({"a": 3}, {"properties": {"a": {"enum": [1, 2]}}}, "not one of"),
    "none of anyOf": ({"a": 3}, {"properties": {"a": {"anyOf": [STRING, NULL]}}}, "not valid"),
    "a reference that fits": (
        {"a": 3}, {"properties": {"a": {"$ref": "#/$defs/I"}}, "$defs": {"I": INTEGER}}, None
    ),
    "a reference that does not": (
        {"a": "3"}, {"properties": {"a": {"$ref": "#/$defs/I"}}, "$defs": {"I": INTEGER}}, "a: '3'"
    ),
    "a reference to a false schema": ({"a": 1}, {"properties": {"a": {"$ref": "#/$defs/F"}},
                                                 "$defs": {"F": False}}, "False schema"),
    "a recursive schema": (
        {"kids": [{"kids": [{"kids": 5}]}]},
        {"properties": {"kids": {"type": "array", "items": {"$ref": "#"}}}},
        "kids/0/kids/0/kids: 5 is not",
    ),
    "an unknown reference": ({"a": 1}, {"properties": {"a": {"$ref": "#/$defs/X"}}}, None),
    "an unknown type": ({"a": 1}, {"properties": {"a": {"type": "file"}}}, None),
    "a schema of a draft of its own": (
        {"a": "x"},
        {"$schema": "http://json-schema.org/draft-07/schema#", "properties": {"a": INTEGER}},
        "a: 'x' is not of type 'integer'",
    ),
    "a pattern is not looked at": ({"a": "x"}, {"properties": {"a": {"pattern": "^y$"}}}, None),
    "a parameter called pattern is": (
        {"pattern": 5}, {"properties": {"pattern": STRING}}, "pattern: 5"
    ),
    "properties that are a list": ({"a": 1}, {"properties": [1]}, None),
    "required that is a number": ({"a": 1}, {"required": 5}, None),
    "a reference that is a number": ({"a": 1}, {"$ref": 5}, None),
    "a thousand items": ({"lines": [1] * 1000}, EDIT, "'path' is a required property"),
}  # fmt: skip


@pytest.mark.parametrize("name", PROBLEMS)
def test_problem(name: str) -> None:
    """What does not fit is said in a line that names where; an unusable schema says nothing."""
    value, schema, words = PROBLEMS[name]

    found = problem(value, schema)

    assert (words is None) == (found is None)
    assert words is None or words in (found or "")
    assert len(found or "") < 300


def test_problem_of_many_items() -> None:
    """A long list is checked to its end."""
    items = [{"n": 1, "s": "x"}] * 1_999 + [{"n": "one", "s": "x"}]
    node = {"type": "object", "properties": {"n": INTEGER, "s": STRING}, "required": ["n"]}

    found = problem({"a": items}, {"properties": {"a": {"type": "array", "items": node}}})

    assert found == "a/1999/n: 'one' is not of type 'integer'"


# Hostile schemas.


def doubled(word: str, levels: int = 40) -> Schema:
    """Return references that lead to 2^levels checks of one integer."""
    defs: Schema = {f"d{i}": {word: [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(levels)}
    return {"properties": {"v": {"$ref": "#/$defs/d0"}},
            "$defs": {**defs, f"d{levels}": INTEGER}}  # fmt: skip


def nested(levels: int) -> Schema:
    """Return a union in a union in a union."""
    node: Schema = INTEGER
    for _ in range(levels):
        node = {"anyOf": [node, STRING]}
    return {"properties": {"v": node}}


EVIL = "^(a+)+$"
META = "https://json-schema.org/draft/2020-12/schema"
HOSTILE: dict[str, Callable[[], Schema]] = {
    "a doubling anyOf": lambda: doubled("anyOf"),
    "a doubling oneOf": lambda: doubled("oneOf"),
    "a doubling allOf": lambda: doubled("allOf"),
    "a doubling allOf of the root": lambda: {**doubled("allOf"), "$ref": "#/$defs/d0"},
    "a ring": lambda: {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/B"},
                                                      "B": {"$ref": "#/$defs/A"}}},
    "itself, many times": lambda: {"allOf": [{"$ref": "#"}] * 50},
    "itself as every property": lambda: {"additionalProperties": {"allOf": [{"$ref": "#"}] * 50}},
    "a dynamic reference to itself": lambda: {"$dynamicRef": "#", "allOf": [{"$dynamicRef": "#"}]},
    "a union 300 deep": lambda: nested(300),
    "unevaluated properties at every level": lambda: {
        "properties": {"v": {}}, "unevaluatedProperties": False,
        "allOf": [{"unevaluatedProperties": False, "allOf": [{"$ref": "#"}] * 2}] * 2},
    "a slow pattern": lambda: {"properties": {"v": {"pattern": EVIL}}},
    "a slow pattern of names": lambda: {"patternProperties": {EVIL: {}}},
    "a slow pattern of other names": lambda: {"patternProperties": {EVIL: {}},
                                              "additionalProperties": False},
    "a slow pattern of property names": lambda: {"propertyNames": {"pattern": EVIL}},
    "a slow pattern under a draft of its own": lambda: {
        "properties": {"v": {"$schema": META, "pattern": EVIL}}},
    "a slow pattern under a draft by reference": lambda: {
        "$schema": META, "$defs": {"E": {"$schema": META, "pattern": EVIL}},
        "properties": {"v": {"$ref": "#/$defs/E"}}},
    "a slow pattern of names that are left": lambda: {"patternProperties": {EVIL: {}},
                                                      "unevaluatedProperties": False},
    "twenty thousand branches": lambda: {"properties": {"v": {"anyOf": [INTEGER] * 20_000}}},
    "twenty thousand words": lambda: {"properties": {"v": {"enum": ["w"] * 20_000}}},
    "a million steps": lambda: {"properties": {"v": {"$ref": "#" + "/a" * 10**6}}},
    "an id of no sense": lambda: {"$id": "http://[", "properties": {"v": {"$ref": "#/$defs"}}},
    "a type of lists": lambda: {"properties": {"v": {"type": [[], {}, None, 5]}}},
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_schema(name: str) -> None:
    """No schema raises or takes long, neither for types nor for validity."""
    schema = HOSTILE[name]()
    evil = "a" * 40 + "!"
    start = time.thread_time()

    Parameters(schema).type_of("v").convert("[1]")
    problem({"v": evil, evil: 1, "list": [evil] * 1000}, schema)

    # A guard against hanging, which is what these schemas are made for; no measurement.
    assert time.thread_time() - start < 20


JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(
        ["string", "object", "#", "#/$defs/a", "#/properties/v", "http://x.invalid/", "(", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["type", "properties", "v", "$ref", "$defs", "a", "anyOf", "allOf", "oneOf",
                         "enum", "const", "items", "required", "nullable", "not", "if", "contains",
                         "additionalProperties", "$schema", "$id", "$anchor", "$dynamicRef",
                         "dependentSchemas", "minItems", "multipleOf", "prefixItems"]),
        inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=500)
@given(JUNK, st.text(max_size=5), JUNK)
def test_any_schema(schema: Any, text: str, value: Any) -> None:
    """Whatever stands where a schema should, nothing raises."""
    root: Mapping[str, Any] = schema if isinstance(schema, dict) else {"properties": schema}

    value_type = Parameters(root).type_of("v")
    value_type.could_differ(text)
    dumps(value_type.convert(text))
    problem({"v": value}, root)


@pytest.mark.parametrize("word", ["$ref", "$dynamicRef", "$schema", "$id"])
def test_nothing_is_fetched(word: str) -> None:
    """No schema makes the server open a connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/schema.json"
        schema = {"properties": {"v": {word: url}, "w": {"$ref": f"{url}#/a"}}, word: url}

        Parameters(schema).type_of("v").convert("[1]")
        problem({"v": 1, "w": 1}, schema)

        with pytest.raises(BlockingIOError):
            listener.accept()
