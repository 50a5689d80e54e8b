"""What people can see of the turns: those that run, and the last ones that ended.

Rules of this file:
- Nothing of a prompt, an answer or an argument is kept: names, numbers and times only.
- What a client says of itself is cut to one short word of plain characters.
- Each turn is told by its own thread and looked at by others, so both hold the lock.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

from .events import Event, Failed, Finished, PartStarted, Progress, Started
from .messages import Options
from .metrics import TurnFigures

Phase: TypeAlias = Literal["queued", "prefill", "decode"]

# Turns that have ended and are remembered.
RECENT = 100
# Letters of a program's name.
LONGEST_NAME = 40


def program(user_agent: str) -> str:
    """Return the first word of a User-Agent, as far as it is plain; empty if there is none."""
    word = user_agent.strip().partition(" ")[0]
    return re.sub(r"[^A-Za-z0-9._/+@-]", "", word)[:LONGEST_NAME]


class Timeline:
    """The turns of one server; safe to use from many threads. Times come from the clocks."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        calendar: Callable[[], float] = time.time,
        recent: int = RECENT,
    ) -> None:
        self._clock = clock
        self._calendar = calendar
        self._lock = threading.Lock()
        self._live: dict[int, Seen] = {}
        self._recent: deque[dict[str, Any]] = deque(maxlen=recent)

    @contextmanager
    def watch(self, name: str, options: Options) -> Iterator[Seen]:
        """Show a turn until the block ends; one that was refused leaves no trace."""
        seen = Seen(name, options, self._lock, self._clock, self._calendar())
        with self._lock:
            self._live[id(seen)] = seen
        try:
            yield seen
        finally:
            with self._lock:
                del self._live[id(seen)]
                if seen.figures is not None:
                    self._recent.append(seen.past(seen.figures))

    @property
    def live(self) -> list[dict[str, Any]]:
        """The turns that run, the oldest first."""
        with self._lock:
            return [seen.present() for seen in self._live.values()]

    @property
    def recent(self) -> list[dict[str, Any]]:
        """The turns that have ended, the latest first."""
        with self._lock:
            return list(reversed(self._recent))


class Seen:
    """One turn as others see it; `figures` is what it came to, once it has ended."""

    def __init__(
        self,
        name: str,
        options: Options,
        lock: threading.Lock,
        clock: Callable[[], float],
        when: float,
    ) -> None:
        self._lock = lock
        self._clock = clock
        self._began = clock()
        self._about = {
            "id": name,
            "when": round(when, 3),
            "route": options.route,
            "client": options.program,
        }
        self._phase: Phase = "queued"
        self._queued: float | None = None
        self._loss = ""
        self._prompt = self._done = self._cached = self._generated = 0
        self.figures: TurnFigures | None = None

    def see(self, event: Event) -> None:
        """Take what an event says of the turn."""
        if not isinstance(event, Started | Progress | PartStarted | Finished | Failed):
            return
        with self._lock:
            self._see(event)

    def _see(self, event: Event) -> None:
        match event:
            case Started(prompt, cached):
                self._prompt, self._cached, self._loss = prompt, cached, event.loss_summary
            case Progress(done, _, generated, waits):
                self._done = max(self._done, done)
                self._generated = max(self._generated, generated)
                if not waits:
                    self._enter("decode" if generated else "prefill")
            case Finished(_, usage):
                self._generated = usage.completion_tokens
            case PartStarted():
                self._done = self._prompt
                self._enter("decode")
            case _:
                pass

    def _enter(self, phase: Phase) -> None:
        if self._queued is None:
            self._queued = self._clock() - self._began
        if self._phase != "decode":
            self._phase = phase

    def end(self, figures: TurnFigures) -> None:
        """Take what the turn came to."""
        self.figures = figures

    def present(self) -> dict[str, Any]:
        """Return what is known while the turn runs."""
        return {
            **self._about,
            "phase": self._phase,
            "seconds": round(self._clock() - self._began, 3),
            "prompt_tokens": self._prompt,
            "done_tokens": max(self._done, self._cached),
            "cached_tokens": self._cached,
            "completion_tokens": self._generated,
        }

    def past(self, figures: TurnFigures) -> dict[str, Any]:
        """Return what is known once the turn has ended."""
        tokens, first, rate = figures.tokens, figures.first, figures.rate
        queued = figures.seconds if self._queued is None else self._queued
        return {
            **self._about,
            "finish": figures.finish,
            "prompt_tokens": tokens.get("prompt", 0),
            "cached_tokens": tokens.get("cached", 0),
            "completion_tokens": tokens.get("completion", self._generated),
            "reasoning_tokens": tokens.get("reasoning", 0),
            "seconds": round(figures.seconds, 3),
            "queued_seconds": round(min(queued, figures.seconds), 3),
            "first_token_seconds": None if first is None else round(first, 3),
            "decode_seconds": None if first is None else round(figures.seconds - first, 3),
            "tokens_per_second": None if rate is None else round(rate, 1),
            "calls": dict(figures.calls),
            "loss": self._loss,
        }
