"""The store: which prefix it finds, what it loads, and what new marks replace."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mlx_tools_server.kv import BLOCK, DiskTier, Kind, MemoryTier, Record, Store, entries

from .samples import (
    MANY,
    SEED,
    TIMEOUT,
    age,
    blocks,
    files,
    mark,
    offer,
    opened,
    payload,
    read,
    tier,
    tokens,
)

LINE = tokens("abcdefghijklm")  # three blocks and a tail of 64
KB = 1 << 10
RANK: list[Kind] = ["prompt", "end", "user", "system"]


def store(disk: DiskTier | None = None, *, exact: bool = False, capacity: int = MANY) -> Store:
    return Store(SEED, MemoryTier(capacity), disk, exact=exact)


def add(store: Store, ids: Sequence[int], *marks: Record, side: bool = False) -> None:
    """Add what is missing of a sequence, as a model does that has computed it."""
    new = blocks(ids, start=store.missing(ids))
    store.add(ids, [*new, *marks], side=side)


def load(store: Store, ids: Sequence[int], *, keep: bool = True) -> int:
    """Load what the store has of these ids; fail unless it is right; return its position."""
    records = store.load(store.find(ids, len(ids) - 1), keep=keep)
    position = 0
    for record in records:
        assert position == record.position - record.length
        assert payload(ids[: record.position]) == record.payload[:32]
        assert record.length or (store.exact and record.position)
        position = record.position
    assert position < max(1, len(ids))
    assert not (store.exact and records) or records[-1].kind != "block"
    assert all(record.kind == "block" for record in records[:-1])
    return position


@pytest.mark.parametrize(
    ("marks", "asked", "position", "exact_position"),
    [
        ([], LINE, 768, 0),
        ([832], [*LINE, 1], 832, 832),
        ([832], LINE, 768, 0),
        ([831], LINE, 831, 831),
        ([800, 820, 831], LINE[:825], 820, 820),
        ([300], LINE, 768, 300),
        ([300, 600], LINE, 768, 600),
        ([512], LINE, 768, 512),
        ([768], LINE, 768, 768),
        ([768], LINE[:768], 512, 0),
        ([100], LINE[:200], 100, 100),
        ([100], LINE[:100], 0, 0),
        ([0], LINE[:200], 0, 0),
        ([831], LINE[:700] + tokens("x" * 9), 512, 0),
        ([831, 600], LINE[:700] + tokens("x" * 9), 600, 600),
        ([831, 600], tokens("x") + LINE, 0, 0),
        ([831], LINE[:800] + tokens("x"), 768, 0),
        ([], LINE[:1], 0, 0),
        ([], [], 0, 0),
    ],
    ids=[
        "blocks",
        "end",
        "one-is-left",
        "tail",
        "longest-tail",
        "mark-in-the-middle",
        "last-mark",
        "between-blocks",
        "after-blocks",
        "one-block-is-left",
        "before-blocks",
        "too-short",
        "mark-of-nothing",
        "fork",
        "fork-after-mark",
        "nothing-in-common",
        "other-tail",
        "one-token",
        "no-tokens",
    ],
)
@pytest.mark.parametrize("exact", [False, True])
def test_find(
    marks: list[int], asked: list[int], position: int, exact_position: int, exact: bool
) -> None:
    """The longest usable prefix is found: any block or tail or, where exact, the last mark."""
    kept = store(exact=exact)
    add(kept, LINE, *(mark(LINE[:end], "system") for end in marks))
    expected = exact_position if exact else position

    assert expected == kept.find(asked, len(asked) - 1).position
    assert expected == load(kept, asked)


def test_missing() -> None:
    """Full blocks are missing from the first one on that is not in memory."""
    kept = store()
    assert kept.missing(LINE) == 0

    add(kept, LINE)

    assert [kept.missing(ids) for ids in (LINE, LINE[:767], LINE[:300] + LINE, LINE[:255])] == [
        768,
        512,
        256,
        0,
    ]


@pytest.mark.parametrize(
    ("kind", "stays"), [("prompt", False), ("end", False), ("user", False), ("system", True)]
)
def test_marks_that_are_replaced(tmp_path: Path, kind: Kind, stays: bool) -> None:
    """A mark replaces those of its kind before it in its sequence, in memory and on disk."""
    old, new = mark(LINE[:300], kind), mark(LINE, kind)
    others = [mark(LINE[:310], other) for other in RANK if other != kind][:1]
    fork = mark(LINE[:290] + tokens("x"), kind)
    with opened(tmp_path) as disk:
        kept = store(disk, exact=True)
        add(kept, LINE, old, *others)
        add(kept, LINE[:290] + tokens("x"), fork)
        assert disk.flush(TIMEOUT)
        add(kept, LINE, new)
        assert disk.flush(TIMEOUT)

        assert all(record.key in kept.memory for record in (new, fork, *others))
        assert stays == (old.key in kept.memory)
        on_disk = kind != "prompt"
        assert [stays and on_disk, on_disk, on_disk] == [
            record.key in disk for record in (old, new, fork)
        ]


def test_mark_of_another_kind(tmp_path: Path) -> None:
    """The end of an answer that a user goes on from stays when later answers end."""
    with opened(tmp_path) as disk:
        kept = store(disk, exact=True)
        add(kept, LINE, mark(LINE[:300]))
        assert disk.flush(TIMEOUT)
        add(kept, LINE, mark(LINE[:300], "user"), mark(LINE[:400]))
        add(kept, LINE, mark(LINE))
        assert disk.flush(TIMEOUT)
        assert mark(LINE[:300]).key in kept.memory
    with opened(tmp_path) as disk:
        assert [entry.kind for entry in entries(tmp_path) if entry.length == 44] == ["user"]
        kept = store(disk, exact=True)
        add(kept, [*LINE, 1], mark([*LINE, 1]))
        assert load(kept, LINE) == 300
        assert disk.stats()["errors"] == 0


def test_kind_that_the_disk_lacks(tmp_path: Path) -> None:
    """Of a mark that memory and disk know under two kinds, the more lasting one counts."""
    with opened(tmp_path) as disk:
        kept = store(disk)
        add(kept, LINE, mark(LINE[:300]))
        assert disk.flush(TIMEOUT)
        kept.memory.add(mark(LINE[:300], "user"))
        add(kept, LINE, mark(LINE))
        assert disk.flush(TIMEOUT)
        assert mark(LINE[:300]).key in disk


def test_marks_behind_the_new_one() -> None:
    """A mark replaces only marks before it."""
    kept = store(exact=True)
    add(kept, LINE, mark(LINE[:500], "user"))
    add(kept, LINE, mark(LINE[:300], "user"), mark(LINE))

    assert mark(LINE[:500]).key in kept.memory


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_marks_that_coincide(tmp_path: Path, order: tuple[int, int]) -> None:
    """Where two marks coincide, the one that lasts longer counts."""
    marks = [mark(LINE[:300], "system"), mark(LINE[:300], "user")]
    with opened(tmp_path) as disk:
        kept = store(disk)
        add(kept, LINE, marks[order[0]], marks[order[1]])
        assert disk.flush(TIMEOUT)
        for after in (kept, store(disk)):
            add(after, LINE, mark(LINE[:310], "user"))
            add(after, LINE, mark(LINE[:320], "user"))
            assert disk.flush(TIMEOUT)
            assert marks[0].key in disk


def test_replaced_only_when_written(tmp_path: Path) -> None:
    """While the disk takes nothing new, the old mark stays on it, and a restart finds it."""
    full = False

    def write(path: Path, payload: Any) -> None:
        if full:
            raise OSError("full")
        path.write_bytes(payload)

    with opened(tmp_path, write=write) as disk:
        kept = store(disk, exact=True)
        add(kept, LINE, mark(LINE[:300]))
        assert disk.flush(TIMEOUT)
        full = True
        add(kept, LINE, mark(LINE[:400]))
        assert disk.flush(TIMEOUT)
        assert load(kept, LINE) == 400
    with opened(tmp_path) as disk:
        assert load(store(disk, exact=True), LINE) == 300


def test_dropped_writes_are_offered_again(tmp_path: Path) -> None:
    """What found no room in the queue is written after a later answer of the sequence."""
    with opened(tmp_path, queue_bytes=100) as disk:
        kept = store(disk)
        kept.add(LINE, blocks(LINE, nbytes=50))
        kept.add(LINE, [mark(LINE[:9], "system", nbytes=50)])
        for _ in range(4):
            assert disk.flush(TIMEOUT)
            kept.add(LINE, [mark(LINE, nbytes=50)])
        assert disk.flush(TIMEOUT)
    with opened(tmp_path) as disk:
        assert load(store(disk), [*LINE, 1]) == len(LINE)
        assert mark(LINE[:9]).key in disk


def test_replaced_only_when_held() -> None:
    """A mark that does not fit into memory replaces nothing there."""
    kept = store(capacity=2 * 32)
    add(kept, LINE[:300], mark(LINE[:300]))
    add(kept, LINE[:400], mark(LINE[:400], nbytes=64))

    assert load(kept, LINE) == 300


def test_load_counts_as_use(tmp_path: Path) -> None:
    """What is loaded outlives what was added later, and its files are young again."""
    old, young = tokens("a" * 8), tokens("b" * 8)
    with opened(tmp_path) as disk:
        kept = store(disk, capacity=4 * 32)
        add(kept, old)
    for path in files(tmp_path):
        age(path, 3600)
    with opened(tmp_path) as disk:
        kept.disk = disk
        add(kept, young)
        assert load(kept, [*old, 1]) == len(old)
        add(kept, tokens("c" * 8))
        assert [kept.missing(ids) for ids in (old, young)] == [512, 0]
    assert all(time.time() - path.stat().st_mtime < 1800 for path in files(tmp_path))


def test_side_requests(tmp_path: Path) -> None:
    """A side request is not written, replaces no mark and evicts nothing of a conversation."""
    with opened(tmp_path) as disk:
        kept = store(disk, capacity=5 * 32)
        add(kept, LINE, mark(LINE[:300]))
        add(kept, LINE, mark(LINE[:310]), side=True)
        add(kept, tokens("x" * 20), side=True)
        assert mark(LINE[:300]).key in kept.memory
        assert kept.missing(LINE) == 768
        assert kept.missing(tokens("x" * 20)) <= BLOCK
        assert disk.flush(TIMEOUT)
        assert len(files(tmp_path)) == 4


@pytest.mark.parametrize("keep", [False, True])
def test_load_from_disk(tmp_path: Path, keep: bool) -> None:
    """What is on disk is found after a restart, and held in memory from then on if wanted."""
    with opened(tmp_path) as disk:
        add(store(disk), LINE, mark(LINE))
    with opened(tmp_path) as disk:
        kept = store(disk)
        assert load(kept, [*LINE, 1], keep=keep) == len(LINE)
        assert [768 if keep else 0, 128 if keep else 0] == [kept.missing(LINE), kept.memory.nbytes]
        load(kept, [*LINE, 1], keep=keep)
        assert disk.stats()["reads"] == (4 if keep else 8)


@pytest.mark.parametrize(
    ("broken", "position", "exact_position"),
    [(256, 100, 100), (512, 300, 300), (768, 512, 300), (832, 768, 300), (300, 832, 832)],
)
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("keep", [False, True])
def test_hole_on_disk(
    tmp_path: Path, broken: int, position: int, exact_position: int, exact: bool, keep: bool
) -> None:
    """A file that can't be read shortens what is loaded to what can be used without it."""
    marks = [mark(LINE[:100], "system"), mark(LINE[:300], "user"), mark(LINE)]
    with opened(tmp_path) as disk:
        add(store(disk), LINE, *marks)
    (path,) = (path for path in files(tmp_path) if path.name.split(".")[4] == str(broken))
    path.write_bytes(b"broken")
    expected = exact_position if exact else position
    with opened(tmp_path) as disk:
        kept = store(disk, exact=exact)
        assert expected == load(kept, [*LINE, 1], keep=keep)
        # The second time all that is left is known.
        assert expected == kept.find([*LINE, 1], len(LINE)).position
        assert disk.stats()["errors"] == (broken != 300)
        # No file is read twice.
        assert disk.stats()["reads"] <= 4


def test_evicted_after_it_was_found() -> None:
    """What was found and is gone when it is loaded shortens what is loaded."""
    kept = store(capacity=4 * 32)
    add(kept, LINE, mark(LINE))
    found = kept.find([*LINE, 1], len(LINE))
    for letter in "xy":
        kept.add(tokens(letter), [mark(tokens(letter))])

    assert [found.position, kept.load(found)[-1].position] == [832, 512]


def test_slow_disk(tmp_path: Path) -> None:
    """While a disk read hangs, others find, load and add."""
    started, release = threading.Event(), threading.Event()

    def read_slowly(path: Path) -> Any:
        started.set()
        assert release.wait(TIMEOUT)
        return read(path)

    with opened(tmp_path) as disk:
        offer(disk, *blocks(LINE), mark(LINE))
    with opened(tmp_path, read=read_slowly) as disk:
        kept = store(disk)
        positions: list[int] = []
        reader = threading.Thread(target=lambda: positions.append(load(kept, [*LINE, 1])))
        reader.start()
        assert started.wait(TIMEOUT)
        other = tokens("x" * 8)
        add(kept, other, mark(other))
        assert load(kept, [*other, 1]) == len(other)
        assert kept.find([*LINE, 1], len(LINE)).position == len(LINE)
        assert kept.missing(LINE) == 0
        assert disk.flush(TIMEOUT)
        release.set()
        reader.join()
        assert [len(LINE)] == positions


def test_stats(tmp_path: Path) -> None:
    """The figures of both tiers are told."""
    kept = store(tier(tmp_path))
    add(kept, LINE, mark(LINE))
    kept.close()

    stats = kept.stats()
    assert stats["memory"]["bytes"] == stats["disk"]["bytes"] == 4 * 32
    assert stats["disk"]["block_bytes_written"] == 3 * 32
    assert stats["disk"]["mark_bytes_written"] == 32
    assert store().stats().keys() == {"memory"}
    store().close()
