"""How one answer follows its grammar in the generation loop, token by token.

Rules of this file:
- A guide never stops an answer and never raises: where its grammar is left or gives up, all is
  allowed again, and the call is checked afterwards like any other.
- A grammar of the whole answer holds from its first token on. One of its calls takes over when a
  call has certainly begun, and lets go when it has ended: text is never touched.
- A thought whose budget is spent ends with the next token, unless a grammar can't let it end yet.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

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


@dataclass(frozen=True, slots=True)
class ThoughtBudget:
    """The most tokens that the thoughts of an answer have; the last of them are the `closer`."""

    tokens: int
    closer: tuple[int, ...]


class Guide:
    """Says which tokens may come next in one answer."""

    def __init__(
        self,
        plan: Plan | None,
        parser: Parser,
        vocabulary: int,
        counters: Counters,
        budget: ThoughtBudget | None = None,
    ) -> None:
        self._plan = plan = plan or Plan()
        self._parser = parser
        self._bits = open_mask(1, vocabulary)[0]
        self._counters = counters
        self._matcher = plan.whole.matcher() if plan.whole is not None else None
        self._budget = budget
        self._thinking = parser.thinking
        # Tokens of thought so far; of the closer, those that came, and whether the next one must.
        self._thought = self._closed = 0
        self._closes = False

    def read(self, token: int) -> None:
        """Hear a token that the parser has read."""
        self._thought += self._thinking
        self._thinking = self._parser.thinking
        self._closed = self._closed + 1 if self._closes and self._thinking else 0
        self._closes = False
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
        if matcher is not None:
            matcher.mask(self._bits)
            if matcher.failed:
                self._settle(matcher)
                matcher = None
            else:
                # Logits are often wider than the vocabulary.
                shared = min(len(row), len(self._bits))
                row[:shared] = self._bits[:shared]
                row[shared:] = 0
        return self._end_thought(row) or matcher is not None

    def _end_thought(self, row: Bits) -> bool:
        """Leave only what ends the thought, where its budget is spent and that may come."""
        budget = self._budget
        if budget is None or not self._thinking:
            return False
        rest = budget.closer[self._closed :] or budget.closer
        if self._thought < budget.tokens - len(rest):
            return False
        word, bit = divmod(rest[0], 32)
        only = row.view(np.uint32)[word] & np.uint32(1 << bit)
        self._closes = bool(only)
        if self._closes:
            row[:] = 0
            row.view(np.uint32)[word] = only
        return self._closes

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
