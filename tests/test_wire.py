"""The wire: a JSON body read field by field, and server-sent events written."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_tools_server.errors import BadRequest
from mlx_tools_server.messages import Sampling
from mlx_tools_server.wire import (
    MAX_NESTING,
    Fields,
    parse_json,
    read_max_tokens,
    read_sampling,
    read_stop,
    sse,
    to_json,
)

Read = Callable[[Fields], Any]

# Each kind of field, read from the field `x`.
REQUIRED_TEXT: Read = lambda f: f.text("x")  # noqa: E731
TEXT: Read = lambda f: f.text("x", "none")  # noqa: E731
FLAG: Read = lambda f: f.flag("x", True)  # noqa: E731
NUMBER: Read = lambda f: f.number("x", 0.5, -1, 2)  # noqa: E731
INTEGER: Read = lambda f: f.integer("x", 7, 0, 10)  # noqa: E731
ITEMS: Read = lambda f: f.items("x", ())  # noqa: E731
REQUIRED_ITEMS: Read = lambda f: f.items("x")  # noqa: E731
MAPPING: Read = lambda f: f.mapping("x")  # noqa: E731
OBJECT: Read = lambda f: f.object("x", {}).raw("y")  # noqa: E731
REQUIRED_OBJECT: Read = lambda f: f.object("x").raw("y")  # noqa: E731
OBJECTS: Read = lambda f: [o.text("y") for o in f.objects("x", ())]  # noqa: E731

GOOD: dict[str, tuple[Read, Any, Any]] = {
    "a text": (REQUIRED_TEXT, "a", "a"),
    "an empty text": (REQUIRED_TEXT, "", ""),
    "null for an optional text": (TEXT, None, "none"),
    "false": (FLAG, False, False),
    "null for a flag": (FLAG, None, True),
    "a number": (NUMBER, 1.5, 1.5),
    "a whole number": (NUMBER, 2, 2.0),
    "the least number": (NUMBER, -1, -1.0),
    "null for a number": (NUMBER, None, 0.5),
    "an integer": (INTEGER, 3, 3),
    "a whole float": (INTEGER, 3.0, 3),
    "the least integer": (INTEGER, 0, 0),
    "the greatest integer": (INTEGER, 10, 10),
    "null for an integer": (INTEGER, None, 7),
    "a list": (ITEMS, [1, None], [1, None]),
    "null for an optional list": (ITEMS, None, ()),
    "an object as it is": (MAPPING, {"y": None}, {"y": None}),
    "null for an object as it is": (MAPPING, None, {}),
    "an object": (OBJECT, {"y": 1}, 1),
    "null for an optional object": (OBJECT, None, None),
    "objects": (OBJECTS, [{"y": "a"}, {"y": "b"}], ["a", "b"]),
    "no objects": (OBJECTS, None, []),
}


@pytest.mark.parametrize("name", GOOD)
def test_field(name: str) -> None:
    """A field of the right kind is read; null means that it is absent."""
    read, value, expected = GOOD[name]

    assert expected == read(Fields({"x": value}))
    if value is None:
        assert expected == read(Fields({}))


BAD: dict[str, tuple[Read, Any, str]] = {
    "no text": (REQUIRED_TEXT, None, "x is missing; it must be a string."),
    "a number for a text": (TEXT, 5, "x must be a string, not 5."),
    "a list for a text": (TEXT, ["a"], "x must be a string, not ['a']."),
    "a word for a flag": (FLAG, "true", "x must be true or false, not 'true'."),
    "1 for a flag": (FLAG, 1, "x must be true or false, not 1."),
    "a word for a number": (NUMBER, "1", "x must be a number from -1 to 2, not '1'."),
    "true for a number": (NUMBER, True, "x must be a number from -1 to 2, not True."),
    "a number too small": (NUMBER, -1.01, "x must be a number from -1 to 2, not -1.01."),
    "a number too great": (NUMBER, 3, "x must be a number from -1 to 2, not 3."),
    "NaN": (NUMBER, float("nan"), "x must be a number from -1 to 2, not nan."),
    "an infinity": (NUMBER, float("inf"), "x must be a number from -1 to 2, not inf."),
    "a number beyond floats": (NUMBER, 10**400, "x must be a number from -1 to 2, not 1000"),
    "a fraction for an integer": (INTEGER, 1.5, "x must be a whole number from 0 to 10, not 1.5."),
    "false for an integer": (INTEGER, False, "x must be a whole number from 0 to 10, not False."),
    "a word for an integer": (INTEGER, "3", "x must be a whole number from 0 to 10, not '3'."),
    "an integer too small": (INTEGER, -1, "x must be a whole number from 0 to 10, not -1."),
    "an integer too great": (INTEGER, 11, "x must be a whole number from 0 to 10, not 11."),
    "an infinite integer": (INTEGER, float("inf"), "x must be a whole number from 0 to 10"),
    "a float beyond integers": (INTEGER, 1e300, "x must be a whole number from 0 to 10"),
    "an object for a list": (ITEMS, {}, "x must be a list, not {}."),
    "a text for a list": (ITEMS, "ab", "x must be a list, not 'ab'."),
    "no list": (REQUIRED_ITEMS, None, "x is missing; it must be a list."),
    "a list for an object as it is": (MAPPING, [], "x must be an object, not []."),
    "a list for an object": (OBJECT, [], "x must be a JSON object."),
    "no object": (REQUIRED_OBJECT, None, "x is missing; it must be an object."),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_field(name: str) -> None:
    """A field that is missing, of the wrong kind or out of bounds is named, with what is right."""
    read, value, words = BAD[name]

    with pytest.raises(BadRequest) as caught:
        read(Fields({"x": value}))

    assert caught.value.message.startswith(words)
    assert caught.value.param == "x"
    assert len(caught.value.message) < 200


def test_nested_names() -> None:
    """An error names the field by its whole path."""
    fields = Fields({"a": {"b": [{}, {"c": 5}]}})

    with pytest.raises(BadRequest) as caught:
        fields.object("a").objects("b")[1].text("c")

    assert caught.value.param == "a.b[1].c"


LONG: dict[str, Any] = {
    "a long text": "x" * 10**6,
    "a deep list": json.loads("[" * 900 + "]" * 900),
    "a long list": [{"a": "b" * 100}] * 10**5,
    "a long integer": 10**4000,
}


@pytest.mark.parametrize("name", LONG)
def test_long_values_are_not_repeated(name: str) -> None:
    """An error shows the start of what was sent, however long or deep it is."""
    with pytest.raises(BadRequest) as caught:
        Fields({"x": LONG[name]}).flag("x", True)

    assert len(caught.value.message) < 100


BODIES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "The body is not JSON"),
    "not JSON": (b"{'a': 1}", "The body is not JSON"),
    "a list": (b"[]", "The body must be a JSON object."),
    "not UTF-8": (b'{"a": "\xff"}', "The body is not UTF-8: invalid start byte at byte 7."),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "The body is not UTF-8"),
    "NaN": (b'{"a": NaN}', "The body is not JSON: NaN"),
    "a float out of range": (b'{"a": [1e999]}', "The body is not JSON: 1e999 is out of range."),
    "an integer of 5000 digits": (b'{"a": ' + b"9" * 5000 + b"}", "The body is not JSON"),
    "a raw newline in a text": (b'{"a": "\n"}', "The body is not JSON"),
    "too deep": (
        b'{"a": ' + b"[" * MAX_NESTING + b"]" * MAX_NESTING + b"}",
        "The body nests more than 200 deep.",
    ),
    "far too deep": (b'{"a": ' + b"[" * 10**5 + b"]" * 10**5 + b"}", "The body is not JSON: nest"),
}


@pytest.mark.parametrize("name", BODIES)
def test_bad_body(name: str) -> None:
    """What is no JSON object is a BadRequest that says why."""
    raw, words = BODIES[name]

    with pytest.raises(BadRequest) as caught:
        parse_json(raw)

    assert caught.value.message.startswith(words)


def test_deepest_body() -> None:
    """A body that nests as deep as is allowed is read."""
    deep = b"[" * (MAX_NESTING - 1) + b"]" * (MAX_NESTING - 1)

    assert parse_json(b'{"a": ' + deep + b"}").raw("a") == json.loads(deep)


CHARACTERS = {
    "half an emoji": (rb"a\ud83d", "a\ufffd"),
    "the other half": (rb"\ude00b", "\ufffdb"),
    "halves in the wrong order": (rb"\ude00\ud83d", "\ufffd\ufffd"),
    "a whole emoji in two escapes": (rb"\ud83d\ude00", "😀"),
    "a whole emoji, and half of one": (rb"\uD83D\uDE00\uD83D", "😀\ufffd"),
    "a backslash before it": (rb"\\ud83d", r"\ud83d"),
    "NUL": (rb"\u0000", "\0"),
}


@pytest.mark.parametrize("name", CHARACTERS)
def test_characters(name: str) -> None:
    """Half a character, which no tokenizer can read, becomes U+FFFD; in keys as well."""
    escaped, expected = CHARACTERS[name]

    fields = parse_json(b'{"x": ["' + escaped + b'", {"' + escaped + b'": 1e5}]}')

    assert [expected, {expected: 1e5}] == fields.raw("x")


# Sampling.

DEFAULTS = Sampling(temperature=0.7, top_p=0.9, top_k=40, min_p=0.05)


def test_sampling_defaults() -> None:
    """What a body leaves open, or null, is what the server was started with."""
    names = Sampling.__dataclass_fields__

    assert read_sampling(Fields({}), DEFAULTS) == DEFAULTS
    assert read_sampling(Fields(dict.fromkeys(names)), DEFAULTS) == DEFAULTS


SAMPLING: dict[str, tuple[dict[str, Any], str, Any]] = {
    "temperature zero": ({"temperature": 0}, "temperature", 0.0),
    "top_p": ({"top_p": 1}, "top_p", 1.0),
    "top_k off": ({"top_k": 0}, "top_k", 0),
    "xtc": ({"xtc_threshold": 0.5}, "xtc_threshold", 0.5),
    "a negative penalty": ({"presence_penalty": -2}, "presence_penalty", -2.0),
    "a bias": ({"logit_bias": {"5": -100, "6": None}}, "logit_bias", {5: -100.0, 6: 0.0}),
    "a seed": ({"seed": 42}, "seed", 42),
    "a negative seed wraps": ({"seed": -1}, "seed", (1 << 64) - 1),
    "the greatest seed": ({"seed": (1 << 64) - 1}, "seed", (1 << 64) - 1),
}


@pytest.mark.parametrize("name", SAMPLING)
def test_sampling(name: str) -> None:
    """A setting of the body goes before the default."""
    body, field, expected = SAMPLING[name]

    assert expected == getattr(read_sampling(Fields(body), DEFAULTS), field)


BAD_SAMPLING: dict[str, tuple[dict[str, Any], str]] = {
    "a negative temperature": ({"temperature": -0.1}, "temperature"),
    "top_p above one": ({"top_p": 1.1}, "top_p"),
    "a negative top_k": ({"top_k": -1}, "top_k"),
    "a huge top_k": ({"top_k": 1 << 40}, "top_k"),
    "min_p as text": ({"min_p": "0"}, "min_p"),
    "a seed too great": ({"seed": 1 << 64}, "seed"),
    "a fraction of a seed": ({"seed": 0.5}, "seed"),
    "a bias as a list": ({"logit_bias": [5]}, "logit_bias"),
    "a bias of a word": ({"logit_bias": {"the": 5}}, "logit_bias"),
    "a bias of a negative token": ({"logit_bias": {"-1": 5}}, "logit_bias"),
    "a bias of a long token": ({"logit_bias": {"9" * 5000: 5}}, "logit_bias"),
    "a bias out of range": ({"logit_bias": {"5": 1e9}}, "logit_bias.5"),
    "a bias of true": ({"logit_bias": {"5": True}}, "logit_bias.5"),
}


@pytest.mark.parametrize("name", BAD_SAMPLING)
def test_bad_sampling(name: str) -> None:
    """A setting out of range is named."""
    body, param = BAD_SAMPLING[name]

    with pytest.raises(BadRequest) as caught:
        read_sampling(Fields(body), DEFAULTS)

    assert caught.value.param == param


STOPS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "none": (None, ()),
    "one": ("a", ("a",)),
    "one as a list": (["a"], ("a",)),
    "several": (["a", "\n\n"], ("a", "\n\n")),
    "an empty list": ([], ()),
    "an empty string": ("", ()),
    "an empty string among others": (["", "a"], ("a",)),
    "as many as may be": (["x" * 256] * 16, ("x" * 256,) * 16),
}


@pytest.mark.parametrize("name", STOPS)
def test_stop(name: str) -> None:
    """Stop strings come as one or as a list; empty ones mean none."""
    value, expected = STOPS[name]

    assert expected == read_stop(Fields({"stop": value}))


@pytest.mark.parametrize("value", [5, {"a": 1}, [None], ["a", 5], ["a"] * 17, ["x" * 257]])
def test_bad_stop(value: Any) -> None:
    """Anything else as stop, or too much of it, is refused."""
    with pytest.raises(BadRequest) as caught:
        read_stop(Fields({"stop": value}))

    assert caught.value.param == "stop"


LIMITS: dict[str, tuple[dict[str, Any], int | None]] = {
    "none": ({}, None),
    "null": ({"new": None, "old": None}, None),
    "the old name": ({"new": None, "old": 5}, 5),
    "the new name goes first": ({"new": 6, "old": 5}, 6),
    "as much as there is": ({"new": -1, "old": 5}, None),
    "a whole float": ({"old": 5.0}, 5),
    "more than any context": ({"old": 1 << 40}, 1 << 40),
}


@pytest.mark.parametrize("name", LIMITS)
def test_max_tokens(name: str) -> None:
    """The first limit that is set counts; -1 means what is left of the context."""
    body, expected = LIMITS[name]

    assert expected == read_max_tokens(Fields(body), "new", "old")


@pytest.mark.parametrize("value", [0, -2, 1.5, "5", True, 1 << 63])
def test_bad_max_tokens(value: Any) -> None:
    """A limit that is no number of tokens is refused."""
    with pytest.raises(BadRequest) as caught:
        read_max_tokens(Fields({"max_tokens": value}), "max_tokens")

    assert caught.value.param == "max_tokens"


# What is written.

LINE_BREAKS = [chr(code) for code in range(0x110000) if len(f"a{chr(code)}b".splitlines()) > 1]
ANY_TEXT = st.text(
    st.characters(exclude_categories=[]) | st.sampled_from([*LINE_BREAKS, "\ud83d", "\ude00"]),
    max_size=20,
)


@given(st.dictionaries(ANY_TEXT, ANY_TEXT | st.lists(ANY_TEXT, max_size=3), max_size=3))
def test_one_line(data: dict[str, Any]) -> None:
    """An event is one line by any reader's idea of a line, and tells its data exactly."""
    text = sse(data).decode("utf-8")

    assert text.endswith("\n\n")
    lines = text.splitlines()
    assert len(lines) == 2
    assert lines[1] == ""
    assert data == json.loads(lines[0].removeprefix("data: "))


def test_compact() -> None:
    """JSON is written without blanks, and readable in any script."""
    assert to_json({"a": [1, "é字😀"]}) == '{"a":[1,"é字😀"]}'
