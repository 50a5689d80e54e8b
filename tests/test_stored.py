"""Responses are kept until they are forgotten, in bounded memory."""

from __future__ import annotations

import random
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_tools_server.stored import Stored


def item(name: object) -> dict[str, Any]:
    """Return an item of a conversation."""
    return {"type": "message", "content": f"{name}"}


def keep(stored: Stored, answer_id: str, parent: str | None = None, size: int = 0) -> None:
    """Keep a response of one question and one answer, with so many bytes that don't compress."""
    noise = random.Random(answer_id).randbytes(size // 2).hex()
    items = [item(f"asked {answer_id}"), item(f"said {answer_id}")]
    stored.remember(answer_id, parent, items, {"id": answer_id, "output": items[1:], "x": noise})


def contents(items: Iterable[dict[str, Any]] | None) -> list[str] | None:
    """Return what these items say."""
    return None if items is None else [item["content"] for item in items]


def chain(stored: Stored, size: int = 3) -> list[str]:
    """Keep a conversation, and return the ids of its responses."""
    names = [f"r{number}" for number in range(size)]
    for name, parent in zip(names, [None, *names], strict=False):
        keep(stored, name, parent)
    return names


def test_a_conversation() -> None:
    """A response brings the items of all responses before it, in their order."""
    stored = Stored()
    chain(stored)

    assert contents(stored.recall("r1")) == ["asked r0", "said r0", "asked r1", "said r1"]


def test_two_ways_on() -> None:
    """Two responses may go on from one."""
    stored = Stored()
    keep(stored, "a")
    keep(stored, "b", "a")
    keep(stored, "c", "a")

    assert contents(stored.recall("b")) == ["asked a", "said a", "asked b", "said b"]
    assert contents(stored.recall("c")) == ["asked a", "said a", "asked c", "said c"]


def test_body() -> None:
    """A response is given as it was kept."""
    stored = Stored()
    body = {"output": [], "text": "\u2028é😀\ud83d", "number": 1.5}
    stored.remember("a", None, [], body)

    assert stored.get("a") == body


def test_items_before_the_output() -> None:
    """What a response answered is all that came before its own output."""
    stored = Stored()
    chain(stored)

    assert contents(stored.items("r1")) == ["asked r0", "said r0", "asked r1"]


def test_nothing_is_shared() -> None:
    """What is changed outside stays as it was inside."""
    stored = Stored()
    asked = item("asked")
    body: dict[str, Any] = {"output": []}
    stored.remember("a", None, [asked], body)
    asked["content"] = body["output"] = "changed"
    (stored.recall("a") or [])[0]["content"] = "changed"

    assert contents(stored.recall("a")) == ["asked"]
    assert stored.get("a") == {"output": []}


def test_unknown() -> None:
    """What was never kept is unknown."""
    stored = Stored()

    assert stored.recall("a") is None
    assert stored.items("a") is None
    assert stored.get("a") is None
    assert not stored.forget("a")


def test_forget() -> None:
    """What is forgotten is unknown, and so is the conversation that it belonged to."""
    stored = Stored()
    chain(stored)

    assert stored.forget("r1")

    assert stored.get("r1") is None
    assert stored.recall("r2") is stored.items("r2") is None
    assert contents(stored.recall("r0")) == ["asked r0", "said r0"]
    assert stored.get("r2") is not None


def test_forgotten_parent() -> None:
    """A response whose parent went while it was answered is kept, but nothing goes on from it."""
    stored = Stored()
    keep(stored, "b", "a")

    assert stored.recall("b") is None
    assert stored.get("b") is not None


@pytest.mark.parametrize("limits", [{"count": 3}, {"limit": 3 * 3000}])
def test_the_oldest_goes(limits: dict[str, int]) -> None:
    """Beyond its limits the store forgets what was not used for longest."""
    stored = Stored(**limits)
    for name in "abc":
        keep(stored, name, size=2000)
    stored.recall("a")
    keep(stored, "d", size=2000)

    assert [name for name in "abcd" if stored.get(name)] == ["a", "c", "d"]


def test_a_conversation_in_use_stays() -> None:
    """Going on from a response uses all that came before it."""
    stored = Stored(count=5)
    keep(stored, "old")
    keep(stored, "a")
    keep(stored, "b", "a")
    keep(stored, "other")
    keep(stored, "c", "b")
    keep(stored, "new")
    keep(stored, "newer")

    assert stored.get("old") is stored.get("other") is None
    assert len(stored.recall("c") or ()) == 6


def test_too_large() -> None:
    """A response beyond the whole limit is not kept, and drives nothing else out."""
    stored = Stored(limit=5000)
    keep(stored, "a")
    keep(stored, "b", size=20_000)

    assert stored.get("a") is not None
    assert stored.get("b") is None


def test_the_same_id_again() -> None:
    """An id that is kept again has what was kept last."""
    stored = Stored()
    keep(stored, "a")
    stored.remember("a", None, [item("new")], {"output": []})

    assert contents(stored.recall("a")) == ["new"]


def test_a_circle() -> None:
    """Responses that go on from each other are no conversation."""
    stored = Stored()
    keep(stored, "a", "b")
    keep(stored, "b", "a")

    assert stored.recall("a") is None


def test_a_long_conversation_costs_what_was_said() -> None:
    """A conversation of twice the length takes twice the memory, not four times."""

    def size(turns: int) -> int:
        stored = Stored()
        chain(stored, turns)
        return stored.size

    assert size(200) < 2.1 * size(100)


NAMES = st.sampled_from("abcdef")
STEPS = st.tuples(st.sampled_from(["keep", "forget", "recall"]), NAMES, st.none() | NAMES)


@given(st.lists(STEPS, max_size=30), st.integers(1, 4), st.integers(500, 5000))
def test_any_life(steps: list[tuple[str, str, str | None]], count: int, limit: int) -> None:
    """Whatever happens, the store stays within its limits and knows what it weighs."""
    stored = Stored(limit, count)
    for step, name, parent in steps:
        if step == "keep":
            keep(stored, name, parent, size=300)
        elif step == "forget":
            stored.forget(name)
        else:
            stored.recall(name)

        kept = [name for name in "abcdef" if stored.get(name)]
        assert len(kept) <= count
        assert stored.size <= limit
    for name in "abcdef":
        stored.forget(name)
    assert stored.size == 0


def test_threads() -> None:
    """Many threads may use the store at once."""
    stored = Stored(count=20)

    def live(thread: int) -> None:
        for turn in range(50):
            keep(stored, f"{thread}-{turn}", f"{thread}-{turn - 1}" if turn else None)
            stored.recall(f"{thread}-{turn}")
            stored.forget(f"{thread}-{turn - 5}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(live, range(8)))

    assert 0 < stored.size < 20 * 2000


def test_a_conversation_has_an_end() -> None:
    """A conversation that is too long to be put together is not gone on with, however it packs."""
    stored = Stored(longest=10_000)
    for number in range(5):
        items = [{"type": "message", "role": "user", "content": "a" * 3000}]
        stored.remember(f"r{number}", f"r{number - 1}" if number else None, items, {"output": []})

    assert len(stored.recall("r1") or ()) == 2
    assert stored.recall("r4") is None
