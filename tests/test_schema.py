"""JSON Schema as tool arguments need it: types of parameters, and text to value.

Rules of this file:
- A table row says in its name what holds, for one schema node and one text.
- Validity and hostile schemas are in `test_schema_problem`.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_tools_server.jsontext import dumps
from mlx_tools_server.schema import MAX_NESTING, Parameters, ValueType

Schema = dict[str, Any]


def type_of(node: Any, **root: Any) -> ValueType:
    """Return the type of one parameter that has this schema node."""
    return Parameters({"type": "object", "properties": {"v": node}, **root}).type_of("v")


def same(expected: Any, actual: Any) -> bool:
    """Whether two JSON values are the same, their types included: 1 is neither true nor 1.0."""
    return json.dumps(expected) == json.dumps(actual)


# Text to value: a schema node, a text, the value.

STRING, INTEGER, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}
BOOLEAN, NULL, ARRAY, OBJECT = (
    {"type": "boolean"},
    {"type": "null"},
    {"type": "array"},
    {"type": "object"},
)
OPTIONAL = {"type": ["string", "null"]}
EITHER = {"type": ["integer", "string"]}

PLAIN: dict[str, tuple[Any, str, Any]] = {
    "a string keeps null": (STRING, "null", "null"),
    "a string keeps a number": (STRING, "123", "123"),
    "a string keeps JSON": (STRING, '{"a": 1}', '{"a": 1}'),
    "a string keeps quotes": (STRING, '"x"', '"x"'),
    "a string keeps every blank": (STRING, "  a \n\n", "  a \n\n"),
    "an empty string is a string": (STRING, "", ""),
    "an integer": (INTEGER, "-42", -42),
    "an integer with blanks around": (INTEGER, "  7\n", 7),
    "an integer with a plus": (INTEGER, "+7", 7),
    "an integer with leading zeros": (INTEGER, "007", 7),
    "an integer of any size is exact": (INTEGER, "9" * 400, 10**400 - 1),
    "an integer of 4300 digits is exact": (INTEGER, "9" * 4300, 10**4300 - 1),
    "an integer of 5000 digits stays text": (INTEGER, "9" * 5000, "9" * 5000),
    "an integer written as a whole float": (INTEGER, "5.0", 5),
    "an integer written with an exponent": (INTEGER, "12e2", 1200),
    "an exponent that makes too many digits stays text": (INTEGER, "1e9999", "1e9999"),
    "an integer beyond floats is exact": (INTEGER, "9007199254740993.0", 9007199254740993),
    "a fraction is no integer": (INTEGER, "5.5", "5.5"),
    "digits of other scripts stay text": (INTEGER, "٣", "٣"),
    "underscores stay text": (INTEGER, "1_000", "1_000"),
    "no integer is guessed from nothing": (INTEGER, "", ""),
    "a word is no integer": (INTEGER, "twelve", "twelve"),
    "a boolean is no integer": (INTEGER, "true", "true"),
    "null is no integer": (INTEGER, "null", "null"),
    "a float": (NUMBER, "-1.5e-3", -0.0015),
    "a number without its zero": (NUMBER, ".5", 0.5),
    "a whole number stays whole": (NUMBER, "10", 10),
    "a whole float stays a float": (NUMBER, "1.0", 1.0),
    "a big whole number stays exact": (NUMBER, "9007199254740993", 9007199254740993),
    "a number out of range stays text": (NUMBER, "1e999", "1e999"),
    "a number of 5000 digits stays text": (NUMBER, "9" * 5000, "9" * 5000),
    "NaN stays text": (NUMBER, "NaN", "NaN"),
    "an infinity stays text": (NUMBER, "-Infinity", "-Infinity"),
    "true": (BOOLEAN, "true", True),
    "false in Python's spelling": (BOOLEAN, "False", False),
    "true in capitals": (BOOLEAN, "TRUE", True),
    "yes is no boolean": (BOOLEAN, "yes", "yes"),
    "1 is no boolean": (BOOLEAN, "1", "1"),
    "null": (NULL, "null", None),
    "null in Python's spelling": (NULL, "None", None),
    "nothing is not null": (NULL, "", ""),
    "a list": (ARRAY, '["a", 1, null]', ["a", 1, None]),
    "a list over several lines": (ARRAY, '[\n  1,\n  2\n]\n', [1, 2]),
    "a list with a raw newline in a string": (ARRAY, '["a\nb"]', ["a\nb"]),
    "a list in Python's spelling": (ARRAY, "['it''s', True, None]", ["its", True, None]),
    "a list with an escape that Python does not know": (ARRAY, r"['\d+', '\n']", [r"\d+", "\n"]),
    "a list with tuples": (ARRAY, "[(1, 2)]", [[1, 2]]),
    "a list with NaN stays text": (ARRAY, "[NaN]", "[NaN]"),
    "a list with a Python infinity stays text": (ARRAY, "['a', 1e999]", "['a', 1e999]"),
    "a list with bytes stays text": (ARRAY, "[b'a']", "[b'a']"),
    "a list with a call stays text": (ARRAY, "[open('x')]", "[open('x')]"),
    "half a list stays text": (ARRAY, "[1, 2", "[1, 2"),
    "an object is no list": (ARRAY, "{}", "{}"),
    "a word is no list": (ARRAY, "plain", "plain"),
    "an object": (OBJECT, '{"a": {"b": []}}', {"a": {"b": []}}),
    "an object in Python's spelling": (OBJECT, "{'a': False, 1: 'x'}", {"a": False, "1": "x"}),
    "a set is no object": (OBJECT, "{1, 2}", "{1, 2}"),
    "a big integer in an object is exact": (OBJECT, '{"i": 9007199254740993}',
                                            {"i": 9007199254740993}),
    "the deepest list that is read": (ARRAY, "[" * 100 + "]" * 100,
                                      json.loads("[" * 100 + "]" * 100)),
    "a deeper list stays text": (ARRAY, "[" * 101 + "]" * 101, "[" * 101 + "]" * 101),
    "a hundred thousand brackets stay text": (ARRAY, "[" * 10**5, "[" * 10**5),
    "a hundred thousand signs stay text": (ARRAY, "[" + "-" * 10**5 + "1]",
                                           "[" + "-" * 10**5 + "1]"),
    "a lone surrogate in Python's spelling stays text": (ARRAY, "['\ud83d']", "['\ud83d']"),
    "a NUL in Python's spelling stays text": (ARRAY, "[x\0]", "[x\0]"),
}  # fmt: skip

UNIONS: dict[str, tuple[Any, str, Any]] = {
    "null of an optional string": (OPTIONAL, "null", None),
    "None is a word of an optional string": (OPTIONAL, "None", "None"),
    "null with a blank is text of an optional string": (OPTIONAL, " null", " null"),
    "text of an optional string": (OPTIONAL, "null and void", "null and void"),
    "an optional integer": ({"type": ["integer", "null"]}, "None", None),
    "an integer beside a string": (EITHER, "12", 12),
    "text beside an integer": (EITHER, "12 apples", "12 apples"),
    "leading zeros are text beside an integer": (EITHER, "007", "007"),
    "a plus is text beside an integer": (EITHER, "+7", "+7"),
    "a hash that looks like a number is text beside an integer": (EITHER, "12e45", "12e45"),
    "a fraction is text beside an integer": (EITHER, "5.0", "5.0"),
    "other digits are text beside an integer": (EITHER, "1٣", "1٣"),
    "a version is text beside a number": ({"type": ["number", "string"]}, "1.2.3", "1.2.3"),
    "a float beside a string": ({"type": ["number", "string"]}, "1.5", 1.5),
    "true beside a string": ({"type": ["boolean", "string"]}, "true", True),
    "True is a word beside a string": ({"type": ["boolean", "string"]}, "True", "True"),
    "an object beside a string": ({"type": ["string", "object"]}, '{"z": 1}', {"z": 1}),
    "Python is text beside a string": ({"type": ["string", "object"]}, "{'z': 1}", "{'z': 1}"),
    "a list is text where only objects are": ({"type": ["string", "object"]}, "[1]", "[1]"),
    "an integer before a number": ({"type": ["number", "integer"]}, "3.0", 3),
    "a boolean before a string in any order": ({"type": ["string", "boolean"]}, "false", False),
    "a list of one type": ({"type": ["string"]}, "1", "1"),
    "an empty list of types says nothing": ({"type": []}, "1", "1"),
    "anyOf": ({"anyOf": [STRING, NULL]}, "null", None),
    "oneOf": ({"oneOf": [INTEGER, STRING]}, "77", 77),
    "anyOf in anyOf": ({"anyOf": [{"anyOf": [NULL, BOOLEAN]}, INTEGER]}, "true", True),
    "anyOf with a branch that says nothing": ({"anyOf": [INTEGER, {}]}, "1", "1"),
    "an empty anyOf says nothing": ({"anyOf": []}, "[1]", [1]),
    "allOf of one": ({"allOf": [ARRAY]}, "[3]", [3]),
    "allOf narrows": ({"allOf": [{"type": ["string", "integer"]}, INTEGER]}, "+5", 5),
    "allOf of number and integer": ({"allOf": [NUMBER, INTEGER]}, "5.0", 5),
    "allOf that no value fits takes the first": ({"allOf": [STRING, INTEGER]}, "5", "5"),
    "nullable": ({"type": "integer", "nullable": True}, "null", None),
    "nullable string": ({"type": "string", "nullable": True}, "null", None),
    "not nullable": ({"type": "string", "nullable": False}, "null", "null"),
}

WORDS: dict[str, tuple[Any, str, Any]] = {
    "an enum of numbers": ({"enum": [1, 2, 3]}, "2", 2),
    "an enum of strings that look like numbers": ({"enum": ["1", "2"]}, "1", "1"),
    "a string of a mixed enum": ({"enum": ["auto", 1]}, "auto", "auto"),
    "a number of a mixed enum": ({"enum": ["auto", 1]}, "1", 1),
    "a string that reads like the other kind": ({"enum": ["0", 1]}, "0", "0"),
    "true as the string it is": ({"enum": ["true", False]}, "true", "true"),
    "false as the boolean it is": ({"enum": ["true", False]}, "false", False),
    "null of an enum": ({"enum": ["a", None]}, "null", None),
    "one text for a string and null is null": ({"enum": ["null", None]}, "null", None),
    "a padded number of a mixed enum is text": ({"enum": ["a", 1]}, " 1 ", " 1 "),
    "an enum beside its type": ({"type": "integer", "enum": [1, 2]}, "1", 1),
    "strings of an enum of another type": ({"type": "integer", "enum": ["1", "2"]}, "1", 1),
    "an enum beside a type of no meaning": ({"type": "choice", "enum": [1, 2]}, "1", 1),
    "an enum that is no list says nothing": ({"enum": 5}, "5", "5"),
    "an empty enum says nothing": ({"enum": []}, "[5]", [5]),
    "const string": ({"const": "5"}, "5", "5"),
    "const number": ({"const": 5}, "5", 5),
    "const null": ({"const": None}, "null", None),
    "const false": ({"const": False}, "False", False),
    "const in a union": ({"anyOf": [{"const": 1}, {"const": "one"}]}, "1", 1),
}

LOOSE: dict[str, tuple[Any, str, Any]] = {
    "no type: a number is text": ({}, "5", "5"),
    "no type: null is text": ({}, "null", "null"),
    "no type: an object": ({}, ' {"a": 1}', {"a": 1}),
    "no type: Python's spelling": ({}, "['a']", ["a"]),
    "no type: half an object is text": ({}, '{"a": ', '{"a": '),
    "a schema that is true": (True, "[1]", [1]),
    "a schema that is null": (None, "[1]", "[1]"),
    "a schema that is a word": ("string", "[1]", [1]),
    "properties without type": ({"properties": {"a": INTEGER}}, '{"a": 5}', {"a": 5}),
    "properties without type: no list": ({"properties": {}}, "[1]", "[1]"),
    "additionalProperties without type": ({"additionalProperties": {}}, "{}", {}),
    "items without type": ({"items": STRING}, "['a']", ["a"]),
    "prefixItems without type": ({"prefixItems": [STRING]}, "[]", []),
    "str": ({"type": "str"}, "5", "5"),
    "uint32": ({"type": "uint32"}, "5", 5),
    "float64": ({"type": "float64"}, "0.5", 0.5),
    "int": ({"type": "int"}, "5", 5),
    "float": ({"type": "float"}, "5.5", 5.5),
    "bool in capitals": ({"type": "BOOL"}, "true", True),
    "dict": ({"type": "dict"}, "{}", {}),
    "list": ({"type": " List "}, "[]", []),
    "none": ({"type": "none"}, "null", None),
    "INTEGER of Google's schemas": ({"type": "INTEGER"}, "5", 5),
    "a type that is a number says nothing": ({"type": 5}, "[1]", [1]),
    "a list with an unknown type says nothing": ({"type": ["file", "string"]}, "[1]", [1]),
}

DEFS = {
    "Name": STRING,
    "Count": INTEGER,
    "Deep": {"inner": [{"x": BOOLEAN}]},
    "Mode": {"enum": ["a", 1]},
    "Two words": INTEGER,
    "a/b": INTEGER,
    "a~b": INTEGER,
    "Chain": {"$ref": "#/$defs/Link"},
    "Link": {"$ref": "#/$defs/Count"},
    "Ring": {"$ref": "#/$defs/Gnir"},
    "Gnir": {"$ref": "#/$defs/Ring"},
    "Self": {"anyOf": [{"$ref": "#/$defs/Self"}, INTEGER]},
    "Tree": {"type": "object", "properties": {"kids": {"items": {"$ref": "#/$defs/Tree"}}}},
}
REFS: dict[str, tuple[str, str, Any]] = {
    "a string by reference": ("#/$defs/Name", "123", "123"),
    "an integer by reference": ("#/$defs/Count", "123", 123),
    "an enum by reference": ("#/$defs/Mode", "1", 1),
    "under definitions": ("#/definitions/Old", "123", 123),
    "through a list": ("#/$defs/Deep/inner/0/x", "true", True),
    "to another parameter": ("#/properties/other", "5", 5),
    "an escaped blank": ("#/$defs/Two%20words", "5", 5),
    "a blank": ("#/$defs/Two words", "5", 5),
    "an escaped slash": ("#/$defs/a~1b", "5", 5),
    "an escaped tilde": ("#/$defs/a~0b", "5", 5),
    "a reference to a reference": ("#/$defs/Chain", "5", 5),
    "a ring says nothing": ("#/$defs/Ring", "5", "5"),
    "a union with itself says nothing": ("#/$defs/Self", "[5]", [5]),
    "a tree": ("#/$defs/Tree", '{"kids": [{}]}', {"kids": [{}]}),
    "the root": ("#", "{}", {}),
    "nowhere says nothing": ("#/$defs/Nobody", "[5]", [5]),
    "behind the end of a list": ("#/$defs/Deep/inner/9", "[5]", [5]),
    "an index of other digits": ("#/$defs/Deep/inner/²", "[5]", [5]),
    "an index of 5000 digits": ("#/$defs/Deep/inner/" + "9" * 5000, "[5]", [5]),
    "into a string": ("#/$defs/Name/type/0", "[5]", [5]),
    "an anchor says nothing": ("#Count", "[5]", [5]),
    "another document says nothing": ("https://example.com/schema.json", "[5]", [5]),
    "an empty reference says nothing": ("", "[5]", [5]),
}


@pytest.mark.parametrize("name", [*PLAIN, *UNIONS, *WORDS, *LOOSE])
def test_convert(name: str) -> None:
    """Text becomes the value that its schema allows, and stays text where there is none."""
    node, text, expected = {**PLAIN, **UNIONS, **WORDS, **LOOSE}[name]

    assert same(expected, type_of(node).convert(text))


@pytest.mark.parametrize("name", REFS)
def test_reference(name: str) -> None:
    """A local reference is followed; one that leads nowhere says nothing about the type."""
    reference, text, expected = REFS[name]
    root = {"$defs": DEFS, "definitions": {"Old": INTEGER}}
    properties = {"v": {"$ref": reference}, "other": INTEGER}

    actual = Parameters({"properties": properties, **root}).type_of("v").convert(text)

    assert same(expected, actual)


# Which parameters there are: a root schema, a name, a text, the value.
PARAMETERS: dict[str, tuple[Schema, str, str, Any]] = {
    "no schema: values are strings": ({}, "x", "1", "1"),
    "an undeclared name is a string": ({"properties": {"a": INTEGER}}, "x", "1", "1"),
    "an undeclared name has the additional type": ({"additionalProperties": INTEGER}, "x", "1", 1),
    "additionalProperties true: a string": ({"additionalProperties": True}, "x", "[1]", "[1]"),
    "additionalProperties empty: no type": ({"additionalProperties": {}}, "x", "[1]", [1]),
    "properties by reference": (
        {"$ref": "#/$defs/A", "$defs": {"A": {"properties": {"x": INTEGER}}}}, "x", "1", 1
    ),
    "properties in allOf": ({"allOf": [{"properties": {"x": INTEGER}}]}, "x", "1", 1),
    "properties in a branch": (
        {"anyOf": [{"properties": {"y": STRING}}, {"properties": {"x": INTEGER}}]}, "x", "1", 1
    ),
    "its own properties go before a branch's": (
        {"properties": {"x": STRING}, "oneOf": [{"properties": {"x": INTEGER}}]}, "x", "1", "1"
    ),
    "properties that are no object": ({"properties": [1]}, "x", "1", "1"),
    "a reference to itself": ({"$ref": "#", "properties": {"x": INTEGER}}, "x", "1", 1),
}  # fmt: skip


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name: str) -> None:
    """A parameter's type is found wherever the schema of the object keeps it."""
    root, parameter, text, expected = PARAMETERS[name]

    assert same(expected, Parameters(root).type_of(parameter).convert(text))


def test_required() -> None:
    """Required names are gathered from all parts of the schema; other things are left out."""
    schema = {"required": ["a", 5, None], "allOf": [{"required": ["b"]}, {"required": "c"}]}

    assert frozenset({"a", "b"}) == Parameters(schema).required


# What holds for all values and texts.

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(),
    "integer": st.integers(),
    "number": st.floats(allow_nan=False, allow_infinity=False) | st.integers(),
    "boolean": st.booleans(),
    "null": st.none(),
    "array": st.lists(st.integers() | st.text() | st.none(), max_size=4),
    "object": st.dictionaries(st.text(), st.booleans() | st.text(), max_size=4),
}


def spelled(value: Any) -> str:
    """Return the value as a model is taught to write it."""
    return value if isinstance(value, str) else dumps(value)


@given(st.sampled_from(sorted(VALUES)).flatmap(lambda k: st.tuples(st.just(k), VALUES[k])))
def test_round_trip(typed: tuple[str, Any]) -> None:
    """A value that was written is read back, type and all."""
    kind, value = typed

    assert same(value, type_of({"type": kind}).convert(spelled(value)))


@given(st.sampled_from(sorted(VALUES)).flatmap(lambda k: st.tuples(st.just(k), VALUES[k])))
def test_round_trip_of_an_optional(typed: tuple[str, Any]) -> None:
    """A value that may be null is read back like any other."""
    kind, value = typed
    if value == "null":
        value = None

    assert same(value, type_of({"anyOf": [{"type": kind}, NULL]}).convert(spelled(value)))


MEMBERS: st.SearchStrategy[Any] = st.sampled_from(
    ["a", "1", "null", "true", "{}", "1e5", 1, 2.5, None, True, [1], {}]
)
NODES: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from([{}, True, {"type": "odd"}, {"properties": {}}, {"items": {}}])
    | st.sampled_from(sorted(VALUES)).map(lambda kind: {"type": kind})
    | st.lists(st.sampled_from(sorted(VALUES)), max_size=4).map(lambda kinds: {"type": kinds})
    | st.builds(lambda enum, kind: {"enum": enum, **kind}, st.lists(MEMBERS, max_size=4),
                st.sampled_from([{}, STRING, OPTIONAL, {"type": "odd"}, {"nullable": True}]))
    | MEMBERS.map(lambda member: {"const": member}),
    lambda inner: st.builds(lambda word, nodes: {word: nodes},
                            st.sampled_from(["anyOf", "oneOf", "allOf"]),
                            st.lists(inner, max_size=3)),
    max_leaves=5,
)  # fmt: skip
PIECES = st.sampled_from(
    ["null", "nul", "true", "false", "tru", "1", "12", "-", "+", ".", "e", "E5", "0", "٣", "²",
     " ", "\n", "\x1c", "{", "}", "[", "]", '"', "'a'", "a", ":", ",", "None", "NaN", "\ud83d"]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=5).map("".join)


@settings(max_examples=1500)
@given(NODES, TEXTS, TEXTS)
def test_decided_once(node: Any, prefix: str, rest: str) -> None:
    """What can be no other value from some prefix on is that very text, however it goes on."""
    value_type = type_of(node)
    if value_type.could_differ(prefix):
        return

    assert not value_type.could_differ(prefix + rest)
    assert prefix + rest == value_type.convert(prefix + rest)


DIFFER: dict[str, tuple[Any, str, bool]] = {
    "a string is known at once": (STRING, "", False),
    "an integer is never known to be text": (INTEGER, "abc", True),
    "the start of null": (OPTIONAL, "nul", True),
    "more than null": (OPTIONAL, "null ", False),
    "another word": (OPTIONAL, "no", False),
    "digits": (EITHER, "12", True),
    "digits and a word": (EITHER, "12 ", False),
    "a brace": ({"type": ["string", "object"]}, '{"a', True),
    "no brace": ({"type": ["string", "object"]}, "a", False),
    "no type, blanks": ({}, " \n", True),
    "no type, a brace": ({}, " {", True),
    "no type, a word": ({}, " a", False),
}


@pytest.mark.parametrize("name", DIFFER)
def test_could_differ(name: str) -> None:
    """Text may leave as soon as it can be nothing else, and not before."""
    node, prefix, expected = DIFFER[name]

    assert expected is type_of(node).could_differ(prefix)


@settings(max_examples=1000)
@given(NODES, TEXTS)
def test_converted_is_json(node: Any, text: str) -> None:
    """Whatever comes out can be written as JSON."""
    json.loads(dumps(type_of(node).convert(text)))


def test_deepest_value_is_read_back() -> None:
    """A value that was read can be written and read again as a part of the arguments."""
    text = "[" * MAX_NESTING + "]" * MAX_NESTING
    value = type_of(ARRAY).convert(text)

    assert {"v": value} == json.loads(dumps({"v": value}))
