"""Work, counted instead of timed, so that a busy machine can't fail a test."""

from __future__ import annotations

import sys
from collections.abc import Callable


def calls_made(work: Callable[[], object]) -> int:
    """Return how many calls of Python and C functions some work makes."""
    count = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count
