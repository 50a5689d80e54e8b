"""What a request came to, in figures, and what many of them come to together.

Rules of this file:
- A figure that can't be known is None, and is left out of every median and ratio.
- Ratios are made pair by pair: the same step of the same round, on two servers.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

from .asking import Asked

# Of an answer that came in fewer pieces, most were held back: it has no rate.
TOKENS_PER_PIECE = 8
FEWEST_PIECES = 3
# How the dialects say that an answer was cut by its limit.
CUT = ("length", "max_tokens", "max_output_tokens")


@dataclass(frozen=True, slots=True)
class Row:
    """One request and what it came to; times in milliseconds since it was sent."""

    server: str
    round: int
    stream: int
    session: str
    turn: int
    label: str
    dialect: str
    began: float
    seconds: float
    status: int | None
    error: str | None
    finish: str | None
    first_token_ms: float | None
    first_argument_ms: float | None
    itl_p50_ms: float | None
    itl_p99_ms: float | None
    tokens_per_s: float | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    cached_share: float | None
    new_tokens: int | None
    recomputed_tokens: int | None
    recomputed_per_new: float | None
    deltas: int
    argument_deltas: int | None
    calls: int
    valid_calls: int
    cut_calls: int

    @property
    def key(self) -> tuple[Any, ...]:
        """What the same request has on each server."""
        return (self.round, self.stream, self.session, self.turn)

    def json(self) -> dict[str, Any]:
        """Return the row as it stands in a document."""
        return {
            name: round(value, 6) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True, slots=True)
class Place:
    """Where a request stands: who was asked, and which of all requests it was."""

    server: str
    round: int
    stream: int
    session: str
    turn: int
    label: str
    dialect: str


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure that servers are compared by; `name` is its field in a row."""

    name: str
    title: str
    better: Literal["lower", "higher"]
    digits: int = 0


FIGURES = (
    Figure("first_token_ms", "first token ms", "lower", 1),
    Figure("first_argument_ms", "first argument byte ms", "lower", 1),
    Figure("itl_p50_ms", "between deltas p50 ms", "lower", 2),
    Figure("itl_p99_ms", "between deltas p99 ms", "lower", 2),
    Figure("tokens_per_s", "tokens/s", "higher", 1),
    Figure("seconds", "whole answer s", "lower", 3),
    Figure("cached_share", "cached share of prompt", "higher", 3),
    Figure("recomputed_per_new", "computed per new token", "lower", 2),
    Figure("argument_deltas", "argument deltas", "higher", 0),
)


def row(place: Place, asked: Asked, known: int) -> Row:
    """Return the figures of an answer; `known` are the tokens that its conversation had before."""
    heard, times = asked.heard, asked.arrivals
    gaps = sorted(later - earlier for earlier, later in pairwise(times))
    prompt, cached = heard.prompt, heard.cached
    new = None if prompt is None else prompt - known
    computed = None if prompt is None or cached is None else prompt - cached
    return Row(
        **asdict(place),
        began=asked.began,
        seconds=asked.ended - asked.began,
        status=asked.status,
        error=heard.error,
        finish=heard.finish,
        first_token_ms=(times[0] - asked.began) * 1e3 if times else None,
        first_argument_ms=(
            None if asked.first_argument is None else (asked.first_argument - asked.began) * 1e3
        ),
        itl_p50_ms=quantile(gaps, 0.5, 1e3),
        itl_p99_ms=quantile(gaps, 0.99, 1e3),
        tokens_per_s=_rate(asked),
        prompt_tokens=prompt,
        completion_tokens=heard.completion,
        cached_tokens=cached,
        cached_share=None if prompt is None or cached is None else cached / max(1, prompt),
        new_tokens=new,
        recomputed_tokens=computed,
        recomputed_per_new=(None if computed is None or new is None or new < 1 else computed / new),
        deltas=len(times),
        argument_deltas=asked.argument_deltas if heard.calls else None,
        calls=len(heard.calls),
        valid_calls=sum(call.is_valid for call in heard.calls),
        # Of a call that was cut nobody expects that it can be read.
        cut_calls=int(heard.finish in CUT and not all(call.is_valid for call in heard.calls[-1:])),
    )


def _rate(asked: Asked) -> float | None:
    """Return tokens a second behind the first one, of an answer that came as it was generated."""
    tokens, times = asked.heard.completion, asked.arrivals
    if not tokens or len(times) < max(FEWEST_PIECES, tokens / TOKENS_PER_PIECE):
        return None
    return (tokens - 1) / (times[-1] - times[0]) if times[-1] > times[0] else None


def quantile(ordered: Sequence[float], share: float, factor: float = 1.0) -> float | None:
    """Return the value below which this share of them is; None if there are none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * factor if ordered else None


def median(values: Iterable[float | None]) -> float | None:
    """Return the median of what is known."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def total(values: Iterable[float | None]) -> float | None:
    """Return the sum of what is known."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def throughput(rows: Sequence[Row]) -> float | None:
    """Return the tokens a second of all streams together, while any of them was at work."""
    tokens = total(row.completion_tokens for row in rows)
    busy, until = 0.0, 0.0
    for began, ended in sorted((row.began, row.began + row.seconds) for row in rows):
        busy += max(0.0, ended - max(began, until))
        until = max(until, ended)
    return tokens / busy if tokens and busy else None


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Return what rows come to together: medians of times, sums of counts."""
    prompt = total(row.prompt_tokens for row in rows if row.cached_tokens is not None)
    cached = total(row.cached_tokens for row in rows)
    known = [row for row in rows if row.recomputed_per_new is not None]
    computed = total(row.recomputed_tokens for row in known)
    new = total(row.new_tokens for row in known)
    return {
        "requests": len(rows),
        "errors": sum(row.error is not None for row in rows),
        **{each.name: median(getattr(row, each.name) for row in rows) for each in FIGURES},
        "prompt_tokens": total(row.prompt_tokens for row in rows),
        "completion_tokens": total(row.completion_tokens for row in rows),
        "cached_tokens": cached,
        "cached_share": cached / prompt if cached is not None and prompt else None,
        "new_tokens": new,
        "recomputed_tokens": computed,
        "recomputed_per_new": computed / new if computed is not None and new else None,
        "argument_deltas": total(row.argument_deltas for row in rows) or 0,
        "calls": sum(row.calls for row in rows),
        "valid_calls": sum(row.valid_calls for row in rows),
        "cut_calls": sum(row.cut_calls for row in rows),
        "throughput_tokens_per_s": throughput(rows),
    }


@dataclass(frozen=True, slots=True)
class Ratio:
    """How a figure of one server stands to that of another, over all pairs."""

    least: float
    median: float
    most: float
    pairs: int


def ratio(figure: str, first: Iterable[Row], other: Iterable[Row]) -> Ratio | None:
    """Return a figure of `other` as a multiple of that of `first`; None if no pair has both."""
    base = {row.key: getattr(row, figure) for row in first}
    pairs = ((getattr(row, figure), base.get(row.key)) for row in other)
    return spread(pairs)


def spread(pairs: Iterable[tuple[float | None, float | None]]) -> Ratio | None:
    """Return the ratios of pairs: least, median and most."""
    found = [one / two for one, two in pairs if one is not None and two]
    return Ratio(min(found), statistics.median(found), max(found), len(found)) if found else None
