"""Figures of answers whose times are known, and what many of them come to."""

from __future__ import annotations

from typing import Any

import pytest

from mlx_tools_server.bench.asking import Asked
from mlx_tools_server.bench.conversation import Call
from mlx_tools_server.bench.dialects import Heard
from mlx_tools_server.bench.figures import Place, Row, ratio, row, summary, throughput

PLACE = Place("ours", 1, 0, "main", 1, "list", "chat")


def asked(times: list[float], heard: Heard | None = None, **fields: Any) -> Asked:
    heard = heard or Heard(prompt=100, cached=80, completion=len(times), finish="stop")
    return Asked(heard, 10.0, 12.0, 200, times, **fields)


def made(times: list[float], heard: Heard | None = None, known: int = 0, **fields: Any) -> Row:
    return row(PLACE, asked(times, heard, **fields), known)


def test_times() -> None:
    """Times count from the request, and gaps from one delta to the next."""
    found = made([10.5, 10.6, 10.7, 11.0], first_argument=10.6, argument_deltas=2)

    assert found.first_token_ms == pytest.approx(500)
    assert found.first_argument_ms == pytest.approx(600)
    assert found.itl_p50_ms == pytest.approx(100)
    assert found.itl_p99_ms == pytest.approx(300)
    assert found.tokens_per_s == pytest.approx(3 / 0.5)
    assert found.seconds == pytest.approx(2)


# Arrivals, tokens said, whether there is a rate.
HELD_BACK = [
    pytest.param([], 5, False, id="nothing"),
    pytest.param([11.0], 5, False, id="one piece"),
    pytest.param([11.0, 11.1, 11.2], 100, False, id="few pieces of much"),
    pytest.param([11.0, 11.1, 11.2], None, False, id="no count"),
    pytest.param([11.0, 11.0, 11.0], 3, False, id="all at once"),
    pytest.param([11.0, 11.1, 11.2], 6, True, id="two tokens a piece"),
]


@pytest.mark.parametrize(("times", "completion", "has"), HELD_BACK)
def test_rates(times: list[float], completion: int | None, has: bool) -> None:
    """An answer has a rate only if it came as it was made."""
    assert (made(times, Heard(completion=completion)).tokens_per_s is not None) == has


# Prompt, cached, known before; share, new, computed, computed per new.
CACHES = [
    pytest.param(100, 80, 70, 0.8, 30, 20, 20 / 30, id="all told"),
    pytest.param(100, None, 70, None, 30, None, None, id="no cache told"),
    pytest.param(None, None, 70, None, None, None, None, id="no counts"),
    pytest.param(100, 0, 0, 0.0, 100, 100, 1.0, id="first request"),
    pytest.param(50, 40, 60, 0.8, -10, 10, None, id="shorter than before"),
]


@pytest.mark.parametrize(("prompt", "cached", "known", "share", "new", "computed", "again"), CACHES)
def test_caches(
    prompt: int | None,
    cached: int | None,
    known: int,
    share: float | None,
    new: int | None,
    computed: int | None,
    again: float | None,
) -> None:
    """What was computed again is set against what is new, as far as a server tells."""
    found = made([11.0], Heard(prompt=prompt, cached=cached), known)

    assert (found.cached_share, found.new_tokens, found.recomputed_tokens) == (share, new, computed)
    assert found.recomputed_per_new == again


# Arguments of the calls, finish; valid and cut.
CALLS = [
    pytest.param([], "stop", 0, 0, id="none"),
    pytest.param(["{}", '{"a": 1}'], "tool_calls", 2, 0, id="valid"),
    pytest.param(["{}", '{"a": '], "length", 1, 1, id="cut"),
    pytest.param(['{"a": ', "{}"], "tool_calls", 1, 0, id="bad"),
    pytest.param(["[]", ""], "tool_calls", 0, 0, id="no objects"),
]


@pytest.mark.parametrize(("arguments", "finish", "valid", "cut"), CALLS)
def test_calls(arguments: list[str], finish: str, valid: int, cut: int) -> None:
    """Arguments are valid if they are a JSON object; those of a cut call are cut."""
    calls = [Call("c", "f", text) for text in arguments]
    found = made([11.0], Heard(calls=calls, finish=finish), argument_deltas=3)

    assert (found.calls, found.valid_calls, found.cut_calls) == (len(arguments), valid, cut)
    assert found.argument_deltas == (3 if calls else None)


def at(server: str, turn: int, began: float, seconds: float, **fields: Any) -> Row:
    place = Place(server, 1, 0, "main", turn, "list", "chat")
    heard = Heard(completion=10, **fields)
    return row(place, Asked(heard, began, began + seconds, 200, [began + seconds / 2]), 0)


def test_throughput() -> None:
    """Tokens count against the time in which any stream was at work, once."""
    rows = [at("a", 1, 0.0, 2.0), at("a", 2, 1.0, 2.0), at("a", 3, 10.0, 1.0)]

    assert throughput(rows) == pytest.approx(30 / 4)
    assert throughput([]) is None


def test_ratios_are_made_pair_by_pair() -> None:
    """A ratio is that of the same request on both servers; what one has not is left out."""
    first = [at("a", 1, 0, 1.0), at("a", 2, 0, 2.0), at("a", 3, 0, 4.0)]
    other = [at("b", 1, 0, 2.0), at("b", 2, 0, 1.0), at("b", 4, 0, 9.0)]

    found = ratio("seconds", first, other)

    assert found is not None
    assert (found.least, found.median, found.most, found.pairs) == (0.5, 1.25, 2.0, 2)
    assert ratio("cached_share", first, other) is None


def test_summary() -> None:
    """A summary has medians of times, sums of counts, and shares of sums."""
    rows = [
        at("a", 1, 0.0, 1.0, prompt=100, cached=0),
        at("a", 2, 1.0, 3.0, prompt=300, cached=200, error="cut"),
        at("a", 3, 4.0, 1.0),
    ]

    found = summary(rows)

    assert (found["requests"], found["errors"], found["seconds"]) == (3, 1, 1.0)
    assert (found["prompt_tokens"], found["cached_tokens"], found["cached_share"]) == (
        400,
        200,
        0.5,
    )
    assert summary([])["first_token_ms"] is None
