"""Where a value of a tag call ends. The format has no escape, so what follows must tell.

Rules of this file:
- `</parameter>` ends a value if a parameter, `</function>`, `</tool_call>` or the end follows.
- Openers inside a value nest, and their closers are theirs. An opener that was only mentioned
  does not: then the call goes on or is over behind the closer.
- `</function>` ends an open value only if nothing but the end of the call follows.
- A parameter that begins at the start of a line, declared and not used yet, ends a value whose
  closer was forgotten.
- Exactly one newline on each side is framing; everything else is payload.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from typing import Any

from ..arguments import Argument
from ..tape import SPACE, Steps, Tape

OPEN, CLOSE = "<tool_call>", "</tool_call>"
FUNCTION, END_FUNCTION = "<function=", "</function>"
PARAMETER, END_PARAMETER = "<parameter=", "</parameter>"
TAG = re.compile("<")

# Repetitions of one tag that still count as one: more is not a slip of the pen but text.
MAX_REPEATED = 8

_END = "end"
_AHEAD = (PARAMETER, END_PARAMETER, END_FUNCTION, CLOSE, OPEN)


def tag_name(tape: Tape, offset: int, known: Container[str]) -> Steps[tuple[str, int] | None]:
    """Return the name of a tag and the offset behind it; `>` may be missing for a known name."""
    raw, behind, closer = yield from tape.name(offset)
    name = raw.strip()
    if len(name) > 2 and name[0] == name[-1] and name[0] in "\"'":
        name = name[1:-1]
    if closer == ">" and name:
        return name, behind + 1
    if closer and name in known:
        return name, behind
    return None


class Value:
    """One value while it is read; `declared` are the tool's parameters, `seen` the call's."""

    def __init__(
        self,
        tape: Tape,
        argument: Argument,
        *,
        declared: Mapping[str, Any],
        seen: set[str],
    ) -> None:
        self._tape = tape
        self._argument = argument
        self._declared = declared
        self._seen = seen
        self._newline = ""
        self._tail = ""
        self._empty = True
        self._line_start = False
        self._openers: list[str] = []
        self._functions = 0

    def read(self) -> Steps[bool]:
        """Take the value and its closer; return False if the text was cut before that."""
        tape = self._tape
        self._newline = yield from tape.literal(0, ("\n", "\r\n"))
        self._line_start = bool(self._newline)
        tape.take(len(self._newline))
        while True:
            self._write(tape.take_until(TAG))
            if tape.empty:
                if tape.ended:
                    break
                yield
                continue
            tape.starved = False
            closer = yield from self._closer()
            if closer is not None:
                tape.take(len(closer))
                self._close()
                return True
            if tape.starved and tape.cut:
                tape.take_until(None)  # it may be a closer, so it must not pass as payload
                break
            self._write(tape.take(1))
        if not tape.cut:
            self._close()
        return not tape.cut

    def _write(self, text: str) -> None:
        """Pass payload on, all but a newline at its end, which may be framing."""
        if not text:
            return
        self._empty = False
        _, newline, line = text.rpartition("\n")
        self._line_start = (bool(newline) or self._line_start) and not line.strip(SPACE)
        text = self._tail + text
        endings = ("\n",) if self._newline == "\n" else ("\r\n", "\n", "\r")
        self._tail = next((ending for ending in endings if text.endswith(ending)), "")
        if len(text) > len(self._tail):
            self._argument.write(text[: len(text) - len(self._tail)])

    def _close(self) -> None:
        if self._tail == "\r":
            self._argument.write(self._tail)
        self._argument.close()

    def _closer(self) -> Steps[str | None]:
        """Return the closer that ends the value here ("" for an implied one), None if none."""
        tape = self._tape
        tag = yield from tape.literal(0, (END_PARAMETER, END_FUNCTION, FUNCTION, PARAMETER[:-1]))
        if tag == END_PARAMETER:
            return tag if (yield from self._parameter_ends()) else None
        if tag == PARAMETER[:-1]:
            return "" if (yield from self._parameter_begins()) else None
        if tag == FUNCTION:
            if (yield from tag_name(tape, len(tag), ())):
                self._openers.append(FUNCTION)
                self._functions += 1
        elif tag == END_FUNCTION and self._functions:
            self._functions -= 1
            while self._openers.pop() != FUNCTION:
                pass
        elif tag == END_FUNCTION and (yield from self._nothing_follows(len(tag))):
            return ""
        return None

    def _parameter_begins(self) -> Steps[bool]:
        """Read an opener in the value: it nests, or tells that the value's closer is missing."""
        tape = self._tape
        offset = len(PARAMETER) - 1
        mark = yield from tape.literal(offset, ("=", " ", "\n", "\t"))
        if not mark:
            return False
        raw, _, closer = yield from tape.name(offset + len(mark))
        if closer != ">" or raw.endswith("/"):
            return False
        if mark == "=" and not self._openers and self._line_start and not self._empty:
            found = yield from tag_name(tape, len(PARAMETER), ())
            if found and found[0] in self._declared and found[0] not in self._seen:
                return True
        self._openers.append(PARAMETER)
        return False

    def _parameter_ends(self) -> Steps[bool]:
        """Return whether the `</parameter>` here ends the value."""
        behind = len(END_PARAMETER)
        if self._openers[-1:] != [PARAMETER]:
            return (yield from self._call_goes_on(behind))
        if self._functions:
            ends = yield from self._call_is_over(behind, end_only=True)
        else:
            ends = yield from self._other_parameter_follows(behind)
            ends = ends or (yield from self._call_is_over(behind))
        if not ends:
            self._openers.pop()
        return ends

    def _call_goes_on(self, offset: int) -> Steps[bool]:
        """Return whether a parameter, the end of the call or the end of the text follows."""
        tag, behind = yield from self._ahead(offset)
        # A doubled closer is one closer, but not where the first one is all of the value, nor
        # where it stands within a line of a value that has lines.
        if not self._empty and (self._line_start or not self._newline):
            for _ in range(MAX_REPEATED):
                if tag != END_PARAMETER:
                    break
                offset = behind
                tag, behind = yield from self._ahead(offset)
        if tag != PARAMETER:
            return tag in (END_FUNCTION, CLOSE, _END)
        found = yield from tag_name(self._tape, behind, self._declared)
        if found is None:
            return False
        own_line = "\n" in self._tape.peek(offset, behind) or not self._newline
        return own_line or not self._declared or found[0] in self._declared

    def _other_parameter_follows(self, offset: int) -> Steps[bool]:
        tag, behind = yield from self._ahead(offset)
        if tag != PARAMETER:
            return False
        found = yield from tag_name(self._tape, behind, self._declared)
        return found is not None and found[0] in self._declared and found[0] not in self._seen

    def _call_is_over(self, offset: int, *, end_only: bool = False) -> Steps[bool]:
        """Return whether `</function>` follows, and behind it nothing of this call."""
        tag, behind = yield from self._ahead(offset)
        return tag == END_FUNCTION and (yield from self._nothing_follows(behind, end_only=end_only))

    def _nothing_follows(self, offset: int, *, end_only: bool = False) -> Steps[bool]:
        """Return whether the end of the text follows, or another call unless `end_only`."""
        tag, behind = yield from self._ahead(offset)
        if tag == CLOSE:
            tag, behind = yield from self._ahead(behind)
        return tag == _END or (tag == OPEN and not end_only)

    def _ahead(self, offset: int) -> Steps[tuple[str, int]]:
        """Return the tag that follows after white space, or that the text ends, and its end."""
        tape = self._tape
        offset = yield from tape.space(offset)
        tag = yield from tape.literal(offset, _AHEAD)
        if not tag and (yield from tape.at_end(offset)) and not tape.cut:
            return _END, offset
        return tag, offset + len(tag)
