"""What of a machine's memory and disk is ours, as far as that can be said without mlx.

Rules of this file:
- The engine goes by these numbers and the doctor foretells it, so both read them here.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

# The part of the machine's memory that is ours where no GPU says what it has.
MEMORY_SHARE = 0.8
# The part of our memory that is left to what a step computes.
STEP_SHARE = 0.05
# Bytes of the disk that are left free.
DISK_FLOOR = 10 * 10**9
_CGROUP = Path("/sys/fs/cgroup/memory.max")


def physical_memory() -> int:
    """Return how many bytes of memory the machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def usable_memory() -> int:
    """Return how many of them a model and its requests may take, where no GPU says otherwise."""
    memory = physical_memory()
    with contextlib.suppress(OSError, ValueError):  # not limited any further
        memory = min(memory, int(_CGROUP.read_text()))
    return int(memory * MEMORY_SHARE)


def size(count: int) -> str:
    """Return a number of bytes as a person reads it."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} bytes"
