"""The memory tier: records by key, each prefix once, under a hard cap in bytes.

Rules of this file:
- A record is held only while all the blocks before it are, so whatever is held can be reached:
  only leaves, which nothing else builds on, are evicted.
- Of the leaves, side records go first, then the least recently used.
- The lock is held for work on dictionaries only.
"""

from __future__ import annotations

import heapq
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from .records import RANK, Kind, Record


@dataclass(slots=True)
class _Held:
    """A record in memory; `reach` is its bytes with those of all the blocks before it."""

    record: Record
    reach: int
    used: int
    side: bool

    @property
    def worth(self) -> tuple[bool, int, bytes]:
        """What orders leaves for eviction, the least first."""
        return (not self.side, self.used, self.record.key)


class MemoryTier:
    """Records in memory, at most `capacity` bytes of them; safe to use from several threads."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._held: dict[bytes, _Held] = {}
        self._children: dict[bytes, set[bytes]] = {}
        # A heap with each leaf at least once; what is out of date is seen when it comes up.
        self._leaves: list[tuple[bool, int, bytes]] = []
        self._nbytes = 0
        self._clock = 0
        self._counts: Counter[str] = Counter()

    def get(self, key: bytes) -> Record | None:
        """Return a record, or None."""
        with self._lock:
            held = self._held.get(key)
            return held.record if held else None

    def __contains__(self, key: bytes) -> bool:
        with self._lock:
            return key in self._held

    def marks(self, parent: bytes) -> list[tuple[int, bytes, Kind]]:
        """Return length, key and kind of the marks directly behind a block or the seed."""
        with self._lock:
            records = [self._held[key].record for key in self._children.get(parent, ())]
        return [(one.length, one.key, one.kind) for one in records if one.kind != "block"]

    def add(self, record: Record, *, side: bool = False) -> bool:
        """Hold a record, evicting others for it; False if it can't be held.

        It can't if it does not fit beside the blocks before it, or these are not in memory. A side
        record takes the place of other side records only.
        """
        with self._lock:
            self._clock += 1
            if record.key in self._held:
                self._renew(record, side)
            elif not self._insert(record, side):
                self._counts["refused"] += 1
                return False
            if not side:
                self._adopt(record.parent)
            while self._nbytes > self._capacity:
                self._evict()
            return record.key in self._held

    def touch(self, keys: Iterable[bytes]) -> None:
        """Count these records as used now."""
        with self._lock:
            self._clock += 1
            for key in keys:
                if held := self._held.get(key):
                    held.used = self._clock

    def resize(self, capacity: int) -> None:
        """Hold at most this many bytes from now on."""
        with self._lock:
            self._capacity = capacity
            while self._nbytes > self._capacity:
                self._evict()

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            while self._held:
                self._evict()

    def drop(self, key: bytes) -> None:
        """Forget a record, unless others build on it."""
        with self._lock:
            if key in self._held and key not in self._children:
                self._remove(key)

    @property
    def nbytes(self) -> int:
        """How many bytes are held."""
        return self._nbytes

    def stats(self) -> dict[str, int]:
        """Return the figures of this tier."""
        with self._lock:
            return {
                "records": len(self._held),
                "bytes": self._nbytes,
                "capacity": self._capacity,
                "evicted": self._counts["evicted"],
                "refused": self._counts["refused"],
            }

    # With the lock held.

    def _insert(self, record: Record, side: bool) -> bool:
        parent = self._held.get(record.parent)
        reach = record.nbytes + (parent.reach if parent else 0)
        if reach > self._capacity or not (parent or record.first):
            return False
        self._held[record.key] = _Held(record, reach, self._clock, side)
        self._children.setdefault(record.parent, set()).add(record.key)
        self._nbytes += record.nbytes
        self._push(record.key)
        return True

    def _renew(self, record: Record, side: bool) -> None:
        held = self._held[record.key]
        held.used = self._clock
        held.side = held.side and side
        if RANK[record.kind] > RANK[held.record.kind]:
            held.record = replace(held.record, kind=record.kind)

    def _adopt(self, key: bytes) -> None:
        """Count a block and all before it as a conversation's."""
        while (held := self._held.get(key)) and held.side:
            held.side = False
            key = held.record.parent

    def _push(self, key: bytes) -> None:
        if len(self._leaves) > 2 * len(self._held):
            leaves = self._held.keys() - self._children.keys()
            self._leaves = [self._held[leaf].worth for leaf in leaves]
            heapq.heapify(self._leaves)
        heapq.heappush(self._leaves, self._held[key].worth)

    def _evict(self) -> None:
        """Drop the leaf that is worth least."""
        while True:
            seen = heapq.heappop(self._leaves)
            key = seen[-1]
            if key not in self._held or key in self._children:
                continue
            if seen == self._held[key].worth:
                break
            self._push(key)
        self._remove(key)
        self._counts["evicted"] += 1

    def _remove(self, key: bytes) -> None:
        held = self._held.pop(key)
        self._nbytes -= held.record.nbytes
        parent = held.record.parent
        siblings = self._children[parent]
        siblings.remove(key)
        if not siblings:
            del self._children[parent]
            if parent in self._held:
                self._push(parent)
