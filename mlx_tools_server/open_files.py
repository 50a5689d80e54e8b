"""How many files the process may have open: each connection and each shard of a model is one.

Rules of this file:
- The limit is only ever raised, as far as the hard one goes, which stays as it is.
"""

from __future__ import annotations

import contextlib
import resource
import sys
from typing import Any

# Files that are open beside connections.
SPARE_FILES = 256


def raise_limit(wanted: int) -> None:
    """Let the process open as many files as it may need: some systems allow 256 by default."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def ask_for(module: str) -> None:
    """Raise the limit to what `module`, imported later, would set it to, in place of setting it."""
    setrlimit = resource.setrlimit

    def guarded(which: int, limits: Any, /) -> None:
        if sys._getframe(1).f_globals.get("__name__") != module:
            setrlimit(which, limits)
        elif which == resource.RLIMIT_NOFILE:
            raise_limit(limits[0])

    resource.setrlimit = guarded
