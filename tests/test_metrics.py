"""What the server counts and times, as people and Prometheus read it."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from mlx_tools_server.metrics import Metrics, TurnFigures

TURN = TurnFigures(
    "tool_calls",
    {"prompt": 100, "cached": 80, "completion": 21, "reasoning": 5, "computed_again": 12},
    {"ok": 2, "invalid": 1, "repaired": 3, "text": 1},
    first=0.5,
    seconds=2.5,
)
FIGURES: dict[str, Any] = {
    "queue": {"waiting": 3, "in_flight": 2},
    "kv_cache": {
        "memory": {"bytes": 10, "evicted": 4},
        "disk": {"bytes": 20, "reads": 1},
        "lost_tokens": 300,
    },
    "grammars": {"tokens": 7},
    "restarts": 2,
}


def read(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return all samples by name and labels, as a collector reads them."""
    text = metrics.text().decode()
    return {
        (sample.name.removeprefix("mlx_tools_"), tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_turns_are_counted() -> None:
    """Each generation counts once, with its tokens, calls and times."""
    metrics = Metrics()
    metrics.turn(TURN)
    metrics.turn(TurnFigures("error"))

    samples = read(metrics)
    assert samples["turns_total", (("finish", "tool_calls"),)] == 1
    assert samples["tokens_total", (("kind", "cached"),)] == 80
    assert samples["tokens_total", (("kind", "computed_again"),)] == 12
    assert samples["tool_calls_total", (("outcome", "ok"),)] == 2
    assert samples["tool_calls_total", (("outcome", "repaired"),)] == 3
    assert samples["tool_calls_total", (("outcome", "text"),)] == 1
    assert samples["first_token_seconds_count", ()] == 1
    assert samples["turn_seconds_sum", ()] == 2.5
    assert samples["decode_tokens_per_second_sum", ()] == 10
    assert metrics.summary() == {
        "requests": 2,
        "failures": 1,
        "tool_calls": 6,
        "invalid_tool_calls": 1,
        "repaired_tool_calls": 3,
        "unread_tool_calls": 1,
    }


def test_what_others_know() -> None:
    """Queue, cache tiers and grammars are read when somebody asks."""
    metrics = Metrics()
    metrics.watch(lambda: FIGURES)

    samples = read(metrics)
    assert samples["requests", (("state", "waiting"),)] == 3
    assert samples["kv_bytes", (("tier", "disk"),)] == 20
    assert samples["kv_evicted_total", (("tier", "memory"),)] == 4
    assert samples["lost_tokens_total", ()] == 300
    assert samples["constrained_tokens_total", (("kind", "tokens"),)] == 7
    assert samples["restarts_total", ()] == 2
    assert ("kv_reads_total", (("tier", "memory"),)) not in samples


def test_no_cache() -> None:
    """A server without a cache of its own has no figures of one."""
    metrics = Metrics()
    metrics.watch(lambda: {"queue": {}, "kv_cache": {}, "grammars": {}, "restarts": 0})

    assert not [name for name, _ in read(metrics) if name.startswith("kv_")]


def test_a_line_for_people() -> None:
    """A turn is told in a line, as far as it got."""
    assert str(TURN) == (
        "tool_calls, 100 prompt tokens (80 cached, 12 computed again), 21 generated, "
        "6 calls (1 invalid, 3 repaired, 1 text), first after 0.50 s, 10.0 tokens/s, 2.50 s in all"
    )
    assert str(TurnFigures()) == (
        "cancelled, 0 prompt tokens (0 cached), 0 generated, 0 calls, 0.00 s in all"
    )


def test_no_rate() -> None:
    """A rate is told only where there is time and more than one token."""
    assert TurnFigures(tokens={"completion": 1}, first=0.1, seconds=1).rate is None
    assert TurnFigures(tokens={"completion": 9}, seconds=1).rate is None
    assert TurnFigures(tokens={"completion": 9}, first=1, seconds=1).rate is None
