"""How memory that was freed goes back to the system: glibc keeps most of it by itself.

Rules of this file:
- Everywhere but on glibc nothing is done; what the operator has set by `MALLOC_…` counts.
- Free pages are given back while nobody is served: that takes some milliseconds.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from typing import Any

# Parameters of `mallopt`, from glibc's malloc.h.
_MMAP_THRESHOLD = -3
_ARENA_MAX = -8
# What each thread frees lies between what is kept, in a pool of its own: few threads need few.
ARENAS = 2
# Blocks of this size are the system's own pages, which go back when they are freed.
LARGE = 128 << 10
# Seconds between two times that pages are given back.
EVERY = 30.0


def _libc() -> Any:
    """Return glibc; None on any other system."""
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None


def set_up() -> None:
    """Let malloc keep less of what was freed; before the first threads are started."""
    libc = _libc()
    if libc is None:
        return
    if "MALLOC_ARENA_MAX" not in os.environ:
        libc.mallopt(_ARENA_MAX, ARENAS)
    if "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        libc.mallopt(_MMAP_THRESHOLD, LARGE)


class Trimming:
    """Gives free pages back once a server rests that has done something since the last time."""

    def __init__(self, done: Callable[[], int]) -> None:
        self._trim = getattr(_libc(), "malloc_trim", None)
        self._done = done
        self._seen = 0
        self._next = time.monotonic() + EVERY

    def look(self, *, rests: bool) -> bool:
        """Give pages back if it is time to; return whether that was done."""
        if self._trim is None or not rests or time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + EVERY
        done = self._done()
        if done == self._seen:
            return False
        self._seen = done
        self._trim(0)
        return True
