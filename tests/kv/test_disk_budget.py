"""What the disk tier writes, in what order, and what it gives up for it."""

from __future__ import annotations

import errno
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_tools_server.kv import seed

from .samples import (
    MANY,
    TIMEOUT,
    age,
    blocks,
    files,
    mark,
    offer,
    opened,
    payload,
    size,
    tier,
    tokens,
    write,
)
from .test_disk import KB, LINE, held


@settings(max_examples=15)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4)), max_size=8))
def test_budget(timeline: list[tuple[str, int]]) -> None:
    """The budget holds over any timeline, and no block is there without the one before it."""
    capacity = 6 * 20 * KB
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with opened(folder, capacity=capacity) as disk:
            for letter, count in timeline:
                records = blocks(tokens(letter * 4 * count), nbytes=20 * KB)
                disk.touch([record.key for record in records])
                offer(disk, *records)
                assert size(folder) <= capacity
                assert disk.stats()["bytes"] == size(folder)
                here = [[r.key in disk for r in blocks(tokens(x * 16))] for x in "abc"]
                assert all(line == sorted(line, reverse=True) for line in here)
                assert records[0].key in disk


def test_eviction_order(tmp_path: Path) -> None:
    """The sequence whose last use is longest ago goes first, from its end; other models' too."""
    with opened(tmp_path, seed=seed(b"another model")) as disk:
        offer(disk, mark(tokens("z"), nbytes=20 * KB))
    age(files(tmp_path)[0], 5000)
    with opened(tmp_path) as disk:
        for letter in "ab":
            offer(disk, *blocks(tokens(letter * 8), nbytes=20 * KB))
    for path in files(tmp_path):
        age(path, 3600)
    # Of a sequence that was used just now, a block may look old: it was not written again.
    old = blocks(tokens("a" * 8))[0]
    with opened(tmp_path, capacity=6 * 20 * KB) as disk:
        disk.touch([blocks(tokens("a" * 8))[1].key])
        age(next(path for path in files(tmp_path) if path.name.startswith(old.key.hex())), 9000)
        offer(disk, *blocks(tokens("c" * 8), nbytes=20 * KB))

        assert [held(disk, letter) for letter in "abc"] == [2, 1, 2]
        assert disk.stats()["evicted"] == 2


def test_touch_is_seldom_written(tmp_path: Path) -> None:
    """The time of a use reaches the file once a minute at most."""
    first = blocks(LINE)[0]
    with opened(tmp_path) as disk:
        offer(disk, first)
    (path,) = files(tmp_path)
    age(path, 30)
    times = [path.stat().st_mtime]
    for seconds in (0, 60):
        age(path, seconds)
        with opened(tmp_path) as disk:
            disk.touch([first.key, b"other"])
        times.append(path.stat().st_mtime)

    assert times[0] == times[1]
    assert times[2] > times[0]


def test_too_long_for_the_budget(tmp_path: Path) -> None:
    """Of a sequence that exceeds the budget the beginning is kept, and that settles it."""
    records = blocks(tokens("a" * 40), nbytes=20 * KB)
    with opened(tmp_path, capacity=4 * 20 * KB) as disk:
        for _ in range(2):
            offer(disk, *records)
        assert held(disk, "a", 10) == 3
        assert disk.stats()["blocks_written"] == 3
        assert disk.stats()["evicted"] == 0
        offer(disk, mark(tokens("b"), nbytes=MANY // 2**21))
        assert held(disk, "a", 10) == 3


def test_eviction_makes_room_for_several(tmp_path: Path) -> None:
    """When something must go, a little more goes, so that not every write has to look for room."""
    with opened(tmp_path, capacity=100 * 20 * KB) as disk:
        for number in range(100):
            offer(disk, mark([number], nbytes=20 * KB))
        assert disk.stats()["evicted"] == 4


def test_floor(tmp_path: Path) -> None:
    """With too little free space what is there goes, and nothing comes."""
    with opened(tmp_path) as disk:
        offer(disk, *blocks(LINE))
    with opened(tmp_path, floor=MANY * 1000) as disk:
        offer(disk, *blocks(tokens("b" * 8)))
        assert disk.stats()["refused"] == 2
        assert disk.stats()["evicted"] == 3
    assert files(tmp_path) == []


class Valve:
    """A writer that waits until it is let go."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.open = threading.Event()
        self.fails = False

    def write(self, path: Path, payload: Any) -> None:
        self.started.set()
        assert self.open.wait(TIMEOUT)
        if self.fails:
            raise OSError(errno.EIO, "Input/output error")
        write(path, payload)


def test_queue_is_bounded(tmp_path: Path) -> None:
    """What does not fit into the queue is dropped, nobody waits, and it can be offered again."""
    valve = Valve()
    records = blocks(LINE)
    with opened(tmp_path, write=valve.write, queue_bytes=2 * 32) as disk:
        disk.offer(records[0])
        assert valve.started.wait(TIMEOUT)
        for record in (*records, *records):
            disk.offer(record)
        assert disk.stats()["dropped"] == 2
        assert disk.stats()["queued_bytes"] == 64
        assert not disk.flush(0.0)
        valve.open.set()
        offer(disk)
        offer(disk, records[2])
        assert records == [disk.get(record.key) for record in records]
        assert disk.stats()["queued_bytes"] == 0


def test_close_is_bounded(tmp_path: Path) -> None:
    """Closing does not wait for a disk that hangs."""
    valve = Valve()
    disk = tier(tmp_path, write=valve.write)
    for record in blocks(LINE):
        disk.offer(record)
    assert valve.started.wait(TIMEOUT)
    disk.close(0.0)
    valve.open.set()

    assert disk.flush(TIMEOUT)
    assert disk.stats()["blocks_written"] == 1


def test_mark_replaces_marks(tmp_path: Path) -> None:
    """A mark that is replaced goes once the new one is there, not before."""
    old, new = mark(LINE[:300]), mark(LINE[:310])
    valve = Valve()
    with opened(tmp_path, write=valve.write) as disk:
        valve.open.set()
        offer(disk, *blocks(LINE), old)
        valve.open.clear()
        disk.offer(new, replaces=[old.key])
        assert old == disk.get(old.key)
        valve.open.set()
        assert disk.flush(TIMEOUT)
        assert [None, new] == [disk.get(old.key), disk.get(new.key)]
        assert [(54, new.key, "end")] == disk.marks(new.parent)


@pytest.mark.parametrize("why", ["failed", "dropped"])
def test_mark_that_is_not_written_replaces_nothing(tmp_path: Path, why: str) -> None:
    """A mark stays while the one that would replace it is not on disk."""
    old, new = mark(LINE[:9]), mark(LINE[:10])
    valve = Valve()
    valve.open.set()
    queue_bytes = 40 if why == "dropped" else 1000
    with opened(tmp_path, write=valve.write, queue_bytes=queue_bytes) as disk:
        offer(disk, old)
        if why == "dropped":
            valve.open.clear()
            valve.started.clear()
            disk.offer(mark(LINE[:20], "user"))
            assert valve.started.wait(TIMEOUT)
        valve.fails = why == "failed"
        disk.offer(new, replaces=[old.key])
        valve.open.set()
        assert disk.flush(TIMEOUT)
        assert [old, None] == [disk.get(old.key), disk.get(new.key)]


def test_replaced_mark_that_waits_is_never_written(tmp_path: Path) -> None:
    """A mark that is replaced before it was written costs no write."""
    valve = Valve()
    with opened(tmp_path, write=valve.write) as disk:
        disk.offer(mark(LINE[:9], "user"))
        assert valve.started.wait(TIMEOUT)
        disk.offer(mark(LINE[:10]))
        disk.offer(mark(LINE[:11]), replaces=[mark(LINE[:10]).key])
        valve.open.set()
        assert disk.flush(TIMEOUT)
        assert disk.stats()["marks_written"] == 2
        assert disk.stats()["queued_bytes"] == 0
        assert payload(LINE[:11]) in [path.read_bytes() for path in files(tmp_path)]


def test_mark_that_is_there_replaces_too(tmp_path: Path) -> None:
    """A mark that is on disk already still replaces what it is said to."""
    old, new = mark(LINE[:9]), mark(LINE[:10])
    with opened(tmp_path) as disk:
        offer(disk, old, mark(LINE[:10], "user"))
        offer(disk, new, replaces=[old.key])
        assert disk.get(old.key) is None
        assert disk.marks(new.parent) == [(10, new.key, "user")]
        assert disk.stats()["marks_written"] == 2
