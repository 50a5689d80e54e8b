"""Which blocks are being computed, so that requests with the same new beginning compute it once.

Rules of this file:
- A request waits only for requests that came before it, so no two wait for each other.
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

    def begin(self, keys: Sequence[bytes]) -> Prefill:
        """Announce that the blocks with these keys will be computed, in this order."""
        with self._changed:
            shared = list(takewhile(self._owners.__contains__, keys))
            prefill = Prefill(self, shared[-1] if shared else None)
            for key in keys[len(shared) :]:
                self._owners.setdefault(key, prefill)
        return prefill

    def tell(self) -> None:
        """Say that more can be used."""
        with self._changed:
            self._changed.notify_all()

    def wait(self, key: bytes, timeout: float) -> bool:
        """Return whether nobody computes this block any more, or it can be used."""
        with self._changed:
            return self._changed.wait_for(
                lambda: key not in self._owners or self._has(key), timeout
            )

    def end(self, prefill: Prefill) -> None:
        """Take back what a prefill announced."""
        with self._changed:
            for key in [key for key, owner in self._owners.items() if owner is prefill]:
                del self._owners[key]
            self._changed.notify_all()


class Prefill:
    """One request's part; `end` it when it has computed its blocks, or never will."""

    def __init__(self, prefills: Prefills, shared: bytes | None) -> None:
        self._prefills = prefills
        self._shared = shared

    @property
    def shares(self) -> bool:
        """Whether others compute the first of its blocks."""
        return self._shared is not None

    def wait(self, timeout: float) -> bool:
        """Wait until what others compute of it is there; False if `timeout` seconds pass first."""
        return self._shared is None or self._prefills.wait(self._shared, timeout)

    def end(self) -> None:
        """Say that nothing more is computed."""
        self._prefills.end(self)
