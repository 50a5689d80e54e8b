"""What all connections share: the turns of the loaded model, and whether more are taken.

Rules of this file:
- A request that comes while the model loads waits for it; one that comes while the server stops
  is told so at once.
- Live means that waiting helps; ready means that a request is answered now.
"""

from __future__ import annotations

import threading
import time
from typing import Literal, TypeAlias

from .errors import Overloaded
from .recording import Recorder
from .stored import Stored
from .turn import Turns

Status: TypeAlias = Literal["loading", "ok", "stopping", "failed"]


class Service:
    """The state of the server."""

    def __init__(self, recorder: Recorder | None = None) -> None:
        self.stored = Stored()
        self.recorder = recorder
        self._began = time.monotonic()
        self._turns: Turns | None = None
        self._loaded = threading.Event()
        self._stopping = False

    @property
    def status(self) -> Status:
        """What the server does."""
        if self._turns is not None and not self._turns.engine.is_healthy:
            return "failed"
        if self._stopping:
            return "stopping"
        return "loading" if self._turns is None else "ok"

    @property
    def uptime(self) -> float:
        """The seconds since the server began to listen."""
        return time.monotonic() - self._began

    @property
    def turns(self) -> Turns | None:
        """The turns of the loaded model; None while it loads."""
        return self._turns

    def open(self, turns: Turns) -> None:
        """Take requests: the model is loaded."""
        self._turns = turns
        self._loaded.set()

    def stop(self) -> None:
        """Take no more requests."""
        self._stopping = True
        self._loaded.set()

    def wait(self, timeout: float) -> Turns | None:
        """Return the turns of the model; None if `timeout` seconds pass before it is loaded."""
        self._loaded.wait(timeout)
        if self._stopping:
            raise Overloaded("The server is stopping. Send the request again in a moment.")
        return self._turns
