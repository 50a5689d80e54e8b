"""Asking a server over HTTP, and noting when each piece of its answer came.

Rules of this file:
- It is the only one here that opens a connection, and it needs the standard library only.
- Whatever fails is an error of that answer: a status, a refused connection, a stream that is cut.
- Each request has a connection of its own, and its time counts from before that is opened.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ..errors import StartupError
from .dialects.base import Dialect, Heard, message_of

# Where servers tell how long a context is.
CONTEXTS = ("context_length", "max_model_len", "max_context_length", "n_ctx")


@dataclass(slots=True)
class Asked:
    """An answer and its times, in seconds of a clock that only goes forward."""

    heard: Heard
    began: float
    ended: float = 0.0
    status: int | None = None
    # When each event came that had something of the answer in it.
    arrivals: list[float] = field(default_factory=list)
    first_argument: float | None = None
    argument_deltas: int = 0


@dataclass(frozen=True, slots=True)
class About:
    """What a server tells of itself; what it does not tell is None."""

    model: str | None = None
    context: int | None = None
    server: str | None = None
    version: str | None = None


class Endpoint:
    """A server: its address with or without `/v1`, and the key that it wants."""

    def __init__(self, url: str, key: str | None = None, timeout: float = 600.0) -> None:
        try:
            parts = urlsplit(url)
            self._port, self._host = parts.port, parts.hostname
        except ValueError:
            self._host, parts = None, urlsplit("")
        if parts.scheme not in ("http", "https") or not self._host:
            raise StartupError(
                f"{url!r} is no address of a server", "Give one such as http://127.0.0.1:8080."
            )
        self._secure = parts.scheme == "https"
        self._base = parts.path.rstrip("/").removesuffix("/v1")
        self._key = key
        self._timeout = timeout
        self.url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{self._base}"

    def _open(self, timeout: float) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        assert self._host is not None
        return kind(self._host, self._port, timeout=timeout)

    def ask(self, dialect: Dialect, body: Mapping[str, Any]) -> Asked:
        """Stream the answer to a request."""
        reader = dialect.reader()
        data = json.dumps(body).encode()
        headers = {
            "Content-Type": "application/json",
            "Accept": "text/event-stream",
            **dialect.headers(self._key),
        }
        connection = self._open(self._timeout)
        asked = Asked(reader.heard, time.perf_counter())
        try:
            connection.request("POST", f"{self._base}{dialect.path}", data, headers)
            response = connection.getresponse()
            asked.status = response.status
            if response.status != 200:
                reader.heard.error = _refusal(response.status, response.read())
            else:
                _listen(response, reader, asked)
        except (OSError, http.client.HTTPException) as error:
            reader.heard.error = f"{type(error).__name__}: {error}".rstrip(": ")
        finally:
            asked.ended = time.perf_counter()
            connection.close()
        return asked

    def about(self, dialect: Dialect) -> About:
        """Return what the server tells of itself; raises StartupError if nobody is there."""
        named, models = self._get("/v1/models", dialect)
        server, health = self._get("/health", dialect)
        listed = models.get("data")
        first = listed[0] if isinstance(listed, list) and listed else {}
        first = first if isinstance(first, dict) else {}
        inner = first.get("meta")  # llama.cpp
        places = (first, inner if isinstance(inner, dict) else {})
        found = (place.get(name) for place in places for name in CONTEXTS)
        context = next((one for one in found if isinstance(one, int) and one > 0), None)
        version = health.get("version")
        return About(first.get("id"), context, named or server, str(version) if version else None)

    def _get(self, path: str, dialect: Dialect) -> tuple[str | None, dict[str, Any]]:
        """Return the Server header and a JSON object; that is empty if there is none."""
        connection = self._open(min(self._timeout, 30.0))
        try:
            connection.connect()
        except OSError as error:
            raise StartupError(
                f"{self.url} does not answer: {error}", "Start that server, or check the address."
            ) from None
        name, raw = None, b""
        try:
            connection.request("GET", self._base + path, headers=dialect.headers(self._key))
            response = connection.getresponse()
            name, raw = response.getheader("Server"), response.read()
        except (OSError, http.client.HTTPException):
            pass  # it is there, and does not tell
        finally:
            connection.close()
        try:
            body = json.loads(raw)
        except ValueError:
            body = None
        return name, body if isinstance(body, dict) else {}


def _listen(response: http.client.HTTPResponse, reader: Any, asked: Asked) -> None:
    while line := response.readline():
        _note(reader.feed(line.decode("utf-8", "replace").rstrip("\r\n")), asked)
    _note(reader.close(), asked)


def _note(deltas: list[Any], asked: Asked) -> None:
    """Note when these deltas came."""
    if not deltas:
        return
    now = time.perf_counter()
    asked.arrivals.append(now)
    arguments = sum(delta.kind == "arguments" for delta in deltas)
    if arguments and asked.first_argument is None:
        asked.first_argument = now
    asked.argument_deltas += arguments


def _refusal(status: int, raw: bytes) -> str:
    """Return what a server says that refuses a request."""
    text = raw.decode("utf-8", "replace").strip()
    try:
        text = message_of(json.loads(text))
    except ValueError:
        text = text.splitlines()[0] if text else ""
    return f"HTTP {status}: {text[:300]}".rstrip(": ")
