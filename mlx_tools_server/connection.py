"""The bytes of one HTTP connection: bodies in, answers and streams out.

Rules of this file:
- A body is read within its time and size, or its connection ends: what is left of it would be
  taken for the next request.
- Every header method of mlx-lm's handler is overridden: it lets any web page in.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
from collections.abc import Iterator
from typing import Any

from . import __version__
from .auth import cors_headers
from .config import ServerConfig
from .dialects.base import openai_error
from .engine.seams import APIHandler
from .errors import (
    BadRequest,
    LengthRequired,
    RequestError,
    RequestTimeout,
    TooLarge,
)
from .wire import Fields, parse_json, to_json

log = logging.getLogger(__name__)

# Seconds a client may take to send its request or to read what it was sent.
TIMEOUT = 120.0
MAX_BODY = 64 << 20


class Connection(APIHandler):  # type: ignore[misc]
    """Reads requests and writes answers; `_serve` is left to subclasses."""

    protocol_version = "HTTP/1.1"
    server_version = f"mlx-tools-server/{__version__}"
    sys_version = ""
    timeout = TIMEOUT
    # Each event must leave at once, not wait for the next.
    disable_nagle_algorithm = True

    def __init__(self, config: ServerConfig, *args: Any, **kwargs: Any) -> None:
        self._config = config
        self._started = False
        self._body_waits = False
        # What the answer says of itself in its headers.
        self._about: dict[str, str] = {}
        super().__init__(*args, **kwargs)

    def do_GET(self) -> None:
        """Answer a GET."""
        self._begin("GET")

    def do_HEAD(self) -> None:
        """Answer a HEAD: the headers of a GET."""
        self._begin("GET")

    def do_POST(self) -> None:
        """Answer a POST."""
        self._begin("POST")

    def do_DELETE(self) -> None:
        """Answer a DELETE."""
        self._begin("DELETE")

    def do_OPTIONS(self) -> None:
        """Answer a browser that asks whether its page may send a request."""
        self._begin("OPTIONS")

    def _begin(self, method: str) -> None:
        """Answer one request: the boundary at which every error becomes an answer."""
        self._started = False
        self._about = {}
        # A body that is not read would be taken for the next request of the connection.
        self._body_waits = self._has_body()
        try:
            self._serve(method)
        except RequestError as error:
            self._send_error(error)
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        except Exception:
            log.exception("a request failed")
            self._send_error(RequestError("The server failed on this request; its log says why."))

    def _serve(self, method: str) -> None:
        raise NotImplementedError

    def _error_body(self, error: RequestError) -> dict[str, Any]:
        """Return an error in the form that the client reads."""
        return openai_error(error)

    def _client_left(self) -> bool:
        poll = select.poll()  # unlike select(), it takes any number of open files
        poll.register(self.connection, select.POLLIN)
        try:
            return bool(poll.poll(0)) and not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    # Bytes.

    def _has_body(self) -> bool:
        return self.headers.get("Content-Length", "0") != "0" or self._in_chunks

    @property
    def _in_chunks(self) -> bool:
        return "chunked" in (self.headers.get("Transfer-Encoding") or "").lower()

    def _read_body(self) -> Fields:
        raw = self._read_raw()
        self._body_waits = False
        return parse_json(raw)

    def _read_raw(self) -> bytes:
        if self._in_chunks:
            return b"".join(self._read_chunks())
        length = self.headers.get("Content-Length")
        if length is None:
            raise LengthRequired("Send Content-Length, or the body in chunks.")
        if not length.isdecimal():
            raise BadRequest(f"Content-Length must be a number, not {length[:40]!r}.")
        if int(length) > MAX_BODY:
            raise TooLarge(f"The body has {length} bytes; {MAX_BODY} are accepted.")
        return self._read_exactly(int(length))

    def _read_chunks(self) -> Iterator[bytes]:
        total = 0
        while True:
            line = self._read_line().partition(b";")[0].strip()
            try:
                size = int(line, 16)
            except ValueError:
                raise BadRequest("The chunked body is malformed.") from None
            total += size
            if size < 0 or total > MAX_BODY:
                raise TooLarge(f"The body has more than the {MAX_BODY} bytes that are accepted.")
            if size == 0:
                while self._read_line().strip():
                    pass
                return
            yield self._read_exactly(size)
            self._read_line()

    def _read_exactly(self, size: int) -> bytes:
        try:
            data: bytes = self.rfile.read(size)
        except TimeoutError:
            raise RequestTimeout(f"The body did not come within {TIMEOUT:g} s.") from None
        if len(data) < size:
            raise ConnectionAbortedError
        return data

    def _read_line(self) -> bytes:
        line: bytes = self.rfile.readline(4096)
        return line

    def _send(self, status: int, body: dict[str, Any] | None) -> None:
        self.close_connection = self.close_connection or self._body_waits
        data = b"" if body is None else to_json(body).encode()
        self._set_completion_headers(status)
        if status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _send_error(self, error: RequestError) -> None:
        """Answer with an error; once the answer has begun, only closing is left."""
        if self._started:
            self.close_connection = True
            return
        with contextlib.suppress(ConnectionError, TimeoutError):
            self._send(error.status, self._error_body(error))

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a request that the base class can't read, in the same envelope."""
        if not hasattr(self, "headers"):  # not even its first lines were HTTP
            super().send_error(code, message, explain)
            return
        self._started = False  # it may be true of the connection's last request
        error = BadRequest(message or explain or "The request can't be understood.")
        error.status = code
        self.close_connection = True
        self._send_error(error)

    def _write_chunk(self, data: bytes) -> None:
        """Write a piece of a stream; an empty piece ends it."""
        if self.request_version == "HTTP/1.0":
            self.wfile.write(data)
        else:
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _set_completion_headers(self, status_code: int = 200) -> None:
        self._started = True
        self.send_response(status_code)
        self.send_header("Content-Type", "application/json")
        if status_code == 503:
            self.send_header("Retry-After", "5")
        if self.close_connection:
            self.send_header("Connection", "close")
        self._set_about_headers()

    def _set_stream_headers(self, status_code: int = 200) -> None:
        self._started = True
        self.send_response(status_code)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Cache-Control", "no-cache")
        self.send_header("X-Accel-Buffering", "no")
        if self.request_version == "HTTP/1.0":
            self.close_connection = True
        else:
            self.send_header("Transfer-Encoding", "chunked")
        self._set_about_headers()
        self.end_headers()

    def _set_about_headers(self) -> None:
        self._set_cors_headers()
        for name, value in self._about.items():
            self.send_header(name, value)

    def _set_cors_headers(self) -> None:
        for name, value in cors_headers(self._config, self.headers.get("Origin")).items():
            self.send_header(name, value)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class names it
        """Log one line a request, without its content."""
        log.debug("%s %s", self.address_string(), format % args)
