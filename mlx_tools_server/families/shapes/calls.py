"""What the parsers of calls share: the tools on offer, and calls that are JSON where tags belong.

Rules of this file:
- No form shows here.
- Models write JSON where their own form has tags now and then: all of a call, or its arguments.
  That is read when it is whole, as a fault; what can't be read is said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...schema import container
from ..arguments import Arguments
from ..parser import Parser
from ..tape import Steps

WORD_END = re.compile(r"[ \t\r\n<]")
# The text of a call that has begun is asked for at every token; more of it comes in no token.
MAX_BEGUN = 1 << 20


class CallParser(Parser):
    """Reads calls; `tools` are the JSON Schemas of the parameters of those on offer.

    A `constrained` answer follows a grammar as a whole: a call is all of it, or stands behind the
    thought, and none stands in a thought or a text.
    """

    def __init__(
        self,
        tools: Mapping[str, Mapping[str, Any]],
        *,
        first_call_only: bool = False,
        constrained: bool = False,
        **base: Any,
    ) -> None:
        self._tools = tools
        self._first_call_only = first_call_only
        self._called = False
        self._constrained = constrained
        # Whether a grammar has taken over the call that has begun.
        self._taken_over = False
        super().__init__(**base)

    def constrain(self) -> None:
        """Say that a grammar takes over the call that has begun."""
        self._taken_over = True

    @property
    def _is_free(self) -> bool:
        """Whether a grammar may take over a call that begins."""
        return not (self._taken_over or self._constrained or self.stopped)

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
        junk.append(space + tape.take(1) + tape.take_until(WORD_END))
        while tape.empty and not tape.ended:  # the word may go on
            yield
            junk.append(tape.take_until(WORD_END))

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
