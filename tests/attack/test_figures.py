"""What a soak makes of its samples: it calls a leak a leak, and noise noise."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from .agents import Book
from .figures import MB, Sample, percentile, slope
from .soak import KV_DISK, KV_RAM, Edge, Soak

REST = Sample(0.0, 100_000_000, 10, 8, 1000, 1000, 1000, 1000, 0, 0)
INSIDE = {"blocks": 400_000, "rss": 100_000_000}


def _soak(mb_an_hour: float = 0.0, **end: int) -> Soak:
    """Return what twenty minutes brought, with as much noise as is usual."""
    rng = random.Random(1)
    samples = [
        replace(REST, at=at, rss=int((150 + rng.gauss(0, 5) + mb_an_hour * at / 3600) * MB))
        for at in range(0, 1200, 5)
    ]
    inside = {**INSIDE, **{name: end.pop(name) for name in INSIDE if name in end}}
    last = Edge(replace(REST, **end), inside, [0.02], 1000)
    return Soak(Book(), Edge(REST, INSIDE, [0.02], 100), last, samples)


def test_flat() -> None:
    """Memory that only varies is flat."""
    assert _soak().faults() == []


LEAKS = [
    pytest.param(_soak(mb_an_hour=60.0), "memory grew", id="memory under load"),
    pytest.param(_soak(rss=120_000_000), "memory at rest grew", id="memory at rest"),
    pytest.param(_soak(blocks=420_000), "blocks", id="Python's objects"),
    pytest.param(_soak(threads=17), "threads", id="threads"),
    pytest.param(_soak(fds=9), "files", id="a file"),
    pytest.param(_soak(in_flight=1), "in flight", id="a request"),
]


@pytest.mark.parametrize(("made", "fault"), LEAKS)
def test_leak(made: Soak, fault: str) -> None:
    """Each kind of leak is told, and nothing else."""
    (told,) = made.faults()

    assert fault in told


def test_caps_and_wrong_answers() -> None:
    """A cap that did not hold at one moment, and one wrong answer, are faults."""
    made = _soak()
    made.samples[3] = replace(made.samples[3], kv_memory=KV_RAM + 1, kv_files=KV_DISK + 1)
    made.book.wrong("chat", ValueError("other words"))

    assert len(made.faults()) == 3


def test_numbers() -> None:
    """The line through points and the shares of values are what they are by definition."""
    assert slope([(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]) == pytest.approx(2.0)
    assert slope([(1.0, 1.0)]) == 0.0
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([1.0] * 99 + [9.0], 0.99) == 9.0
