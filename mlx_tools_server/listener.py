"""Where clients connect: the socket, and room for those who have something to say.

Rules of this file:
- A connection costs a thread, so their number has a limit. Where it is reached, the one that has
  not sent its request for longest makes way, then the one that has idled longest; never one that
  is being served.
- A unix socket is for its owner alone, and is gone when the server is.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, TypeAlias

from .config import ServerConfig
from .errors import StartupError
from .open_files import SPARE_FILES, raise_limit

log = logging.getLogger(__name__)

# Connections that may wait to be accepted; agents open many at once.
BACKLOG = 512
# Seconds that a new connection may be silent before it can be made to leave.
GRACE = 1.0
# Seconds that a new connection waits for room.
PATIENCE = 2.0

Address: TypeAlias = tuple[str, int] | str
State: TypeAlias = Literal["asking", "served", "idle"]


class Connections:
    """The open connections, each with what it does and since when; at most `limit`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._changed = threading.Condition()
        self._open: dict[socket.socket, tuple[State, float]] = {}

    def __len__(self) -> int:
        with self._changed:
            return len(self._open)

    def enter(self, connection: socket.socket) -> bool:
        """Add a connection, waiting for room if need be; False if there is none."""
        until = time.monotonic() + PATIENCE
        with self._changed:
            while len(self._open) >= self._limit:
                if (leaving := self._next_to_leave()) is not None:
                    del self._open[leaving]
                    # Its thread reads the end of what it waits for, and closes it.
                    with contextlib.suppress(OSError):
                        leaving.shutdown(socket.SHUT_RDWR)
                elif (left := until - time.monotonic()) > 0:
                    self._changed.wait(min(left, GRACE / 4))
                else:
                    return False
            self._open[connection] = ("asking", time.monotonic())
        return True

    def note(self, connection: socket.socket, state: State) -> None:
        """Say what a connection does from now on."""
        with self._changed:
            if connection in self._open:
                self._open[connection] = (state, time.monotonic())
                if state == "idle":
                    self._changed.notify()

    def leave(self, connection: socket.socket) -> None:
        """Take a connection out."""
        with self._changed:
            self._open.pop(connection, None)
            self._changed.notify()

    def _next_to_leave(self) -> socket.socket | None:
        oldest: dict[str, socket.socket] = {}
        # What changed its state is entered anew nowhere, so the order is not that of age.
        for connection, (state, since) in sorted(self._open.items(), key=lambda item: item[1][1]):
            if state == "idle" or (state == "asking" and time.monotonic() - since > GRACE):
                oldest.setdefault(state, connection)
        return oldest.get("asking", oldest.get("idle"))


class Listener(ThreadingHTTPServer):
    """Accepts connections; each has its thread. Subclasses say in `finish_request` what it does."""

    daemon_threads = True
    request_queue_size = BACKLOG
    allow_reuse_address = True

    def __init__(self, config: ServerConfig, handler: Any) -> None:
        self.config = config
        self.connections = Connections(config.max_connections)
        self._uds = config.uds
        self._made: str | None = None
        raise_limit(config.max_connections + SPARE_FILES)
        place = config.uds or f"{config.host}:{config.port}"
        try:
            self.address_family, address = _address(config)
            with _private(self._uds):
                super().__init__(address, handler)  # type: ignore[arg-type]
        except OSError as error:
            remedy = "Choose another --port, or --host, or stop what uses it."
            raise StartupError(
                f"Can't listen on {place}: {error.strerror or error}",
                "Give a path that is free and short." if self._uds else remedy,
            ) from error

    def server_bind(self) -> None:
        """Bind; the base class would ask a name server who we are."""
        if self._uds:
            _remove_stale(self._uds)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self._made = self._uds
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "localhost", self.config.port

    def server_close(self) -> None:
        """Stop listening."""
        super().server_close()
        if self._made:
            with contextlib.suppress(OSError):
                os.unlink(self._made)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start the thread of a connection, if there is room for it."""
        if self.connections.enter(request):
            super().process_request(request, client_address)
        else:
            log.warning("A connection was closed: %d are being served", len(self.connections))
            self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        self.connections.leave(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what a connection's thread raised; most often the client has gone."""
        if not isinstance(sys.exception(), OSError):
            log.exception("a connection failed")

    @property
    def url(self) -> str:
        """Where clients reach the server."""
        if self._uds:
            return f"unix:{self._uds}"
        host, port = str(self.server_address[0]), self.server_address[1]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _address(config: ServerConfig) -> tuple[socket.AddressFamily, Address]:
    if config.uds:
        return socket.AF_UNIX, config.uds
    found = socket.getaddrinfo(
        config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return found[0][0], found[0][4]  # type: ignore[return-value]


@contextlib.contextmanager
def _private(uds: str | None) -> Iterator[None]:
    """Let what is made here be its owner's alone."""
    if uds is None:
        yield
        return
    before = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(before)


def _remove_stale(path: str) -> None:
    """Remove the socket of a server that is gone; raises OSError if one answers."""
    if not Path(path).is_socket():
        return  # binding says what is wrong with anything else
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise OSError("another server listens there")
