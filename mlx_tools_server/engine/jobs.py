"""Requests on their way through the generation loop.

Rules of this file:
- A job is the loop's answer queue and the serving thread's handle in one; only plain values,
  events and finished contexts pass through it.
- After a failure each job that was in flight is tried again alone until it is past the point of
  the failure, so that the one that fails is found and the others go on where they were.
- A job that waits for its proof when its batch fails is to blame, and is tried first, by itself.
- A job begins when there is a place and memory for it, and its prompt can be computed at once; if
  those at work outgrow memory, the last one that began ends, before all do.
- A job that waits holds nothing of the KV cache: what is kept of it is read when it has its place.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from ..admission import Lanes, may_take
from ..errors import Overloaded
from .guide import Plan
from .memory import HEADROOM, MemoryGuard
from .reader import Reader
from .seams import Context, answer_reader, interrupt

# Each blame gets a job further, so this only bounds what a failing machine costs.
MAX_RETRIES = 16
# Tokens after which a job is past the step at which its batch failed.
PROBATION_TOKENS = 8
# What a job is told that has its place, and is to read what is kept of its prompt.
GRANTED = object()
# Seconds for which a job that needs more memory than there is lets others pass.
PATIENCE = 20.0


class Cancelled(Exception):
    """Raised in the loop to end a job that it serves alone."""


class Idle(Exception):
    """Raised in the loop when there was nothing to do for long."""


class Job:
    """One request; the loop calls `put`, the serving thread everything else.

    `size` is how many tokens its prompt has and `most` how many its answer may have; `client` tells
    who asks. `kept` is how many tokens of the prompt are to be read from what is kept, once there
    is a place for the job; `granted` is called then. `alone` says that the loop serves one job at a
    time, `distributed` that other machines do the same steps.
    """

    def __init__(
        self,
        build: Callable[[Job], tuple[Any, Any]],
        plan: Plan | None = None,
        *,
        size: int = 0,
        most: int = 0,
        client: str = "",
        kept: int = 0,
        granted: Callable[[], None] = lambda: None,
        alone: bool = False,
        distributed: bool = False,
    ) -> None:
        self._build = build
        self._told = granted
        self.plan = plan
        self.client = client
        self._size = size
        self._most = most
        self._kept = kept
        self._since = time.monotonic()
        self.alone = alone
        self._distributed = distributed
        self._items: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._context: Context | None = None
        self.reader: Reader | None = None
        self.loaded: Sequence[Any] = ()
        self.reads = kept > 0
        self.cancelled = False
        self.done = False
        self.retries = 0
        self._retried_at = 0

    # The loop's side.

    def put(self, item: Any) -> None:
        """Take what the loop answers: a context, progress, tokens, the end or an error."""
        with self._lock:
            if isinstance(item, Context):
                self._context = item
                self.reader = answer_reader(item)
                if self.cancelled:
                    self._interrupt()
            if item is None or isinstance(item, Exception):
                self.done = True
            elif self.cancelled and self.alone and not self._distributed and not self.decoding:
                # Nothing else is in this step, and nothing else ends a prompt that runs alone.
                raise Cancelled
        self._items.put(item)

    def request(self) -> tuple[Job, Any, Any]:
        """Return what the loop takes: where to answer, the request, its arguments."""
        built = self._build(self)
        self.loaded = ()
        return (self, *built)

    def grant(self) -> None:
        """Tell that there is a place for the job: what is kept of its prompt is to be read."""
        self._told()
        if self.reads:
            self._items.put(GRANTED)

    # The serving thread's side.

    def get(self, timeout: float) -> Any:
        """Return the next item; raises queue.Empty after `timeout` seconds."""
        return self._items.get(timeout=timeout)

    def cancel(self) -> None:
        """End the job wherever it is; what it has computed is kept where that is possible."""
        with self._lock:
            self.cancelled = True
            self._interrupt()

    def _interrupt(self) -> None:
        if self._distributed:
            # Machines in step must not differ: the loop tells the others, but not when alone.
            if self._context is not None and not self.alone:
                interrupt(self._context)
            return
        if self.reader is not None:
            self.reader.cancelled = True  # ends it at the next token, and its KV cache is kept
        if self._context is not None and not self.decoding:
            interrupt(self._context)

    def fail(self, error: Exception) -> None:
        """End the job with an error, wherever it is."""
        self.put(error)
        self.cancel()

    @property
    def waited(self) -> float:
        """For how many seconds there is this job."""
        return time.monotonic() - self._since

    def length(self, *, ahead: bool = False) -> int:
        """Return how many tokens its KV cache has; with `ahead`, also those that come next."""
        more = min(HEADROOM, self._most - self.tokens) if ahead else 0
        return self._size + self.tokens + max(0, more)

    @property
    def copied(self) -> int:
        """How many tokens are there twice until the loop has made its KV cache of them."""
        return self._kept if self._context is None else 0

    # After a failure.

    def retry(self, *, blamed: bool) -> bool:
        """Prepare for another try from where it was; False if it had enough of them."""
        self.retries += blamed
        self._retried_at = self.tokens
        return self.retries <= MAX_RETRIES

    @property
    def decoding(self) -> bool:
        """Whether this try has come to its first token."""
        return self.tokens > self._retried_at

    @property
    def tokens(self) -> int:
        """How many tokens are generated."""
        return len(self.reader.tokens) if self.reader else 0

    @property
    def over(self) -> bool:
        """Whether the loop owes nothing more."""
        return self.done or self.cancelled

    @property
    def proven(self) -> bool:
        """Whether it is past the point at which its batch failed."""
        return self.over or self.tokens >= self._retried_at + PROBATION_TOKENS


class JobQueue:
    """The jobs that wait, and those in flight; has the interface that the loop takes.

    At most `places` are in flight, of which `prompts` are not decoding yet, and as many as the
    `guard` has memory for. `get` raises Idle when there was nothing to do for `idle_seconds`; 0 is
    never.
    """

    def __init__(self, places: int, prompts: int) -> None:
        self._ready = threading.Condition()
        self._places = places
        self._prompts = prompts
        self.idle_seconds = 0
        self._busy_at = time.monotonic()
        self.guard: MemoryGuard | None = None
        self._waiting: Lanes[Job] = Lanes()
        # Those that have a place and are not begun: some read what is kept, some are ready.
        self._granted: list[Job] = []
        self._suspects: deque[Job] = deque()
        self._on_probation: Job | None = None
        self._in_flight: list[Job] = []

    def add(self, job: Job) -> None:
        """Let a job wait for the loop."""
        with self._ready:
            self._waiting.add(job.client, job)
            self._grant()
            self._ready.notify()

    def begin(self, job: Job, loaded: Sequence[Any]) -> None:
        """Let a job begin that has read what is kept of its prompt."""
        with self._ready:
            job.loaded, job.reads = loaded, False
            self._ready.notify()

    def get(self, timeout: float | None = None) -> tuple[Job, Any, Any]:
        """Return the next request, waiting for one; raises queue.Empty after `timeout` seconds."""
        deadline = time.monotonic() + (timeout or 0)
        with self._ready:
            while (job := self._next()) is None:
                self._check_idle()
                if not self._ready.wait(max(0.0, deadline - time.monotonic())):
                    raise queue.Empty
        return job.request()

    def wait(self, timeout: float) -> bool:
        """Return whether a job waits, `timeout` seconds from now at the latest."""
        with self._ready:
            self._busy_at = time.monotonic()
            return self._ready.wait_for(
                lambda: bool(self._suspects) or not all(job.over for job in self._queued()), timeout
            )

    def get_nowait(self) -> tuple[Job, Any, Any]:
        """Return the next request; raises queue.Empty if none waits."""
        with self._ready:
            job = self._next()
        if job is None:
            raise queue.Empty
        return job.request()

    @property
    def in_flight(self) -> int:
        """How many jobs the loop is at work on."""
        with self._ready:
            return sum(not job.over for job in self._in_flight)

    def suspend(self) -> tuple[list[Job], Job | None]:
        """Take all jobs in flight, after a failure, the one that is to blame first, if known.

        The caller retries or ends each of them.
        """
        with self._ready:
            taken = [job for job in self._in_flight if not job.over]
            blamed = self._on_probation
            self._in_flight, self._on_probation = [], None
        if blamed is None or blamed.proven or blamed not in taken:
            return taken, None
        taken.remove(blamed)
        return [blamed, *taken], blamed

    def suspect(self, jobs: Sequence[Job]) -> None:
        """Let jobs be tried again one by one, before any other."""
        with self._ready:
            self._suspects.extendleft(reversed(jobs))

    def acquit(self) -> None:
        """Take the blame from the jobs that wait for another try: the one that fails is found."""
        with self._ready:
            for job in self._suspects:
                job.retries = 0

    def drain(self) -> list[Job]:
        """Take all jobs, for the end of the server."""
        taken, _ = self.suspend()
        with self._ready:
            taken += (*self._suspects, *self._granted, *self._waiting.clear())
            self._suspects.clear()
            self._granted.clear()
        return taken

    def _next(self) -> Job | None:
        if self._in_flight:
            self._busy_at = time.monotonic()
        self._in_flight = [job for job in self._in_flight if not job.over]
        if self._on_probation is not None:
            if not self._on_probation.proven:
                return None
            self._on_probation = None
        self._relieve()
        job = self._next_suspect()
        if job is None:
            self._grant()
            job = next((job for job in self._granted if not job.reads), None)
            if job is not None:
                self._granted.remove(job)
        if job is not None:
            self._in_flight.append(job)
        self._settle()
        return job

    def _grant(self) -> None:
        """Give places to jobs that wait; what a failure has put back comes before them."""
        self._granted = [job for job in self._granted if not job.over]
        self._waiting.drop(lambda job: job.over)
        while not (self._suspects or self._on_probation):
            clients = [job.client for job in self._taken()]
            job = self._waiting.take(clients, self._places, self._fits)
            if job is None:
                break
            self._granted.append(job)
            self._settle()
            job.grant()

    def _taken(self) -> list[Job]:
        """Return the jobs that have a place."""
        return [*(job for job in self._in_flight if not job.over), *self._granted]

    def _queued(self) -> list[Job]:
        """Return the jobs that are not begun."""
        return [*self._granted, *self._waiting]

    def _settle(self) -> None:
        if self.guard is not None:
            self.guard.settle(*_sizes(self._taken()))

    def _check_idle(self) -> None:
        waits = self._queued() or self._suspects or self._in_flight
        idle = time.monotonic() - self._busy_at
        if self.idle_seconds and not waits and idle > self.idle_seconds:
            raise Idle

    def _next_suspect(self) -> Job | None:
        while self._suspects:
            job = self._suspects.popleft()
            if not job.over:
                self._on_probation = job
                return job
        return None

    def _fits(self, job: Job) -> bool | None:
        # The loop computes prompts in the order it gets them, so no more wait there than it takes.
        reading = [one.client for one in self._taken() if not one.decoding]
        if not may_take(job.client, reading, self._prompts):
            return False
        others = self._taken()
        if job.alone and others:
            return False
        if self.guard is None or not others or self.guard.fits(*_sizes([*others, job])):
            return True
        return False if job.waited < PATIENCE else None

    def _relieve(self) -> None:
        """End the jobs that began last while those in flight take more memory than there is."""
        if self.guard is None:
            return
        while len(self._in_flight) > 1 and not self.guard.fits(
            [job.length() for job in self._in_flight]
        ):
            self._in_flight.pop().fail(
                Overloaded(
                    "There was not enough memory for this answer beside the others. Try again in a "
                    "moment, or start the server with a larger --memory-limit."
                )
            )


def _sizes(jobs: Sequence[Job]) -> tuple[list[int], list[int]]:
    """Return the lengths of jobs at work, and of what is there of them a second time."""
    return [job.length(ahead=True) for job in jobs], [job.copied for job in jobs if job.copied]
