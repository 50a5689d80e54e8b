"""What the parsers of calls share: tools, heads of calls, and what a grammar takes over.

Rules of this file:
- No form shows here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...events import ParsedEvent
from ..parser import Begun, Parser
from ..tape import Steps, Tape

# The text of a call that has begun is asked for at every token; more of it comes in no token.
MAX_BEGUN = 1 << 20
# Repetitions of one marker that still count as one: more is not a slip of the pen but text.
MAX_REPEATED = 8


@dataclass(slots=True)
class Rule:
    """Whether a grammar decides where the values of a call end, and whether one has let go."""

    constrained: bool = False
    let_go: bool = False


class HeadReader:
    """Looks ahead for the heads of calls.

    `name_at` is where on the tape a name begins that is awaited, and `begun` the last call whose
    name was certain.
    """

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self.name_at: int | None = None
        self.begun: Begun | None = None

    def awaited(self) -> Begun | None:
        """Return the call whose name is awaited."""
        return None if self.name_at is None else self._from(self.name_at, wrapped=True)

    def begin(self, name_at: int, *, wrapped: bool = True) -> None:
        """Say that the call is certain whose name begins at this offset."""
        self.begun = self._from(name_at, wrapped=wrapped)

    def json_at(self, offset: int) -> Steps[bool]:
        """Return whether the brace at this offset opens a JSON object with a member."""
        quote = yield from self._tape.space(offset + 1)
        return bool((yield from self._tape.literal(quote, ('"', "'"))))

    def _from(self, name_at: int, *, wrapped: bool) -> Begun:
        return Begun(self._tape.peek(name_at, MAX_BEGUN), wrapped)


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
        self._rule = Rule()
        super().__init__(**base)
        self._heads = HeadReader(self._tape)

    def feed(self, text: str) -> list[ParsedEvent]:
        """Read more text and return the events that are certain by now."""
        self._heads.begun = None
        return super().feed(text)

    @property
    def begun(self) -> Begun | None:
        """The call that has begun and that a grammar may take over now; None at any other time."""
        if self._taken_over or self._constrained or self.stopped:
            return None
        return self._heads.awaited() or self._heads.begun

    @property
    def let_go(self) -> bool:
        """Whether a grammar has let go of a call, so that it may be any."""
        return self._rule.let_go

    def constrain(self) -> None:
        """Say that a grammar takes over the call that has begun."""
        self._taken_over = True
        self._rule.constrained = True
