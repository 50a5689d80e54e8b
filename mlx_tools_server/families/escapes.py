"""Escapes in strings: a backslash and what it stands for, in JSON and in Python.

Rules of this file:
- What is no escape stays as it is written: models write regular expressions and paths.
- One half of a pair of surrogates waits for the other; where a cut text ends in one, it is dropped.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping

from .tape import Steps, Tape

_ESCAPES: Mapping[str, str] = {
    '"': '"', "'": "'", "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r",
    "t": "\t", "\n": "",
}  # fmt: skip
# Digits behind the escapes that have some; JSON has the first only.
_SIZES: Mapping[str, int] = {"u": 4, "U": 8, "x": 2}
_HEX = re.compile(r"[0-9a-fA-F]+")
_PYTHON_ONLY = "'\n"


def read_escape(tape: Tape, *, python: bool) -> Steps[tuple[str, bool]]:
    """Read a backslash and what follows; return what they stand for, and whether for something."""
    if (yield from tape.at_end(1)):
        backslash = tape.take(1)
        return "" if tape.cut else backslash, False
    mark = tape.peek(1, 2)
    size = _SIZES.get(mark, 0) if python or mark == "u" else 0
    if size:
        yield from tape.at_end(1 + size)
        digits = tape.peek(2, 2 + size)
        if len(digits) < size and tape.cut:
            tape.take_until(None)
            return "", False
        if len(digits) == size and _HEX.fullmatch(digits) and int(digits, 16) <= sys.maxunicode:
            tape.take(2 + size)
            return (yield from _paired(tape, chr(int(digits, 16)))), True
    if mark in _ESCAPES and (python or mark != "\n"):
        return _ESCAPES[tape.take(2)[1]], python or mark not in _PYTHON_ONLY
    return tape.take(1), False


def _paired(tape: Tape, character: str) -> Steps[str]:
    """Return a character, with its other half where it is one half of a pair."""
    if not "\ud800" <= character <= "\udbff":
        return character
    if not (yield from tape.literal(0, ("\\u",))) or (yield from tape.at_end(5)):
        return "" if tape.starved and tape.cut else character
    low = tape.peek(2, 6)
    if _HEX.fullmatch(low) and 0xDC00 <= int(low, 16) <= 0xDFFF:
        tape.take(6)
        pair = character + chr(int(low, 16))
        return pair.encode("utf-16", "surrogatepass").decode("utf-16")
    return character
