"""The strings and names of literals: where each ends, told while it comes.

Rules of this file:
- A quote that nothing may follow which follows it stands inside its string: models forget to escape
  them in code. Where the notation is kept to, this never makes a difference.
- Whatever is not as the notation has it is a fault, and `faulty` tells of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from .escapes import read_escape
from .notations import PYTHON, Notation
from .tape import MAX_NAME, Steps, Tape

# The name of a member in quotes is no longer than this.
MAX_KEY = 4096

# In code that is quoted, names are words in any notation.
_WORD = PYTHON.name_end
_BACKSLASH = re.compile(r"\\")
# What Python writes before the quote of some strings.
_PREFIXES = tuple(f"{prefix}{quote}" for prefix in "rRuUbBfF" for quote in "\"'")
_BEGINNINGS = ('"', "'", *_PREFIXES)


class Quoted:
    """Reads strings and names from a tape; `stops` are texts that end what was left open."""

    def __init__(self, tape: Tape, notation: Notation, stops: tuple[str, ...]) -> None:
        self._tape = tape
        self._notation = notation
        self._stops = stops
        self.faulty = False

    # Strings.

    def _string(
        self, quote: str, emit: Callable[[str], None], inside: str, *, verbatim: bool = False
    ) -> Steps[bool]:
        """Read a string in a container that `inside` closes; return whether it is whole.

        In a `verbatim` one backslashes stay. Python joins the strings that follow to it.
        """
        whole = yield from self._one_string(quote, emit, inside, verbatim=verbatim)
        while whole and (size := (yield from self._joins(0))):
            self._tape.take(size)
            quote, verbatim = yield from self._opening()
            whole = yield from self._one_string(quote, emit, inside, verbatim=verbatim)
        return whole

    def _one_string(
        self, quote: str, emit: Callable[[str], None], inside: str, *, verbatim: bool
    ) -> Steps[bool]:
        tape = self._tape
        tape.take(len(quote))
        raw = quote in self._notation.raw
        self.faulty = self.faulty or not (raw or quote in self._notation.plain)
        ends = re.compile(rf"[{re.escape(quote[0])}{'' if raw else re.escape(chr(92))}]")
        while True:
            text = tape.take_until(ends)
            if not raw and len(quote) == 1 and _has_controls(text):
                self.faulty = True
            emit(text)
            if tape.empty:
                if tape.ended:
                    self.faulty = True
                    return not tape.cut
                yield
                continue
            tape.starved = False
            if tape.peek(0, 1) == "\\" and not raw:
                emit((yield from self._escape(verbatim=verbatim)))
            elif not (yield from tape.literal(0, (quote,))):
                if tape.starved and tape.cut:
                    tape.take_until(None)
                else:
                    emit(tape.take(1))
            elif raw or (yield from self._closes(len(quote), inside)):
                if tape.starved and tape.cut and not raw:
                    tape.take_until(None)
                    return False
                tape.take(len(quote))
                return True
            else:
                self.faulty = True
                emit(tape.take(1))

    def _joins(self, offset: int) -> Steps[int]:
        """Return the size of the space before another string of Python's; 0 if there is none."""
        if self._notation is not PYTHON:
            return 0
        behind = yield from self._tape.space(offset)
        found = behind > offset and bool((yield from self._tape.literal(behind, _BEGINNINGS)))
        return behind - offset if found else 0

    def _opening(self) -> Steps[tuple[str, bool]]:
        """Return the quote that opens a string here, and whether it has no escapes."""
        prefix = ""
        if self._notation is PYTHON:
            prefix = yield from self._tape.literal(0, _PREFIXES)
            self._tape.take(len(prefix[:-1]))
        return (yield from self._quote(0)), prefix[:-1] in ("r", "R")

    def _quote(self, offset: int) -> Steps[str]:
        """Return the quote at the offset, the longest one; "" if there is none."""
        for quote in self._notation.quotes:
            if (yield from self._tape.literal(offset, (quote,))):
                return quote
        return ""

    def _escape(self, *, verbatim: bool) -> Steps[str]:
        if verbatim:
            yield from self._tape.at_end(1)
            return self._tape.take(2)
        text, good = yield from read_escape(self._tape, python=self._notation is PYTHON)
        self.faulty = self.faulty or not good
        return text

    def _closes(self, size: int, inside: str) -> Steps[bool]:
        """Return whether a quote of this size ends its string, by what follows it."""
        tape = self._tape
        behind = yield from tape.space(size)
        if (yield from tape.at_end(behind)):
            return True
        if (yield from self._joins(size)):
            return True
        mark = yield from tape.literal(behind, (",", inside, *self._stops))
        if mark != "," or inside != "}":
            return bool(mark)
        # In an object another member follows the comma; in code mostly something else.
        return (yield from self._member_at(behind + 1, inside))

    # Names.

    def _member_at(self, offset: int, closer: str) -> Steps[bool]:
        """Return whether a member of an object stands at the offset, or its end."""
        tape = self._tape
        offset = yield from tape.space(offset)
        if (yield from tape.literal(offset, (closer,))) or (yield from tape.at_end(offset)):
            return True
        end, _, _ = yield from self._name_at(offset, _WORD)
        colon = yield from tape.space(end)
        return end > 0 and bool((yield from tape.literal(colon, (":",))))

    def _name_at(self, offset: int, ends: re.Pattern[str]) -> Steps[tuple[int, str, bool]]:
        """Return the offset behind the name of a member, the name, and whether it is well written.

        `ends` is what ends one without quotes. The offset is 0 where no name stands.
        """
        tape, notation = self._tape, self._notation
        quote = yield from self._quote(offset)
        if not quote:
            end = max((yield from tape.find(offset, ends, MAX_NAME)), 0)
            return end if end > offset else 0, tape.peek(offset, end).rstrip(), notation.bare
        raw = quote in notation.raw
        ends = re.compile(rf"[{re.escape(quote[0])}{'' if raw else re.escape(chr(92))}\n]")
        begin = at = offset + len(quote)
        while (end := (yield from tape.find(at, ends, MAX_KEY))) >= 0:
            mark = tape.peek(end, end + 1)
            if mark == "\n":
                break
            if mark == "\\":
                yield from tape.at_end(end + 1)
                at = end + 2
            elif (yield from tape.literal(end, (quote,))):
                text = tape.peek(begin, end)
                name = text if raw else (yield from self._unescaped(text))
                return end + len(quote), name, quote in notation.plain
            else:
                at = end + 1
        return 0, "", False

    def _unescaped(self, text: str) -> Steps[str]:
        """Return the name of a member without its escapes."""
        tape = Tape()
        tape.push(text)
        tape.end(cut=False)
        pieces = [tape.take_until(_BACKSLASH)]
        while not tape.empty:
            character, _ = yield from read_escape(tape, python=self._notation is PYTHON)
            pieces += [character, tape.take_until(_BACKSLASH)]
        return "".join(pieces)


def _has_controls(text: str) -> bool:
    return any(character in text for character in "\n\r\t")
