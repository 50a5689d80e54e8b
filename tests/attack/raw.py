"""Requests by hand on a plain socket: for who sends half of one, or leaves in its middle."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urlsplit

TIMEOUT = 30.0


@contextmanager
def connected(url: str, *, reset: bool = False) -> Iterator[socket.socket]:
    """Connect; at the end the connection is closed, or reset as by a client that was killed."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port), TIMEOUT) as sock:
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        yield sock


def head(method: str, path: str, length: int | None = 0) -> bytes:
    """Return the lines before a body; without a length it comes in chunks."""
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    lines = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{lines}{size}\r\n\r\n".encode()


def post(path: str, body: Mapping[str, Any]) -> bytes:
    """Return a whole request."""
    data = json.dumps(body).encode()
    return head("POST", path, len(data)) + data


def read_answer(sock: socket.socket) -> tuple[int, bytes]:
    """Return the status and the body of the next answer."""
    response = HTTPResponse(sock)
    response.begin()
    with response:
        return response.status, response.read()
