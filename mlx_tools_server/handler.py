"""One HTTP connection: routes in, bytes out.

Rules of this file:
- What is wrong with a request is said before the headers of the answer, with its own status;
  after the first byte a failure is an event of the dialect, never a cut stream.
- A client that has gone away stops its generation, streaming or not.
- While there is nothing to say, a stream says that it is alive.
- Every route and header method of mlx-lm's handler is overridden: it lets any web page in.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import select
import socket
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from . import __version__
from .auth import check_access, cors_headers
from .config import ServerConfig
from .dialects import chat, completions
from .dialects.base import Encoder, failed, openai_error
from .engine.seams import APIHandler
from .errors import (
    BadRequest,
    LengthRequired,
    MethodNotAllowed,
    NotFound,
    RequestError,
    RequestTimeout,
    TooLarge,
)
from .events import Event, Failed, Progress, fold
from .messages import ChatRequest, Sampling, TextRequest
from .turn import Turns
from .wire import Fields, parse_json, to_json

log = logging.getLogger(__name__)

R = TypeVar("R", ChatRequest, TextRequest)

# Seconds of silence after which a stream says that it is alive; proxies give up after 20.
KEEPALIVE = 2.0
# Seconds a client may take to send its request or to read what it was sent.
TIMEOUT = 120.0
MAX_BODY = 64 << 20


class ToolsHandler(APIHandler):  # type: ignore[misc]
    """Serves one connection."""

    protocol_version = "HTTP/1.1"
    server_version = f"mlx-tools-server/{__version__}"
    sys_version = ""
    timeout = TIMEOUT
    # Each event must leave at once, not wait for the next.
    disable_nagle_algorithm = True

    def __init__(self, turns: Turns, config: ServerConfig, *args: Any, **kwargs: Any) -> None:
        self._turns = turns
        self._config = config
        self._started = False
        self._body_waits = False
        super().__init__(turns.engine, *args, **kwargs)

    # Routes.

    def do_GET(self) -> None:
        """Answer a GET."""
        self._serve("GET")

    def do_HEAD(self) -> None:
        """Answer a HEAD: the headers of a GET."""
        self._serve("GET")

    def do_POST(self) -> None:
        """Answer a POST."""
        self._serve("POST")

    def do_OPTIONS(self) -> None:
        """Answer a browser that asks whether its page may send a request."""
        self._serve("OPTIONS")

    def _serve(self, method: str) -> None:
        """Answer one request: the boundary at which every error becomes an answer."""
        self._started = False
        # A body that is not read would be taken for the next request of the connection.
        self._body_waits = self._has_body()
        try:
            if method == "OPTIONS":
                self._send(204, None)
                return
            check_access(self._config, self.headers)
            self._route(method)()
        except RequestError as error:
            self._send_error(error)
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        except Exception:
            log.exception("a request failed")
            self._send_error(RequestError("The server failed on this request; its log says why."))

    def _route(self, method: str) -> Callable[[], None]:
        path = unquote(urlsplit(self.path).path).rstrip("/")
        path = path.removeprefix("/v1")
        routes: dict[str, tuple[str, Callable[[], None]]] = {
            "": ("GET", self.handle_health_check),
            "/health": ("GET", self.handle_health_check),
            "/models": ("GET", self.handle_models_request),
            "/chat/completions": ("POST", self.handle_chat_completions),
            "/completions": ("POST", self.handle_text_completions),
        }
        if method == "GET" and path.startswith("/models/"):
            return self._handle_model
        if path not in routes:
            known = ", ".join(f"/v1{route}" for route in routes if route)
            raise NotFound(f"There is no {urlsplit(self.path).path[:80]!r} here. Routes: {known}.")
        wanted, handle = routes[path]
        if method != wanted:
            raise MethodNotAllowed(f"Use {wanted} for {path or '/'}.")
        return handle

    def handle_health_check(self) -> None:
        """Say whether the model answers."""
        healthy = self._turns.engine.is_healthy
        waiting, in_flight = self._turns.engine.load
        body = {
            "status": "ok" if healthy else "failed",
            "version": __version__,
            "waiting": waiting,
            "in_flight": in_flight,
            "counts": dict(self._turns.counters.snapshot()),
            "kv_cache": self._turns.engine.cache_stats,
        }
        self._send(200 if healthy else 503, body)

    def handle_models_request(self) -> None:
        """List the one model."""
        self._send(200, {"object": "list", "data": [self._model(self._turns.engine.model.name)]})

    def _handle_model(self) -> None:
        """Describe the model under whatever name a client knows it by."""
        name = unquote(urlsplit(self.path).path).rstrip("/").partition("/models/")[2]
        self._send(200, self._model(name))

    def _model(self, name: str) -> dict[str, Any]:
        length = self._turns.engine.model.context_length
        sizes = ("context_length", "loaded_context_length", "max_context_length")
        return {
            "id": name,
            "object": "model",
            "created": self.created,
            "owned_by": "mlx-tools-server",
            **(dict.fromkeys(sizes, length) if length else {}),
        }

    def handle_chat_completions(self) -> None:
        """Answer a conversation."""
        request = chat.parse(self._read_body(), self._defaults())
        encoder = partial(chat.ChatEncoder, self._named(request))
        self._answer(request, self._turns.chat(request), encoder, "chatcmpl")

    def handle_text_completions(self) -> None:
        """Continue a raw prompt."""
        request = completions.parse(self._read_body(), self._defaults())
        encoder = partial(completions.TextEncoder, self._named(request))
        self._answer(request, self._turns.text(request), encoder, "cmpl")

    def _named(self, request: R) -> R:
        """Return the request with the model's own name where the client gave none."""
        if request.options.model:
            return request
        options = replace(request.options, model=self._turns.engine.model.name)
        return replace(request, options=options)

    def _defaults(self) -> Sampling:
        config = self._config
        return Sampling(config.temp, config.top_p, config.top_k, config.min_p)

    # Answers.

    def _answer(
        self,
        request: ChatRequest | TextRequest,
        events: Generator[Event, None, None],
        make_encoder: Callable[..., Encoder],
        prefix: str,
    ) -> None:
        encoder = make_encoder(
            answer_id=f"{prefix}-{uuid4().hex}",
            created=int(time.time()),
            fingerprint=self.system_fingerprint,
        )
        with contextlib.closing(events):
            if request.options.stream:
                self._stream(events, encoder)
            else:
                answer = fold(self._while_connected(events))
                if answer.failed:
                    raise failed(answer.failed)
                self._send(200, encoder.whole(answer))

    def _stream(self, events: Generator[Event, None, None], encoder: Encoder) -> None:
        first = next(events)  # raises what is wrong before the headers
        self._set_stream_headers()
        spoke = time.monotonic()
        for event in self._never_cut(itertools.chain([first], self._while_connected(events))):
            data = b"".join(encoder.encode(event))
            if not data and time.monotonic() - spoke > KEEPALIVE:
                data = encoder.keepalive()
            if data:
                self._write_chunk(data)
                spoke = time.monotonic()
        self._write_chunk(b"")

    def _never_cut(self, events: Iterator[Event]) -> Iterator[Event]:
        """Pass events on; what breaks behind them becomes an event, since the answer has begun."""
        try:
            yield from events
        except (ConnectionError, TimeoutError):
            raise
        except Exception:
            log.exception("a stream failed")
            yield Failed("The server failed on this request; its log says why.")

    def _while_connected(self, events: Iterator[Event]) -> Iterator[Event]:
        """Pass events on, looking now and then whether the client is still there."""
        looked = time.monotonic()
        for event in events:
            now = time.monotonic()
            if isinstance(event, Progress | Failed) or now - looked > KEEPALIVE:
                looked = now
                if self._client_left():
                    raise ConnectionAbortedError
            yield event

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
            self._send(error.status, openai_error(error))

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a request that the base class can't read, in the same envelope."""
        if not hasattr(self, "headers"):  # not even its first lines were HTTP
            super().send_error(code, message, explain)
            return
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
        self._set_cors_headers()

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
        self._set_cors_headers()
        self.end_headers()

    def _set_cors_headers(self) -> None:
        for name, value in cors_headers(self._config, self.headers.get("Origin")).items():
            self.send_header(name, value)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class names it
        """Log one line a request, without its content."""
        log.debug("%s %s", self.address_string(), format % args)
