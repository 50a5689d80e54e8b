"""Where a value of a marked call ends. The formats have no escape, so what follows must tell.

Rules of this file:
- A closer ends a value if the next key, the end of the call or of its section, another call or the
  end of the text follows; else it is payload. A doubled closer is one.
- Openers inside the value nest: the closer of a quoted value is its own, unless a parameter that is
  declared and not used yet follows, or the end of a call that the value does not quote.
- A key that is declared and not used yet ends a value whose closer was forgotten, and so does the
  end of the call if that is all that follows. One newline before it is framing then.
- Everything else is payload, byte for byte; so is white space, but around CDATA.
- In a constrained call a grammar (`marked_grammar`) decides instead: a closer ends the value if a
  key or the end of the call follows, but none in a string of JSON does. Where anything else follows
  a closer, or the text quotes an opener of a value, the grammar lets go, and the rules above count.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from ..arguments import Argument
from ..tape import Steps, Tape
from .calls import MAX_REPEATED, Rule
from .marks import Marks
from .open_value import END, OpenValue

_TAG, _CDATA = re.compile("<"), re.compile("]")
_STRING = re.compile(r'\\.|\\$|"', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a value must know of its call.

    `new_key` reads whether the key whose head ends at an offset is declared and not used yet, and
    `call` whether a call of a tool on offer begins at an offset.
    """

    marks: Marks
    rule: Rule
    new_key: Callable[[int], Steps[bool]]
    call: Callable[[int], Steps[bool]]


class _JsonString:
    """Whether a text of JSON ends inside a string."""

    def __init__(self) -> None:
        self._open = False
        self._escaped = False

    def __bool__(self) -> bool:
        return self._open

    def add(self, text: str) -> None:
        if self._escaped:
            text, self._escaped = text[1:], False
        for mark in _STRING.findall(text):
            self._open = self._open ^ (mark == '"')
            self._escaped = mark == "\\"


class Value(OpenValue):
    """One value while it is read; `is_json` says that it can be nothing but JSON."""

    def __init__(
        self, tape: Tape, argument: Argument, around: Surroundings, *, is_json: bool
    ) -> None:
        self._around = around
        self._marks = marks = around.marks
        ends = (marks.end_call, *marks.section_closers)
        tags = (marks.end_value, *ends, marks.value_head, marks.key.head, marks.call.head)
        super().__init__(tape, argument, around.rule, tags=tuple(dict.fromkeys(tags)))
        self._over = ends
        self._is_json = is_json
        self._string = _JsonString()
        self._cdata = False
        # What the value quotes: values and calls that are open.
        self._values = 0
        self._calls = 0

    def _begin(self) -> Steps[re.Pattern[str]]:
        if self._marks.cdata[0]:
            size = yield from self._tape.space(0)
            opener = yield from self._tape.literal(size, self._marks.cdata[:1])
            if opener:
                self._tape.take(size + len(opener))
                self._cdata = True
        return _CDATA if self._cdata else _TAG

    def _read(self, text: str) -> None:
        if self._is_json:
            self._string.add(text)

    def _is_framing(self, *, implied: bool) -> bool:
        return implied

    # Where it ends. Offsets are those behind the tag that stands here.

    def _closer(self) -> Steps[int | None]:
        return (yield from self._cdata_closer() if self._cdata else super()._closer())

    def _ends(self, tag: str) -> Steps[int | None]:
        size = len(tag)
        if tag == self._marks.end_value:
            return size if (yield from self._value_ends(size)) else None
        implied = yield from self._implied(tag, size)
        return 0 if implied else None

    def _cdata_closer(self) -> Steps[int | None]:
        closer, end_value = self._marks.cdata[1], self._marks.end_value
        if not (yield from self._tape.literal(0, (closer,))):
            return None
        tag, behind = yield from self._ahead(len(closer), (end_value, *self._over))
        if tag == end_value and (yield from self._goes_on(behind)):
            return behind
        if tag and tag != end_value:
            self.unclosed = True
            return len(closer)
        if self._rule.constrained and not self._is_cut_here:
            self._let_go()
        return None

    def _grammar_closes(self, tag: str) -> Steps[bool | None]:
        marks = self._marks
        if self._is_json:
            if self._string or tag != marks.end_value:
                return False
        elif tag == marks.value_head:
            return None
        if tag != marks.end_value:
            yield from self._count(tag, len(tag))
            return False
        follows, _ = yield from self._ahead(len(tag), (marks.key.head, marks.end_call))
        return True if follows and follows != END else None

    def _value_ends(self, behind: int) -> Steps[bool]:
        """Return whether the closer here ends the value."""
        if not self._values:
            return (yield from self._goes_on(behind))
        tag, end = yield from self._ahead(behind, (self._marks.key.head, *self._over))
        if tag == self._marks.key.head:
            ends = not self._calls and (yield from self._around.new_key(end))
        elif tag in self._over:
            ends = not self._calls or (yield from self._call_is_over(end))
        else:
            ends = tag == END
        if not ends:
            self._values -= 1
        return ends

    def _goes_on(self, behind: int) -> Steps[bool]:
        """Return whether the call goes on or ends behind a closer."""
        marks = self._marks
        tag = marks.end_value
        openers = (marks.call.head, *marks.section_openers)
        for _ in range(MAX_REPEATED):
            offset = behind
            tag, behind = yield from self._ahead(
                offset, (marks.key.head, *self._over, marks.end_value, *marks.section_openers)
            )
            if tag != marks.end_value:
                break
        if tag and tag not in marks.section_openers:
            return tag != marks.end_value
        tag, _ = yield from self._ahead(offset, openers)
        return bool(tag) and tag != END and (yield from self._call_follows(offset))

    def _call_follows(self, offset: int) -> Steps[bool]:
        offset = yield from self._tape.space(offset)
        return (yield from self._around.call(offset))

    def _implied(self, tag: str, behind: int) -> Steps[bool]:
        """Return whether a tag in the value tells that its closer is missing; count it if not."""
        marks = self._marks
        if self._values or self._calls or self._empty:
            yield from self._count(tag, behind)
            return False
        if tag == marks.key.head:
            ends = yield from self._around.new_key(behind)
        elif tag == marks.end_call:
            ends = yield from self._call_is_over(behind)
        elif tag in marks.section_closers:
            ends = yield from self._is_over_behind(behind)
        else:
            ends = False
        if not ends:
            yield from self._count(tag, behind)
        return ends

    def _count(self, tag: str, behind: int) -> Steps[None]:
        """Count a tag that the value quotes."""
        marks = self._marks
        if tag == marks.end_call:
            self._calls -= bool(self._calls and not self._values)
        elif tag == marks.call.head:
            blank = yield from self._tape.literal(behind, (" ", "\n"))
            self._calls += bool(blank) or not marks.call.attribute
        elif tag == marks.value_head:
            whole = bool(marks.value) or (yield from self._is_key(behind))
            self._values += whole

    def _is_key(self, offset: int) -> Steps[bool]:
        """Return whether a key has its name and its end there."""
        raw, behind, _ = yield from self._tape.name(offset)
        return "=" in raw and bool((yield from self._tape.literal(behind, (self._marks.key.end,))))

    def _call_is_over(self, offset: int) -> Steps[bool]:
        """Return whether a section or the text ends behind the end of a call, or another begins."""
        tag, behind = yield from self._ahead(offset, self._marks.section_closers)
        if tag in self._marks.section_closers:
            return (yield from self._is_over_behind(behind))
        return tag == END or (yield from self._call_follows(offset))

    def _is_over_behind(self, offset: int) -> Steps[bool]:
        """Return whether nothing but ends and another call follow."""
        tag, behind = yield from self._ahead(offset, self._over)
        for _ in range(MAX_REPEATED):
            if tag not in self._over:
                break
            offset = behind
            tag, behind = yield from self._ahead(offset, self._over)
        return tag == END or (yield from self._call_follows(offset))
