"""Who waits for whose prefill."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from mlx_tools_server.engine.prefills import Prefill, Prefills

A, B, C, D = b"a", b"b", b"c", b"d"
AT_ONCE, SOON = 0.0, 5.0


def test_nobody_else() -> None:
    """Who computes alone does not wait."""
    prefill = Prefills(lambda _: False).begin([A, B])

    assert not prefill.shares
    assert prefill.wait(AT_ONCE)


def test_waits_for_what_is_shared() -> None:
    """Who shares a beginning waits until the last shared block can be used."""
    there: set[bytes] = set()
    prefills = Prefills(there.__contains__)
    prefills.begin([A, B, C])
    second = prefills.begin([A, B, D])

    there.add(A)
    assert not second.wait(AT_ONCE)
    there.add(B)
    assert second.wait(AT_ONCE)


def test_end_of_the_first() -> None:
    """When the first ends without its blocks, the second computes them."""
    prefills = Prefills(lambda _: False)
    first = prefills.begin([A, B])
    second = prefills.begin([A, B])
    thread = threading.Timer(0.05, first.end)
    thread.start()

    assert not second.wait(AT_ONCE)
    assert second.wait(SOON)
    thread.join()


def test_a_request_without_a_place() -> None:
    """A request that waits for a place holds up nobody but its own client."""
    prefills = Prefills(lambda _: False)
    first = prefills.begin([A], "burst")
    same, other = prefills.begin([A, B], "burst"), prefills.begin([A, C], "other")

    assert not other.wait(AT_ONCE)
    first.queue()
    assert other.wait(AT_ONCE)
    assert not same.wait(AT_ONCE)
    first.queue(waits=False)
    assert not other.wait(AT_ONCE)


def test_told() -> None:
    """A waiting request hears at once that more can be used."""
    there: set[bytes] = set()
    prefills = Prefills(there.__contains__)
    prefills.begin([A])
    second = prefills.begin([A])

    def come() -> None:
        there.add(A)
        prefills.tell()

    thread = threading.Timer(0.05, come)
    thread.start()

    assert second.wait(SOON)
    thread.join()


@given(st.lists(st.lists(st.sampled_from([A, B, C, D]), unique=True), max_size=6), st.randoms())
def test_all_end(chains: list[list[bytes]], random: object) -> None:
    """In whatever order requests end, in the end nobody waits."""
    prefills = Prefills(lambda _: False)
    begun: list[Prefill] = [prefills.begin(chain) for chain in chains]
    random.shuffle(begun)  # type: ignore[attr-defined]

    # Some request never waits, so all can go on one after the other.
    left = list(begun)
    while left:
        ready = [prefill for prefill in left if prefill.wait(AT_ONCE)]
        assert ready
        ready[0].end()
        left.remove(ready[0])
