"""The store: finds the longest prefix that the tiers hold, loads it, and takes what is new.

Rules of this file:
- A prefix counts only without a hole: every block from the first, then at most one mark.
- Digests are compared, never lengths or names; all work is linear in the number of tokens.
- The store has no lock of its own, so a slow disk holds up nobody but who reads from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from .disk import DiskTier
from .keys import BLOCK, chain, mark_key
from .memory import MemoryTier
from .records import RANK, Kind, Record

# Kinds that only matter while the server runs: the next prompt brings its own.
_MEMORY_ONLY: frozenset[Kind] = frozenset({"prompt"})
# Kinds that later ones of the same conversation don't replace.
_LASTING: frozenset[Kind] = frozenset({"block", "system"})


@dataclass(frozen=True, slots=True)
class Found:
    """A prefix of `ids` that the store holds: `position` tokens, as blocks and a mark.

    `missing` are the keys of the full blocks of `ids` behind them.
    """

    position: int
    blocks: tuple[bytes, ...]
    mark: bytes | None
    ids: Sequence[int] = field(repr=False, compare=False, default=())
    missing: tuple[bytes, ...] = field(repr=False, compare=False, default=())

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The keys of its records, in order."""
        return self.blocks if self.mark is None else (*self.blocks, self.mark)


class Store:
    """Memory and disk together, for one model; `exact` says that its state can't be cut."""

    def __init__(
        self,
        seed: bytes,
        memory: MemoryTier,
        disk: DiskTier | None = None,
        *,
        exact: bool = False,
    ) -> None:
        self.seed = seed
        self.memory = memory
        self.disk = disk
        self.exact = exact

    def find(self, ids: Sequence[int], limit: int) -> Found:
        """Return the longest usable prefix of the first `limit` ids; callers leave one token."""
        ids = ids[: max(0, limit)]
        parents = [self.seed, *chain(self.seed, ids)]
        held = _leading(parents[1:], self._holds)
        for count in range(held, -1, -1):
            marks = self._marks(parents[count], ids[count * BLOCK : (count + 1) * BLOCK - 1])
            # A mark without a tail adds nothing to blocks that can be used by themselves.
            lengths = {length: key for length, key, _ in marks if length or (self.exact and count)}
            if lengths or not self.exact:
                length = max(lengths, default=0)
                blocks, missing = tuple(parents[1 : count + 1]), tuple(parents[count + 1 :])
                return Found(count * BLOCK + length, blocks, lengths.get(length), ids, missing)
        return Found(0, (), None, ids, tuple(parents[1:]))

    def load(self, found: Found, *, keep: bool = True) -> list[Record]:
        """Return the records of what was found, those on disk read and, with `keep`, held.

        A record that can't be had any more shortens the prefix; see the last record's position.
        """
        records: dict[bytes, Record] = {}
        self.memory.touch(found.keys)
        while (limit := self._fetch(found, records, keep)) < found.position:
            found = self.find(found.ids, limit)
        if self.disk is not None:
            self.disk.touch(found.keys)
        return [records[key] for key in found.keys]

    def missing(self, ids: Sequence[int]) -> int:
        """Return from which token on the full blocks of `ids` are not in memory."""
        return BLOCK * _leading(chain(self.seed, ids), self.memory.__contains__)

    def add(self, ids: Sequence[int], records: Sequence[Record], *, side: bool = False) -> None:
        """Hold new records of a sequence, in its order, and write them behind unless `side`.

        A mark replaces the marks of its kind that lie before it in the same sequence.
        """
        if side:
            for record in records:
                self.memory.add(record, side=True)
            return
        for record in records:
            if record.kind == "block":
                self.memory.add(record)
                self._offer(record)
        marks = [record for record in records if record.kind != "block"]
        if marks:
            self._add_marks(ids[: max(mark.position for mark in marks)], marks)

    def stats(self) -> dict[str, dict[str, int]]:
        """Return the figures of the tiers."""
        stats = {"memory": self.memory.stats()}
        if self.disk is not None:
            stats["disk"] = self.disk.stats()
        return stats

    def close(self) -> None:
        """Write what waits to be written, and end the writing."""
        if self.disk is not None:
            self.disk.close()

    def _fetch(self, found: Found, records: dict[bytes, Record], keep: bool) -> int:
        """Get the records of a prefix; return its position, or the limit for a shorter one."""
        for index, key in enumerate(found.keys):
            record = records.get(key) or self.memory.get(key) or self._read(key, keep)
            if record is None:
                return min(found.position, (index + 1) * BLOCK) - 1
            records[key] = record
        return found.position

    def _read(self, key: bytes, keep: bool) -> Record | None:
        record = self.disk.get(key) if self.disk is not None else None
        if record is not None and keep:
            self.memory.add(record)
        return record

    def _add_marks(self, ids: Sequence[int], marks: Sequence[Record]) -> None:
        parents = [self.seed, *chain(self.seed, ids)]
        new = {mark.key for mark in marks}
        older = [old for old in self._marks_along(parents, ids) if old[1] not in new]
        offers: list[tuple[Record, list[bytes]]] = []
        for mark in marks:
            replaced = [
                key
                for position, key, kind in older
                if kind == mark.kind and kind not in _LASTING and position < mark.position
            ]
            offers.append((mark, replaced))
            if self.memory.add(mark):
                for key in replaced:
                    self.memory.drop(key)
        # What the disk had no room for, or has lost, is offered again.
        for key in (*parents[1:], *(key for _, key, _ in older)):
            if record := self.memory.get(key):
                self._offer(record)
        for mark, replaced in offers:
            self._offer(mark, replaced)

    def _offer(self, record: Record, replaces: Sequence[bytes] = ()) -> None:
        if self.disk is not None and record.kind not in _MEMORY_ONLY:
            self.disk.offer(record, replaces=replaces)

    def _holds(self, key: bytes) -> bool:
        return key in self.memory or (self.disk is not None and key in self.disk)

    def _marks_along(
        self, parents: Sequence[bytes], ids: Sequence[int]
    ) -> Iterator[tuple[int, bytes, Kind]]:
        """Yield position, key and kind of all marks in a sequence."""
        for count, parent in enumerate(parents):
            tail = ids[count * BLOCK : (count + 1) * BLOCK - 1]
            for length, key, kind in self._marks(parent, tail):
                yield count * BLOCK + length, key, kind

    def _marks(self, parent: bytes, tail: Sequence[int]) -> list[tuple[int, bytes, Kind]]:
        """Return length, key and kind of the marks behind a block whose tokens begin `tail`."""
        known = self.memory.marks(parent)
        if self.disk is not None:
            known += self.disk.marks(parent)
        lengths = {length for length, _, _ in known if length <= len(tail)}
        right = {mark_key(parent, tail[:length]) for length in lengths}
        # Of a mark that the tiers know under two kinds, the more lasting one is put last and stays.
        known.sort(key=lambda mark: RANK[mark[2]])
        return list({mark[1]: mark for mark in known if mark[1] in right}.values())


def _leading(keys: Sequence[bytes], held: Callable[[bytes], bool]) -> int:
    """Return how many keys from the first on are held."""
    return next((index for index, key in enumerate(keys) if not held(key)), len(keys))
