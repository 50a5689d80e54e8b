"""What opens a marked call: its section, and the tag with the name of its tool.

Rules of this file:
- Nothing is taken here: a reader looks ahead, and says how much belongs to the head of a call.
- A name that no tool on offer has counts if an argument or an end of the call follows; so does
  any in a line of text, where it may only be mentioned.
- A form whose section is missing is `bare`: only a tool on offer counts, at the start of a line.
- Where nothing but the name is missing, `name_at` tells so while it is awaited.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...schema import Parameters
from ..tape import Steps, Tape
from .calls import MAX_REPEATED, HeadReader
from .marks import Found, Marks, read_tag
from .tagged_call import Head

# A name that no tool on offer has.
_WORD = re.compile(r"[^\s<>{}()\[\]\"'`,;]+")


@dataclass(frozen=True, slots=True)
class MarkedHead(Head):
    """What opens a call; `key` is the first argument's tag where that was read along."""

    key: Found | None = None


class Heads(HeadReader):
    """Reads heads of calls of these tools."""

    def __init__(self, tape: Tape, marks: Marks, tools: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__(tape)
        self._marks = marks
        self._tools = tools
        # What may follow behind the name of a tool.
        tags = (marks.key.head, marks.end_call, *marks.section_closers, marks.block[0], "{")
        self._body = tuple(tag for tag in tags if tag)

    def read(self, marker: str, *, certain: bool, line_start: bool) -> Steps[MarkedHead | None]:
        """Read the head that a marker in a text opens.

        `certain` says that it stands where no mention does.
        """
        marks = self._marks
        if marker in marks.section_openers:
            return (yield from self._in_section(marker, certain=certain, line_start=line_start))
        if not marks.call.attribute:
            return (yield from self._plain_name(0, certain=certain, line_start=line_start))
        bare = bool(marks.sections)
        if bare and not line_start:
            return None
        return (yield from self._named(0, bare=bare, certain=certain))

    def next(self, offset: int) -> Steps[MarkedHead | None]:
        """Read the head of the next call of a section."""
        head = self._marks.call.head
        tag = yield from self._tape.literal(offset, (head, "{"))
        if not tag:
            return None
        if tag == "{":
            return (yield from self._json(offset, section=True))
        return (yield from self._named(offset, section=True))

    def seems_meant(self, marker: str) -> Steps[bool]:
        """Return whether a marker that opens no call is followed by something like one."""
        tape, marks = self._tape, self._marks
        newline = yield from tape.literal(len(marker), ("\n", "\r\n"))
        offset = yield from tape.space(len(marker))
        if marker in marks.section_openers or not marks.call.attribute:
            tags = (marks.call.head, "{", marks.key.head, marks.end_call, *marks.section_closers)
            tag = yield from tape.literal(offset, tags)
            if not tag and not newline and not marks.call.attribute:
                _, behind, _ = yield from tape.name(offset)
                return bool((yield from tape.literal(behind, (marks.end_call,))))
            return tag in (marks.call.head, "{", marks.key.head) if tag else bool(newline)
        found = yield from read_tag(tape, len(marker), marks.call, (), marks)
        if found is None:
            return False
        offset = yield from tape.space(found.behind)
        return bool((yield from tape.literal(offset, self._body[:2])))

    def call_at(self, offset: int) -> Steps[bool]:
        """Return whether a call of a tool on offer, or a key opened as one, begins here."""
        tape, marks = self._tape, self._marks
        tag = yield from tape.literal(offset, (*marks.section_openers, marks.call.head))
        offset += len(tag)
        if tag in marks.section_openers:
            offset = yield from tape.space(offset)
            tag = yield from tape.literal(offset, (marks.call.head,))
            offset += len(tag)
        if not tag:
            return False
        if not marks.call.attribute:
            return (yield from self._key_or_call(offset))
        found = yield from read_tag(tape, offset, marks.call, (), marks)
        return found is not None and found.name in self._tools

    def _in_section(self, tag: str, *, certain: bool, line_start: bool) -> Steps[MarkedHead | None]:
        marks, tape = self._marks, self._tape
        tags = (marks.call.head, *marks.section_openers, *marks.section_closers, "{")
        openers = offset = 0
        while tag in marks.section_openers and openers < MAX_REPEATED:
            openers += 1
            offset = yield from tape.space(offset + len(tag))
            tag = yield from tape.literal(offset, tags)
        if tag == "{":
            return (yield from self._json(offset, section=True))
        if tag in marks.section_closers:
            return MarkedHead(offset, wrapped=True) if line_start else None
        if tag != marks.call.head:
            return None
        plain = openers == 1
        return (yield from self._named(offset, section=True, certain=certain, plain=plain))

    def _named(
        self,
        offset: int,
        *,
        section: bool = False,
        bare: bool = False,
        certain: bool = True,
        plain: bool = True,
    ) -> Steps[MarkedHead | None]:
        """Read the tag of a call; a `bare` one lacks its section."""
        tape, tag = self._tape, self._marks.call
        before = yield from tape.literal(offset, (tag.before,))
        if before and certain and not bare:
            self.name_at = offset + len(before)
        found = yield from read_tag(tape, offset + len(tag.head), tag, self._tools, self._marks)
        offered = found is not None and found.name in self._tools
        if found is None or (bare and not offered):
            return None
        if bare or not offered or not certain:  # then it may only be mentioned
            body = yield from tape.space(found.behind)
            if not (yield from tape.literal(body, self._body)):
                return None
        if before:
            self.begin(offset + len(before), wrapped=not bare)
        plain = plain and found.plain and not bare
        return MarkedHead(found.behind, found.name, section, plain=plain)

    # A name without quotes, whose end is told by what follows.

    def _plain_name(
        self, offset: int, *, certain: bool, line_start: bool
    ) -> Steps[MarkedHead | None]:
        marks, tape = self._marks, self._tape
        opener = marks.call.head
        tag, openers, behind = opener, 0, 0
        while tag == opener and openers < MAX_REPEATED:
            openers += 1
            behind = offset + len(opener)
            self.name_at = behind if certain else None
            offset = yield from tape.space(behind)
            tag = yield from tape.literal(offset, (opener, marks.end_call, "{"))
        if tag == "{":
            return (yield from self._json(offset))
        if tag == marks.end_call:
            return MarkedHead(offset) if line_start else None
        head = None if tag else (yield from self._word(offset))
        if head is not None:
            self.begin(behind, wrapped=True)
        return (
            head if head is None or openers == 1 else MarkedHead(head.size, head.name, key=head.key)
        )

    def _word(self, offset: int) -> Steps[MarkedHead | None]:
        marks, tape = self._marks, self._tape
        tape.starved = False
        raw, end, _ = yield from tape.name(offset)
        text, brace, _ = raw.partition("{")
        end = offset + len(text) if brace else end
        body = yield from tape.space(end)
        tag = yield from tape.literal(body, (*self._body, marks.key.end, marks.call.head))
        text = text.strip()
        if tag == marks.key.end:
            return self._lost_key(text, body + len(tag))
        name = text if text in self._tools else text.strip("\"'`")
        offered = name in self._tools
        if not offered and not _WORD.fullmatch(name):
            return None
        counts = tag in self._body
        if tag == marks.call.head:
            counts = offered and (yield from self._key_or_call(body + len(tag)))
        elif not tag and offered:
            over = yield from tape.at_end(body)
            # One that was cut behind its name is a call; within it nobody knows.
            counts = tape.starved and body > end if tape.cut else over
        plain = name == text and tag in (marks.key.head, marks.end_call)
        return MarkedHead(end, name, plain=plain) if counts else None

    def _lost_key(self, text: str, behind: int) -> MarkedHead | None:
        """Tell a tool's name from the key behind it, whose opener is missing."""
        for name in sorted(self._tools, key=len, reverse=True):
            key = text.removeprefix(name).strip()
            if text.startswith(name) and key in Parameters(self._tools[name]).declared:
                return MarkedHead(behind, name, key=Found(key, 0, plain=False))
        return None

    def _key_or_call(self, offset: int) -> Steps[bool]:
        """Return whether a key, or a tool on offer, is named behind the opener of a call."""
        offset = yield from self._tape.space(offset)
        raw, behind, _ = yield from self._tape.name(offset)
        if raw.strip() in self._tools:
            return True
        return bool((yield from self._tape.literal(behind, (self._marks.key.end,))))

    def _json(self, offset: int, *, section: bool = False) -> Steps[MarkedHead | None]:
        found = yield from self.json_at(offset)
        return MarkedHead(offset, wrapped=section, json=True) if found else None
