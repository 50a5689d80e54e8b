"""Which blocks are being computed, so that requests with the same new beginning compute it once.

Rules of this file:
- A request waits only for requests that came before it, so no two wait for each other.
- A request that has no place yet, for its client has all that it may have, delays no other client.
- Whoever computes a block says when it ends, however it ends; nobody waits for one that is gone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import takewhile


class Prefills:
    """The prefills under way; `has` tells whether a block can be used by now."""

    def __init__(self, has: Callable[[bytes], bool]) -> None:
        self._has = has
        self._changed = threading.Condition()
        self._owners: dict[bytes, Prefill] = {}

    def begin(self, keys: Sequence[bytes], client: str = "") -> Prefill:
        """Announce that the blocks with these keys will be computed, in this order."""
        with self._changed:
            shared = list(takewhile(self._owners.__contains__, keys))
            prefill = Prefill(self, shared[-1] if shared else None, client)
            for key in keys[len(shared) :]:
                self._owners.setdefault(key, prefill)
        return prefill

    def tell(self) -> None:
        """Say that more can be used."""
        with self._changed:
            self._changed.notify_all()

    def wait(self, key: bytes, client: str, timeout: float) -> bool:
        """Return whether this client need not wait for a block, since nobody computes it."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._comes(key, client), timeout)

    def _comes(self, key: bytes, client: str) -> bool:
        owner = self._owners.get(key)
        if owner is None or self._has(key):
            return False
        return not owner.queued or owner.client == client

    def end(self, prefill: Prefill) -> None:
        """Take back what a prefill announced."""
        with self._changed:
            for key in [key for key, owner in self._owners.items() if owner is prefill]:
                del self._owners[key]
            self._changed.notify_all()


class Prefill:
    """One request's part; `end` it when it has computed its blocks, or never will."""

    def __init__(self, prefills: Prefills, shared: bytes | None, client: str) -> None:
        self._prefills = prefills
        self._shared = shared
        self.client = client
        self.queued = False

    @property
    def shares(self) -> bool:
        """Whether others compute the first of its blocks."""
        return self._shared is not None

    def wait(self, timeout: float) -> bool:
        """Wait until what others compute of it is there; False if `timeout` seconds pass first."""
        return self._shared is None or self._prefills.wait(self._shared, self.client, timeout)

    def queue(self, *, waits: bool = True) -> None:
        """Say that the request waits for a place, or does so no longer."""
        self.queued = waits
        self._prefills.tell()

    def end(self) -> None:
        """Say that nothing more is computed."""
        self._prefills.end(self)
