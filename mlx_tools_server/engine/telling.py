"""What one job tells the thread that serves its client, as events.

Rules of this file:
- One token's events follow its log probability, and nothing else comes between.
- While there is nothing to say, progress is repeated; what goes wrong is an event too.
- How many tokens were generated is told now and then, between those of two tokens.
"""

from __future__ import annotations

import logging
import math
import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from ..errors import GenerationFailed, Overloaded, RequestError
from ..events import EngineEvent, Failed, Finished, Progress, Sampled, TokenLogprob, Usage
from .jobs import GRANTED, Job
from .provider import LoadedModel
from .seams import Context

log = logging.getLogger(__name__)

# Seconds of silence after which a waiting stream is told that nothing new has happened.
TICK = 0.25


class Deadline:
    """When a request has waited for its turn, or taken for its answer, too long.

    In seconds from now; 0 is no end.
    """

    def __init__(self, queue: float, request: float) -> None:
        now = time.monotonic()
        self._queue, self._request = queue, request
        self._begin = now + queue if queue else math.inf
        self._end = now + request if request else math.inf

    def late(self, *, begun: bool = False) -> Overloaded | None:
        """Return what to tell the client of a request that is too late, if it is."""
        now = time.monotonic()
        if now > self._end:
            return Overloaded(
                f"The answer took more than the {self._request:g} s of --request-seconds. Ask for "
                "less, or try again when there is less to do."
            )
        if not begun and now > self._begin:
            return Overloaded(
                f"The request waited for its turn for more than the {self._queue:g} s of "
                "--queue-seconds. Try again in a moment."
            )
        return None


class Telling:
    """What one job's items tell, as events.

    `alive` says whether the loop can still answer; `load` is called when the job has its place,
    `prefilled` at its first token.
    """

    def __init__(
        self,
        job: Job,
        model: LoadedModel,
        prompt_tokens: int,
        *,
        wants_logprobs: bool,
        deadline: Deadline,
        alive: Callable[[], bool],
        prefilled: Callable[[], None],
        load: Callable[[], None],
    ) -> None:
        self._job = job
        self._model = model
        self._wants_logprobs = wants_logprobs
        self._deadline = deadline
        self._alive = alive
        self._prefilled = prefilled
        self._load = load
        self._decodes = False
        self._progress = Progress(0, prompt_tokens, waits=True)
        self._context: Context | None = None
        self._spoke = self._counted = time.monotonic()

    def events(self) -> Iterator[EngineEvent]:
        while (late := self._deadline.late(begun=self._job.reader is not None)) is None:
            try:
                item = self._job.get(TICK)
            except queue.Empty:
                if not self._alive() and not self._job.done:
                    yield from self._failed(GenerationFailed("The generation thread has stopped."))
                    return
                yield self._progress
                continue
            if item is None:
                yield from self._finished()
                return
            if isinstance(item, Exception):
                yield from self._failed(item)
                return
            yield from self._told(item)
        yield from self._failed(late)

    @property
    def _cached(self) -> int:
        # A loop that serves one request at a time tells it after the context.
        return max(0, self._context.prompt_cache_count) if self._context is not None else 0

    def _told(self, item: Any) -> Iterator[EngineEvent]:
        if item is GRANTED:
            self._load()
        elif isinstance(item, Context):
            if self._context is None:
                self._context = item
                self._progress = replace(self._progress, done=self._cached, waits=False)
                yield self._progress
        elif isinstance(item, tuple):
            self._progress = Progress(
                min(self._cached + item[0], self._progress.total), self._progress.total
            )
            yield self._progress
        else:
            if not self._decodes:
                self._decodes = True
                self._prefilled()
            if self._wants_logprobs and item.token not in self._model.eos:
                yield Sampled(self._logprob(item))
            # One token's events for one item, so that they stay beside its log probability.
            yield from self._read(tokens=1)
            yield from self._count()

    def _read(self, tokens: int | None = None) -> Iterator[EngineEvent]:
        events = self._job.reader.take(tokens) if self._job.reader is not None else []
        now = time.monotonic()
        if events:
            self._spoke = now
        elif now - self._spoke > TICK:  # the model writes something that is held back
            self._spoke = now
            yield self._progress
        yield from events

    def _count(self) -> Iterator[EngineEvent]:
        """Tell how many tokens there are, if that was not told for a while."""
        if self._job.reader is None or time.monotonic() - self._counted < TICK:
            return
        self._counted = time.monotonic()
        total = self._progress.total
        self._progress = Progress(total, total, len(self._job.reader.tokens))
        yield self._progress

    def _finished(self) -> Iterator[EngineEvent]:
        reader = self._job.reader
        if reader is not None and reader.fault is not None:
            yield from self._failed(GenerationFailed(f"The answer can't be read: {reader.fault}"))
            return
        yield from self._read()
        usage = Usage(
            prompt_tokens=self._progress.total,
            completion_tokens=len(reader.tokens) if reader else 0,
            cached_tokens=self._cached,
            reasoning_tokens=reader.reasoning_tokens if reader else 0,
        )
        if reader is None:
            yield Finished("stop", usage)
            return
        end = reader.end
        closing = self._model.detokenizers.text(end) if end is not None else ""
        yield Finished(
            reader.reason, usage, stop=reader.stop_string, tokens=reader.exact, closing=closing
        )

    def _failed(self, error: Exception) -> Iterator[EngineEvent]:
        """Close what is open as something cut, then say what went wrong."""
        if self._job.reader is not None:
            yield from self._job.reader.abandon()
        if isinstance(error, RequestError):
            yield Failed(error.message, error.status, error.code)
        else:
            log.error("a request failed: %s", error)
            yield Failed(f"{type(error).__name__}: {error}", 500, GenerationFailed.code)

    def _logprob(self, item: Any) -> TokenLogprob:
        decode = self._model.detokenizers.text
        rivals = tuple((decode(rival["id"]), rival["logprob"]) for rival in item.top_tokens)
        return TokenLogprob(decode(item.token), item.logprob, rivals)
