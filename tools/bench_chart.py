"""Bars of medians as SVG, for docs/images.

Rules of this file:
- It is pure, and needs no library: figures in, text out.
- Every bar has its value beside it, so that nothing is said by colour alone; the ground is white,
  so that it can be read on dark pages too.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from tools.bench_page import OURS, Row, number, servers_of

WIDTH, LABEL, BAR, GAP = 720, 150, 16, 4
GROUP, HEAD = 28, 40
OUR_COLOUR, OTHERS_COLOUR = "#0969da", "#8c959f"


def bars(title: str, found: Sequence[Row]) -> str:
    """Return a chart with a group of bars for each figure, a bar for each server."""
    top, parts = HEAD, [_text(16, 26, title, "bold")]
    for row in found:
        parts.append(_text(16, top + 16, f"{row.name}, {row.unit}" if row.unit else row.name))
        top += GROUP
        known = [(name, row.median(name)) for name in servers_of([row])]
        longest = max((value for _, value in known if value is not None), default=0.0)
        for name, value in known:
            parts += _bar(top, name, value, longest)
            top += BAR + GAP
        top += GAP
    size = f'width="{WIDTH}" height="{top + GAP}" viewBox="0 0 {WIDTH} {top + GAP}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
    ground = f'<title>{escape(title)}</title><rect width="100%" height="100%" fill="#ffffff"/>'
    return "\n".join([head, ground, *parts, "</svg>"]) + "\n"


def _bar(top: int, name: str, value: float | None, longest: float) -> list[str]:
    room = WIDTH - LABEL - 90
    length = room * (value or 0.0) / longest if longest else 0.0
    colour = OUR_COLOUR if name == OURS else OTHERS_COLOUR
    return [
        _text(LABEL - 8, top + 12, name, anchor="end"),
        f'<rect x="{LABEL}" y="{top}" width="{length:.1f}" height="{BAR}" fill="{colour}"/>',
        _text(LABEL + int(length) + 6, top + 12, number(value)),
    ]


def _text(x: int, y: int, words: str, weight: str = "normal", anchor: str = "start") -> str:
    font = f'font-family="sans-serif" font-size="12" font-weight="{weight}"'
    return f'<text x="{x}" y="{y}" {font} text-anchor="{anchor}">{escape(words)}</text>'
