"""The reader of one answer: sampled tokens in, part events out.

Rules of this file:
- It runs in the generation loop, once per token, so that a stop string or a limit on calls ends
  the answer at that very token and its KV cache is kept.
- It must not raise there: that would end every answer of the batch. A fault is kept for the
  thread that serves the client, and ends this answer only.
- Events are handed over in whole batches; what was read before a failure is never lost.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ..events import FinishReason, Noticed, ParsedEvent, PartEnded
from ..families import Parser
from ..messages import ToolSpec
from .guide import Guide, ThoughtBudget
from .tokens import Detokenizer

log = logging.getLogger(__name__)


# Tokens of the longest text whose repetition counts.
PERIOD = 64
# Tokens between two looks for it.
LOOK = 256


def repeats(tokens: Sequence[int], count: int) -> bool:
    """Return whether the last `count` tokens are one short text over and over."""
    if len(tokens) < count:
        return False
    last = tokens[-count:]
    return any(
        last[-1] == last[-1 - period] and last[period:] == last[:-period]
        for period in range(1, min(PERIOD, count // 2) + 1)
    )


@dataclass(frozen=True, slots=True)
class ReaderSpec:
    """What a reader is made of, in plain values, so that every machine makes the same one.

    A `raw` answer is text: neither calls nor thoughts are looked for. One that only repeats itself
    for `runaway` tokens is cut; 0 lets it go on. `logprobs` says that somebody looks at them.
    """

    tools: tuple[ToolSpec, ...] = ()
    thought_open: bool = False
    thought_budget: ThoughtBudget | None = None
    first_call_only: bool = False
    stop: tuple[str, ...] = ()
    raw: bool = False
    max_tokens: int = 1 << 31
    runaway: int = 0
    logprobs: bool = False


class Reader:
    """Reads one answer; `tokens` are those it has seen, without `end`, the one that ended it."""

    def __init__(
        self,
        parser: Parser,
        detokenizer: Detokenizer,
        eos: Collection[int],
        max_tokens: int,
        runaway: int = 0,
        *,
        wants_logprobs: bool = False,
    ) -> None:
        self.wants_logprobs = wants_logprobs
        self.tokens: list[int] = []
        self.end: int | None = None
        self.reason: FinishReason = "stop"
        self.reasoning_tokens = 0
        self.finished = False
        self.cancelled = False
        self.fault: Exception | None = None
        self.guide: Guide | None = None
        self._ahead = False
        self._parser = parser
        self._detokenizer = detokenizer
        self._eos = eos
        self._max_tokens = max_tokens
        self._runaway = runaway
        self._open = False
        self._length = 0
        self._lengths: list[int] = []
        self._batches: deque[Sequence[ParsedEvent]] = deque()

    def advance(self, token: int) -> bool:
        """Read a token; return whether the answer ends with it."""
        if not self._ahead:
            self.read_ahead(token)
        self._ahead = False
        return self.finished or self.cancelled

    def read_ahead(self, token: int) -> None:
        """Read a token that the next call of `advance` brings, for the guide's sake."""
        self._ahead = True
        if self.finished:
            return
        try:
            self._read(token)
            if self.guide is not None:
                self.guide.read(token)
                if self.finished:
                    self.guide.close()
        except Exception as error:  # the batch of other answers must go on
            log.exception("an answer could not be read")
            self.fault = error
            self.finished = True

    def _read(self, token: int) -> None:
        if token in self._eos:
            self.end = token
            self.close(cut=False)
            return
        text = self._detokenizer.add(token)
        self.tokens.append(token)
        self._length += len(text)
        self._lengths.append(self._length)
        self.reasoning_tokens += self._parser.thinking
        self._batches.append(self._parser.feed(text))
        if self._parser.stopped:
            self.close(cut=False)
        elif len(self.tokens) >= self._max_tokens or self._runs_away():
            self.reason = "length"
            self.close(cut=True)

    def _runs_away(self) -> bool:
        if not self._runaway or len(self.tokens) % LOOK or not repeats(self.tokens, self._runaway):
            return False
        log.warning(
            "An answer was cut: it only repeated itself for %d tokens (--runaway-tokens)",
            self._runaway,
        )
        return True

    def close(self, *, cut: bool) -> None:
        """Read the end of the answer, once; `cut` says that its tokens ran out."""
        if not self.finished:
            self.finished = True
            self._batches.append(self._parser.feed(self._detokenizer.finish()))
            self._batches.append(self._parser.close(cut=cut))

    @property
    def stop_string(self) -> str:
        """The stop string that ended the answer, if one did."""
        return self._parser.stop_string

    @property
    def exact(self) -> tuple[int, ...]:
        """The tokens that make up the answer; none if it ends within one of them."""
        if not self._parser.stopped:
            return tuple(self.tokens)
        taken = self._parser.taken
        size = bisect_left(self._lengths, taken) + 1
        ends = taken > 0 and self._lengths[size - 1 : size] == [taken]
        return tuple(self.tokens[:size]) if ends else ()

    def take(self, tokens: int | None = None) -> list[ParsedEvent]:
        """Return the events of the next tokens, or all that are left."""
        events: list[ParsedEvent] = []
        while self._batches and tokens != 0:
            events += self._batches.popleft()
            tokens = None if tokens is None else tokens - 1
        last = next((event for event in reversed(events) if not isinstance(event, Noticed)), None)
        if last is not None:
            self._open = not isinstance(last, PartEnded)
        return events

    def abandon(self) -> list[ParsedEvent]:
        """End the answer as something cut, and return the events since the last time.

        A parser that has failed can't be asked: what it left open is ended for it.
        """
        if self.fault is None:
            self.close(cut=True)
        events = self.take()
        if self._open:
            self._open = False
            events.append(PartEnded(complete=False))
        return events
