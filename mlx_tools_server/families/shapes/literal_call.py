"""The literal call: a name, and the arguments as one literal, in JSON, Python's form or Gemma's.

Rules of this file:
- A `Form` says what stands around a call and how its arguments are written. An object that has
  the name and the arguments in it is read in every form, and so is a list of calls.
- A call counts behind an opener with any name (the client answers that there is no such tool), and
  bare at the start of a line of text if the tool is on offer and the form has bare calls. A bare
  object has to be nothing else: one that also describes a tool is none.
- Arguments leave as they come, once the name is known. A call once begun is delivered, or cut; what
  stands in it beside its arguments is said behind it. What turns out to be no call is said as text.
- Openers and closers may be missing or doubled. Whatever differs from what `write` writes in more
  than white space is noticed: a call is `repaired`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ...jsontext import dumps, loads
from ...schema import Parameters
from ..arguments import Arguments
from ..literals import Literals
from ..notations import JSON, PYTHON
from ..tape import MAX_NAME, Steps, Tape
from .calls import CallParser
from .literal_form import Form
from .literal_head import FENCE, Head, Heads

# Members that are objects with the same members.
_INNER = ("function", "function_call", "tool_call")
_NAMES = ("name", "tool_name", "tool", "function", "function_name")
_ARGUMENTS = ("arguments", "parameters", "args", "kwargs", "input")
# Members of an object that say nothing of the call.
_ASIDE = ("id", "type", "index", "call_id", "tool_call_id")
_QUOTE_END = {quote: re.compile(rf"[{quote}\\\n]") for quote in "\"'"}


@dataclass(slots=True)
class Call:
    """What is known of an object that may be a call.

    `held` are arguments that came before the name, as JSON; `loose` those that stand in the object
    itself; `aside` what belongs to neither.
    """

    head: Head
    name: str = ""
    held: str = ""
    begun: bool = False
    plain: bool = True
    loose: Arguments | None = None
    aside: list[str] = field(default_factory=list)


class LiteralCallParser(CallParser):
    """Reads literal calls of one form."""

    def __init__(
        self,
        tools: Mapping[str, Mapping[str, Any]],
        *,
        form: Form,
        **options: Any,
    ) -> None:
        self._form = form
        # What may end the arguments of the call that is read.
        self._fence = form.fence
        super().__init__(tools, **options)
        self._heads: Heads = Heads(self._tape, form, tools)

    @property
    def _call_markers(self) -> tuple[str, ...]:
        if self._constrained and (self._thought or self._last_kind == "text"):
            return ()
        return (*self._form.openers, *self._form.bare)

    def _call(self, marker: str) -> Steps[bool]:
        wrapped = marker in self._form.openers
        # A thought weighs calls; only one that is opened is meant.
        starts = self._line_start and not self._thought
        quoted = self._in_code_span or not (wrapped or starts)
        head = None if quoted else (yield from self._heads.read(wrapped=wrapped))
        self._heads.name_at = None
        if head is None:
            self._taken_over = False
            if wrapped and not quoted and (yield from self._seems_meant(marker)):
                self._notice("text")
            return False
        while head is not None:
            if not (yield from self._read(head)):
                break
            head = yield from self._behind(head)
        self._line_start = True
        return True

    def _seems_meant(self, marker: str) -> Steps[bool]:
        """Return whether the opener of what is no call begins a line as that of a call does."""
        if self._thought or not self._line_start:
            return False
        offset = yield from self._tape.space(len(marker))
        return bool((yield from self._tape.literal(offset, ("{", "["))))

    # A call.

    def _read(self, head: Head) -> Steps[bool]:
        """Read a call; return whether there was one."""
        self._fence = FENCE if head.fenced else self._form.fence
        if head.style == "object":
            return (yield from self._object(head))
        if head.style == "encoded":
            return (yield from self._encoded(head.name, head.size))
        self._tape.take(head.size)
        self._open_call(head.name)
        if not head.plain:
            self._mend()
        if head.style == "empty":
            Arguments(self._pieces.append).close()
            self._end()
            self._mend()
            return True
        yield from self._named_arguments(head.name)
        return True

    def _named_arguments(self, name: str) -> Steps[None]:
        """Read the arguments behind the name of the call that is open."""
        tape, notation = self._tape, self._form.notation
        mark = tape.take(1)
        # All of them as one object in parentheses.
        whole = mark == "(" and bool((yield from tape.literal(0, ("{",))))
        tape.take(int(whole))
        if whole or mark != notation.opener:
            self._mend()
            calls = notation if notation.bare else PYTHON
            inside = replace(calls, opener="(", closer=")")
            notation = JSON if whole or mark == "{" else inside
        yield from self._arguments(name, Literals(tape, notation, self._stops))
        size = (yield from tape.space(0)) if whole else 0
        if whole and (yield from tape.literal(size, (")",))):
            tape.take(size + 1)

    def _arguments(self, name: str, reader: Literals) -> Steps[None]:
        """Read the arguments of the call that is open, behind what opens them."""
        arguments = Arguments(self._pieces.append)
        whole = yield from reader.arguments(arguments, Parameters(self._tools.get(name, {})))
        if reader.faulty:
            self._mend()
        if whole:
            arguments.close()
        self._end(complete=whole)
        self._heads.begun = None
        self._say_junk(reader)

    def _say_junk(self, reader: Literals) -> None:
        self._say(" ".join(filter(None, reader.junk)))
        reader.junk.clear()

    @property
    def _stops(self) -> tuple[str, ...]:
        return (*self._form.closers, *self._form.openers, *filter(None, [self._fence]))

    # A call that is one object.

    def _object(self, head: Head) -> Steps[bool]:
        """Read an object that has the name and the arguments in it; say what is no call."""
        tape = self._tape
        record = tape.record = []
        tape.take(head.size + 1)
        reader, call = Literals(tape, JSON, self._stops), Call(head)
        found = yield from self._members(reader, call)
        tape.record = None
        if found and reader.faulty and not (tape.cut and tape.empty):
            self._mend()
        if not found:
            if not self._thought and (head.wrapped or call.name):
                self._notice("text")
            self._say("".join(record))
        return found

    def _members(self, reader: Literals, call: Call) -> Steps[bool]:
        """Read the members of an object; return whether it was a call."""
        depth, fresh = 1, True
        while depth:
            step, key = yield from reader.member(fresh=fresh)
            fresh = key in _INNER and bool((yield from self._tape.literal(0, ("{",))))
            if step == "cut":
                break
            if step == "closed":
                depth -= 1
            elif fresh:  # the same members, one object deeper
                self._tape.take(1)
                depth += 1
                call.plain = False
            elif not (yield from self._member(key, call, reader)):
                return False
        return self._ended(call, reader, whole=not depth)

    def _member(self, key: str, call: Call, reader: Literals) -> Steps[bool]:
        """Read the value of a member; return False if this is no call."""
        if key in _NAMES and not call.name:
            call.plain = call.plain and f"{dumps(key)}: " in self._form.call
            call.name = yield from self._object_name(call.head)
            call.begun = bool(call.held) and (yield from self._told(call))
            return bool(call.name)
        if key in _ARGUMENTS and not call.begun:
            call.plain = call.plain and f"{dumps(key)}: " in self._form.call
            if call.name:
                call.begun = yield from self._object_arguments(call, reader)
                return call.begun
            call.held = (yield from self._json(reader)) if call.head.wrapped else ""
            return bool(call.held)
        schema = Parameters(self._tools.get(call.name, {}))
        if key in schema.declared and call.head.wrapped and (call.loose or not call.begun):
            if call.loose is None:  # arguments without an object of their own
                call.loose = self._open_object(call, plain=False)
                call.begun = True
            yield from reader.argument(key, call.loose, schema)
            return True
        value = yield from self._json(reader)
        call.aside += [] if key in _ASIDE else [f"{dumps(key)}: {value}"]
        # A bare object with more in it is something else: a tool's description, or an answer.
        return bool(call.head.wrapped or call.begun or key in _ASIDE)

    def _ended(self, call: Call, reader: Literals, *, whole: bool) -> bool:
        """End a call with its object; return whether it was one."""
        if not call.begun and call.name and call.head.wrapped and whole:
            call.loose = self._open_object(call, plain=False)
            call.begun = True
        if call.loose is not None:
            if whole:
                call.loose.close()
            self._end(complete=whole)
        if call.begun:
            if call.aside and whole:
                self._mend()
            self._say(", ".join(call.aside))
            self._say_junk(reader)
        return call.begun

    def _object_name(self, head: Head) -> Steps[str]:
        """Take the name of a call; return "" if it can't be one."""
        tape = self._tape
        quote = yield from tape.literal(0, ('"', "'"))
        lead = "".join(self._form.lead.split())
        written = "".join("".join(tape.record or ()).split()) + quote
        certain = "{" in lead and written.endswith(lead)
        # A bare object may be any answer, until it names a tool.
        if certain and head.wrapped:
            self._heads.name_at = 1
        end = yield from tape.find(1, _QUOTE_END[quote], MAX_NAME) if quote else _nowhere()
        self._heads.name_at = None
        name = tape.peek(1, end) if end > 1 and tape.peek(end, end + 1) == quote else ""
        known = self._heads.known(name)
        if not name or not (head.wrapped or known in self._tools):
            return ""
        if certain:
            self._heads.begin(1)
        tape.take(end + 1)
        return known

    def _object_arguments(self, call: Call, reader: Literals) -> Steps[bool]:
        """Read the value of the member that has the arguments; return whether they are such."""
        if not (yield from self._tape.literal(0, ("{",))):
            call.held = yield from self._json(reader)
            return (yield from self._told(call))
        self._tape.take(1)
        self._open_object(call, plain=call.plain)
        yield from self._arguments(call.name, reader)
        return True

    def _told(self, call: Call) -> Steps[bool]:
        """Pass on arguments that were read before the name, or stand in a string."""
        try:
            value = loads(call.held)
        except ValueError:
            return False
        text = (value if isinstance(value, str) else call.held).strip()
        text = "{}" if text in ("", "null") else text
        if not text.startswith("{") or not call.name:
            return False
        tape = Tape()
        tape.push(text[1:])
        tape.end(cut=False)
        self._open_object(call, plain=False)
        yield from self._arguments(call.name, Literals(tape, JSON, ()))
        self._say(tape.take_until(None).lstrip("}]) \t\r\n").rstrip())
        return True

    def _encoded(self, name: str, size: int) -> Steps[bool]:
        """Read arguments that stand in a string; say it if it holds none."""
        tape = self._tape
        record = tape.record = []
        tape.take(size)
        call = Call(Head(size, "encoded"), name)
        call.held = yield from self._json(Literals(tape, JSON, self._stops))
        tape.record = None
        told = yield from self._told(call)
        if not told:
            self._say("".join(record))
        return told

    def _json(self, reader: Literals) -> Steps[str]:
        """Read a value; return it as JSON, or "" if it was cut."""
        pieces: list[str] = []
        whole = yield from reader.value(pieces.append)
        return "".join(pieces) if whole else ""

    def _open_object(self, call: Call, *, plain: bool) -> Arguments:
        self._tape.record = None
        self._open_call(call.name)
        if not (plain and call.head.plain):
            self._mend()
        return Arguments(self._pieces.append)

    # What stands behind a call.

    def _behind(self, head: Head) -> Steps[Head | None]:
        """Swallow closers, then return what opens the next call of the same wrapper or list."""
        tape, form = self._tape, self._form
        seen: list[str] = []
        ends = (*form.closers, "}", "]", *filter(None, [self._fence]))
        while True:
            tape.starved = False
            offset = yield from tape.space(0)
            tag = yield from tape.literal(offset, ends)
            if tape.starved and tape.cut and not tag:
                tape.take_until(None)  # the beginning of a closer
                return None
            if not tag and head.listed:
                offset += yield from self._last_comma(offset)
                tag = "]" if (yield from tape.literal(offset, ("]",))) else ""
            if not tag or (tag == "]" and not head.listed and tag not in form.closers):
                break
            tape.take(offset + len(tag))
            if tag in seen or tag == "}":
                self._mend()
            seen.append(tag)
        ended = any(tag in form.closers for tag in seen)
        if self._first_call_only:
            self.stopped = True
        self._taken_over = False
        following = None
        if not (self.stopped or ended or "]" in seen):
            following = yield from self._heads.following(head)
        if following is None and not self.stopped:
            forgotten = "]" not in seen if head.listed else form.closers and head.wrapped
            if forgotten and not ended:
                self._mend()
        return following

    def _last_comma(self, offset: int) -> Steps[int]:
        """Return the size of a comma and the space behind it, if it is the last of a list."""
        comma = yield from self._tape.literal(offset, (",",))
        end = yield from self._tape.space(offset + len(comma))
        last = comma and (yield from self._tape.literal(end, ("]",)))
        return end - offset if last else 0


def _nowhere() -> Steps[int]:
    return -1
    yield
