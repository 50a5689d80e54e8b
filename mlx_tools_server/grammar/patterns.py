"""A schema's `pattern` and `format` as regular expressions that llguidance knows.

Rules of this file:
- What comes out matches whole texts. It may match less than the schema allows, never more: a text
  that it matches is found valid by Python's `re` and by JavaScript's alike.
- What can't be said (look-around, references back, word boundaries, anchors in the middle) is None.
"""

from __future__ import annotations

import re

# Longer patterns are generated or hostile; a grammar drops them.
MAX_PATTERN = 2_000

# Repeated more often than this, a part is too much for a lexer.
MAX_REPEATED = 1_000

_ANY = r"[^\n\r\u{2028}\u{2029}]"
_TOKEN = re.compile(
    r"""
      \\u(?P<code>[0-9A-Fa-f]{4})
    | \\x(?P<byte>[0-9A-Fa-f]{2})
    | \\(?P<escape>.)
    | (?P<group>\((?:\?:)?)
    | (?P<times>\{(?P<least>\d{1,6})(?:(?P<comma>,)(?P<most>\d{0,6}))?\}|[*+?])(?P<lazy>[?+]?)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
# Positive classes are ASCII, as in JavaScript; negative ones leave out what Python's match.
_ESCAPES = {
    "d": "[0-9]",
    "D": r"\D",
    "w": "[A-Za-z0-9_]",
    "W": r"\W",
    "s": r"[ \t\n\r\f\v]",
    "S": r"\S",
    "n": r"\n",
    "r": r"\r",
    "t": r"\t",
    "f": r"\f",
    "v": r"\v",
}
_CLASS_ESCAPES = {**_ESCAPES, "d": "0-9", "w": "A-Za-z0-9_", "s": r" \t\n\r\f\v"}
_ANYTHING = "(?s:.*)"


class _Unsaid(Exception):
    """The pattern can't be said."""


def searching(pattern: str) -> str | None:
    """Return the regular expression of the whole texts in which `pattern` finds something."""
    if len(pattern) > MAX_PATTERN:
        return None
    try:
        choices = _Reader(pattern).choices()
    except _Unsaid:
        return None
    return f"({'|'.join(choices)})"


class _Reader:
    """Rewrites one pattern, token by token."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0
        self._repeated = 1

    def choices(self) -> list[str]:
        """Return the alternatives of the whole pattern, each with what may stand around it."""
        choices: list[str] = []
        body: list[str] = []
        begins, ends = _ANYTHING, _ANYTHING
        depth = 0
        while self._at < len(self._pattern):
            character = self._pattern[self._at]
            if ends == "" and not (character == "|" and depth == 0):
                raise _Unsaid
            if character == "^" and not body and depth == 0 and begins:
                begins = ""
            elif character == "$" and depth == 0:
                ends = ""
            elif character == "|" and depth == 0:
                choices.append(f"{begins}({''.join(body)}){ends}")
                body, begins, ends = [], _ANYTHING, _ANYTHING
            elif character in "^$":
                raise _Unsaid
            elif character == "[":
                body.append(self._class())
                continue
            else:
                depth += {"(": 1, ")": -1}.get(character, 0)
                body.append(self._token())
                if depth < 0:
                    raise _Unsaid
                continue
            self._at += 1
        if depth:
            raise _Unsaid
        choices.append(f"{begins}({''.join(body)}){ends}")
        return choices

    def _token(self) -> str:
        found = _TOKEN.match(self._pattern, self._at)
        assert found is not None
        self._at = found.end()
        if found["code"] or found["byte"]:
            return _character(int(found["code"] or found["byte"], 16))
        if found["escape"]:
            return _escape(found["escape"], _ESCAPES)
        if found["group"]:
            if self._pattern.startswith("?", self._at):
                raise _Unsaid
            return found["group"]
        if found["times"]:
            return self._times(found)
        return _plain(found["other"])

    def _times(self, found: re.Match[str]) -> str:
        # Python 3.11 reads `a*+` as possessive, JavaScript not at all.
        if found["lazy"] == "+":
            raise _Unsaid
        if found["least"]:
            times = max(int(found["least"]), int(found["most"] or 0), 1)
            self._repeated *= times
            if self._repeated > MAX_REPEATED:
                raise _Unsaid
        return found["times"]

    def _class(self) -> str:
        at = self._at + 1
        pieces = ["["]
        if self._pattern.startswith("^", at):
            pieces.append("^")
            at += 1
        if self._pattern.startswith("]", at):
            raise _Unsaid
        while True:
            found = _TOKEN.match(self._pattern, at)
            if found is None:
                raise _Unsaid
            character = self._pattern[at]
            if character == "]":
                break
            at = found.end()
            if found["code"] or found["byte"]:
                pieces.append(_character(int(found["code"] or found["byte"], 16)))
            elif found["escape"]:
                pieces.append(_escape(found["escape"], _CLASS_ESCAPES))
            else:
                at -= len(found[0]) - 1
                pieces.append(f"\\{character}" if character in "[&~/^" else character)
        self._at = at + 1
        return "".join(pieces) + "]"


def _character(code: int) -> str:
    if 0xD800 <= code <= 0xDFFF:
        raise _Unsaid
    return f"\\u{{{code:x}}}"


def _escape(character: str, known: dict[str, str]) -> str:
    if character in known:
        return known[character]
    if character.isalnum() or ord(character) > 127:
        raise _Unsaid
    return f"\\{character}" if character not in " \"'%,:;<=>@_`!" else character


def _plain(character: str) -> str:
    match character:
        case ".":
            return _ANY
        case "/":
            return r"\/"
        case "{" | "}" | "]":
            return f"\\{character}"
        case "\n":
            return r"\n"
        case _:
            return character


_DATE = (
    r"([1-9][0-9]{3}-((0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])"
    r"|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)"
    r"|[1-9][0-9](0[48]|[2468][048]|[13579][26])-02-29)"
)
_TIME = (
    r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+\-]([01][0-9]|2[0-3]):[0-5][0-9])"
)
_BYTE = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_HEX = "[0-9A-Fa-f]"
_WORD = r"[A-Za-z0-9_+\-]{1,32}"
_URI = r"[A-Za-z0-9\-._~:\/?@!$&'()*+,;=]"
_URIS = rf"({_URI}|%{_HEX}{{2}}){{0,999}}"
_LABEL = "[A-Za-z0-9]([A-Za-z0-9\\-]{0,61}[A-Za-z0-9])?"

FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "duration": r"P([0-9]{1,9}D|[0-9]{1,9}W|T[0-9]{1,9}[HMS]|[0-9]{1,9}DT[0-9]{1,9}[HMS])",
    "email": rf"{_WORD}(\.{_WORD}){{0,3}}@{_LABEL}(\.{_LABEL}){{1,3}}",
    "hostname": rf"{_LABEL}(\.{_LABEL}){{0,3}}",
    "ipv4": rf"{_BYTE}(\.{_BYTE}){{3}}",
    "ipv6": rf"({_HEX}{{1,4}}:){{7}}{_HEX}{{1,4}}|({_HEX}{{1,4}}:){{1,6}}:{_HEX}{{1,4}}|::1|::",
    "uri": rf"[A-Za-z][A-Za-z0-9+.\-]{{0,15}}:{_URI}{_URIS}(#{_URI}{_URIS})?",
    "uuid": r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}",
}
