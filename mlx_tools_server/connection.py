"""The bytes of one HTTP connection: requests in, answers and streams out.

Rules of this file:
- A body is read within its time and size, or its connection ends: what is left of it would be
  taken for the next request.
- Whatever is wrong with a request, its first line included, is answered in the dialect's envelope.
- Every header method of mlx-lm's handler is overridden: it lets any web page in.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import secrets
import select
import socket
import time
from collections.abc import Callable
from email.message import Message
from http import HTTPStatus
from typing import Any

from . import __version__
from .auth import cors_headers
from .config import ServerConfig
from .dialects.base import openai_error
from .engine.seams import APIHandler
from .errors import BadRequest, MethodNotAllowed, RequestError, RequestTimeout
from .inlet import (
    BODY_SECONDS,
    HEADER_SECONDS,
    IDLE_SECONDS,
    WRITE_SECONDS,
    HeaderLines,
    Inlet,
    body_length,
    read_body,
)
from .listener import State
from .logs import REQUEST
from .wire import Fields, parse_json, to_json

log = logging.getLogger(__name__)

# What is understood; a HEAD is a GET whose answer has headers only.
METHODS = ("GET", "HEAD", "POST", "DELETE", "OPTIONS")
MAX_REQUEST_LINE = 65536
# Empty lines before a request that are taken for none.
MAX_EMPTY_LINES = 4
# Seconds and bytes for which a client is heard out that was refused before it had sent all: a
# connection that is closed on unread bytes may lose the answer.
LINGER_SECONDS = 5.0
LINGER_BYTES = 1 << 30
_ID = re.compile(r"[\w.:-]{1,80}", re.ASCII)


class Connection(APIHandler):  # type: ignore[misc]
    """Reads requests and writes answers; `_serve` is left to subclasses.

    `note` hears what the connection does.
    """

    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.0"
    server_version = f"mlx-tools-server/{__version__}"
    sys_version = ""
    timeout = WRITE_SECONDS

    def __init__(
        self, config: ServerConfig, note: Callable[[State], None], *args: Any, **kwargs: Any
    ) -> None:
        self._config = config
        self._note = note
        self._forget()
        super().__init__(None, *args, **kwargs)

    def _forget(self) -> None:
        """Begin a request: nothing is left of the one before."""
        self.command = self.path = self.requestline = ""
        self.request_version = self.protocol_version
        self.headers: Any = Message()
        self._started = False
        self._body_waits = False
        self._continue_wanted = False
        self._content_type = "application/json"
        # What the answer says of itself in its headers.
        self._about: dict[str, str] = {}

    def _name(self) -> None:
        """Give the request an id, for its answer and the log: the client's own, if sound."""
        given = self.headers.get("X-Request-Id") or ""
        name = given if _ID.fullmatch(given) else f"req_{secrets.token_hex(8)}"
        REQUEST.set(name)
        # OpenAI's clients read the one, Anthropic's the other.
        self._about |= {"X-Request-Id": name, "Request-Id": name}

    def setup(self) -> None:
        """Open the connection, whose input has time limits."""
        super().setup()
        if self.connection.family != socket.AF_UNIX:
            # Each event must leave at once, not wait for the next.
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.rfile.close()
        self._inlet = Inlet(self.connection)
        self.rfile: Any = io.BufferedReader(self._inlet, 1 << 16)
        self._inlet.allow(HEADER_SECONDS)

    def handle_one_request(self) -> None:
        """Read one request and answer it; the connection stays open if the next may come."""
        self._forget()
        asked = False
        try:
            if not self._asked():
                self.close_connection = True
                return
            asked = True
            self._note("asking")
            self._inlet.allow(HEADER_SECONDS)
            self.raw_requestline = self.rfile.readline(MAX_REQUEST_LINE + 1)
            if len(self.raw_requestline) > MAX_REQUEST_LINE:
                self.send_error(HTTPStatus.REQUEST_URI_TOO_LONG)
            elif self.parse_request():
                self._begin()
        except TimeoutError:
            self.close_connection = True
            if asked:
                self._send_error(RequestTimeout(f"Send a request within {HEADER_SECONDS:g} s."))
        except ConnectionError:
            self.close_connection = True
        self._note("idle")
        self._inlet.allow(IDLE_SECONDS)

    def _asked(self) -> bool:
        """Wait for a request; some clients end a body by an empty line, which is none."""
        for _ in range(MAX_EMPTY_LINES + 1):
            begin = self.rfile.peek(1)[:1]
            if begin not in (b"\r", b"\n"):
                return bool(begin)
            self.rfile.readline(2)
        return False

    def parse_request(self) -> bool:
        """Read the first line and the headers; False if what is wrong with them has been said."""
        stream, self.rfile = self.rfile, HeaderLines(self.rfile)
        try:
            understood = bool(super().parse_request())
            said = ",".join(self.headers.get_all("Connection") or ()).lower().split(",")
            # The base class knows it only where it stands alone.
            self.close_connection |= "close" in map(str.strip, said)
            return understood
        except BadRequest as error:
            self.send_error(error.status, error.message)
            return False
        finally:
            self.rfile = stream

    def finish(self) -> None:
        """Close the connection, so that what was sent last arrives."""
        with contextlib.suppress(OSError):
            if self._body_waits:
                self._linger()
        super().finish()
        self._inlet.close()

    def handle_expect_100(self) -> bool:
        """Leave it open whether the body may come until it is known that it will be read."""
        self._continue_wanted = True
        return True

    def _begin(self) -> None:
        """Answer one request: the boundary at which every error becomes an answer."""
        self._name()
        try:
            self._body_waits = True  # what follows a request that can't be read is not another
            if not self.request_version.startswith("HTTP/1."):
                self.request_version = "HTTP/1.0"
                raise BadRequest("Send HTTP/1.1.")
            if len(self.headers.get_all("Host") or ()) > 1:
                raise BadRequest("Send one Host header.")
            if self.command not in METHODS:
                raise MethodNotAllowed(f"Use one of {', '.join(METHODS)}.")
            self._body_waits = body_length(self.headers) != 0
            if not self._body_waits:
                self._note("served")
            self._serve("GET" if self.command == "HEAD" else self.command)
        except RequestError as error:
            self._send_error(error)
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        except Exception:
            log.exception("a request failed")
            self._send_error(RequestError("The server failed on this request; its log says why."))

    def _serve(self, method: str) -> None:
        raise NotImplementedError

    def _answered(self, status: int) -> None:
        """Hear the status of an answer that is being sent."""

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

    def _read_body(self) -> Fields:
        if self._continue_wanted and (body_length(self.headers) or 0) <= self._config.max_body:
            self.send_response_only(HTTPStatus.CONTINUE)
            self.end_headers()
        self._inlet.allow(BODY_SECONDS)
        raw = read_body(self.rfile, self.headers, self._config.max_body)
        self._body_waits = False
        self._note("served")
        return parse_json(raw)

    def _linger(self) -> None:
        """Hear a refused client out."""
        self._note("asking")
        self.connection.shutdown(socket.SHUT_WR)
        until, heard = time.monotonic() + LINGER_SECONDS, 0
        self._inlet.allow(LINGER_SECONDS)
        while heard < LINGER_BYTES and time.monotonic() < until:
            piece = self.rfile.read1(1 << 20)
            if not piece:
                return
            heard += len(piece)

    def _send(self, status: int, body: dict[str, Any] | bytes | None) -> None:
        self.close_connection = self.close_connection or self._body_waits
        if isinstance(body, bytes):
            data = body
        else:
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
        status = HTTPStatus(code)
        error = BadRequest(message or explain or f"{status.phrase}: {status.description}.")
        # A version or method that there is not is the client's fault, not the server's.
        error.status = code if code < 500 else HTTPStatus.BAD_REQUEST
        self.close_connection = self._body_waits = True
        self._send_error(error)

    def address_string(self) -> str:
        """Return who the client is; a unix socket has no address."""
        return str(self.client_address[0]) if self.client_address else "local"

    def _write_chunk(self, data: bytes) -> None:
        """Write a piece of a stream; an empty piece ends it."""
        if self.request_version == "HTTP/1.0":
            self.wfile.write(data)
        else:
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _set_completion_headers(self, status_code: int = 200) -> None:
        self._started = True
        self._answered(status_code)
        self.send_response(status_code)
        self.send_header("Content-Type", self._content_type)
        if status_code == HTTPStatus.SERVICE_UNAVAILABLE:
            self.send_header("Retry-After", "5")
        if status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            self._about.setdefault("Allow", ", ".join(METHODS))
        if self.close_connection:
            self.send_header("Connection", "close")
        self._set_about_headers()

    def _set_stream_headers(self, status_code: int = 200) -> None:
        self._started = True
        self._answered(status_code)
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
