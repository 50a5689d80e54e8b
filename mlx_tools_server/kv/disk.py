"""The disk tier: one file a record, checked when it is read, written behind by a thread.

Rules of this file:
- Files are the truth; the index is what the last scan and our own writes told.
- A record is written only behind the blocks before it, and evicted before them.
- Any failure is a miss: it is counted, told once for each kind, and never reaches the caller.
- The lock is held for work on dictionaries only, never for a file.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import files
from .files import Entry
from .records import RANK, Kind, Record

log = logging.getLogger(__name__)

# What the format of a file may add to the bytes of its payload.
_HEADER_BYTES = 1 << 14
# A file's time of use is not written more often than this, in seconds.
_TOUCH_EVERY = 60.0
# An eviction frees this part of the budget beyond what is needed, for a scan costs time; and after
# as much of our own writing, a scan looks for what other servers wrote.
_SLACK = 32
# What a process or a machine is short of now and then, whatever the file.
_PASSING = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN))

_COUNTED = (
    "reads",
    "blocks_written",
    "block_bytes_written",
    "marks_written",
    "mark_bytes_written",
    "evicted",
    "refused",
    "dropped",
    "errors",
)


class DiskTier:
    """Records in a folder, at most `capacity` bytes of them with those of other models.

    Evicts too while less than `floor` bytes of the disk are free. `write(path, payload)` makes a
    file and `read(path)` returns its payload, evaluated; both may raise. `queue_bytes` is what may
    wait to be written; what does not fit is not kept.
    """

    def __init__(
        self,
        folder: Path,
        *,
        seed: bytes,
        capacity: int,
        floor: int,
        write: Callable[[Path, Any], None],
        read: Callable[[Path], Any],
        queue_bytes: int = 1 << 30,
    ) -> None:
        self._folder = folder
        self._seed = seed
        self._capacity = capacity
        self._floor = floor
        self._write = write
        self._read = read
        self._queue_bytes = queue_bytes
        self._changed = threading.Condition()
        self._index: dict[bytes, Entry] = {}
        self._marks: dict[bytes, set[bytes]] = {}
        self._total = 0
        self._written_since_scan = 0
        # Each record that waits, with the keys of the marks that it replaces.
        self._queue: dict[bytes, tuple[Record, Sequence[bytes]]] = {}
        self._writing: bytes | None = None
        self._queued_bytes = 0
        self._closed = False
        self._counts: Counter[str] = Counter()
        self._told: set[tuple[object, ...]] = set()
        files.sweep(folder)
        self._scan()
        self._thread = threading.Thread(target=self._work, name="kv-writer", daemon=True)
        self._thread.start()

    # Reading.

    def get(self, key: bytes) -> Record | None:
        """Read a record; None if it is not there or not intact, and then its file is deleted.

        What is wrong with this process or machine for a moment, not with the file, deletes nothing.
        """
        with self._changed:
            entry = self._index.get(key)
        if entry is None:
            return None
        payload, passing = None, False
        with self._counting("read"):
            try:
                if not entry.intact():
                    raise ValueError("the content does not match its checksum")
                payload = self._read(entry.path)
            except Exception as error:
                if self._moved(entry):
                    return self.get(key)
                passing = isinstance(error, OSError) and error.errno in _PASSING
                raise
        if payload is None:
            if not passing:
                self._delete(entry)
            return None
        self._count("reads")
        return Record(
            key, entry.parent, entry.kind, entry.length, entry.position, payload, entry.nbytes
        )

    def _moved(self, entry: Entry) -> bool:
        """Return whether the file was renamed or deleted here since the index named it."""
        with self._changed:
            known = self._index.get(entry.key)
        return known is None or known.path != entry.path

    def __contains__(self, key: bytes) -> bool:
        with self._changed:
            return key in self._index

    def marks(self, parent: bytes) -> list[tuple[int, bytes, Kind]]:
        """Return length, key and kind of the marks directly behind a block or the seed."""
        with self._changed:
            found = [self._index[key] for key in self._marks.get(parent, ())]
        return [(entry.length, entry.key, entry.kind) for entry in found]

    def touch(self, keys: Iterable[bytes]) -> None:
        """Count these records as used now."""
        now = time.time()
        late: list[Path] = []
        with self._changed:
            for key in keys:
                entry = self._index.get(key)
                if entry and now - entry.used > _TOUCH_EVERY:
                    self._index[key] = replace(entry, used=now)
                    late.append(entry.path)
        for path in late:
            with suppress(OSError):
                os.utime(path, (now, now))

    # Writing.

    def offer(self, record: Record, *, replaces: Sequence[bytes] = ()) -> None:
        """Let a record be written, unless it is there, waits, or finds no room in the queue.

        A mark that is there under a less lasting kind is renamed. Once the record is on disk, the
        marks that it replaces are deleted; those that still wait are given up at once.
        """
        with self._changed:
            waits = record.key in self._queue or record.key == self._writing
            known = self._index.get(record.key)
            there = known is not None and RANK[known.kind] >= RANK[record.kind]
            if self._closed or waits or (there and not replaces):
                return
            if self._queued_bytes + record.nbytes > self._queue_bytes:
                self._counts["dropped"] += 1
                return
            for key in replaces:
                if old := self._queue.pop(key, None):
                    self._queued_bytes -= old[0].nbytes
            self._queue[record.key] = (record, replaces)
            self._queued_bytes += record.nbytes
            self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait until all that was offered is written; False if that takes over `timeout` s."""
        with self._changed:
            return self._changed.wait_for(
                lambda: not self._queue and self._writing is None, timeout
            )

    def close(self, timeout: float = 10.0) -> None:
        """Write what waits, for at most `timeout` seconds, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self.flush(timeout):
            self._thread.join()
        with self._changed:
            self._queue.clear()

    def stats(self) -> dict[str, int]:
        """Return the figures of this tier; `bytes` are those of all models."""
        with self._changed:
            return {
                "records": len(self._index),
                "bytes": self._total,
                "capacity": self._capacity,
                "queued_bytes": self._queued_bytes,
                **{name: self._counts[name] for name in _COUNTED},
            }

    # The thread's side.

    def _work(self) -> None:
        while self._work_once():
            pass

    def _work_once(self) -> bool:
        """Save one record, and let go of it; False at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            if not self._queue:
                return False
            self._writing = next(iter(self._queue))
            record, replaces = self._queue.pop(self._writing)
        with self._counting("write"):
            self._save(record, replaces)
        with self._changed:
            self._writing = None
            self._queued_bytes -= record.nbytes
            self._changed.notify_all()
        return True

    def _save(self, record: Record, replaces: Sequence[bytes]) -> None:
        with self._changed:
            known = self._index.get(record.key)
        if known is not None:
            self._rename(known, record)
        else:
            if not (record.first or record.parent in self) or not self._make_room(record):
                self._count("refused")
                return
            self._write_file(record)
        for key in replaces:
            with self._changed:
                old = self._index.get(key)
            if old is not None:
                self._delete(old)

    def _write_file(self, record: Record) -> None:
        shard = files.shard(self._folder, self._seed, record.key)
        written = files.temporary(shard)
        try:
            self._write(written, record.payload)
            written.chmod(0o600)
            path = shard / files.name(record, files.checksum(written, record))
            os.replace(written, path)
        finally:
            written.unlink(missing_ok=True)
        entry = files.entry(path)
        if entry is None:
            return
        with self._changed:
            self._learn(entry)
            self._total += entry.nbytes
            self._written_since_scan += entry.nbytes
            kind = "block" if record.kind == "block" else "mark"
            self._counts[f"{kind}s_written"] += 1
            self._counts[f"{kind}_bytes_written"] += entry.nbytes

    def _rename(self, known: Entry, record: Record) -> None:
        if RANK[record.kind] > RANK[known.kind]:
            path = known.path.with_name(files.name(record, known.digest))
            with self._changed:
                os.replace(known.path, path)
                self._learn(replace(known, path=path, kind=record.kind))

    def _make_room(self, record: Record) -> bool:
        """Return whether a record fits the budget and the free space, evicting others for it."""
        need = record.nbytes + _HEADER_BYTES
        slack = self._capacity // _SLACK
        if need > self._capacity:
            return False
        if self._excess(need) <= 0 and self._written_since_scan <= slack:
            return True
        entries = self._scan()
        goal = self._excess(need)
        if goal <= 0:
            return True
        goal += slack
        for entry in _by_worth(entries, record.parent):
            if goal <= 0:
                break
            if self._delete(entry):
                self._count("evicted")
                goal -= entry.nbytes
        return self._excess(need) <= 0

    def _excess(self, need: int) -> int:
        """Return how many bytes must go before `need` more can come."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        free = shutil.disk_usage(self._folder).free
        return max(self._total + need - self._capacity, self._floor + need - free)

    # Both sides.

    def _scan(self) -> list[Entry]:
        """Bring the index up to date; return the files of all models."""
        found = list(files.entries(self._folder))
        own = files.fingerprint(self._seed)
        with self._changed:
            self._index, self._marks = {}, {}
            self._total = sum(entry.nbytes for entry in found)
            self._written_since_scan = 0
            for entry in found:
                if entry.fingerprint == own:
                    self._learn(entry)
        return found

    def _learn(self, entry: Entry) -> None:
        self._index[entry.key] = entry
        if entry.kind != "block":
            self._marks.setdefault(entry.parent, set()).add(entry.key)

    def _delete(self, entry: Entry) -> bool:
        """Forget a file and delete it; False if it has gone already or can't be deleted."""
        with self._changed:
            known = self._index.get(entry.key)
            if known and known.path == entry.path:
                del self._index[entry.key]
                self._marks.get(entry.parent, set()).discard(entry.key)
        try:
            entry.path.unlink()
        except OSError:
            return False
        with self._changed:
            self._total -= entry.nbytes
        return True

    def _count(self, what: str) -> None:
        with self._changed:
            self._counts[what] += 1

    @contextmanager
    def _counting(self, action: str) -> Iterator[None]:
        """Count what fails in this block, and tell the first of its kind."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  a cache must never fail a request
            kind = (action, type(error), getattr(error, "errno", None))
            with self._changed:
                self._counts["errors"] += 1
                first = kind not in self._told
                self._told.add(kind)
            if first:
                log.warning(
                    "The KV cache on disk can't %s in %s, and goes on without: %s: %s",
                    action,
                    self._folder,
                    type(error).__name__,
                    getattr(error, "strerror", None) or error,
                )


def _by_worth(entries: Iterable[Entry], parent: bytes) -> list[Entry]:
    """Sort by last use, the least recent first, and what builds on a block before that block.

    Leaves out `parent` and all the blocks before it.
    """
    deepest_first = sorted(entries, key=lambda entry: (-entry.position, entry.kind == "block"))
    used = {parent: math.inf}
    for entry in deepest_first:
        mine = used[entry.key] = max(used.get(entry.key, 0.0), entry.used)
        used[entry.parent] = max(used.get(entry.parent, 0.0), mine)
    worth = {entry.path: used[entry.key] for entry in deepest_first}
    evictable = [entry for entry in deepest_first if worth[entry.path] < math.inf]
    return sorted(evictable, key=lambda entry: worth[entry.path])
