"""JSON text: what is written can be sent, what is read is JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_tools_server.jsontext import dumps, loads, nests_deeper

ANY_TEXT = st.text(st.characters(exclude_categories=[]), max_size=20)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=10,
)


@given(JSON)
def test_round_trip(value: Any) -> None:
    """Whatever is written has a UTF-8 form and is read back as it was."""
    text = dumps(value)

    text.encode("utf-8")
    assert value == loads(text)


WRITTEN = {
    "letters of any script stay readable": ("é 字 🎉", '"é 字 🎉"'),
    "a lone surrogate is escaped": ("a\ud83d", '"a\\ud83d"'),
    "an integer of any size is exact": (10**400, "1" + "0" * 400),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_dumps(name: str) -> None:
    """Text is written readably where it can be."""
    value, expected = WRITTEN[name]

    assert expected == dumps(value)


READ: dict[str, tuple[str, Any]] = {
    "a raw newline in a string": ('["a\nb"]', ["a\nb"]),
    "a raw tab and a NUL in a string": ('["a\tb\0c"]', ["a\tb\0c"]),
    "a lone surrogate as an escape": ('"\\ud83d"', "\ud83d"),
    "blanks around": (" [1] \n", [1]),
    "an integer that no float holds": ("9007199254740993", 9007199254740993),
    "the last of two equal keys": ('{"a": 1, "a": 2}', {"a": 2}),
}


@pytest.mark.parametrize("name", READ)
def test_loads(name: str) -> None:
    """What a model means as JSON is read, raw control characters included."""
    text, expected = READ[name]

    assert expected == loads(text)


REFUSED = {
    "nothing": "",
    "NaN": '{"a": NaN}',
    "an infinity": "[Infinity]",
    "a negative infinity": "[-Infinity]",
    "a float out of range": "[1e999]",
    "an integer of too many digits": "9" * 5000,
    "a hundred thousand brackets": "[" * 100_000 + "]" * 100_000,
    "a hundred thousand open braces": '{"a":' * 100_000,
    "two values": "1 2",
    "Python": "{'a': True}",
}


@pytest.mark.parametrize("name", REFUSED)
def test_loads_refuses(name: str) -> None:
    """What is not JSON is a ValueError, whatever is wrong with it."""
    with pytest.raises(ValueError):  # noqa: PT011  JSON's own error
        loads(REFUSED[name])


def test_strict() -> None:
    """Strictly read, a string holds no raw control character."""
    with pytest.raises(json.JSONDecodeError):
        loads('"a\nb"', strict=True)


NESTING: dict[str, tuple[Any, int]] = {
    "a number": (1, 0),
    "a text": ("[[]]", 0),
    "a list of empty lists": ([[], []], 2),
    "an empty list": ([], 1),
    "a list": ([1], 1),
    "a dict in a list": ([{"a": 1}], 2),
    "the deeper of two": ([[1], {"a": [1, 2]}], 3),
}


@pytest.mark.parametrize("name", NESTING)
def test_nesting(name: str) -> None:
    """How deep a value nests is known to the level."""
    value, depth = NESTING[name]

    assert not nests_deeper(value, depth)
    assert depth == 0 or nests_deeper(value, depth - 1)
