"""Hostile requests as bytes for a socket: each follows from a seed and its number alone.

Rules of this file:
- Pure: what is to be sent, and what may come of it; `fuzz` sends it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Literal

from .bodies import PATHS, any_value, good_body, mutated, places, small_limit, written

Kind = Literal["body", "bytes", "raw", "left"]
_BASE = "Host: localhost\r\nContent-Type: application/json\r\n"
_DEEPER = ("?beta=true", "/", "//", "?" + "x" * 3000, "%00", "/../../etc/passwd", "%2e%2e%2f", "#a")
_OTHER = (
    "/health", "/", "/v1/models", "/v1/models/m", "/v1/models/" + "x" * 3000, "/api/v0/models",
    "/v1/responses/resp_x", "/v1/responses/resp_x/input_items", "/v1/embeddings", "/metrics",
    "/openapi.json", "*", "/v1/models/%ff%fe", "/v1/models/a\u00e9b", "http://x/v1/models",
    "/%0d%0aX: y",
)  # fmt: skip
_METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "CONNECT", "get")
_HEADERS = (
    "Transfer-Encoding: gzip", "Transfer-Encoding: chunked, chunked", "Content-Length: -1",
    "Content-Length: 5, 5", "Content-Length: +5", "Content-Length: 0x5", "Content-Length: 1e3",
    "Content-Length: 99999999999999999999", "Expect: 100-continue", "Expect: 200-maybe",
    "Connection: close", "Connection: keep-alive, Upgrade", "Upgrade: h2c", "Host: evil.example",
    "Host: ", "Origin: http://evil.example", "Origin: null", "Authorization: Bearer \xff",
    "Authorization: Basic =", "Content-Type: text/plain",
    "Content-Type: application/json; charset=x",
    "Content-Encoding: gzip", "X-MLX-Tools-Debug: 1", "anthropic-version: 2023-06-01", ": empty",
    "Bad Name: x", "NoColon", " folded: x", "X-Long: " + "x" * 70_000, "X-Nul: a\0b", "\x01: 2",
    "Range: bytes=0-1", "Cookie: " + "a=b; " * 500, "X-Api-Key: \u00e9",
)  # fmt: skip
_GARBAGE = (
    b"\r\n\r\n", b"\0" * 100, b"\xff\xfe" * 50 + b"\r\n\r\n", b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\n\n", b"A" * 200_000,
    b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 5000 + b"\r\n", b"POST  /v1/messages  HTTP/1.1\r\n\r\n",
    b"GET / HTTP/0.9\r\n\r\n", b"GET / HTTP/1.\xb2\r\n\r\n", b"GET / HTTP/1.1\r\nA: \xff\r\n\r\n",
    b"GET /health HTTP/1.0\r\n\r\n", b"GET / HTTP/99999999999999999.1\r\n\r\n",
    b"GET /a b c HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\n continued\r\n\r\n",
    b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\nGET / HTTP/1.1\r\n\r\n",
)  # fmt: skip


@dataclass(frozen=True)
class Hostile:
    """One attack: its bytes, and what a client of it may expect.

    `whole` requests are framed as HTTP wants it, so each gets an answer. `leave` is how many
    bytes of the answer are read before the client is gone; None for all of it.
    """

    kind: Kind
    dialect: str
    data: bytes
    whole: bool
    leave: int | None = None
    reset: bool = False
    body: Any = None

    def with_body(self, body: Any) -> Hostile:
        """Return the same attack with another body."""
        return replace(self, data=_framed(self.dialect, json.dumps(body).encode()), body=body)


def attack(seed: int, number: int) -> Hostile:
    """Return the attack of this number; the same for the same seed."""
    rng = Random(f"{seed}:{number}")
    dialect = rng.choice(list(PATHS))
    kind: Kind = rng.choices(("body", "bytes", "raw", "left"), (70, 10, 12, 8))[0]
    if kind == "raw":
        return _raw(rng, dialect)
    body = mutated(rng, good_body(dialect), dialect)
    if rng.random() < 0.97:
        small_limit(dialect, body)
    if kind == "body":
        return Hostile(kind, dialect, b"", True).with_body(body)
    if kind == "bytes":
        return Hostile(kind, dialect, _framed(dialect, written(rng, body), rng), True)
    small = good_body(dialect) if rng.random() < 0.5 else body
    data = _framed(dialect, json.dumps(small).encode(), rng)
    if rng.random() < 0.5:  # half a request
        data = data[: rng.randrange(len(data))]
        return Hostile(kind, dialect, data, False, leave=0, reset=rng.random() < 0.5)
    leave = rng.choice((0, 0, 1, 20, 300, 1500))
    return Hostile(kind, dialect, data, False, leave=leave, reset=rng.random() < 0.5)


def _framed(dialect: str, data: bytes, rng: Random | None = None) -> bytes:
    """Return a request that holds this body, in one piece or in chunks."""
    head = f"POST {PATHS[dialect]} HTTP/1.1\r\n{_BASE}"
    if rng is None or rng.random() < 0.6:
        return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data
    chunks, at = [], 0
    while at < len(data):
        size = rng.choice((1, 7, 1000, 100_000))
        piece = data[at : at + size]
        chunks.append(f"{len(piece):x}{rng.choice(('', ';a=b'))}\r\n".encode() + piece + b"\r\n")
        at += size
        if len(chunks) > 200:
            chunks.append(
                f"{len(data) - at:X}\r\n".encode() + data[at:] + b"\r\n" * (at < len(data))
            )
            at = len(data)
    chunks = [chunk for chunk in chunks if not chunk.startswith((b"0\r\n", b"-"))]
    return f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + b"".join(chunks) + b"0\r\n\r\n"


def _raw(rng: Random, dialect: str) -> Hostile:
    data = _framed(dialect, json.dumps(good_body(dialect)).encode(), rng)
    match rng.randrange(7):
        case 0:
            return Hostile("raw", dialect, rng.choice(_GARBAGE), False)
        case 1:  # a good request with a bad header
            header = rng.choice(_HEADERS).encode("utf-8", "replace")
            line, _, rest = data.partition(b"\r\n")
            return Hostile("raw", dialect, line + b"\r\n" + header + b"\r\n" + rest, False)
        case 2:  # somewhere else, somehow else
            path = rng.choice((*_OTHER, PATHS[dialect] + rng.choice(_DEEPER)))
            lines = f"{rng.choice(_METHODS)} {path} HTTP/1.1\r\n{_BASE}\r\n"
            return Hostile("raw", dialect, lines.encode("utf-8", "replace"), False)
        case 3:  # several at once
            health = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
            return Hostile("raw", dialect, data + health * rng.choice((1, 20)) + data, False)
        case 4:  # bad chunks
            head = f"POST {PATHS[dialect]} HTTP/1.1\r\n{_BASE}Transfer-Encoding: chunked\r\n\r\n"
            sizes = (b"-5", b"zz", b"", b"FFFFFFFFFFFFFFFF", b"0x5", b"5 5", b"\xff", b"5" * 5000,
                     b"+5", b"1_0", b"5;" + b"x" * 9000)  # fmt: skip
            chunk = rng.choice(sizes) + b"\r\nhello\r\n0\r\n\r\n"
            return Hostile("raw", dialect, head.encode() + chunk, False)
        case 5:  # bytes that were changed on the way
            at = rng.randrange(min(len(data), 300))
            return Hostile("raw", dialect, data[:at] + rng.randbytes(3) + data[at + 3 :], False)
        case _:
            body = json.dumps(any_value(rng)).encode(errors="replace")
            return Hostile("raw", dialect, _framed(dialect, body), True)


def smaller(body: Any) -> list[Any]:
    """Return the body without one of its members, for each of them."""
    found = []
    for number, _ in enumerate(places(body)):
        if number == 300:
            break
        copy = json.loads(json.dumps(body))
        container, key = next(one for i, one in enumerate(places(copy)) if i == number)
        del container[key]
        found.append(copy)
    return found
