"""The tape: text that comes in pieces, read by a coroutine that waits for more when it must.

Rules of this file:
- A read is a generator: it yields while the answer depends on text that has not come yet, and
  returns once it is certain. After the end of the text no read waits.
- Offsets count from the first character not yet taken. A look-ahead takes nothing.
- Look-aheads are bounded (`MAX_SPACE`, `MAX_NAME`), so no input makes a read cost more than
  linear time or hold more than a page of text.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from typing import TypeAlias, TypeVar

T = TypeVar("T")
Steps: TypeAlias = Generator[None, None, T]

# No model writes this much blank space between two tags, nor a name this long.
MAX_SPACE = 1024
MAX_NAME = 256

SPACE = " \t\r\n"
_SPACE = re.compile(r"[ \t\r\n]*")
_JSON = re.compile(r'[{}\[\]"\\]')
_NAME = re.compile(rf"[^<>\n]{{0,{MAX_NAME}}}")


class Tape:
    """Text in pieces.

    `taken` counts the characters read so far, and `record` gets them while it is set. `ended` says
    that no more comes, `cut` that it ended before its author was done, and `starved` that some read
    met the end and would have waited for more.
    """

    __slots__ = ("_at", "_text", "cut", "ended", "record", "starved", "taken")

    def __init__(self) -> None:
        self._text = ""
        self._at = 0
        self.taken = 0
        self.record: list[str] | None = None
        self.ended = False
        self.cut = False
        self.starved = False

    def push(self, text: str) -> None:
        """Append a piece."""
        self._text = self._text[self._at :] + text
        self._at = 0

    def end(self, *, cut: bool) -> None:
        """Say that no more comes."""
        self.ended = True
        self.cut = cut

    @property
    def empty(self) -> bool:
        """Whether everything that has come is taken."""
        return self._at >= len(self._text)

    def take(self, size: int) -> str:
        """Return the next `size` characters and move past them."""
        text = self._text[self._at : self._at + size]
        self._at += len(text)
        self.taken += len(text)
        if self.record is not None:
            self.record.append(text)
        return text

    def take_until(self, first: re.Pattern[str] | None) -> str:
        """Return what comes before the next match of `first`, or all there is."""
        found = first.search(self._text, self._at) if first else None
        end = found.start() if found else len(self._text)
        return self.take(end - self._at)

    def peek(self, start: int, end: int) -> str:
        """Return the characters between two offsets."""
        return self._text[self._at + start : self._at + end]

    def literal(self, offset: int, literals: Sequence[str]) -> Steps[str]:
        """Return which of the literals stands at the offset, or "" for none."""
        while True:
            at = self._at + offset
            left = len(self._text) - at
            pending = False
            for literal in literals:
                if self._text.startswith(literal, at):
                    return literal
                if left < len(literal) and literal.startswith(self._text[at:]):
                    pending = True
            if not pending:
                return ""
            if self.ended:
                self.starved = True
                return ""
            yield

    def space(self, offset: int) -> Steps[int]:
        """Return the offset behind the white space that stands at the offset."""
        behind = offset
        while True:
            found = _SPACE.match(self._text, self._at + behind, self._at + offset + MAX_SPACE)
            behind = found.end() - self._at if found else behind
            if self._at + behind < len(self._text) or behind - offset >= MAX_SPACE:
                return behind
            if self.ended:
                self.starved = True
                return behind
            yield

    def name(self, offset: int) -> Steps[tuple[str, int, str]]:
        """Return the tag name at the offset, the offset behind it, and the character there.

        That is "" at the end of the text, and where the name is too long to be one.
        """
        while True:
            at = self._at + offset
            found = _NAME.match(self._text, at)
            end = found.end() if found else at
            if end - at >= MAX_NAME:
                return self._text[at:end], end - self._at, ""
            if end < len(self._text):
                break
            if self.ended:
                self.starved = True
                break
            yield
        return self._text[at:end], end - self._at, self._text[end : end + 1]

    def find(self, offset: int, pattern: re.Pattern[str], most: int) -> Steps[int]:
        """Return the offset of the first match of a character within `most`; -1 if none is there.

        At the end of the text that may be because it was cut.
        """
        at = offset
        while True:
            limit = self._at + offset + most
            found = pattern.search(self._text, self._at + at, limit)
            if found:
                return found.start() - self._at
            if len(self._text) >= limit:
                return -1
            if self.ended:
                self.starved = True
                return -1
            at = max(offset, len(self._text) - self._at)
            yield

    def at_end(self, offset: int) -> Steps[bool]:
        """Return whether the text ends at the offset."""
        while self._at + offset >= len(self._text):
            if self.ended:
                self.starved = True
                return True
            yield
        return False

    def json(self) -> Steps[str]:
        """Take a JSON object up to its closing brace, or all there is."""
        pieces: list[str] = []
        depth, quoted = 0, False
        while True:
            pieces.append(self.take_until(_JSON))
            if self.empty:
                if self.ended:
                    return "".join(pieces)
                yield
                continue
            mark = self.take(1)
            pieces.append(mark)
            if mark == "\\":
                yield from self.at_end(0)
                pieces.append(self.take(1))
            elif mark == '"':
                quoted = not quoted
            elif not quoted:
                depth += 1 if mark in "{[" else -1
                if depth == 0:
                    return "".join(pieces)
