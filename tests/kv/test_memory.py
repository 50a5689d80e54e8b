"""The memory tier: its cap, what it evicts, and what side requests may do."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_tools_server.kv import MemoryTier, Record

from .samples import MANY, blocks, mark, tokens

LINE = tokens("aaaab")


def held(tier: MemoryTier, records: Sequence[Record]) -> list[int]:
    """Return which of these records are in memory."""
    return [index for index, record in enumerate(records) if record.key in tier]


def filled(capacity: int, records: Sequence[Record], *, side: bool = False) -> MemoryTier:
    tier = MemoryTier(capacity)
    for record in records:
        tier.add(record, side=side)
    return tier


def test_shared_prefix_is_held_once() -> None:
    """Twelve sequences with one prefix cost the prefix once."""
    prefix = tokens("a" * 40)
    tier = MemoryTier(MANY)
    for letter in "bcdefghijklm":
        for record in blocks(prefix + tokens(letter * 4)):
            tier.add(record)

    assert tier.nbytes == (10 + 12) * 32


def test_get_and_marks() -> None:
    """Records come back by key, marks by the block before them."""
    first, tail = mark(LINE[:10], "system"), mark(LINE, "end")
    tier = filled(MANY, [first, *blocks(LINE), tail])

    assert tail is tier.get(tail.key)
    assert tier.get(b"other") is None
    assert [(64, tail.key, "end")] == tier.marks(tail.parent)
    assert [(10, first.key, "system")] == tier.marks(first.parent)
    assert tier.marks(tail.key) == []


def test_long_sequence_keeps_its_beginning() -> None:
    """Of a sequence that is longer than the memory, the beginning is held and the rest refused."""
    records = blocks(tokens("a" * 40))
    tier = filled(6 * 32, records)

    assert held(tier, records) == [0, 1, 2, 3, 4, 5]
    assert tier.stats()["refused"] == 4


def test_least_recently_used_goes_first() -> None:
    """Sequences go from their ends, the one whose last use is longest ago first."""
    a, b, c = (blocks(tokens(letter * 12)) for letter in "abc")
    tier = filled(9 * 32, [*a, *b, *c])
    tier.touch([record.key for record in a])
    for record in blocks(tokens("d" * 16)):
        tier.add(record)

    assert [held(tier, records) for records in (a, b, c)] == [[0, 1, 2], [], [0, 1]]
    for record in blocks(tokens("e" * 36)):
        tier.add(record)
    assert [held(tier, records) for records in (a, b, c)] == [[], [], []]


def test_parent_is_as_recent_as_its_children() -> None:
    """A block whose children were used after another sequence outlives that sequence."""
    a, b = (blocks(tokens(letter * 4)) for letter in "ab")
    tier = filled(4 * 32, [*a, *b])
    for letter in "xy":
        tier.add(mark(tokens("aaaa" + letter)))
    for record in blocks(tokens("c" * 12)):
        tier.add(record)

    assert [held(tier, records) for records in (a, b)] == [[0], []]


def test_side_records() -> None:
    """Side records use free space and the places of older side records, and go first."""
    conversation = blocks(tokens("a" * 8))
    old, new = mark(tokens("b")), mark(tokens("c"))
    tier = filled(3 * 32, conversation)

    assert tier.add(old, side=True)
    assert tier.add(new, side=True)
    assert held(tier, [old, new]) == [1]
    assert not tier.add(mark(tokens("d"), nbytes=64), side=True)
    assert held(tier, conversation) == [0, 1]
    assert tier.add(mark(tokens("aaaaaaaae")))
    assert held(tier, [old, new]) == []


@pytest.mark.parametrize("what", ["continued", "repeated"])
def test_side_records_of_a_conversation(what: str) -> None:
    """Side records that a conversation uses are a conversation's from then on."""
    records = blocks(tokens("a" * 8))
    tier = filled(3 * 32, records, side=True)
    last = mark(tokens("a" * 8 + "b"))
    tier.add(last if what == "continued" else records[-1])
    tier.drop(last.key)
    tier.add(mark(tokens("c"), nbytes=64), side=True)

    assert held(tier, records) == [0, 1]


def test_kind_of_a_mark() -> None:
    """A mark that is added again keeps the more lasting of its kinds."""
    ids = tokens("a")
    tier = filled(MANY, [mark(ids, "end"), mark(ids, "system"), mark(ids, "prompt")])

    assert [(64, mark(ids).key, "system")] == tier.marks(mark(ids).parent)


def test_drop() -> None:
    """A record can be dropped, but not from under others."""
    records = blocks(tokens("a" * 8))
    tier = filled(MANY, records)
    tier.drop(records[0].key)
    assert held(tier, records) == [0, 1]

    tier.drop(records[1].key)
    tier.drop(b"other")

    assert held(tier, records) == [0]
    assert tier.nbytes == 32


def test_forgotten_records_leave_nothing() -> None:
    """Marks that come and go for days cost no memory."""
    tier = filled(MANY, blocks(LINE))
    for end in range(1, 250):
        tier.add(mark(LINE[:end]))
        tier.drop(mark(LINE[:end]).key)

    assert len(tier._leaves) < 10


class Naive:
    """The same tier in the plainest words: it looks at every record for every decision."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.records: dict[bytes, Record] = {}
        self.used: dict[bytes, int] = {}
        self.sides: set[bytes] = set()
        self.clock = 0

    def line(self, record: Record) -> list[Record]:
        """Return a record and all that are before it in memory."""
        above = self.records.get(record.parent)
        return [record, *(self.line(above) if above else [])]

    def add(self, record: Record, side: bool) -> None:
        self.clock += 1
        if record.key not in self.records:
            line = self.line(record)
            if not line[-1].first or sum(one.nbytes for one in line) > self.capacity:
                return
            self.records[record.key] = record
            self.sides.add(record.key)
        self.used[record.key] = self.clock
        if not side:
            self.sides -= {one.key for one in self.line(record)}
        while sum(one.nbytes for one in self.records.values()) > self.capacity:
            parents = {one.parent for one in self.records.values()}
            leaves = self.records.keys() - parents
            self.drop(min(leaves, key=lambda key: (key not in self.sides, self.used[key], key)))

    def touch(self, keys: Sequence[bytes]) -> None:
        self.clock += 1
        self.used |= {key: self.clock for key in keys if key in self.records}

    def drop(self, key: bytes) -> None:
        if key in self.records and key not in {one.parent for one in self.records.values()}:
            del self.records[key]
            self.sides.discard(key)


@st.composite
def trees(draw: st.DrawFn) -> list[Record]:
    """Records of which each builds on an earlier one or on nothing."""
    records: list[Record] = []
    for index in range(draw(st.integers(3, 16))):
        above = draw(st.sampled_from([None, *records]))
        nbytes = draw(st.integers(1, 9))
        parent, position = (above.key, above.position) if above else (b"seed", 0)
        records.append(Record(b"%d" % index, parent, "block", 1, position + 1, b"", nbytes))
    return records


steps = st.lists(
    st.tuples(st.sampled_from(["add", "add", "side", "touch", "drop"]), st.integers(0, 15)),
    max_size=60,
)


@settings(max_examples=200)
@given(trees(), st.integers(5, 40), steps)
def test_timelines(records: list[Record], capacity: int, timeline: list[tuple[str, int]]) -> None:
    """Over any timeline the cap holds, no parent goes before its child, and the right one goes."""
    tier, naive = MemoryTier(capacity), Naive(capacity)
    by_key = {record.key: record for record in records}
    for action, index in timeline:
        record = records[index % len(records)]
        ordinary = naive.records.keys() - naive.sides
        if action == "touch":
            keys = [one.key for one in naive.line(record)]
            tier.touch(keys)
            naive.touch(keys)
        elif action == "drop":
            tier.drop(record.key)
            naive.drop(record.key)
        else:
            kept = tier.add(record, side=action == "side")
            naive.add(record, side=action == "side")
            assert kept == (record.key in tier)
            if action == "side":
                assert all(key in tier for key in ordinary)

        now = {key for key in by_key if key in tier}
        assert now == naive.records.keys()
        assert tier.nbytes == sum(by_key[key].nbytes for key in now) <= capacity
        assert all(by_key[key].first or by_key[key].parent in now for key in now)


def test_threads() -> None:
    """Several threads may use the tier at once, and the cap holds at every moment."""
    tier = MemoryTier(50 * 32)
    over: list[int] = []

    def play(letter: str) -> None:
        records = blocks(tokens(letter * 80))
        for _ in range(10):
            for record in records:
                tier.add(record)
                tier.touch([record.key])
                over.extend([tier.stats()["bytes"]] * (tier.stats()["bytes"] > 50 * 32))

    threads = [threading.Thread(target=play, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert over == []
    assert tier.stats()["records"] * 32 == tier.nbytes
