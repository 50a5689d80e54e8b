"""JSON text, in and out, for whatever a client or a model writes.

Rules of this file:
- Numbers are finite: NaN, the infinities and floats out of range are not JSON.
- What is written can be encoded as UTF-8, whatever strings it holds.
- No text of a client keeps other threads waiting: Python switches threads between its own steps
  only, and the C code that reads JSON is one step.
- Of a key that comes twice the last value counts, here and so everywhere.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

# A string, or what begins a list, an object or their next value. A backslash never stands here.
_TOKEN = re.compile(rb'"[^"]*+"?|[\[{,]')
# A pair of escapes is one character; a half without the other, or in the wrong order, is none.
_HALVES = re.compile(
    r"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def dumps(value: object) -> str:
    """Return `value` as JSON text that can be encoded as UTF-8 whatever strings it holds."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate has no UTF-8 form, but an escape
        return json.dumps(value)
    return text


def loads(text: str, *, strict: bool = False) -> Any:
    """Return the JSON value of `text`; unless `strict`, strings may hold raw control characters.

    Raises:
        ValueError: the text is not JSON, nests too deeply, or holds a number out of range.
    """
    try:
        return json.loads(
            text, strict=strict, parse_constant=_refuse, parse_float=finite, parse_int=_whole
        )
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def finite(text: str) -> float:
    """Return the float that `text` spells; raises ValueError if it is out of range."""
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:40]} is out of range")
    return value


def _whole(text: str) -> int:
    # `int` itself would be part of one step, and a text may hold a million long numbers.
    return int(text)


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is not JSON")


def nests_deeper(value: object, limit: int) -> bool:
    """Return whether lists and dicts stand in each other more than `limit` deep."""
    level: list[Any] = [value] if isinstance(value, list | dict) else []
    for _ in range(limit):
        level = [
            item
            for node in level
            for item in (node.values() if isinstance(node, dict) else node)
            if isinstance(item, list | dict)
        ]
    return bool(level)


def count_values(text: bytes, limit: int) -> int:
    """Return how many values JSON text holds, without reading them; `limit` + 1 for any more.

    Counted are commas and what opens a list or an object, outside of strings. In text that is no
    JSON nothing is certain, but the C code that reads it stops where it finds that out.
    """
    strings = values = 0
    for token in _TOKEN.finditer(text.replace(rb"\\", b"").replace(rb"\"", b"")):
        if token[0].startswith(b'"'):
            strings += 1
        else:
            values += 1
        # Between two strings of an object there is a colon, between all others one of these.
        if values > limit or strings > 2 * limit + 2:
            return limit + 1
    return values


def whole_characters(text: str) -> str:
    """Return JSON text with U+FFFD for each escape of half a character: clients cut emojis."""
    if not _HALF.search(text):
        return text
    return _HALVES.sub(lambda match: "\ufffd" if match[1] else match[0], text)
