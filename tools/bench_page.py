"""The page docs/benchmarks.md, rendered from the samples of `python -m tools.benchmarks`.

Rules of this file:
- It is pure: results in, text out. All figures, versions and commands are those of the results.
- A cell has the median of the rounds; a ratio is the median of the ratios to ours, round by round.
- What we lose is found by the same rule as what we win, and stands before it.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

OURS = "ours"
# A difference below this share is noise.
MARGIN = 0.05

TITLES = {
    "agent": "Agents' traffic, demo model",
    "calls": "Are calls right?",
    "text": "One conversation, real model",
    "streams": "Several at once, demo model",
    "restart": "Restarts",
    "start": "Start and memory",
}
WORDS = {
    "agent": """\
A conversation as a coding agent has it, played by `mlx-tools-server bench compare`: a long system
prompt, twelve tools, calls and growing results, on the demo model. It calls tools, and computes so
little that what is left is mostly the servers' own work.""",
    "calls": """\
The model says, token by token, what a case of `tests/data/qwen3_coder.jsonl` has it say. Counted
are the answers in which the client got exactly the calls that stand there. Only cases on which any
parser has to agree take part: level "must", not cut, without options. They were written for this
project, so they ask what it cares about. Ours runs with `--constrain off` here: measured is its
parser, not the grammar that keeps a model from such mistakes.""",
    "text": """\
SmolLM2-135M-Instruct in 4 bits: a first turn that no cache has seen, and the second turn of the
same conversation. llama.cpp computes the same weights, from the GGUF file that they come from, with
kernels of its own: its figures compare engines, not servers.""",
    "streams": """\
Several clients at once let the demo model write a file each, up to 96 tokens, other words in each
round. Processor time is that of all threads of the server, and hardly depends on what else the
machine does.""",
    "restart": """\
A conversation of about 2,300 tokens with the demo model goes on: in the same process, after SIGKILL
two seconds after the last answer, and after SIGTERM.""",
    "start": """\
Each server alone with the demo model: from its start to the answer to a request for one token, and
what its processes hold in memory (RSS).""",
}


# The sections with a chart: its title, and the unit of the figures that are in it.
CHARTS = {
    "streams": ("Tokens a second of all clients together: longer is better", "/s"),
    "restart": ("Share of the prompt that is still cached: longer is better", "%"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """A figure of a section, with what each server's rounds came to."""

    section: str
    name: str
    unit: str
    better: str
    samples: Mapping[str, Sequence[float | None]]

    def median(self, server: str) -> float | None:
        """Return the median of the rounds that have a value."""
        values = [value for value in self.samples.get(server, ()) if value is not None]
        return statistics.median(values) if values else None

    def ratios(self, server: str) -> list[float]:
        """Return the ratio to ours in each round that both have a value for."""
        pairs = zip(self.samples.get(server, ()), self.samples.get(OURS, ()), strict=False)
        return [theirs / ours for theirs, ours in pairs if theirs is not None and ours]

    def verdict(self, server: str) -> int:
        """Return 1 where the server is better than ours, -1 where it is worse, 0 within noise.

        Medians and ratios may disagree: it is better if one of them says so, worse only if both do.
        """
        ours, theirs, ratios = self.median(OURS), self.median(server), self.ratios(server)
        if not self.better or ours is None or theirs is None:
            return 0
        told = [self._compare(ours, theirs)]
        told += [self._compare(1.0, statistics.median(ratios))] if ratios else []
        return 1 if 1 in told else min(told) if len(set(told)) == 1 else 0

    def _compare(self, ours: float, theirs: float) -> int:
        if self.better == "lower":
            ours, theirs = -ours, -theirs
        if theirs - ours > MARGIN * abs(ours):
            return 1
        return -1 if ours - theirs > MARGIN * abs(theirs) else 0


def rows(result: Mapping[str, Any]) -> list[Row]:
    """Return the figures of a section's result."""
    return [
        Row(result["section"], name, figure["unit"], figure["better"], figure["samples"])
        for name, figure in result["figures"].items()
    ]


def servers_of(found: Sequence[Row]) -> list[str]:
    """Return the servers of these rows, ours first."""
    names = dict.fromkeys(name for row in found for name in row.samples)
    return sorted(names, key=lambda name: name != OURS)


def number(value: float | None) -> str:
    """Write a figure with three digits, or a dash."""
    if value is None:
        return "-"
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def table(found: Sequence[Row]) -> str:
    """Return the figures as a table: a row each, a column for each server."""
    names = servers_of(found)
    lines = [
        "| | unit | " + " | ".join(names) + " |",
        "| --- | --- | " + " | ".join("---:" for _ in names) + " |",
    ]
    for row in found:
        cells = [_cell(row, name) for name in names]
        lines.append(f"| {row.name} | {row.unit} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(row: Row, name: str) -> str:
    shown = number(row.median(name))
    ratios = row.ratios(name)
    if name == OURS or not ratios or not row.better:
        return shown
    shown = f"{shown} ({statistics.median(ratios):.2f}×)"
    return f"**{shown}**" if row.verdict(name) > 0 else shown


def charted(result: Mapping[str, Any]) -> list[Row]:
    """Return the figures of a section that are in its chart."""
    _, unit = CHARTS[result["section"]]
    return [row for row in rows(result) if row.unit == unit]


def differences(found: Sequence[Row], verdict: int) -> Iterator[str]:
    """Yield a line for each figure and server with this verdict, with the spread of its ratios."""
    for row in found:
        for name in servers_of([row])[1:]:
            if row.verdict(name) != verdict:
                continue
            ours, theirs = number(row.median(OURS)), number(row.median(name))
            ratios = row.ratios(name)
            spread = f", {min(ratios):.2f} to {max(ratios):.2f} times ours" if ratios else ""
            unit = f" {row.unit}" if row.unit else ""
            yield (
                f"- {TITLES[row.section]}, {row.name}: {name} {theirs}{unit}, ours {ours}"
                f"{unit}{spread}"
            )


def won(found: Sequence[Row]) -> Iterator[str]:
    """Yield a line for each figure in which ours is better than every other that has it."""
    for row in found:
        others = [name for name in servers_of([row])[1:] if row.median(name) is not None]
        if others and all(row.verdict(name) < 0 for name in others):
            best = min(others, key=lambda name: _rank(row, name))
            unit = f" {row.unit}" if row.unit else ""
            yield (
                f"- {TITLES[row.section]}, {row.name}: ours {number(row.median(OURS))}{unit}, the "
                f"next best ({best}) {number(row.median(best))}{unit}"
            )


def _rank(row: Row, name: str) -> float:
    value = row.median(name) or 0.0
    return value if row.better == "lower" else -value


def page(results: Mapping[str, Mapping[str, Any]], missing: Mapping[str, str]) -> str:
    """Return the page: what was measured, what we lose, what we win, and all tables."""
    kept = [results[name] for name in TITLES if name in results]
    found = [row for result in kept for row in rows(result)]
    losses, wins = list(differences(found, 1)), list(won(found))
    parts = [_head(kept, missing), "## What we lose", _lost_words(losses), "## What we win"]
    parts += ["Figures in which ours is better than every other server that has them.\n"]
    parts[-1] += "\n" + ("\n".join(wins) or "Nothing.")
    for result in kept:
        name = result["section"]
        parts += [f"## {TITLES[name]}", WORDS[name]]
        if name in CHARTS:
            parts.append(f"![{CHARTS[name][0]}](images/benchmarks-{name}.svg)")
        parts += [table(rows(result)), _below(result)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _lost_words(losses: Sequence[str]) -> str:
    if not losses:
        return f"No other server is better than ours by more than {MARGIN:.0%}."
    first = f"Every figure in which another server is better by more than {MARGIN:.0%}."
    return first + "\n\n" + "\n".join(losses)


def _head(kept: Sequence[Mapping[str, Any]], missing: Mapping[str, str]) -> str:
    lines = [
        "<!-- Written by `python -m tools.benchmarks`; what is changed by hand is lost. -->",
        "# Benchmarks",
        "",
        "`make benchmarks` sets up the other servers, plays the same requests to all of them, and "
        "writes this page; `python -m tools.benchmarks --render` writes it again from the figures "
        "of the last run. A cell is the median of the rounds; in brackets is the median of the "
        "ratios to ours, round by round; bold is what is better than ours by more than "
        f"{MARGIN:.0%}, by one or the other. A dash is what a server doesn't tell, or didn't do.",
        "",
    ]
    if kept:
        machines = dict.fromkeys(f"{one['machine']}; {one['at'][:10]}" for one in kept)
        lines += [f"Machine: {line}." for line in machines]
        lines += ["mlx has its CPU backend here; nothing was measured on a GPU.", ""]
        versions: dict[str, Any] = {}
        for result in kept:
            versions.update(result["servers"])
        lines += ["| server | version | command |", "| --- | --- | --- |"]
        lines += [
            f"| {name} | {told['title']} {told['version']} | `{told['command']}` |"
            for name, told in versions.items()
        ]
    lines += ["", *(f"Not measured: {name}: {reason}." for name, reason in missing.items())]
    return "\n".join(lines)


def _below(result: Mapping[str, Any]) -> str:
    rounds, errors = result["rounds"], result["errors"]
    words = f"{rounds} round{'s' if rounds != 1 else ''}."
    if load := result.get("load"):
        words += f" Load of the machine before and after: {load[0]:.1f}, {load[1]:.1f}."
        # What is measured keeps about as many threads busy as there are cores, and few more.
        if max(load) > 2 * result["cores"]:
            words += " The machine had other work than this: times are noisy, counts are not."
    if errors and result["section"] != "calls":
        shown = "; ".join(dict.fromkeys(errors[:3]))
        words += f" {len(errors)} requests failed: {shown}."
    return words
