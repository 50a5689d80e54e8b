"""Notices when another machine is gone: a connection of our own, beside those of mlx.

Rules of this file:
- mlx's ring raises when a connection ends, its other backends wait for ever, and none notices a
  machine that stands still or lost its cable. Here the end of a connection without a goodbye is a
  loss, and so is silence.
- Sockets and threads only: nothing of this waits for mlx, and mlx waits for nothing of this.
- Who connects shows a token that the machines of the group share; nobody else is listened to.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable

# Seconds between two beats.
BEAT = 0.5
# Seconds of silence after which a machine is taken to be gone.
SILENCE = 15.0
# Seconds for which a connection is waited for.
CONNECT = 20.0
TOKEN_BYTES = 16

_RANK_BYTES = 2
_ALIVE, _GOODBYE = b".", b"!"


class Heartbeat:
    """The connections to the machines beside this one.

    `lost` is called with a machine's rank and what happened to it, in a thread of this.
    """

    def __init__(self, lost: Callable[[int, str], None], *, silence: float = SILENCE) -> None:
        self._lost = lost
        self._silence = silence
        self._closing = threading.Event()
        self._farewell = False
        self._listener: socket.socket | None = None
        self._threads: list[threading.Thread] = []

    def listen(self, host: str) -> int:
        """Wait for others at an address of this machine; return the port."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family)
        return int(self._listener.getsockname()[1])

    def connect(self, peer: int, host: str, port: int, *, rank: int, token: bytes) -> None:
        """Watch the machine that listens there; raises OSError if it can't be reached."""
        connection = socket.create_connection((host, port), timeout=CONNECT)
        connection.sendall(token + rank.to_bytes(_RANK_BYTES, "big"))
        self._watch(peer, connection)

    def accept(self, count: int, *, token: bytes) -> None:
        """Watch this many machines that connect; raises OSError if one doesn't."""
        if self._listener is None:
            return
        until = time.monotonic() + CONNECT
        while count:
            self._listener.settimeout(max(0.01, until - time.monotonic()))
            connection, _ = self._listener.accept()
            peer = _greeted(connection, token)
            if peer is None:
                connection.close()
                continue
            self._watch(peer, connection)
            count -= 1

    def close(self, *, farewell: bool) -> None:
        """Stop watching; without `farewell`, the others take this machine for lost."""
        self._farewell = farewell
        self._closing.set()
        if self._listener is not None:
            self._listener.close()
        for thread in self._threads:
            thread.join(2.0)

    def _watch(self, peer: int, connection: socket.socket) -> None:
        thread = threading.Thread(target=self._beat, args=(peer, connection), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _beat(self, peer: int, connection: socket.socket) -> None:
        with connection:
            try:
                reason = self._reason(connection)
            except OSError as error:
                reason = f"its connection broke ({error.strerror or error})"
        if reason and not self._closing.is_set():
            self._lost(peer, reason)

    def _reason(self, connection: socket.socket) -> str:
        """Beat until the end; return what happened to the other machine, "" if nothing did."""
        connection.setblocking(False)
        heard = time.monotonic()
        while not self._closing.wait(BEAT):
            with contextlib.suppress(BlockingIOError):
                connection.send(_ALIVE)
            # What came in comes first: this machine may have slept itself.
            try:
                data = connection.recv(4096)
            except BlockingIOError:
                if time.monotonic() - heard > self._silence:
                    return f"nothing was heard from it for {self._silence:g} s"
                continue
            if not data:
                return "its process has ended"
            if data.endswith(_GOODBYE):
                return ""
            heard = time.monotonic()
        if self._farewell:
            _part(connection)
        return ""


def _part(connection: socket.socket) -> None:
    """Say goodbye, and let the other machine read it: what ends with unread data is reset."""
    connection.settimeout(2 * BEAT)
    connection.sendall(_GOODBYE)
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(4096):
        pass


def _greeted(connection: socket.socket, token: bytes) -> int | None:
    """Return the rank of a machine that connected; None if it is none of the group."""
    connection.settimeout(CONNECT / 4)
    hello = b""
    with contextlib.suppress(OSError):
        while len(hello) < len(token) + _RANK_BYTES and (more := connection.recv(64)):
            hello += more
    if hello[: len(token)] != token or len(hello) < len(token) + _RANK_BYTES:
        return None
    return int.from_bytes(hello[len(token) : len(token) + _RANK_BYTES], "big")
