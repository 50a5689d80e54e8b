"""Values written as literals, told as JSON while they come: JSON itself, Python's and Gemma's.

Rules of this file:
- What is told is JSON from the first piece to the last, and all of a string leaves as it comes.
- Where the text keeps to its notation, its values come out as they are. Where it does not, it is
  read as it was meant: other quotes, bare words, raw control characters, commas too many or too
  few, closers that are missing. Each of these is a fault, and `faulty` tells of it.
- What can be no part of a value goes to `junk`, so that it can be said. Brackets are no words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import chain, count
from typing import Literal

from ..jsontext import dumps, loads
from ..schema import MAX_NESTING, Parameters, ValueType
from .arguments import Arguments
from .notations import PYTHON, Notation
from .quoted import Quoted
from .tape import Steps, Tape

# A bare word is no longer than this.
MAX_WORD = 4096


_CLOSERS: Mapping[str, str] = {"{": "}", "[": "]", "(": ")"}
_JSON_OF: Mapping[str, str] = {"{": "{", "[": "[", "(": "[", "}": "}", "]": "]", ")": "]"}
_WORDS: Mapping[str, str] = {
    "true": "true", "false": "false", "null": "null", "True": "true", "False": "false",
    "None": "null", "undefined": "null",
}  # fmt: skip
_WORD_END = re.compile(r"[,{}\[\]()\n\"'<`]")
_JUNK_END = re.compile(r"[,{}\[\]()\"'\s<]")
# What stands where a member may: one, the closer of its container, or the end of a cut text.
_Step = Literal["member", "closed", "cut"]


class Literals(Quoted):
    """Reads literals from a tape; what can be no part of them goes to `junk`."""

    def __init__(self, tape: Tape, notation: Notation, stops: tuple[str, ...]) -> None:
        super().__init__(tape, notation, stops)
        # What closes the arguments of the call that is read.
        self._top = "}"
        self.junk: list[str] = []

    def arguments(self, into: Arguments, parameters: Parameters) -> Steps[bool]:
        """Read the arguments of a call behind what opened them; return whether they are whole."""
        closer, fresh = self._notation.closer, True
        self._top = closer
        while True:
            step, name = yield from self._member(closer, fresh=fresh, top=True)
            if step != "member":
                return step == "closed"
            if not (yield from self.argument(name, into, parameters)):
                return False
            fresh = False

    def member(self, *, fresh: bool) -> Steps[tuple[_Step, str]]:
        """Read up to the value of the next member of a JSON object; return its name."""
        return (yield from self._member("}", fresh=fresh))

    def value(self, emit: Callable[[str], None], inside: str = "}") -> Steps[bool]:
        """Read any value as JSON; return False if the text was cut before its end."""
        stack: list[str] = []
        while True:
            opener = yield from self._tape.literal(0, ("{", "[", "("))
            fresh = bool(opener)
            if opener:
                if len(stack) >= MAX_NESTING:
                    return (yield from self._too_deep(emit, stack))
                self._tape.take(1)
                stack.append(_CLOSERS[opener])
                emit(_JSON_OF[opener])
            elif not (yield from self._scalar(emit, stack[-1] if stack else inside)):
                return False
            while stack:
                step, name = yield from self._member(stack[-1], fresh=fresh)
                if step == "cut":
                    return False
                if step == "member":
                    emit("" if fresh else ", ")
                    emit(f"{dumps(name)}: " if stack[-1] == "}" else "")
                    break
                emit(_JSON_OF[stack.pop()])
                fresh = False
            if not stack:
                return True

    # One argument.

    def argument(self, name: str, into: Arguments, parameters: Parameters) -> Steps[bool]:
        """Read the value of an argument, and give it the type that its schema wants."""
        name = name or _unnamed(parameters, into.seen)
        kind = parameters.type_of(name) if name in parameters.declared else ValueType(None)
        tape, emit = self._tape, into.emit
        into.key(name)
        quote, verbatim = yield from self._opening()
        if quote and (kind.kinds is None or "string" in kind.kinds):
            emit('"')
            whole = yield from self._string(
                quote, lambda text: emit(_inner(text)), self._top, verbatim=verbatim
            )
            emit('"' if whole else "")
            return whole
        if not quote and not kind.is_string:
            return (yield from self.value(emit, self._top))
        held: list[str] = []
        if quote:
            whole = yield from self._string(quote, held.append, self._top, verbatim=verbatim)
            value = kind.convert("".join(held))
            self.faulty = self.faulty or not isinstance(value, str)
        else:  # something else where a string should be: its own text
            tape.record = held
            whole = yield from self.value(_nothing, self._top)
            tape.record = None
            text = "".join(held).strip()
            for raw in self._notation.raw:
                text = text.removesuffix(raw)
            value = None if _WORDS.get(text) == "null" else text
            self.faulty = self.faulty or value is not None
        emit(dumps(value) if whole else "")
        return whole

    # Members.

    def _member(self, closer: str, *, fresh: bool, top: bool = False) -> Steps[tuple[_Step, str]]:
        """Read up to the next value in a container that this text closes.

        Returns its name too, in an object; at the `top`, in the arguments of a call, it may have
        none.
        """
        tape, comma = self._tape, fresh
        while True:
            tape.starved = False
            tape.take((yield from tape.space(0)))
            mark = yield from tape.literal(0, (",", closer))
            if mark == closer:
                tape.take(1)
                self.faulty = self.faulty or (comma and not fresh)
                return "closed", ""
            if mark == ",":
                tape.take(1)
                self.faulty = self.faulty or comma
                comma = True
                continue
            if (yield from self._ends(closer)):
                if tape.cut and tape.empty:
                    return "cut", ""
                self.faulty = True
                return "closed", ""
            name = yield from self._name(closer, top=top)
            if name is not None:
                self.faulty = self.faulty or not comma
                return "member", name
            if tape.starved and tape.cut:
                tape.take_until(None)  # the beginning of a name
                return "cut", ""
            self.faulty = True
            yield from self._throw_away()

    def _ends(self, closer: str) -> Steps[bool]:
        """Return whether a container ends here without its closer."""
        tape = self._tape
        if (yield from tape.at_end(0)) or (yield from tape.literal(0, self._stops)):
            return True
        if tape.starved and tape.cut:
            tape.take_until(None)  # the beginning of a stop
            return True
        # The closer of what this container stands in.
        outer = [mark for mark in "}])" if mark != closer]
        return closer != self._top and bool((yield from tape.literal(0, outer)))

    def _name(self, closer: str, *, top: bool) -> Steps[str | None]:
        """Take the name of a member, and what assigns; "" where it needs none."""
        if closer == "]" or (closer == ")" and not top):
            return "" if (yield from self._begins_value()) else None
        tape = self._tape
        ends = (PYTHON if closer == ")" else self._notation).name_end
        offset, name, good = yield from self._name_at(0, ends)
        behind = yield from tape.space(offset)
        found = yield from tape.literal(behind, (":", "=") if closer == ")" else (":",))
        quoted = closer == "}" and offset and not found and bool((yield from self._quote(0)))
        if quoted and (yield from tape.literal(behind, ('"', "'", "{", "["))):  # a colon forgotten
            good = False
        elif not (offset and found):
            return "" if closer == ")" and (yield from self._begins_value()) else None
        self.faulty = self.faulty or not good
        tape.take(behind + len(found))
        tape.take((yield from tape.space(0)))
        return name

    def _begins_value(self) -> Steps[bool]:
        tape = self._tape
        return not (yield from tape.literal(0, ("}", "]", ")", ":", "=", ";")))

    def _throw_away(self) -> Steps[None]:
        """Take a word that is no part of a value."""
        tape = self._tape
        first = tape.take(1)
        self.junk.append(("" if first in "{}[]()" else first) + tape.take_until(_JUNK_END))
        while tape.empty and not tape.ended:  # the word may go on
            yield
            self.junk[-1] += tape.take_until(_JUNK_END)

    def _too_deep(self, emit: Callable[[str], None], stack: list[str]) -> Steps[bool]:
        """Take the rest of a value that no client reads, as text."""
        self.faulty = True
        emit("null")
        while stack:
            emit(_JSON_OF[stack.pop()])
        self.junk.append((yield from self._tape.json()))
        return not self._tape.cut

    # Scalars.

    def _scalar(self, emit: Callable[[str], None], inside: str) -> Steps[bool]:
        """Read a string, or a bare word: a number, a constant, or a string without quotes."""
        tape = self._tape
        quote, verbatim = yield from self._opening()
        if quote:
            emit('"')
            whole = yield from self._string(
                quote, lambda text: emit(_inner(text)), inside, verbatim=verbatim
            )
            emit('"' if whole else "")
            return whole
        word, quoted = yield from self._word(inside)
        if tape.starved and tape.cut:
            return False
        told = "" if quoted else _WORDS.get(word) or _number(word)
        self.faulty = self.faulty or not told or not (self._notation.bare or told == word)
        emit(told or (dumps(word) if word else "null"))
        return True

    def _word(self, inside: str) -> Steps[tuple[str, bool]]:
        """Take a value without quotes, or with no more than the last of them; tell which."""
        tape, raw = self._tape, self._notation.raw
        pieces: list[str] = []
        size = 0
        while size < MAX_WORD:
            pieces.append(tape.take_until(_WORD_END))
            size += len(pieces[-1])
            if (yield from tape.at_end(0)):
                break
            mark = tape.peek(0, 1)
            if not _WORD_END.match(mark):
                continue
            if quote := (yield from tape.literal(0, raw)):
                tape.take(len(quote))
                return "".join(pieces).strip(), True
            if mark == "," and inside == "}" and raw and not _constant("".join(pieces)):
                if (yield from self._member_at(1, inside)):
                    break
            elif mark not in "<`" or (yield from tape.literal(0, self._stops)):
                break
            pieces.append(tape.take(1))
        return "".join(pieces).strip(), False


def _nothing(_: str) -> None:
    """Tell nothing."""


def _inner(text: str) -> str:
    return dumps(text)[1:-1]


def _number(text: str) -> str:
    """Return a number as JSON; "" if the text is none."""
    try:
        value = loads(text.replace("_", "") if text[:1].isdigit() else text)
    except ValueError:
        return ""
    return dumps(value) if type(value) in (int, float) else ""


def _constant(text: str) -> bool:
    """Return whether a word is no string."""
    return bool(_WORDS.get(text.strip()) or _number(text.strip()))


def _unnamed(parameters: Parameters, seen: set[str]) -> str:
    """Return the parameter that an argument without a name is for, or a name of its own."""
    places = (f"argument_{place}" for place in count(len(seen) + 1))
    return next(name for name in chain(parameters.declared, places) if name not in seen)
