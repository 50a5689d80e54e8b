"""Pictures of the figures, for `--plot`.

Rules of this file:
- It is made of the document that `--json` writes, and of nothing else.
- matplotlib is imported when a picture is wanted; no other part needs it.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import StartupError

# What is drawn, with the titles of its axes; times have a scale of their own.
PANELS = (
    ("first_token_ms", "time to first token, ms", True),
    ("first_argument_ms", "time to first argument byte, ms", True),
    ("itl_p50_ms", "between two deltas, median, ms", True),
    ("tokens_per_s", "tokens/s", False),
    ("cached_share", "cached share of the prompt", False),
    ("recomputed_per_new", "prompt tokens computed per new one", True),
)
MARKERS = "osD^vPX*"


def check() -> None:
    """Refuse to draw where matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise StartupError(
            "--plot needs matplotlib, which is not installed",
            "Run: pip install 'mlx-tools-server[plot]'.",
        ) from None


def draw(document: Mapping[str, Any], path: str) -> None:
    """Draw a document into a file, whose ending gives its form."""
    check()
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    steps = _steps(document["rows"])
    figure = Figure(figsize=(12, 10), layout="constrained")
    for axes, (name, title, logarithmic) in zip(figure.subplots(3, 2).flat, PANELS, strict=True):
        for number, server in enumerate(document["servers"]):
            values = _medians(document["rows"], server["name"], name, steps)
            axes.plot(
                range(1, len(steps) + 1),
                values,
                label=server["name"],
                marker=MARKERS[number % len(MARKERS)],
                markersize=4,
                linewidth=1,
            )
            if logarithmic and any(value == value and value > 0 for value in values):
                axes.set_yscale("log")
        axes.set_title(title, fontsize=10, loc="left")
        axes.set_xlabel("request", fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(visible=True, alpha=0.3)
    figure.axes[0].legend(fontsize=9)
    figure.suptitle(_heading(document), fontsize=9)
    try:
        figure.savefig(path)
    except OSError as error:
        raise StartupError(f"{path} can't be written: {error.strerror}", "Give another.") from None


def _heading(document: Mapping[str, Any]) -> str:
    models = dict.fromkeys(str(server["model"]) for server in document["servers"])
    return (
        f"{', '.join(models)}; {document['traffic']} traffic, {document['rounds']} rounds, "
        f"{document['streams']} at once; {document['machine']}; {document['date']}"
    )


def _steps(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, int]]:
    """Return the requests in their order."""
    return list(dict.fromkeys((row["session"], row["turn"]) for row in rows))


def _medians(
    rows: Sequence[Mapping[str, Any]], server: str, name: str, steps: Sequence[tuple[str, int]]
) -> list[float]:
    """Return a figure for each request, the median of its repeats; NaN where it is not known."""
    found: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        if row["server"] == server and row[name] is not None:
            found.setdefault((row["session"], row["turn"]), []).append(row[name])
    return [statistics.median(found[step]) if step in found else float("nan") for step in steps]
