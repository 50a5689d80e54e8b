"""What the parsers of calls share whose arguments have tags: from a head to all that it opens.

Rules of this file:
- No form shows here: which tags there are, and what they open, is told by the methods that a
  form's own class has.
- A call once begun is delivered, or cut. What stands in it beside its arguments is said behind it.
- Models write JSON where their own form has tags now and then: all of a call, or its arguments.
  That is read when it is whole, as a fault; what can't be read is said.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from dataclasses import dataclass
from typing import Generic, TypeVar

from ...schema import Parameters, container
from ..arguments import Arguments
from ..tape import Steps
from .calls import CallParser

_WORD_END = re.compile(r"[ \t\r\n<]")


@dataclass(frozen=True, slots=True)
class Head:
    """What opens a call: `size` characters up to its body; `wrapped` ones stand in a wrapper.

    Without a name the body is a JSON object, or the wrapper is empty. `plain` ones are written as
    they should be.
    """

    size: int
    name: str = ""
    wrapped: bool = False
    json: bool = False
    plain: bool = False


H = TypeVar("H", bound=Head)


class TaggedCallParser(CallParser, Generic[H]):
    """Reads calls that have a tag for each argument."""

    @abstractmethod
    def _head(self, marker: str) -> Steps[H | None]:
        """Read the head of a call that a marker opens; None if that is no call."""

    @abstractmethod
    def _seems_meant(self, marker: str) -> Steps[bool]:
        """Return whether a marker that begins a line and opens no call looks as if it should."""

    @abstractmethod
    def _body(
        self, head: H, arguments: Arguments, parameters: Parameters, junk: list[str]
    ) -> Steps[bool]:
        """Read arguments up to the end of the call; return whether the call is whole."""

    @abstractmethod
    def _behind_call(self, *, wrapped: bool) -> Steps[H | None]:
        """Swallow closers, then return what opens the next call of the same wrapper."""

    def _call(self, marker: str) -> Steps[bool]:
        head = yield from self._head(marker)
        self._heads.name_at = None
        self._plain = False
        if head is None:
            self._taken_over = False
            may_be_meant = self._line_start and not self._thought
            if may_be_meant and (yield from self._seems_meant(marker)):
                self._notice("text")
            return False
        while head is not None:
            wrapped = head.wrapped
            if head.name:
                yield from self._named_call(head)
            elif not head.json:
                self._tape.take(head.size)
                self._space.clear()
            elif not (yield from self._json_call(head.size)):
                break
            head = yield from self._behind_call(wrapped=wrapped)
        self._line_start = True
        return True

    def _named_call(self, head: H) -> Steps[None]:
        self._tape.take(head.size)
        self._rule.constrained = self._constrained or self._taken_over
        self._called = True
        self._open_call(head.name)
        if not head.plain:
            self._mend()
        arguments = Arguments(self._pieces.append)
        junk: list[str] = []
        parameters = Parameters(self._tools.get(head.name, {}))
        complete = yield from self._body(head, arguments, parameters, junk)
        if complete:
            arguments.close()
        self._end(complete=complete)
        self._heads.begun = None
        self._taken_over = False
        self._say("".join(junk))

    def _is_over(self, offset: int) -> Steps[bool | None]:
        """Return whether a call is whole that the end of the text ends here; None if none does."""
        tape = self._tape
        if (yield from tape.at_end(offset)):
            self._mend()  # one that was cut counts as such
            return not tape.cut
        if tape.starved and tape.cut:
            tape.take_until(None)  # the beginning of a tag
            return False
        return None

    def _closer(self, tags: tuple[str, ...]) -> Steps[tuple[str, bool]]:
        """Take one of these closers, if one stands here; return it, and whether one was cut."""
        tape = self._tape
        tape.starved = False
        offset = yield from tape.space(0)
        tag = yield from tape.literal(offset, tags)
        if tag:
            tape.take(offset + len(tag))
        elif tape.starved and tape.cut:
            tape.take_until(None)
            return "", True
        return tag, False

    @property
    def _thought_closers(self) -> tuple[str, ...]:
        """What may stand behind a call of a thought, and is no matter of it."""
        return () if self._thinking is None else (self._thinking.close,)

    # JSON in place of tags.

    def _json_object(self, before: str, arguments: Arguments, junk: list[str]) -> Steps[None]:
        """Read all arguments as one JSON object; what is none is junk, with what stood before."""
        text = ""
        if (yield from self._tape.literal(0, ("{",))):
            text = yield from self._tape.json()
        values = container(text, ("object",), None)
        if values is None:
            junk.append(before + text)
        else:
            arguments.add_all(values)

    def _stray(self, offset: int, arguments: Arguments, junk: list[str]) -> Steps[None]:
        """Read what stands where an argument should: all of them as an object, or junk."""
        tape = self._tape
        self._mend()
        space = tape.take(offset)
        if not arguments.seen and (yield from tape.literal(0, ("{",))):
            yield from self._json_object(space, arguments, junk)
            return
        junk.append(space + tape.take(1) + tape.take_until(_WORD_END))
        while tape.empty and not tape.ended:  # the word may go on
            yield
            junk.append(tape.take_until(_WORD_END))

    def _json_call(self, size: int) -> Steps[bool]:
        """Read `{"name": …, "arguments": {…}}` behind a head; what is no such call is said."""
        before = self._tape.take(size)
        text = yield from self._tape.json()
        value = container(text, ("object",), {})
        name = value.get("name")
        arguments = value.get("arguments", value.get("parameters", {}))
        if isinstance(arguments, str):
            arguments = container(arguments, ("object",), None)
        if not isinstance(name, str) or not name or not isinstance(arguments, dict):
            if not self._thought:
                self._notice("text")
            self._say(before + text)
            return False
        self._called = True
        self._say_call(name, arguments)
        self._mend()
        return True
