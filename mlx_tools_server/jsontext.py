"""JSON text, in and out, for whatever a client or a model writes.

Rules of this file:
- Numbers are finite: NaN, the infinities and floats out of range are not JSON.
- What is written can be encoded as UTF-8, whatever strings it holds.
"""

from __future__ import annotations

import json
import math
from typing import Any


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
        return json.loads(text, strict=strict, parse_constant=_refuse, parse_float=finite)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def finite(text: str) -> float:
    """Return the float that `text` spells; raises ValueError if it is out of range."""
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:40]} is out of range")
    return value


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
