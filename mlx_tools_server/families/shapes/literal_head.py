"""What opens a literal call: openers, a list, and a name or an object that has it.

Rules of this file:
- Nothing is taken here: a reader looks ahead, and says how much belongs to the head of a call.
- Any name counts behind an opener (the client answers that there is no such tool). Elsewhere, and
  where its arguments are missing or not written as the form has them, it must be on offer.
- Openers may be doubled, a fence may stand behind them, and what some models put around a name on
  offer is taken off.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..tape import MAX_NAME, Steps, Tape
from .calls import MAX_REPEATED, HeadReader
from .literal_form import Form

# What stands between an opener and the arguments is no longer than this.
MAX_HEAD = 512

FENCE = "```"
_FENCE_END = re.compile(r"[^\w]")
_KEYS = ('"', "'", "name", "arguments", "parameters", "function", "type")
# Ids and namespaces of other APIs: functions.NAME:0, functions_NAME_0, tools/NAME.
_AROUND = re.compile(
    r"\s*(?:functions?|tools?|default_api)[.:_/]?(?P<name>[\w.\-]+?)(?:[.:_]?\d+)?(?![\w.\-])"
)
_SPACES = re.compile(r"[.:/]")

Style = Literal["object", "named", "encoded", "empty"]
_STYLES: Mapping[str, Style] = {"{": "named", "(": "named", '"': "encoded"}


@dataclass(frozen=True, slots=True)
class Head:
    """What opens a call: `size` characters up to an object that has its name, or its arguments.

    `style` says which; `encoded` arguments stand in a string. `listed` calls stand in brackets,
    `wrapped` ones behind an opener, and `fenced` ones in a code fence behind that. `plain` heads
    are written as they should be.
    """

    size: int
    style: Style
    name: str = ""
    wrapped: bool = True
    listed: bool = False
    fenced: bool = False
    plain: bool = True


class Heads(HeadReader):
    """Reads heads of calls of these tools."""

    def __init__(self, tape: Tape, form: Form, tools: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__(tape)
        self._form = form
        self._tools = tools
        self._pattern = re.compile(rf"\s*(?:{form.head})\s*")
        marks = {"{", "(", '"', *(closer[0] for closer in form.closers)}
        self._end = re.compile(f"[{re.escape(''.join(sorted(marks)))}]")

    def known(self, name: str, written: str = "") -> str:
        """Return the name of the tool on offer that is meant, or the name itself."""
        if name in self._tools:
            return name
        around = _AROUND.match(written or name)
        inner = (around["name"] if around else "", _SPACES.split(name)[-1])
        return next((found for found in inner if found in self._tools), name)

    def read(self, *, wrapped: bool) -> Steps[Head | None]:
        """Look behind the openers, which may be doubled, for what makes a call."""
        tape, seen, offset, lead = self._tape, [""], 0, 0
        while wrapped and len(seen) <= MAX_REPEATED:
            opener = yield from tape.literal(offset, self._form.openers)
            if not opener:
                break
            seen.append(opener)
            lead = offset + len(opener)
            offset = yield from tape.space(lead)
        inner = (yield from self.fence(offset)) if wrapped else offset
        fenced = inner > offset
        plain = len(set(seen)) == len(seen) and not fenced and (wrapped or not self._form.opened)
        offset, lead = inner, inner if fenced else lead
        head = Head(lead, "object", wrapped=wrapped, fenced=fenced, plain=plain)
        return (yield from self._what(offset, head, certain=wrapped))

    def fence(self, offset: int) -> Steps[int]:
        """Return the offset behind what opens a code fence, if one does at the offset."""
        tape = self._tape
        fence = yield from tape.literal(offset, (FENCE,))
        if not fence:
            return offset
        end = yield from tape.find(offset + len(fence), _FENCE_END, MAX_NAME)
        return (yield from tape.space(max(end, offset + len(fence))))

    def following(self, head: Head) -> Steps[Head | None]:
        """Look for another call of the same wrapper or list, behind one that has ended."""
        tape, form = self._tape, self._form
        offset = yield from tape.space(0)
        separator = yield from tape.literal(offset, (",", ";"))
        at = yield from tape.space(offset + len(separator))
        lead = bool(form.lead) and bool((yield from tape.literal(at, (form.lead,))))
        certain = head.wrapped and (bool(separator) or lead)
        plain = head.plain and (head.listed or not form.opened)
        like = Head(at, "object", "", head.wrapped, head.listed, head.fenced, plain)
        found = yield from self._what(at, like, certain=certain)
        self.name_at = None
        if found is None or found.style == "empty":
            return None
        loose = found.style == "object" and not (separator or head.wrapped or form.bare)
        return None if loose else found

    def _what(self, offset: int, head: Head, *, certain: bool) -> Steps[Head | None]:
        """Look for a call at the offset: an object, a list of them, or a name and its arguments.

        Behind `head`, which this completes. `certain` says that it may have any name.
        """
        tape, form = self._tape, self._form
        mark = yield from tape.literal(offset, ("[", "{"))
        listed = mark == "["
        if listed:
            offset = yield from tape.space(offset + 1)
            mark = yield from tape.literal(offset, ("{",))
        listed = listed or head.listed
        if mark == "{":
            plain = head.plain and "{" in form.lead and listed == ("[" in form.section[0])
            inner = yield from tape.space(offset + 1)
            if head.wrapped and (yield from tape.literal(inner, ("{",))):  # a doubled brace
                offset, plain = inner, False
                inner = yield from tape.space(offset + 1)
            if not (yield from tape.literal(inner, _KEYS if head.wrapped else _KEYS[:2])):
                return None
            return Head(offset, "object", "", head.wrapped, listed, head.fenced, plain)
        begin = offset if listed else head.size
        # A text is not kept waiting for what no name begins.
        if not head.wrapped and ("{" in form.lead or not (yield from self._offered(begin))):
            return None
        named = yield from self._named(begin, certain=certain)
        if named is None:
            return None
        size, style, name, plain = named
        plain = plain and head.plain and "{" not in form.lead
        return Head(size, style, name, head.wrapped, listed, head.fenced, plain)

    def _offered(self, offset: int) -> Steps[bool]:
        """Return whether the name of a tool on offer may stand at the offset."""
        return bool((yield from self._tape.literal(offset, tuple(self._tools))))

    def _named(self, offset: int, *, certain: bool) -> Steps[tuple[int, Style, str, bool] | None]:
        """Look for a name at the offset, and behind it for its arguments, or that it has none."""
        tape, form = self._tape, self._form
        lead = form.lead if certain else form.lead.lstrip("[")
        if certain and (not lead or (yield from tape.literal(offset, (lead,)))):
            self.name_at = offset + len(lead)
        end = offset
        while True:
            most = MAX_HEAD - (end - offset)
            end = (yield from tape.find(end, self._end, most)) if most > 0 else -1
            if end < 0:
                return None
            mark = tape.peek(end, end + 1)
            style = _STYLES.get(mark, "empty")
            if mark in _STYLES or (yield from tape.literal(end, form.closers)):
                break
            end += 1
        written = tape.peek(offset, end)
        match = self._pattern.fullmatch(written)
        if not match:
            return None
        name = self.known(match["name"], written)
        usual = mark in (form.notation.opener, "{")
        if name not in self._tools and not (certain and style == "named" and usual):
            return None
        self.begin(offset + match.start("name"))
        self.name_at = None
        return end, style, name, name == match["name"]
