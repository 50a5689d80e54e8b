"""Random lives of a store, against one that keeps every sequence whole."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_tools_server.kv import BLOCK, Kind

from .samples import (
    TIMEOUT,
    blocks,
    files,
    mark,
    size,
    tier,
    tokens,
)
from .test_store import KB, RANK, add, load, store


class Naive:
    """What a store with room for everything must have, kept as whole sequences."""

    def __init__(self) -> None:
        self.blocks: set[tuple[int, ...]] = set()
        self.memory: dict[tuple[int, ...], Kind] = {}
        self.disk: dict[tuple[int, ...], Kind] = {}

    def kind(self, ids: tuple[int, ...]) -> Kind:
        known = [tier[ids] for tier in (self.memory, self.disk) if ids in tier]
        return max(known, key=RANK.index)

    def add(self, ids: Sequence[int], marks: dict[int, Kind]) -> None:
        whole = tuple(ids)
        self.blocks |= {whole[:end] for end in range(BLOCK, len(ids) + 1, BLOCK)}
        new = {whole[:end]: kind for end, kind in marks.items()}
        older = {
            old: self.kind(old)
            for old in self.memory | self.disk
            if old == whole[: len(old)] and len(old) <= max(marks, default=0) and old not in new
        }
        for made, kind in new.items():
            self.memory[made] = max(self.memory.get(made, "prompt"), kind, key=RANK.index)
            self.offer(made, kind)
            for old, old_kind in older.items():
                if old_kind == kind != "system" and len(old) < len(made):
                    self.memory.pop(old, None)
                    self.disk.pop(old, None)
        for old in older:
            if old in self.memory:
                self.offer(old, self.memory[old])

    def offer(self, ids: tuple[int, ...], kind: Kind) -> None:
        if kind != "prompt":
            self.disk[ids] = max(self.disk.get(ids, kind), kind, key=RANK.index)

    def loaded(self, ids: Sequence[int], position: int) -> None:
        mark = tuple(ids[:position])
        if mark in self.disk:
            self.memory.setdefault(mark, self.disk[mark])

    def find(self, ids: Sequence[int], exact: bool) -> int:
        whole = tuple(ids[:-1])
        held = 0
        while held + BLOCK <= len(whole) and whole[: held + BLOCK] in self.blocks:
            held += BLOCK
        marks = [
            len(mark)
            for mark in self.memory | self.disk
            if mark == whole[: len(mark)] and len(mark) < held + BLOCK
        ]
        best = max(marks, default=0)
        return best if exact else max(best, held)


LETTERS = "aabc"
turns = st.tuples(
    st.integers(0, 9),  # of which sequence
    st.integers(0, 20),  # where it is cut, in runs
    st.text(LETTERS, min_size=1, max_size=8),  # what is new
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from(RANK)), max_size=3),  # marks, in halves
)
timelines = st.lists(st.one_of(turns, st.just("restart")), max_size=12)


def played(
    turn: tuple[int, int, str, list[tuple[int, Kind]]], known: list[list[int]]
) -> tuple[list[int], dict[int, Kind]]:
    """Return the sequence of a turn, and its marks; the last is at its end."""
    which, cut, new, places = turn
    ids = known[which % len(known)][: 64 * cut] + tokens(new)
    marks: dict[int, Kind] = {min(32 * place, len(ids)): kind for place, kind in places}
    return ids, marks | {len(ids): "end"}


@settings(max_examples=40)
@given(timelines, st.booleans())
def test_timelines_with_room(timeline: list[Any], exact: bool) -> None:
    """Over any timeline with restarts the store has exactly what a naive one has."""
    naive = Naive()
    known: list[list[int]] = [[]]
    with tempfile.TemporaryDirectory() as folder:
        disk = tier(Path(folder))
        kept = store(disk, exact=exact)
        for step in timeline:
            if step == "restart":
                kept.close()
                disk = tier(Path(folder))
                kept = store(disk, exact=exact)
                naive.memory.clear()
            else:
                ids, marks = played(step, known)
                position = load(kept, ids)
                assert naive.find(ids, exact) == position
                naive.loaded(ids, position)
                add(kept, ids, *(mark(ids[:end], kind) for end, kind in marks.items()))
                naive.add(ids, marks)
                known.append(ids)
            assert disk.flush(TIMEOUT)
            for ids in known:
                for asked in ([*ids, 1], ids, ids[: len(ids) // 2], [*ids[:99], 1, *ids[99:]]):
                    assert naive.find(asked, exact) == kept.find(asked, len(asked) - 1).position
                    load(kept, asked, keep=False)
        kept.close()


faults = st.tuples(st.sampled_from(["delete", "cut", "flip", "restart"]), st.integers(0, 99))


def spoil(folder: Path, fault: str, number: int) -> None:
    found = files(folder)
    if not found:
        return
    path = found[number % len(found)]
    content = path.read_bytes()
    if fault == "delete":
        path.unlink()
    elif fault == "cut":
        path.write_bytes(content[: number * 9])
    else:
        path.write_bytes(content[:number] + bytes([1 + number]) + content[number + 1 :])


@settings(max_examples=60)
@given(st.lists(st.one_of(turns, turns, faults), max_size=16), st.booleans(), st.booleans())
def test_timelines_without_room(timeline: list[Any], exact: bool, flushed: bool) -> None:
    """Over any timeline with evictions, restarts and faults nothing wrong is ever loaded."""
    memory_bytes, disk_bytes = 9 * 20 * KB, 12 * 20 * KB
    known: list[list[int]] = [[]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        disk = tier(folder, capacity=disk_bytes)
        kept = store(disk, exact=exact, capacity=memory_bytes)
        for number, step in enumerate(timeline):
            if len(step) == 4:
                ids, marks = played(step, known)
                load(kept, ids)
                new = blocks(ids, start=kept.missing(ids), nbytes=20 * KB)
                ends = [mark(ids[:end], kind, nbytes=20 * KB) for end, kind in marks.items()]
                kept.add(ids, [*new, *ends], side=number % 5 == 4)
                known.append(ids)
            elif step[0] == "restart":
                kept.close()
                disk = tier(folder, capacity=disk_bytes)
                kept = store(disk, exact=exact, capacity=memory_bytes)
            else:
                assert disk.flush(TIMEOUT)
                spoil(folder, *step)
            if flushed:
                assert disk.flush(TIMEOUT)
                assert size(folder) <= disk_bytes
            for ids in known[-4:]:
                load(kept, [*ids, 1], keep=number % 2 == 0)
                load(kept, ids[: len(ids) // 2], keep=False)
            assert kept.memory.nbytes <= memory_bytes
        kept.close()


def test_threads(tmp_path: Path) -> None:
    """Requests may find, load and add at once, in a memory and on a disk that are too small."""
    failures: list[BaseException] = []
    disk = tier(tmp_path, capacity=20 * 20 * KB)
    kept = store(disk, capacity=12 * 20 * KB)

    def play(letter: str) -> None:
        try:
            for count in range(1, 13):
                ids = tokens("a" * 8 + letter * count)
                load(kept, ids)
                new = blocks(ids, start=kept.missing(ids), nbytes=20 * KB)
                kept.add(ids, [*new, mark(ids, nbytes=20 * KB)])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=play, args=(letter,)) for letter in "wxyz"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept.close()

    assert failures == []
    assert disk.stats()["errors"] == 0
    assert size(tmp_path) <= 20 * 20 * KB
