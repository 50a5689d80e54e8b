"""The tag call: a `<tool_call>` with a `<function=NAME>` with `<parameter=KEY>` values in it.

Rules of this file:
- A call counts inside `<tool_call>` with any name (the client answers that there is no such tool),
  and bare at the start of a line if the tool is on offer. A marker is prose without a call behind
  it, and so is a call that is only mentioned: in a line of a code span, or with neither a parameter
  nor an end behind its name.
- A call once begun is delivered, or cut. What stands in it beside its parameters is said behind it.
- Closers may be missing, doubled or swapped; none of that loses a call or makes one up. Whatever
  differs from what `write` writes in more than white space is noticed: a call is `repaired`.
- What begins a line of a text as a call does and is none is noticed as `text`.
- Where a value ends is told in `tag_value`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...jsontext import dumps
from ...schema import Parameters
from ..arguments import Arguments
from ..tape import Steps
from .calls import MAX_REPEATED
from .tag_value import (
    CLOSE,
    END_FUNCTION,
    END_PARAMETER,
    FUNCTION,
    OPEN,
    PARAMETER,
    Value,
    is_plain,
    tag_name,
)
from .tagged_call import Head, TaggedCallParser

# What may follow behind the name of a tool.
BODY = (PARAMETER, END_PARAMETER, END_FUNCTION, CLOSE, FUNCTION, "{")


def write(name: str, arguments: Mapping[str, Any]) -> str:
    """Return a call as the family was trained to write it: strings raw, all else as JSON."""
    lines = [OPEN, f"{FUNCTION}{name}>"]
    for key, value in arguments.items():
        text = value if isinstance(value, str) else dumps(value)
        lines += [f"{PARAMETER}{key}>", text, END_PARAMETER]
    return "\n".join([*lines, END_FUNCTION, CLOSE])


class TagCallParser(TaggedCallParser[Head]):
    """Reads tag calls."""

    @property
    def _call_markers(self) -> tuple[str, ...]:
        if self._constrained and (self._thought or self._last_kind == "text"):
            return ()
        return (OPEN, FUNCTION)

    def _head(self, marker: str) -> Steps[Head | None]:
        if marker != OPEN:
            return (yield from self._bare_header())
        newline = yield from self._tape.literal(len(OPEN), ("\n", "\r\n"))
        if self._in_code_span and not newline:
            return None
        certain = self._line_start or bool(newline)
        return (yield from self._wrapped_header(0, awaited=certain))

    # What opens a call.

    def _wrapped_header(self, offset: int, *, awaited: bool = False) -> Steps[Head | None]:
        """Look behind `<tool_call>`, which may be doubled, for what makes it a call.

        `awaited` says that nothing but a name is missing behind `<function=`.
        """
        tape = self._tape
        tag, openers = OPEN, 0
        while tag == OPEN and openers < MAX_REPEATED:
            openers += 1
            offset = yield from tape.space(offset + len(OPEN))
            tag = yield from tape.literal(offset, (FUNCTION, PARAMETER, CLOSE, OPEN, "{"))
        if tag == "{":
            found = yield from self._heads.json_at(offset)
            return Head(offset, wrapped=True, json=True) if found else None
        if tag == CLOSE:
            return Head(offset, wrapped=True) if self._line_start else None
        if tag not in (FUNCTION, PARAMETER):
            return None
        plain = tag == FUNCTION and openers == 1
        return (yield from self._wrapped_name(tag, offset + len(tag), awaited=awaited, plain=plain))

    def _wrapped_name(
        self, tag: str, offset: int, *, awaited: bool, plain: bool
    ) -> Steps[Head | None]:
        """Read the name behind this tag, and look whether a call follows it."""
        if tag == FUNCTION and awaited:
            self._heads.name_at = offset
        found = yield from self._function_name(offset)
        if found is None:
            return None
        offered = found[0] in self._tools
        # Some models open the tool's name with the parameter's tag.
        if not offered and tag == PARAMETER:
            return None
        if not offered or not self._line_start:  # then it may only be mentioned
            body = yield from self._tape.space(found[1])
            if not (yield from self._tape.literal(body, BODY)):
                return None
        self._heads.begin(offset, wrapped=True)
        plain = plain and is_plain(self._tape, offset, found)
        return Head(found[1], found[0], wrapped=True, plain=plain)

    def _function_name(self, offset: int) -> Steps[tuple[str, int] | None]:
        """Read a tool's name; some models put a closer where its `>` should be."""
        raw, behind, mark = yield from self._tape.name(offset)
        if mark == "<" and len(raw.split()) == 1:
            tag = yield from self._tape.literal(behind, (END_PARAMETER, END_FUNCTION))
            if tag:
                return raw.strip(), behind + len(tag)
        return (yield from tag_name(self._tape, offset, self._tools))

    def _bare_header(self) -> Steps[Head | None]:
        """Look for an offered tool's name at the start of a line, and for what a call holds."""
        if not self._line_start:
            return None
        tape = self._tape
        found = yield from tag_name(tape, len(FUNCTION), self._tools)
        if found is None or found[0] not in self._tools:
            return None
        body = yield from tape.space(found[1])
        if not (yield from tape.literal(body, (PARAMETER, END_FUNCTION))):
            return None
        self._heads.begin(len(FUNCTION), wrapped=False)
        return Head(found[1], found[0])

    def _seems_meant(self, marker: str) -> Steps[bool]:
        tape = self._tape
        if marker == FUNCTION:
            found = yield from tag_name(tape, len(FUNCTION), ())
            if found is None:
                return False
            offset = yield from tape.space(found[1])
            return bool((yield from tape.literal(offset, (PARAMETER, END_FUNCTION))))
        newline = yield from tape.literal(len(OPEN), ("\n", "\r\n"))
        offset = yield from tape.space(len(OPEN))
        tag = yield from tape.literal(offset, (FUNCTION, PARAMETER, CLOSE, OPEN, "{"))
        return tag in (FUNCTION, PARAMETER, "{") if tag else bool(newline)

    def _behind_call(self, *, wrapped: bool) -> Steps[Head | None]:
        wrapped = yield from self._closers(wrapped=wrapped)
        if self.stopped:
            return None
        tape = self._tape
        offset = yield from tape.space(0)
        tag = yield from tape.literal(offset, (FUNCTION, "{"))
        if not wrapped or not tag:
            return None
        if tag == "{":
            return Head(offset, wrapped=True, json=True)
        self._heads.name_at = name_at = offset + len(tag)
        found = yield from tag_name(tape, name_at, self._tools)
        self._heads.name_at = None
        if found is None:
            self._taken_over = False
            return None
        self._heads.begin(offset + len(tag), wrapped=True)
        return Head(found[1], found[0], wrapped=True)

    def _closers(self, *, wrapped: bool) -> Steps[bool]:
        """Swallow closers; return whether the wrapper is open still."""
        thought = self._thought_closers
        while True:
            tag, cut = yield from self._closer((CLOSE, END_FUNCTION, END_PARAMETER, *thought))
            wrapped = wrapped and not cut
            # One closer is right, and that of a thought is no matter of the call.
            if tag not in (CLOSE if wrapped else "", *thought):
                self._mend()
            wrapped = wrapped and tag != CLOSE
            if self._first_call_only and self._called and tag in ("", CLOSE):
                self.stopped = True
            if not tag or self.stopped:
                return wrapped

    # A call.

    def _body(
        self, head: Head, arguments: Arguments, parameters: Parameters, junk: list[str]
    ) -> Steps[bool]:
        tape = self._tape
        tags = (PARAMETER, END_FUNCTION, END_PARAMETER, CLOSE, OPEN, FUNCTION)
        while True:
            tape.starved = False
            offset = yield from tape.space(0)
            tag = yield from tape.literal(offset, tags)
            if tag == PARAMETER:
                found = yield from tag_name(tape, offset + len(tag), parameters.declared)
                if found:
                    if not (
                        yield from self._value(offset + len(tag), found, arguments, parameters)
                    ):
                        return False
                    continue
            elif tag in (END_FUNCTION, END_PARAMETER):
                tape.take(offset + len(tag))
                if tag == END_FUNCTION:
                    return True
                self._mend()
                continue
            elif tag and (yield from self._ends_call(tag, offset)):
                self._mend()
                return True
            whole = yield from self._is_over(offset)
            if whole is not None:
                return whole
            yield from self._stray(offset, arguments, junk)

    def _value(
        self, offset: int, found: tuple[str, int], arguments: Arguments, parameters: Parameters
    ) -> Steps[bool]:
        """Read the value behind a tag whose name was found at the offset."""
        name, behind = found
        if not is_plain(self._tape, offset, found):
            self._mend()
        self._tape.take(behind)
        argument = arguments.open(name, parameters.type_of(name))
        value = Value(
            self._tape,
            argument,
            declared=parameters.declared,
            seen=arguments.seen,
            lacks=self._lacks,
            rule=self._rule,
        )
        whole = yield from value.read()
        if value.unclosed:
            self._mend()
        return whole

    def _lacks(self, tool: str, name: str) -> bool:
        schema = self._tools.get(tool)
        return schema is not None and name not in Parameters(schema).declared

    def _ends_call(self, tag: str, offset: int) -> Steps[bool]:
        """Return whether the call ends here without its closer: at its wrapper's end or a call."""
        if tag == CLOSE:
            return True
        if tag == OPEN:
            return (yield from self._wrapped_header(offset)) is not None
        return (yield from tag_name(self._tape, offset + len(tag), self._tools)) is not None
