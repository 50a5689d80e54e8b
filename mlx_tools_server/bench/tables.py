"""Tables of figures, as text.

Rules of this file:
- A column says its unit; what is not known is a dash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .figures import FIGURES, Ratio, Row, median, summary, total

NONE = "-"

Column = tuple[str, int, Callable[[Mapping[str, Any]], str]]


def number(value: float | None, digits: int = 0) -> str:
    """Return a number for people."""
    return NONE if value is None else f"{value:,.{digits}f}"


def _plain(name: str, digits: int = 0) -> Callable[[Mapping[str, Any]], str]:
    return lambda row: number(row[name], digits)


def _share(row: Mapping[str, Any]) -> str:
    return NONE if row["cached_share"] is None else f"{row['cached_share']:.0%}"


def _again(row: Mapping[str, Any]) -> str:
    if row["recomputed_tokens"] is None or row["new_tokens"] is None:
        return NONE
    return f"{row['recomputed_tokens']:,.0f}/{row['new_tokens']:,.0f}"


def _calls(row: Mapping[str, Any]) -> str:
    cut = row["cut_calls"]
    bad = row["calls"] - row["valid_calls"] - cut
    notes = [f"{count:.0f} {what}" for count, what in ((bad, "bad"), (cut, "cut")) if count > 0]
    return f"{row['calls']:.0f} ({', '.join(notes)})" if notes else f"{row['calls']:.0f}"


TURN: Sequence[Column] = (
    ("first ms", 9, _plain("first_token_ms", 1)),
    ("arg ms", 9, _plain("first_argument_ms", 1)),
    ("p50 ms", 7, _plain("itl_p50_ms", 2)),
    ("p99 ms", 7, _plain("itl_p99_ms", 2)),
    ("tok/s", 6, _plain("tokens_per_s")),
    ("prompt", 8, _plain("prompt_tokens")),
    ("cached", 8, _plain("cached_tokens")),
    ("share", 6, _share),
    ("computed/new", 14, _again),
    ("said", 6, _plain("completion_tokens")),
    ("args", 5, _plain("argument_deltas")),
    ("calls", 5, _calls),
)
LEGEND = """\
first: the first piece of the answer; arg: the first byte of a call's arguments; p50, p99: between
two pieces; tok/s: behind the first one, if the answer came as it was made; computed/new: prompt
tokens that were not cached, and those that the conversation did not have before; args: pieces of
arguments. Times count from before the connection is opened."""


def turns(rows: Sequence[Row]) -> str:
    """Return the table of one server's requests, each the median of its repeats, and their sum."""
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.session, row.turn), []).append(row)
    heads = "".join(f" {title:>{width}}" for title, width, _ in TURN)
    lines = [f"{'session':<9} {'turn':<15}{heads} end"]
    for (session, turn), group in groups.items():
        label = f"{turn:>2} {group[0].label}"
        lines.append(f"{session[:9]:<9} {label[:15]:<15}{_cells(_middle(group))} {_ends(group)}")
    together = summary(rows)
    errors = together["errors"]
    lines.append(f"{'all':<25}{_cells(together)} {errors} error{'s' * (errors != 1)}")
    return "\n".join(lines)


def _cells(row: Mapping[str, Any]) -> str:
    return "".join(f" {show(row):>{width}}" for _, width, show in TURN)


def _middle(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the medians of the same request's figures; calls are added up."""
    names = ("prompt_tokens", "completion_tokens", "cached_tokens", "recomputed_tokens")
    figures = {name: median(getattr(row, name) for row in rows) for name in (*names, "new_tokens")}
    figures |= {each.name: median(getattr(row, each.name) for row in rows) for each in FIGURES}
    return figures | {
        name: total(getattr(row, name) for row in rows)
        for name in ("calls", "valid_calls", "cut_calls")
    }


def _ends(rows: Iterable[Row]) -> str:
    found = [row.error or row.finish or "no reason" for row in rows]
    return ", ".join(dict.fromkeys(each.splitlines()[0][:70] for each in found))


def comparison(document: Mapping[str, Any]) -> str:
    """Return the table of medians and ratios of `compare`'s document."""
    names = [server["name"] for server in document["servers"]]
    first = names[0]
    heads = "".join(f" {name[:12]:>12}" for name in names)
    ratios = "".join(f" {f'{name[:12]}/{first[:8]}':>26}" for name in names[1:])
    lines = [f"{'median':<24}{heads}{ratios}"]
    for title, digits, name in _compared():
        figures = document["figures"][name]
        cells = "".join(f" {number(figures['medians'][each], digits):>12}" for each in names)
        cells += "".join(f" {shown(figures['ratios'].get(each)):>26}" for each in names[1:])
        lines.append(f"{title:<24}{cells}")
    for name in ("requests", "errors", "calls", "valid_calls", "cut_calls"):
        cells = "".join(f" {number(document['sums'][each][name]):>12}" for each in names)
        lines.append(f"{name.replace('_', ' '):<24}{cells}")
    return "\n".join(lines)


def _compared() -> Iterable[tuple[str, int, str]]:
    for each in FIGURES:
        yield each.title, each.digits, each.name
    yield "all streams, tokens/s", 1, "throughput_tokens_per_s"


def shown(found: Mapping[str, Any] | None) -> str:
    """Return a ratio as least, median and most."""
    if found is None:
        return NONE
    return f"{found['least']:.2f}-{found['median']:.2f}-{found['most']:.2f} ({found['pairs']})"


def as_json(found: Ratio | None) -> dict[str, float] | None:
    """Return a ratio as it stands in a document."""
    if found is None:
        return None
    numbers = {name: round(getattr(found, name), 4) for name in ("least", "median", "most")}
    return {**numbers, "pairs": found.pairs}
