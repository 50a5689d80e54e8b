"""Who is let in, and who is next: limits, fair shares and turns."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import ExitStack, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_tools_server.admission import SHARE, Admission, Lanes
from mlx_tools_server.errors import Overloaded


def always(_: object) -> bool:
    return True


def test_limit_by_requests() -> None:
    """One client is let in until the limit, others a little beyond it."""
    admission = Admission(16, 10**9)
    with ExitStack() as stack:
        for _ in range(16):
            stack.enter_context(admission.admit("burst"))
        with pytest.raises(Overloaded, match=r"16 requests.*--max-requests"):
            stack.enter_context(admission.admit("burst"))
        for _ in range(16 // SHARE):
            stack.enter_context(admission.admit("other"))
        with pytest.raises(Overloaded):
            stack.enter_context(admission.admit("other"))
    assert admission.count == 0


def test_limit_by_tokens() -> None:
    """Prompts are let in while all of them together are small enough, and one alone always."""
    admission = Admission(10, 100)
    with admission.admit("a") as large:
        large.add(1000)
        with (
            pytest.raises(Overloaded, match=r"1000 tokens.*--max-queued-tokens"),
            admission.admit("b") as other,
        ):
            other.add(1)
        assert admission.count == 1
    with admission.admit("a") as one, admission.admit("b") as other:
        one.add(50)
        other.add(50)
        assert admission.count == 2


def test_tokens_are_kept_for_others() -> None:
    """Prompts of one client that take all the tokens leave a few for those of others."""
    admission = Admission(10, 800)
    with admission.admit("burst") as burst, admission.admit("other") as other:
        burst.add(800)
        other.add(60)
        with pytest.raises(Overloaded):
            burst.add(1)
        with pytest.raises(Overloaded):
            other.add(60)
        other.add(40)
    with admission.admit("burst") as burst:
        burst.add(800)


def test_what_fails_leaves() -> None:
    """A request that fails gives its room back."""
    admission = Admission(1, 100)
    for _ in range(3):
        with suppress(KeyError), admission.admit("a") as admitted:
            admitted.add(100)
            raise KeyError
    assert admission.count == 0


def test_limit_holds_in_many_threads() -> None:
    """However many come at once, no more than the limit are in."""
    admission, most, peak = Admission(8, 10**9), [0], threading.Lock()
    start = threading.Barrier(32)

    def come() -> None:
        start.wait()
        for _ in range(200):
            try:
                with admission.admit("a"), peak:
                    most[0] = max(most[0], admission.count)
            except Overloaded:
                pass

    threads = [threading.Thread(target=come) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] <= 8
    assert admission.count == 0


def test_clients_take_turns() -> None:
    """Who has least at work is next; among equals they take turns, each in its own order."""
    lanes: Lanes[str] = Lanes()
    for number in range(4):
        lanes.add("a", f"a{number}")
    lanes.add("b", "b0")
    lanes.add("b", "b1")
    lanes.add("c", "c0")
    work: list[str] = []
    order = []
    while (item := lanes.take(work, 99, always)) is not None:
        order.append(item)
        work.append(item[0])

    assert order == ["a0", "b0", "c0", "a1", "b1", "a2", "a3"]


def test_some_places_are_kept() -> None:
    """One client can't take all places; a new one finds one free."""
    lanes: Lanes[int] = Lanes()
    for number in range(20):
        lanes.add("burst", number)
    work: list[str] = []
    while lanes.take(work, 16, always) is not None:
        work.append("burst")
    assert len(work) == 16 - 16 // SHARE

    lanes.add("other", 99)
    assert lanes.take(work, 16, always) == 99
    assert lanes.take(["burst"] * 16, 16, always) is None


def test_a_single_place_is_for_all() -> None:
    """Where there is one place, nobody is kept from it."""
    lanes: Lanes[int] = Lanes()
    lanes.add("a", 1)
    assert lanes.take([], 1, always) == 1
    assert lanes.take([], 1, always) is None


def test_what_does_not_fit() -> None:
    """What does not fit lets others pass, until it has waited long enough."""
    lanes: Lanes[str] = Lanes()
    lanes.add("a", "big")
    lanes.add("b", "small")
    patient: dict[str, bool | None] = {"big": False, "small": True}
    assert lanes.take([], 4, patient.get) == "small"
    lanes.add("b", "small")
    patient["big"] = None
    assert lanes.take([], 4, patient.get) is None
    patient["big"] = True
    assert lanes.take([], 4, patient.get) == "big"


def test_useless_items_go() -> None:
    """What nobody waits for any more is taken out, wherever it stands."""
    lanes: Lanes[int] = Lanes()
    for number in range(6):
        lanes.add("ab"[number % 2], number)
    lanes.drop(lambda number: number < 4)
    assert sorted(lanes) == [4, 5]
    assert sorted(lanes.clear()) == [4, 5]
    assert lanes.take([], 4, always) is None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60), st.integers(1, 20))
def test_nobody_starves(steps: list[tuple[str, bool]], places: int) -> None:
    """Whatever comes and goes, all that waits is taken in the end, each client's in its order."""
    lanes: Lanes[tuple[str, int]] = Lanes()
    work: list[str] = []
    came: Counter[str] = Counter()
    seen: dict[str, list[int]] = {"a": [], "b": [], "c": []}

    def take() -> bool:
        if (item := lanes.take(work, places, always)) is None:
            return False
        work.append(item[0])
        seen[item[0]].append(item[1])
        return True

    for client, ends in steps:
        lanes.add(client, (client, came[client]))
        came[client] += 1
        if ends and work:
            work.pop(0)
        take()
        assert len(work) <= places
    while take() or work:
        if work:
            work.pop(0)
    for client, numbers in seen.items():
        assert numbers == list(range(came[client]))
