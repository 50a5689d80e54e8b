"""Many connections, slow ones and strange ones: each is answered, and nobody waits for another."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest

from .live import Live, serve, user

pytestmark = pytest.mark.mlx

CHAT = "/v1/chat/completions"
OK = {"model": "m", "messages": [user("fine")]}


def connect(live: Live) -> socket.socket:
    host, port = live.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def ask(live: Live, *sent: bytes) -> bytes:
    """Send raw bytes and return all that comes until the server closes."""
    with connect(live) as connection:
        for piece in sent:
            connection.sendall(piece)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def raw(body: bytes, *headers: str, end: str = "Connection: close") -> bytes:
    lines = [f"POST {CHAT} HTTP/1.1", "Host: 127.0.0.1", *headers, end, "", ""]
    return "\r\n".join(lines).encode() + body


@contextmanager
def slow_senders(live: Live, count: int) -> Iterator[list[socket.socket]]:
    """Hold connections that have sent half a request, and send a byte now and then."""
    with ExitStack() as stack:
        opened = []
        for _ in range(count):
            opened.append(stack.enter_context(connect(live)))
            opened[-1].sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: ")
        yield opened


def test_a_burst(live: Live) -> None:
    """Of 200 requests that come on connections of their own at once none is reset."""

    with ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(lambda _: ask(live, raw(BODY, SIZED)), range(200)))

    for answer in answers:
        head, _, body = answer.partition(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 200 "):
            assert json.loads(body)["choices"][0]["message"]["content"] == "fine"
        else:
            assert head.startswith(b"HTTP/1.1 503 "), head
            assert b"Retry-After" in head
            assert json.loads(body)["error"]["code"] == "overloaded"


def test_slow_senders(live: Live) -> None:
    """300 connections that send nothing more don't delay a good request."""
    with slow_senders(live, 300) as opened:
        for _ in range(3):
            for connection in opened:
                connection.sendall(b"x")
            assert live.chat("quick")["choices"][0]["message"]["content"] == "quick"


@pytest.mark.slow
def test_more_connections_than_there_is_room_for(tmp_path: Path) -> None:
    """Where all places are taken by the silent, they make way for who asks."""
    with serve(tmp_path, "--max-connections", "20") as live, slow_senders(live, 40):
        time.sleep(1.2)
        for _ in range(5):
            answer = httpx.post(f"{live.url}{CHAT}", json=OK, timeout=30)
            assert answer.json()["choices"][0]["message"]["content"] == "fine"


@pytest.mark.slow
def test_silence_ends(live: Live) -> None:
    """Who has not sent the headers in ten seconds is told so, and the connection is closed."""
    with slow_senders(live, 2) as opened:
        answers = [b"".join(iter(partial(each.recv, 4096), b"")) for each in opened]

    assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers)
    assert b"within 10 s" in answers[0]


BODY = json.dumps(OK).encode()
SIZED = f"Content-Length: {len(BODY)}"


def test_continue(live: Live) -> None:
    """Who asks before sending the body is told to go on, but only if it will be read."""
    with connect(live) as connection:
        connection.sendall(raw(b"", SIZED, "Expect: 100-continue"))
        assert connection.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BODY)
        assert b"fine" in b"".join(iter(lambda: connection.recv(65536), b""))

    refused = ask(live, raw(b"", "Content-Length: 9999999999", "Expect: 100-continue"))
    foreign = ask(live, raw(b"", SIZED, "Expect: 100-continue", "Origin: https://evil.example"))
    assert refused.startswith(b"HTTP/1.1 413 ")
    assert foreign.startswith(b"HTTP/1.1 403 ")


def test_large_body_is_heard_out(live: Live) -> None:
    """Who sends more than is accepted reads the answer, although it is still sending."""
    for headers in ({}, {"Transfer-Encoding": "chunked"}):
        pieces = (b"x" * (1 << 20) for _ in range(100))
        response = live.client.post(
            CHAT, content=pieces if headers else b"x" * (100 << 20), headers=headers
        )
        assert response.status_code == 413
        assert "--max-body" in response.json()["error"]["message"]


STRANGE = {
    "an endless line": (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", b"414"),
    "an endless header": (b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", b"431"),
    "many headers": (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", b"431"),
    "one word": (b"GET\r\n\r\n", b"400"),
    "another protocol": (b"SSH-2.0-OpenSSH_9.6\r\n", b"400"),
    "a version to come": (b"GET /health HTTP/3.0\r\nHost: x\r\n\r\n", b"400"),
    "a version long gone": (b"GET /health HTTP/0.9\r\nHost: 127.0.0.1\r\n\r\n", b"400"),
    "two hosts": (b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil\r\n\r\n", b"400"),
    "a header without a colon": (b"GET /health HTTP/1.1\r\nX\r\nHost: evil\r\n\r\n", b"400"),
    "a blank before the colon": (b"GET /health HTTP/1.1\r\nHost : evil\r\n\r\n", b"400"),
    "a header without a name": (b"GET /health HTTP/1.1\r\n: x\r\nHost: 127.0.0.1\r\n\r\n", b"400"),
    "a header that goes on before it began": (b"GET / HTTP/1.1\r\n X: y\r\n\r\n", b"400"),
    "a length behind what is no header": (raw(BODY, "X y: z", SIZED), b"400"),
    "a path that is none": (b"GET http://[ HTTP/1.1\r\nConnection: close\r\n\r\n", b"404"),
    "two lengths": (raw(BODY, SIZED, "Content-Length: 5"), b"400"),
    "a length and chunks": (raw(BODY, SIZED, "Transfer-Encoding: chunked"), b"400"),
    "another coding": (raw(BODY, "Transfer-Encoding: gzip"), b"400"),
    "a packed body": (raw(BODY, SIZED, "Content-Encoding: gzip"), b"415"),
    "a form with files": (raw(BODY, SIZED, "Content-Type: multipart/form-data"), b"415"),
    "a chunk without size": (raw(b"x\r\n", "Transfer-Encoding: chunked"), b"400"),
    "a space before the colon": (raw(BODY, SIZED.replace(":", " :")), b"400"),
    "a name with a zero": (raw(BODY, "X\0: x", SIZED), b"400"),
    "a value with a zero": (raw(BODY, "X: \0", SIZED), b"400"),
    "a CR within a header": (raw(BODY, f"X: x\r{SIZED}"), b"400"),
    "a header in two lines": (raw(BODY, SIZED.replace(" ", "\r\n ")), b"400"),
    "no length": (raw(b""), b"411"),
    "a method unheard of": (b"BREW / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"405"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_strange_request(name: str, live: Live) -> None:
    """What is no request of ours gets a status and a JSON body that say why."""
    sent, status = STRANGE[name]

    answer = ask(live, sent)

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status + b" "), head
    assert json.loads(body)["error"]["message"]
    assert len(body) < 1000


@pytest.mark.parametrize("header", ["Content", "Content-Length : 99", "X: x\rContent-Length: 99"])
def test_headers_that_another_reader_reads_otherwise(header: str, live: Live) -> None:
    """What may be the body of a request is never taken for the next one."""
    lines = f"GET /livez HTTP/1.1\r\nHost: localhost\r\n{header}\r\nContent-Length: 99\r\n\r\n"
    answer = ask(live, lines.encode(), b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1


def test_pipelined_requests(live: Live) -> None:
    """Requests that come in one piece are answered in their order."""
    one = raw(BODY, SIZED, end="Connection: keep-alive")
    answer = ask(live, one * 2 + raw(BODY, SIZED))

    assert answer.count(b'"content":"fine"') == 3


def test_empty_lines_between_requests(live: Live) -> None:
    """An empty line behind a body, as old clients send it, is no request and ends nothing."""
    one = raw(BODY, SIZED, end="Connection: keep-alive")

    answer = ask(live, b"\r\n" + one + b"\r\n\r\n" + raw(BODY, SIZED))

    assert answer.count(b'"content":"fine"') == 2


@pytest.mark.parametrize("header", ["TE, close", "keep-alive\r\nConnection: Close"])
def test_connection_that_is_to_be_closed(header: str, live: Live) -> None:
    """A client that wants the connection closed among other things has its wish."""
    answer = ask(live, raw(BODY, SIZED, end=f"Connection: {header}"))

    assert b"Connection: close" in answer.partition(b"\r\n\r\n")[0]


def test_unix_socket(tmp_path: Path) -> None:
    """The server listens on a unix socket instead of a port."""
    path = tmp_path / "s"
    with (
        serve(tmp_path, "--uds", str(path)) as live,
        httpx.Client(
            transport=httpx.HTTPTransport(uds=str(path)), base_url="http://any.name"
        ) as client,
    ):
        assert live.url == f"unix:{path}"
        assert client.post(CHAT, json=OK).json()["choices"][0]["message"]["content"] == "fine"
        assert client.get("/health").json()["ready"]
    assert not path.exists()
