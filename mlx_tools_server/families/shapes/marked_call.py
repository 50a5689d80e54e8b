"""The marked call: a tool's name between markers, and each argument between markers of its own.

Rules of this file:
- A call counts in its section with any name (the client answers that there is no such tool), and
  without one at the start of a line if the tool is on offer. A marker is prose without a call
  behind it, and so is a call in a code span. `marked_head` reads what opens a call.
- A call once begun is delivered, or cut. What stands in it beside its arguments is said behind it.
- Markers may be missing or doubled; none of that loses a call or makes one up. Whatever differs
  from what `write` writes in more than white space is noticed: a call is `repaired`.
- What begins a line of a text as a call does and is none is noticed as `text`.
- Where a value ends is told in `marked_value`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...schema import Parameters
from ..arguments import Arguments
from ..parser import Thinking
from ..tape import Steps
from .marked_head import Heads, MarkedHead
from .marked_value import Surroundings, Value
from .marks import Found, Marks, read_tag, value_type
from .tagged_call import TaggedCallParser

# What a call may stand right behind, and no mention does.
SENTENCE_ENDS = frozenset(".:!?)。：！？")


class MarkedCallParser(TaggedCallParser[MarkedHead]):
    """Reads marked calls; without tools, nothing is one."""

    def __init__(
        self,
        tools: Mapping[str, Mapping[str, Any]],
        *,
        marks: Marks,
        **options: Any,
    ) -> None:
        self._marks = marks
        self._openers = (*marks.section_openers, marks.call.head) if tools else ()
        self._ends = (marks.end_call, *marks.section_closers)
        super().__init__(tools, **options)
        self._heads: Heads = Heads(self._tape, marks, tools)

    @property
    def _call_markers(self) -> tuple[str, ...]:
        if self._thought:
            return () if self._constrained else self._openers
        if self._constrained and self._last_kind == "text":
            return self._marks.frames
        return (*self._marks.frames, *self._openers)

    def _enter(self, thinking: Thinking) -> Steps[None]:
        yield from super()._enter(thinking)
        opener, closer = self._marks.header
        if not opener or self._thought:
            return
        tape = self._tape
        size = yield from tape.space(0)
        if (yield from tape.literal(size, (opener,))):
            _, behind, _ = yield from tape.name(size)
            tag = yield from tape.literal(behind, (closer,))
            tape.take(behind + len(tag) if tag else 0)

    def _call(self, marker: str) -> Steps[bool]:
        if marker in self._marks.frames:
            self._tape.take(len(marker))
            self._line_start = True
            return True
        return (yield from super()._call(marker))

    def _head(self, marker: str) -> Steps[MarkedHead | None]:
        start = self._line_start
        certain = start or self._ends_a_sentence
        if not certain:
            certain = bool((yield from self._tape.literal(len(marker), ("\n", "\r\n"))))
        if not certain and self._in_code_span:
            return None
        return (yield from self._heads.read(marker, certain=certain, line_start=start))

    def _seems_meant(self, marker: str) -> Steps[bool]:
        return (yield from self._heads.seems_meant(marker))

    @property
    def _ends_a_sentence(self) -> bool:
        last = self._before[-1:]
        return last.isalnum() or last in SENTENCE_ENDS

    def _behind_call(self, *, wrapped: bool) -> Steps[MarkedHead | None]:
        section = yield from self._closers(section=wrapped)
        if self.stopped or not section:
            return None
        head = yield from self._heads.next((yield from self._tape.space(0)))
        self._heads.name_at = None
        if head is None:
            self._mend()
            self._taken_over = False
        return head

    def _closers(self, *, section: bool) -> Steps[bool]:
        """Swallow closers; return whether the section is open still."""
        marks, thought = self._marks, self._thought_closers
        while True:
            if self._first_call_only and self._called and not section:
                self.stopped = True
                return False
            tag, cut = yield from self._closer((*self._ends, marks.end_value, *thought))
            section = section and not cut
            closes = section and tag in marks.section_closers
            # One closer is right, and that of a thought is no matter of the call.
            if tag and not closes and tag not in thought:
                self._mend()
            section = section and not closes
            if self._first_call_only and self._called and not tag:
                self.stopped = True
            if not tag or self.stopped:
                return section

    # A call.

    def _body(
        self, head: MarkedHead, arguments: Arguments, parameters: Parameters, junk: list[str]
    ) -> Steps[bool]:
        tape, marks = self._tape, self._marks
        tags = (marks.key.head, *self._ends, marks.end_value, *self._openers, marks.block[0])
        tags = tuple(tag for tag in tags if tag)
        key = head.key
        while True:
            if key is not None and not (yield from self._value(key, arguments, parameters)):
                return False
            key = None
            tape.starved = False
            offset = yield from tape.space(0)
            tag = yield from tape.literal(offset, tags)
            if tag in (marks.key.head, marks.call.head):
                key = yield from self._key(tag, offset + len(tag), parameters)
            if key is None:
                whole = yield from self._between(tag, offset, arguments, junk)
                if whole is not None:
                    return whole

    def _between(
        self, tag: str, offset: int, arguments: Arguments, junk: list[str]
    ) -> Steps[bool | None]:
        """Read what is no argument; return whether the call is whole if that ends it."""
        tape, marks = self._tape, self._marks
        if tag == marks.end_call:
            tape.take(offset + len(tag))
            return True
        if tag in marks.section_closers or (
            tag in self._openers and (yield from self._heads.call_at(offset))
        ):
            self._mend()
            return True
        whole = yield from self._is_over(offset)
        if whole is not None:
            return whole
        if tag == marks.end_value:
            tape.take(offset + len(tag))
            self._mend()
        elif tag and tag == marks.block[0]:
            tape.take(offset + len(tag))
            yield from self._block(arguments, junk)
        else:
            yield from self._stray(offset, arguments, junk)
        return None

    def _key(self, tag: str, offset: int, parameters: Parameters) -> Steps[Found | None]:
        """Read the tag of a key; one that is opened as a call is must have the end of a key."""
        marks = self._marks
        if tag == marks.call.head and marks.call.attribute:
            return None
        found = yield from read_tag(self._tape, offset, marks.key, parameters.declared, marks)
        if found is not None and tag == marks.call.head:
            end = marks.key.end
            if self._tape.peek(found.behind - len(end), found.behind) != end:
                return None
            found = Found(found.name, found.behind, plain=False)
        return found

    def _value(self, key: Found, arguments: Arguments, parameters: Parameters) -> Steps[bool]:
        """Read the value behind a key."""
        tape, marks = self._tape, self._marks
        behind, plain = key.behind, key.plain
        if marks.value:
            offset = yield from tape.space(behind)
            opener = yield from tape.literal(offset, (marks.value,))
            behind = offset + len(opener) if opener else behind
            plain = plain and bool(opener)
        if not plain:
            self._mend()
        tape.take(behind)
        kind = value_type(parameters, key.name, key.extra, marks.key.extra)

        def new_key(offset: int) -> Steps[bool]:
            found = yield from read_tag(tape, offset, marks.key, (), marks)
            if found is None or not found.plain:
                return False
            if found.name in arguments.seen or found.name not in parameters.declared:
                return False
            start = yield from tape.space(found.behind)
            return not marks.value or bool((yield from tape.literal(start, (marks.value,))))

        around = Surroundings(marks, self._rule, new_key, self._heads.call_at)
        is_json = kind.kinds is not None and "string" not in kind.kinds
        value = Value(tape, arguments.open(key.name, kind), around, is_json=is_json)
        whole = yield from value.read()
        if value.unclosed:
            self._mend()
        return whole

    def _block(self, arguments: Arguments, junk: list[str]) -> Steps[None]:
        """Read all arguments as one JSON object in markers of its own."""
        tape = self._tape
        before = tape.take((yield from tape.space(0)))
        yield from self._json_object(before, arguments, junk)
        offset = yield from tape.space(0)
        closer = yield from tape.literal(offset, (self._marks.block[1],))
        tape.take(offset + len(closer))
        if not closer:
            self._mend()
