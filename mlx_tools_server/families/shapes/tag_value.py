"""Where a value of a tag call ends. The format has no escape, so what follows must tell.

Rules of this file:
- `</parameter>` ends a value if a parameter, `</function>`, `</tool_call>` or the end follows.
  In a value that began on a line of its own, what follows must stand apart as well, on the next
  line or in one line of closers, or prove more: a parameter that is declared and not used yet, or
  the end of the call with nothing behind it.
- A call that seems to end and is followed by one more `</parameter>` did not end: that was quoted.
- Openers inside a value nest, and their closers are theirs. An opener that was only mentioned
  does not: then the call goes on or is over behind the closer. Tags that stand alone on a line
  and tags within a line nest apart, since whoever mentions a tag in a line leaves it open.
- `</function>` ends an open value only if nothing but the end of the call follows, `</tool_call>`
  only if nothing follows at all.
- A parameter that begins at the start of a line, declared and not used yet, ends a value whose
  closer was forgotten.
- Exactly one newline on each side is framing; everything else is payload.
- In a constrained call a grammar (`tag_grammar`) decides instead: a closer alone on its line ends a
  value if `<parameter` or `</` begins the next one, and all else is payload. A line that begins
  with another tag makes the grammar let go; from there, and for a closer that such a tag follows,
  the rules above count. `docs/decisions/005` has the reasons.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container

from ..arguments import Argument
from ..tape import SPACE, Steps, Tape
from .calls import MAX_REPEATED, Rule
from .open_value import END, OpenValue

OPEN, CLOSE = "<tool_call>", "</tool_call>"
FUNCTION, END_FUNCTION = "<function=", "</function>"
PARAMETER, END_PARAMETER = "<parameter=", "</parameter>"
TAG = re.compile("<")

# A line of a constrained text that begins with one of these may be payload or not.
OPENERS, CLOSERS = (FUNCTION, PARAMETER), (END_FUNCTION, CLOSE)
TAGS = (*OPENERS, *CLOSERS)
# What begins right behind a closer that ends a constrained value.
BEHIND = (PARAMETER[:-1], "</")

_AHEAD = (PARAMETER, END_PARAMETER, END_FUNCTION, CLOSE, OPEN)


def tag_name(tape: Tape, offset: int, known: Container[str]) -> Steps[tuple[str, int] | None]:
    """Return the name of a tag and the offset behind it; a known name needs no `>`."""
    raw, behind, closer = yield from tape.name(offset)
    name = raw.strip()
    if len(name) > 2 and name[0] == name[-1] and name[0] in "\"'":
        name = name[1:-1]
    if closer == ">" and name:
        return name, behind + 1
    if closer and name.rstrip("}") in known:
        return name.rstrip("}"), behind
    return None


def is_plain(tape: Tape, offset: int, found: tuple[str, int]) -> bool:
    """Return whether this name of a tag is written as it should be."""
    return tape.peek(offset, found[1]) == f"{found[0]}>"


class _Nest:
    """The openers of one kind that a value quotes and that are not closed yet."""

    def __init__(self) -> None:
        self.functions: list[str] = []
        self._tags: list[str] = []

    @property
    def empty(self) -> bool:
        return not self._tags

    @property
    def in_parameter(self) -> bool:
        return self._tags[-1:] == [PARAMETER]

    def open(self, tag: str, name: str = "") -> None:
        self._tags.append(tag)
        if tag == FUNCTION:
            self.functions.append(name)

    def close_parameter(self) -> None:
        self._tags.pop()

    def close_function(self) -> bool:
        """Close the innermost function; return False if none is open."""
        if not self.functions:
            return False
        while self._tags.pop() != FUNCTION:
            pass
        self.functions.pop()
        return True


class Value(OpenValue):
    """One value while it is read.

    `declared` are the tool's parameters, `seen` those that the call has so far; `lacks` says that
    a tool is on offer and has no parameter of this name.
    """

    def __init__(
        self,
        tape: Tape,
        argument: Argument,
        *,
        declared: Container[str],
        seen: Container[str],
        lacks: Callable[[str, str], bool],
        rule: Rule,
    ) -> None:
        tags = (END_PARAMETER, END_FUNCTION, CLOSE, FUNCTION, PARAMETER[:-1])
        super().__init__(tape, argument, rule, tags=tags)
        self._declared = declared
        self._seen = seen
        self._lacks = lacks
        self._newline = ""
        self._line_start = False
        self._line_begins = False
        self._lines = _Nest()
        self._inline = _Nest()

    def _begin(self) -> Steps[re.Pattern[str]]:
        self._newline = yield from self._tape.literal(0, ("\n", "\r\n"))
        self._line_start = self._line_begins = bool(self._newline)
        self._tape.take(len(self._newline))
        if self._newline == "\n":
            self._endings = ("\n",)
        return TAG

    def _read(self, text: str) -> None:
        _, newline, line = text.rpartition("\n")
        self._line_start = (bool(newline) or self._line_start) and not line.strip(SPACE)
        self._line_begins = bool(newline) and not line

    def _is_framing(self, *, implied: bool) -> bool:
        return self._tail != "\r"

    @property
    def _framed(self) -> bool:
        """Whether the closer of this value, written as its opener is, could stand here."""
        return self._line_start or not self._newline

    def _ends(self, tag: str) -> Steps[int | None]:
        if tag == END_PARAMETER:
            ends = yield from self._parameter_ends((yield from self._alone(len(tag))))
            return len(tag) if ends else None
        ends = False
        if tag == PARAMETER[:-1]:
            ends = yield from self._parameter_begins()
        elif tag == END_FUNCTION:
            ends = yield from self._function_ends((yield from self._alone(len(tag))))
        elif tag == CLOSE and self._framed and self._outside((yield from self._alone(len(tag)))):
            ends = yield from self._call_is_over(0, end_only=True)
        elif tag == FUNCTION:
            found = yield from tag_name(self._tape, len(tag), ())
            if found:
                yield from self._opens(tag, *found)
        return 0 if ends else None

    def _grammar_closes(self, tag: str) -> Steps[bool | None]:
        tape = self._tape
        if tag != END_PARAMETER:
            opens = self._line_begins and (yield from tape.literal(0, TAGS))
            return None if opens else False
        behind = len(tag)
        if self._line_begins:
            if not (yield from tape.literal(behind, ("\n",))):
                return None
            if (yield from tape.literal(behind + 1, BEHIND)):
                return True
        offset = yield from tape.space(behind)
        if (yield from tape.at_end(offset)):
            return None
        apart = tape.peek(behind, offset).endswith("\n")
        return None if apart and (yield from tape.literal(offset, TAGS)) else False

    def _alone(self, behind: int) -> Steps[bool]:
        """Return whether the tag that ends there has its line for itself, as the value has."""
        if not (self._line_start and self._newline):
            return False
        newline = yield from self._tape.literal(behind, ("\n", "\r\n"))
        return bool(newline) or (yield from self._tape.at_end(behind))

    # Openers.

    def _opens(self, tag: str, name: str, behind: int) -> Steps[None]:
        alone = yield from self._alone(behind)
        (self._lines if alone else self._inline).open(tag, name)

    def _outside(self, alone: bool) -> bool:
        """Return whether no function that the value quotes is open for a tag here."""
        return not self._lines.functions and (alone or not self._inline.functions)

    def _parameter_begins(self) -> Steps[bool]:
        """Read an opener in the value: it nests, or tells that the value's closer is missing."""
        tape = self._tape
        offset = len(PARAMETER) - 1
        mark = yield from tape.literal(offset, ("=", " ", "\n", "\t", ">"))
        if not mark:
            return False
        behind = offset + 1
        if mark != ">":
            raw, behind, closer = yield from tape.name(behind)
            if closer != ">" or raw.endswith("/"):
                return False
            behind += 1
        nested = not (self._lines.empty and self._inline.empty)
        if mark == "=" and self._line_start and not self._empty and not nested:
            found = yield from tag_name(tape, len(PARAMETER), ())
            if found and self._is_new(found[0]):
                return True
        yield from self._opens(PARAMETER, "", behind)
        return False

    # Closers.

    def _parameter_ends(self, alone: bool) -> Steps[bool]:
        """Return whether the `</parameter>` here ends the value."""
        behind = len(END_PARAMETER)
        nest = self._lines if alone and not self._lines.empty else self._inline
        # Alone on its line, it closes an opener within a line only if another closer follows.
        mentioned = alone and self._lines.empty and not self._inline.functions
        if mentioned and nest.in_parameter:
            tag, _ = yield from self._ahead(behind, _AHEAD)
            mentioned = tag != END_PARAMETER
        if mentioned or not nest.in_parameter:
            return (yield from self._call_goes_on(behind))
        function = (
            "" if self._outside(alone) else (self._lines.functions or self._inline.functions)[-1]
        )
        ends = yield from self._other_parameter_follows(behind, function)
        ends = ends or (yield from self._function_is_over(behind, end_only=bool(function)))
        if not ends:
            nest.close_parameter()
        return ends

    def _function_ends(self, alone: bool) -> Steps[bool]:
        """Return whether the `</function>` here ends the value, its own closer missing."""
        near, far = (self._lines, self._inline) if alone else (self._inline, self._lines)
        if near.close_function():
            return False
        behind = len(END_FUNCTION)
        if self._outside(alone):
            if self._framed and not self._empty:
                behind = yield from self._swapped(behind)
            end_only = self._empty or not self._framed
            if (yield from self._call_is_over(behind, end_only=end_only)):
                return True
        far.close_function()
        return False

    def _swapped(self, offset: int) -> Steps[int]:
        """Return the offset behind a `</parameter>` that changed places with `</function>`."""
        tag, behind = yield from self._ahead(offset, _AHEAD)
        if tag == END_PARAMETER:
            tag, _ = yield from self._ahead(behind, _AHEAD)
            if tag == CLOSE:
                return behind
        return offset

    def _call_goes_on(self, offset: int) -> Steps[bool]:
        """Return whether a parameter, the end of the call or the end of the text follows."""
        tag, behind = yield from self._ahead(offset, _AHEAD)
        # A doubled closer is one closer, but not where the first one is all of the value, nor
        # where it stands within a line of a value that has lines.
        if not self._empty and self._framed:
            for _ in range(MAX_REPEATED):
                if tag != END_PARAMETER:
                    break
                offset = behind
                tag, behind = yield from self._ahead(offset, _AHEAD)
        apart = not self._newline or "\n" in self._tape.peek(offset, behind)
        if self._line_start and not apart:
            apart = bool((yield from self._tape.literal(behind, ("\n", f"{CLOSE}\n"))))
        if tag == PARAMETER:
            found = yield from tag_name(self._tape, behind, self._declared)
            return found is not None and (apart or self._is_new(found[0]))
        if tag in (END_FUNCTION, CLOSE) and not apart:
            return (yield from self._call_is_over(behind))
        if tag in (END_FUNCTION, CLOSE):
            following, _ = yield from self._behind_call(behind)
            return following != END_PARAMETER
        return tag == END

    def _other_parameter_follows(self, offset: int, function: str) -> Steps[bool]:
        """Return whether a new parameter of the tool follows, not one of the quoted function."""
        tag, behind = yield from self._ahead(offset, _AHEAD)
        if tag != PARAMETER:
            return False
        found = yield from tag_name(self._tape, behind, self._declared)
        if found is None or not self._is_new(found[0]):
            return False
        return not function or self._lacks(function, found[0])

    def _is_new(self, name: str) -> bool:
        return name in self._declared and name not in self._seen

    def _function_is_over(self, offset: int, *, end_only: bool = False) -> Steps[bool]:
        """Return whether `</function>` follows, and behind it nothing of this call."""
        tag, behind = yield from self._ahead(offset, _AHEAD)
        return tag == END_FUNCTION and (yield from self._call_is_over(behind, end_only=end_only))

    def _call_is_over(self, offset: int, *, end_only: bool = False) -> Steps[bool]:
        """Return whether the end of the text follows, or another call unless `end_only`."""
        tag, behind = yield from self._behind_call(offset)
        if tag == OPEN and not end_only:
            behind = yield from self._tape.space(behind)
            return bool((yield from self._tape.literal(behind, (FUNCTION, "{", OPEN))))
        return tag == END

    def _behind_call(self, offset: int) -> Steps[tuple[str, int]]:
        """Return the tag that follows after any `</tool_call>`, and its end."""
        tag, behind = yield from self._ahead(offset, _AHEAD)
        for _ in range(MAX_REPEATED):
            if tag != CLOSE:
                break
            tag, behind = yield from self._ahead(behind, _AHEAD)
        return tag, behind
