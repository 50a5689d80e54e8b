"""Who is let in, and who is next: a bounded queue that no one client can fill.

Rules of this file:
- What is refused is refused before anything of it is computed, with a status that says to come
  back. What is let in is served, however long others have waited.
- A client that has all it may have leaves room for the others: some of the queue and some of the
  places at work can't be taken by one alone.
- One request that is alone is always let in: a limit on tokens must not make it impossible.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Generic, TypeVar

from .errors import Overloaded

T = TypeVar("T")
# The part of all room that is kept for clients who have none of it: one in this many.
SHARE = 8


class Admission:
    """Counts the requests that are at work or wait, and the tokens of their prompts."""

    def __init__(self, max_requests: int = 96, max_tokens: int = 2_000_000) -> None:
        self._max_requests = max_requests
        self._max_tokens = max_tokens
        self._spare = max(1, max_requests // SHARE)
        self._lock = threading.Lock()
        self._requests: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """How many requests are let in."""
        with self._lock:
            return self._requests.total()

    @contextmanager
    def admit(self, client: str) -> Iterator[Admitted]:
        """Let a request in until the block ends; raises Overloaded if there is no room.

        How many tokens its prompt has is added when that is known.
        """
        with self._lock:
            self._check(client)
            self._requests[client] += 1
        admitted = Admitted(partial(self._take, client))
        try:
            yield admitted
        finally:
            with self._lock:
                self._tokens[client] -= admitted.tokens
                self._requests[client] -= 1
                if not self._requests[client]:
                    del self._requests[client], self._tokens[client]

    def _check(self, client: str) -> None:
        count = self._requests.total()
        # What is spare is for clients that have little.
        spare = self._spare if self._requests[client] < self._spare else 0
        if count >= self._max_requests + spare:
            raise Overloaded(
                f"{count} requests are at work or wait already. Try again in a moment, or start "
                "the server with a larger --max-requests."
            )

    def _take(self, client: str, tokens: int) -> None:
        with self._lock:
            count = self._tokens.total()
            spare = self._max_tokens // SHARE
            if self._tokens[client] + tokens > spare:
                spare = 0
            if count and count + tokens > self._max_tokens + spare:
                raise Overloaded(
                    f"The prompts that are at work or wait have {count} tokens already, "
                    f"and this one has {tokens}. Try again in a moment, or start the server with "
                    "a larger --max-queued-tokens."
                )
            self._tokens[client] += tokens


class Admitted:
    """One request that was let in."""

    def __init__(self, take: Callable[[int], None]) -> None:
        self._take = take
        self.tokens = 0

    def add(self, tokens: int) -> None:
        """Count the tokens of its prompt; raises Overloaded if there is no room for them."""
        self._take(tokens)
        self.tokens += tokens


def may_take(client: str, at_work: Iterable[str], places: int) -> bool:
    """Return whether a client may take one more of the places; `at_work` has who is in each."""
    taken = Counter(at_work)
    return taken.total() < places and taken[client] < places - places // SHARE


class Lanes(Generic[T]):
    """What waits, in a lane for each client; next is the client with the least at work."""

    def __init__(self) -> None:
        # A client that was served goes to the end, so that clients take turns.
        self._lanes: dict[str, deque[T]] = {}

    def __iter__(self) -> Iterator[T]:
        for lane in self._lanes.values():
            yield from lane

    def add(self, client: str, item: T) -> None:
        """Let an item wait."""
        self._lanes.setdefault(client, deque()).append(item)

    def take(
        self, at_work: Iterable[str], places: int, fits: Callable[[T], bool | None]
    ) -> T | None:
        """Take the next item for one of the places; None if none may come now.

        `at_work` has the client of each place that is taken. `fits` says whether an item can come
        now; None says that nothing else must come before it either.
        """
        taken = Counter(at_work)
        for client in sorted(self._lanes, key=lambda client: taken[client]):
            if not may_take(client, taken, places):
                break
            fit = fits(self._lanes[client][0])
            if fit:
                return self._pop(client)
            if fit is None:
                break
        return None

    def drop(self, useless: Callable[[T], bool]) -> None:
        """Take out what is useless."""
        for client in list(self._lanes):
            left = deque(item for item in self._lanes[client] if not useless(item))
            if left:
                self._lanes[client] = left
            else:
                del self._lanes[client]

    def clear(self) -> list[T]:
        """Take all that waits."""
        items = list(self)
        self._lanes.clear()
        return items

    def _pop(self, client: str) -> T:
        lane = self._lanes.pop(client)
        item = lane.popleft()
        if lane:
            self._lanes[client] = lane
        return item
