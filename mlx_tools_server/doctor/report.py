"""Findings as a person and as a program reads them.

Rules of this file:
- The list is short: a finding that is ok is one line; the others say why it matters and what to do.
- Colours only on a terminal, and never where NO_COLOR is set.
- The keys of the JSON document are a promise; a new `format` says that one has changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from .. import __version__
from .finding import Finding

FORMAT = 1
MARKS = {"ok": "ok", "warning": "warning", "problem": "PROBLEM", "skipped": "-", "failed": "FAILED"}
_COLOURS = {"ok": 32, "warning": 33, "problem": 31, "failed": 31, "skipped": 2}
_MARK, _TITLE = 8, 14


def wants_colour(stream: TextIO, env: Mapping[str, str]) -> bool:
    """Return whether to write colours there (https://no-color.org)."""
    return stream.isatty() and not env.get("NO_COLOR") and env.get("TERM") != "dumb"


def line(status: str, title: str, text: str, *, colour: bool) -> str:
    """Return one line of a list; further lines of the text stand under its first."""
    mark = f"{MARKS[status]:<{_MARK}}"
    if colour:
        mark = f"\033[{_COLOURS[status]}m{mark}\033[0m"
    indent = "\n" + " " * (_MARK + _TITLE + 2)
    return f"{mark} {title:<{_TITLE}} {indent.join(text.splitlines())}".rstrip()


def as_text(findings: Sequence[Finding], *, colour: bool) -> str:
    """Return the list, and at its end what it comes to."""
    lines = []
    for one in findings:
        text = one.seen
        if one.status in ("warning", "problem"):
            text += f"\nwhy: {one.why}\ndo:  {one.remedy}"
        elif one.remedy:
            text += f". {one.remedy}"
        lines.append(line(one.status, one.title, text, colour=colour))
    return "\n".join([*lines, "", _sum(findings)])


def as_json(findings: Sequence[Finding]) -> str:
    """Return the findings as one JSON document."""
    document: dict[str, Any] = {
        "format": FORMAT,
        "version": __version__,
        "ok": exit_code(findings) == 0,
        "problems": _count(findings, "problem"),
        "warnings": _count(findings, "warning"),
        "checks": [one.as_json() for one in findings],
    }
    return json.dumps(document, indent=2, ensure_ascii=False, default=str)


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 1 if there is a problem."""
    return 1 if _count(findings, "problem") else 0


def _count(findings: Sequence[Finding], status: str) -> int:
    return sum(one.status == status for one in findings)


def _sum(findings: Sequence[Finding]) -> str:
    problems, warnings = _count(findings, "problem"), _count(findings, "warning")
    if not (problems or warnings):
        return "Nothing is wrong."
    told = [
        f"{count} {word}{'s' if count > 1 else ''}"
        for count, word in ((problems, "problem"), (warnings, "warning"))
        if count
    ]
    return f"{' and '.join(told)}. " + (
        "The server will not work like this." if problems else "The server works."
    )
