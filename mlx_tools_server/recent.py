"""What was worked out of long texts and may be of use again.

Rules of this file:
- A text is known by its digest: what clients send is not kept for being looked up.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from typing import Generic, TypeVar

V = TypeVar("V")


class Recent(Generic[V]):
    """The values that were used last, at most `count`, by text; safe to use from many threads."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._lock = threading.Lock()
        self._values: OrderedDict[bytes, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, text: str) -> V | None:
        """Return what is known of a text; None if nothing is."""
        key = _digest(text)
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key]

    def put(self, text: str, value: V) -> None:
        """Keep what is known of a text; what was used longest ago goes for it."""
        with self._lock:
            self._values[_digest(text)] = value
            if len(self._values) > self._count:
                self._values.popitem(last=False)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()
