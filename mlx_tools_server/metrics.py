"""What the server counts and times, for people and for Prometheus.

Rules of this file:
- One place for all figures: `/health` shows a few of them, `/metrics` all.
- Labels come from closed lists, never from what a client sends: their number is what they cost.
- What others know already (the queue, the KV cache) is read when somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "mlx_tools_"

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)
_TOKENS = "Tokens: prompt, of these cached and computed_again, completion, of these reasoning"
_CALLS = (
    "Tool calls: ok, repaired (written faultily), invalid (against their schema), cut (by the end "
    "of the answer), and what only looked like one and became text"
)
# Outcomes of calls that clients got.
_DELIVERED = ("ok", "repaired", "invalid")
_RATES = (1, 3, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500)
# Figures of the KV cache's tiers that only grow.
_GROWING = frozenset(("evicted", "refused", "reads", "errors", "blocks_written", "marks_written"))


@dataclass
class TurnFigures:
    """What one generation came to; times in seconds since its request came.

    `finish` is a finish reason, `error` or `cancelled`; `first` when the first part began. `tokens`
    are counted by kind (prompt, cached, completion, reasoning, computed_again), `calls` by the
    first outcome that fits: `cut` by the answer's end, `invalid` by their schema, `repaired`, since
    the model wrote them faultily, or `ok`. Those that became `text` are no calls.
    """

    finish: str = "cancelled"
    tokens: dict[str, int] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    first: float | None = None
    seconds: float = 0.0

    @property
    def rate(self) -> float | None:
        """Tokens a second once the answer had begun; None if that can't be said."""
        generated = self.tokens.get("completion", 0) - 1
        took = self.seconds - self.first if self.first is not None else 0.0
        return generated / took if generated > 0 and took > 0 else None

    def __str__(self) -> str:
        tokens = self.tokens
        again = tokens.get("computed_again")
        cached = f"{tokens.get('cached', 0)} cached" + (
            f", {again} computed again" if again else ""
        )
        odd = [f"{calls} {outcome}" for outcome, calls in self.calls.items() if outcome != "ok"]
        parts = [
            self.finish,
            f"{tokens.get('prompt', 0)} prompt tokens ({cached})",
            f"{tokens.get('completion', 0)} generated",
            f"{sum(self.calls.values()) - self.calls.get('text', 0)} calls"
            + (f" ({', '.join(odd)})" if odd else ""),
        ]
        if self.first is not None:
            parts.append(f"first after {self.first:.2f} s")
        if self.rate is not None:
            parts.append(f"{self.rate:.1f} tokens/s")
        return f"{', '.join(parts)}, {self.seconds:.2f} s in all"


class Metrics:
    """The figures of one server; safe to use from many threads."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()

        self._own: list[Counter] = []

        def counter(name: str, about: str, *labels: str) -> Counter:
            made = Counter(PREFIX + name, about, labels, registry=registry)
            self._own.append(made)
            return made

        def histogram(name: str, about: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(PREFIX + name, about, registry=registry, buckets=buckets)

        self.http = counter("http_requests", "Answers over HTTP", "route", "status")
        self.turns = counter("turns", "Generations by how they ended", "finish")
        self.tokens = counter("tokens", _TOKENS, "kind")
        self.calls = counter("tool_calls", _CALLS, "outcome")
        self.first = histogram("first_token_seconds", "From request to first token", _SECONDS)
        self.duration = histogram("turn_seconds", "From request to the end", _SECONDS)
        self.rate = histogram("decode_tokens_per_second", "Of one answer, once it began", _RATES)

    def turn(self, told: TurnFigures) -> None:
        """Count one generation."""
        self.turns.labels(told.finish).inc()
        for kind, tokens in told.tokens.items():
            self.tokens.labels(kind).inc(tokens)
        for outcome, calls in told.calls.items():
            self.calls.labels(outcome).inc(calls)
        self.duration.observe(told.seconds)
        if told.first is not None:
            self.first.observe(told.first)
        if told.rate is not None:
            self.rate.observe(told.rate)

    def summary(self) -> dict[str, int]:
        """Return the figures that tell at a glance whether all is well."""
        return {
            "requests": self.count("turns"),
            "failures": self.count("turns", finish="error"),
            "tool_calls": sum(self.count("tool_calls", outcome=one) for one in _DELIVERED),
            "invalid_tool_calls": self.count("tool_calls", outcome="invalid"),
            "repaired_tool_calls": self.count("tool_calls", outcome="repaired"),
            "unread_tool_calls": self.count("tool_calls", outcome="text"),
        }

    def count(self, name: str, **labels: str) -> int:
        """Return how often something was counted, over all values of labels that are not given."""
        samples = (
            sample for metric in self._own for sample in next(iter(metric.collect())).samples
        )
        wanted = f"{PREFIX}{name}_total"
        return int(
            sum(
                sample.value
                for sample in samples
                if sample.name == wanted and labels.items() <= sample.labels.items()
            )
        )

    def watch(self, read: Callable[[], Mapping[str, Any]]) -> None:
        """Show the figures that `read` returns: `queue`, `kv_cache`, `grammars`, `restarts`."""
        self._registry.register(_Figures(read))

    def text(self) -> bytes:
        """Return all figures in Prometheus' text format."""
        return generate_latest(self._registry)


class _Figures:
    """Figures that somebody else keeps, as metrics."""

    def __init__(self, read: Callable[[], Mapping[str, Any]]) -> None:
        self._read = read

    def describe(self) -> Iterable[Metric]:
        """Return nothing: names are known when the figures are."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Return the figures of this moment."""
        figures = self._read()
        requests = GaugeMetricFamily(f"{PREFIX}requests", "Requests by state", labels=["state"])
        for state, value in figures["queue"].items():
            requests.add_metric([state], value)
        yield requests
        yield from _tiers(figures["kv_cache"])
        grammars = CounterMetricFamily(
            f"{PREFIX}constrained_tokens", "Tokens that followed a grammar", labels=["kind"]
        )
        for kind, value in figures["grammars"].items():
            grammars.add_metric([kind], value)
        yield grammars
        restarts = CounterMetricFamily(
            f"{PREFIX}restarts", "Times that the generation loop began anew after a failure"
        )
        restarts.add_metric([], figures["restarts"])
        yield restarts


def _tiers(stats: Mapping[str, Any]) -> Iterator[Metric]:
    """Yield the figures of each tier, those of one name together."""
    lost = CounterMetricFamily(
        f"{PREFIX}lost_tokens", "Tokens of conversations that were computed again"
    )
    lost.add_metric([], stats.get("lost_tokens", 0))
    yield lost
    tiers = {name: tier for name, tier in stats.items() if isinstance(tier, Mapping)}
    for figure in dict.fromkeys(figure for tier in tiers.values() for figure in tier):
        kind = CounterMetricFamily if figure in _GROWING else GaugeMetricFamily
        family = kind(f"{PREFIX}kv_{figure}", "Of the KV cache, by tier", labels=["tier"])
        for name, tier in tiers.items():
            if figure in tier:
                family.add_metric([name], tier[figure])
        yield family
