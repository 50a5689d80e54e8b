"""What comes in over a connection: bodies within their size, bytes within their time."""

from __future__ import annotations

import io
import socket
import threading
import time
from email.message import Message

import pytest

from mlx_tools_server.errors import RequestError
from mlx_tools_server.inlet import Inlet, body_length, read_body

LIMIT = 1000
CHUNKED = [("Transfer-Encoding", "chunked")]


def headers(*pairs: tuple[str, str]) -> Message:
    made = Message()
    for name, value in pairs:
        made[name] = value
    return made


# Headers, what follows them, the body.
GOOD = {
    "a length": ([("Content-Length", "3")], b"abcdef", b"abc"),
    "nothing": ([("Content-Length", "0")], b"", b""),
    "the same length twice": ([("Content-Length", "3")] * 2, b"abc", b"abc"),
    "as much as is accepted": ([("Content-Length", "1000")], b"x" * 1000, b"x" * 1000),
    "chunks": (CHUNKED, b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", b"abcde"),
    "chunks in capitals": ([("Transfer-Encoding", "Chunked")], b"A\r\n0123456789\r\n0\r\n\r\n",
                           b"0123456789"),
    "extensions": (CHUNKED, b"3;name=value\r\nabc\r\n0;x\r\n\r\n", b"abc"),
    "blanks around a size": (CHUNKED, b" 1 ;x\r\na\r\n0\r\n\r\n", b"a"),
    "trailers": (CHUNKED, b"1\r\na\r\n0\r\nX: y\r\nZ: w\r\n\r\n", b"a"),
    "no chunk": (CHUNKED, b"0\r\n\r\n", b""),
    "as it is": ([("Content-Length", "1"), ("Content-Encoding", "identity")], b"a", b"a"),
    "a form's default": ([("Content-Length", "2"),
                          ("Content-Type", "application/x-www-form-urlencoded")], b"{}", b"{}"),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_body(name: str) -> None:
    """A body of either framing is read, and nothing behind it."""
    pairs, sent, body = GOOD[name]
    stream = io.BytesIO(sent + b"GET / HTTP/1.1\r\n")

    assert read_body(stream, headers(*pairs), LIMIT) == body


# Headers, what follows them, the status.
BAD = {
    "no length": ([], b"", 411),
    "a length in words": ([("Content-Length", "ten")], b"", 400),
    "a negative length": ([("Content-Length", "-1")], b"", 400),
    "a length with a sign": ([("Content-Length", "+1")], b"a", 400),
    "digits of another script": ([("Content-Length", "\u0663")], b"abc", 400),
    "a length of many digits": ([("Content-Length", "9" * 5000)], b"", 400),
    "two lengths": ([("Content-Length", "1"), ("Content-Length", "2")], b"ab", 400),
    "a length and chunks": ([("Content-Length", "1"), *CHUNKED], b"0\r\n\r\n", 400),
    "too long": ([("Content-Length", "1001")], b"", 413),
    "too long in chunks": (CHUNKED, b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n", 413),
    "too many chunks": (CHUNKED, b"1\r\nx\r\n" * 1001 + b"0\r\n\r\n", 413),
    "another coding": ([("Transfer-Encoding", "gzip, chunked")], b"0\r\n\r\n", 400),
    "a coding behind a vertical tab": (
        [("Transfer-Encoding", "\x0bchunked")], b"0\r\n\r\n", 400),
    "a length before a vertical tab": ([("Content-Length", "1\x0b")], b"a", 400),
    "a length behind a space of Latin-1": ([("Content-Length", "\xa01")], b"a", 400),
    "a size before a vertical tab": (CHUNKED, b"1\x0b\r\na\r\n0\r\n\r\n", 400),
    "an extension that ends in LF": (CHUNKED, b"1;x\na\r\n0\r\n\r\n", 400),
    "an extension with a CR": (CHUNKED, b"1;\rx\r\na\r\n0\r\n\r\n", 400),
    "blanks behind a chunk": (CHUNKED, b"1\r\na \r\n0\r\n\r\n", 400),
    "no size": (CHUNKED, b"\r\n\r\n", 400),
    "a size in words": (CHUNKED, b"three\r\nabc\r\n", 400),
    "a negative size": (CHUNKED, b"-1\r\n", 400),
    "a size with a prefix": (CHUNKED, b"0x1\r\na\r\n0\r\n\r\n", 400),
    "a chunk longer than its size": (CHUNKED, b"1\r\nab\r\n0\r\n\r\n", 400),
    "an endless line": (CHUNKED, b"1;" + b"x" * 10_000, 400),
    "endless trailers": (CHUNKED, b"0\r\n" + b"X: y\r\n" * 10_000, 400),
    "packed": ([("Content-Length", "1"), ("Content-Encoding", "gzip")], b"x", 415),
    "a form with files": ([("Content-Length", "1"),
                           ("Content-Type", "multipart/form-data; boundary=x")], b"x", 415),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_body(name: str) -> None:
    """A body that can't be read, or in two ways, is refused with a status that says why."""
    pairs, sent, status = BAD[name]

    with pytest.raises(RequestError) as caught:
        read_body(io.BytesIO(sent), headers(*pairs), LIMIT)

    assert caught.value.status == status
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("sent", [b"", b"ab"])
def test_half_a_body(sent: bytes) -> None:
    """A body that ends early is nobody's: there is no one left to answer."""
    for pairs in ([("Content-Length", "3")], CHUNKED):
        with pytest.raises((ConnectionError, RequestError)):
            read_body(io.BytesIO(sent), headers(*pairs), LIMIT)


def test_huge_chunk_is_not_waited_for() -> None:
    """A chunk that promises more than is accepted is refused before it comes."""
    stream = io.BytesIO(b"ffffffffff\r\n" + b"x" * (4 << 20))

    with pytest.raises(RequestError) as caught:
        read_body(stream, headers(*CHUNKED), LIMIT)

    assert caught.value.status == 413
    assert stream.tell() == len(b"ffffffffff\r\n")


def test_no_body() -> None:
    """A request without either header has no body."""
    assert body_length(headers()) == 0


def test_time_is_for_the_whole() -> None:
    """A sender that drips is out of time as soon as one that is silent."""
    ours, theirs = socket.socketpair()
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(0.02):
            theirs.sendall(b"x")

    thread = threading.Thread(target=drip)
    with ours, theirs:
        inlet = Inlet(ours)
        thread.start()
        try:
            inlet.allow(0.3)
            began = time.monotonic()
            with pytest.raises(TimeoutError), io.BufferedReader(inlet) as stream:
                stream.read(10_000)
        finally:
            stop.set()
            thread.join()
        assert time.monotonic() - began < 5
