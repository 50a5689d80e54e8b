"""How one answer follows its grammar in the generation loop, token by token.

Rules of this file:
- A guide never stops an answer and never raises: where its grammar is left or gives up, all is
  allowed again, and the call is checked afterwards like any other.
- A grammar of the whole answer holds from its first token on. One of its calls takes over when a
  call has certainly begun, and lets go when it has ended: text is never touched.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from ..counters import Counters
from ..families import Parser
from ..grammar.matching import Grammar, Matcher
from .masks import Bits, open_mask

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """The grammars of one request: of its whole answer, or of calls that begin in its text.

    `forbidden` are tokens that never come.
    """

    whole: Grammar | None = None
    wrapped: Grammar | None = None
    bare: Grammar | None = None
    forbidden: tuple[int, ...] = ()

    @property
    def guides(self) -> bool:
        """Whether there is a grammar."""
        return any((self.whole, self.wrapped, self.bare))

    @property
    def texts(self) -> PlanTexts:
        """The texts of its grammars, for machines that make the same plan."""
        grammars = (self.whole, self.wrapped, self.bare)
        return PlanTexts(*(grammar.text if grammar else "" for grammar in grammars))


@dataclass(frozen=True, slots=True)
class PlanTexts:
    """The grammars of one request as text; "" where there is none."""

    whole: str = ""
    wrapped: str = ""
    bare: str = ""


class Guide:
    """Says which tokens may come next in one answer."""

    def __init__(self, plan: Plan, parser: Parser, vocabulary: int, counters: Counters) -> None:
        self._plan = plan
        self._parser = parser
        self._bits = open_mask(1, vocabulary)[0]
        self._counters = counters
        self._matcher = plan.whole.matcher() if plan.whole is not None else None

    def read(self, token: int) -> None:
        """Hear a token that the parser has read."""
        if self._matcher is not None:
            self._matcher.consume(token)
            self._settle(self._matcher)
        elif self._plan.whole is None and (begun := self._parser.begun) is not None:
            grammar = self._plan.wrapped if begun.wrapped else self._plan.bare
            if grammar is None:
                return
            matcher = grammar.matcher()
            # What does not fit from the start was written freely, and stays free.
            if matcher.consume_text(begun.text):
                self._parser.constrain()
                self._matcher = matcher

    def fill(self, row: Bits) -> bool:
        """Set the bits of the tokens that may come next; return False, and set none, if all may."""
        matcher = self._matcher
        if matcher is None:
            return False
        matcher.mask(self._bits)
        if matcher.failed:
            self._settle(matcher)
            return False
        # Logits are often wider than the vocabulary.
        shared = min(len(row), len(self._bits))
        row[:shared] = self._bits[:shared]
        row[shared:] = 0
        return True

    def close(self) -> None:
        """Hear that the answer has ended."""
        if self._matcher is not None:
            self._counters.add("tokens", self._matcher.taken)
            self._counters.add("forced", self._matcher.forced)
            self._counters.add("failed", self._matcher.failed)
            self._matcher = None

    def _settle(self, matcher: Matcher) -> None:
        """Let go of a grammar that has failed, or whose call has ended."""
        ended = self._plan.whole is None and matcher.accepting
        if not (matcher.failed or ended):
            return
        self.close()
        if matcher.failed:
            log.warning("A grammar gave up, so what follows is free: %s", matcher.error)
