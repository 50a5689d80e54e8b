"""What happened how often.

Rules of this file:
- Whoever counts and whoever reads may be in different threads.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping


class Counters:
    """Counts by name; safe to use from many threads. `names` are there from the start."""

    def __init__(self, *names: str) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter(dict.fromkeys(names, 0))

    def add(self, name: str, amount: int = 1) -> None:
        """Count something."""
        with self._lock:
            self._counts[name] += amount

    def snapshot(self) -> Mapping[str, int]:
        """Return all counts."""
        with self._lock:
            return dict(self._counts)
