"""How long the generation loop decodes before it looks for new requests.

Rules of this file:
- It goes by a clock that never jumps. mlx-lm's own budget looks at the time of day: once that is
  set back, it would not end before all answers have.
- Nothing of mlx-lm is used here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator


class Slice:
    """Lasts so many seconds each time that it is iterated over."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __iter__(self) -> Iterator[None]:
        until = time.monotonic() + self._seconds
        while time.monotonic() <= until:
            yield
