"""What a web page can do with a server on this machine, tried in a real browser.

Rules of this file:
- What was asked is read in the server's own log, since a page is not told.
- A page has no generation and reads no byte, unless its origin is allowed by name.
"""

from __future__ import annotations

import http.server
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .chromium import PROGRAM, Browser, browse
from .live import Live, serve, user

pytestmark = [
    pytest.mark.mlx,
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="needs chromium"),
]

EVIL = "evil.example"
CHAT = "/v1/chat/completions"
BODY = json.dumps({"model": "m", "messages": [user("told to a page")]})
LINE = re.compile(r'"([A-Z]+) (\S+) HTTP/1.1" (\d+)')

# Each way is a function of the server's address that returns what the page could read.
WAYS = {
    "GET": "async url => (await fetch(`${url}/v1/models`)).text()",
    "GET, unread": "async url => (await fetch(`${url}/v1/models`, {mode: 'no-cors'})).text()",
    "POST of JSON": """async url => (await fetch(`${url}%s`, {
        method: 'POST', headers: {'Content-Type': 'application/json'}, body: BODY})).text()""",
    "POST of plain text": """async url => (await fetch(`${url}%s`, {
        method: 'POST', headers: {'Content-Type': 'text/plain'}, body: BODY})).text()""",
    "POST of plain text, unread": """async url => (await fetch(`${url}%s`, {
        method: 'POST', mode: 'no-cors', headers: {'Content-Type': 'text/plain'}, body: BODY
        })).text()""",
    "beacon": "async url => { navigator.sendBeacon(`${url}%s`, BODY); return ''; }",
    "image": """url => new Promise(done => {
        const image = new Image();
        image.onload = () => done('an image');
        image.onerror = () => done('');
        image.src = `${url}/v1/models`; })""",
    "script": """url => new Promise(done => {
        const script = document.createElement('script');
        script.onload = () => done('a script');
        script.onerror = () => done('');
        script.src = `${url}/v1/models`;
        document.body.append(script); })""",
    "event source": """url => new Promise(done => {
        const source = new EventSource(`${url}/v1/models`);
        source.onmessage = event => done(event.data);
        source.onerror = () => { source.close(); done(''); }; })""",
    "web socket": """url => new Promise(done => {
        const socket = new WebSocket(url.replace('http', 'ws') + '/v1/models');
        socket.onopen = () => done('open');
        socket.onerror = () => done(''); })""",
    "form": """url => new Promise(done => {
        const frame = document.createElement('iframe');
        const form = document.createElement('form');
        const field = document.createElement('input');
        frame.name = 'frame';
        [form.method, form.enctype, form.target] = ['post', 'text/plain', 'frame'];
        form.action = `${url}%s`;
        // Such a form's body is name=value, and can be JSON.
        [field.name, field.value] = [BODY.slice(0, -1) + ',"x":"', '"}'];
        form.append(field);
        document.body.append(frame, form);
        frame.onload = () => {
            let text = '';
            try { text = frame.contentDocument.body.innerText; } catch (error) {}
            done(frame.contentDocument === null ? '' : text); };
        form.submit(); })""",
}


def attempt(browser: Browser, way: str, url: str) -> str:
    """Return what the page in front can read of the server in a certain way."""
    script = WAYS[way].replace("%s", CHAT)
    read = browser.run(
        f"(async () => {{ const BODY = {json.dumps(BODY)};"
        f" try {{ return await ({script})({json.dumps(url)}); }}"
        " catch (error) { return error instanceof TypeError ? '' : String(error); } })()"
    )
    return str(read)


def asked(server: Live, least: int = 0) -> list[tuple[str, int]]:
    """Return method and status of all that browsers asked, once it is as much as it must be."""
    until = time.monotonic() + 10
    while True:
        lines = LINE.findall(server.log.read_text())
        found = [(method, int(status)) for method, path, status in lines if path != "/health"]
        if len(found) >= least or time.monotonic() > until:
            return found
        time.sleep(0.05)


class Page(http.server.BaseHTTPRequestHandler):
    """An empty page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>A page</title><body>")

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


@contextmanager
def site() -> Iterator[int]:
    """Serve an empty page from another port of this machine."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture(scope="module")
def pages() -> Iterator[tuple[int, int]]:
    """Return the ports of two sites."""
    with site() as one, site() as other:
        yield one, other


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, pages: tuple[int, int]) -> Iterator[Live]:
    """Return a server that lets the second of the sites in, and logs what it is asked."""
    flags = ("--log-level", "DEBUG", "--allowed-origins", f"http://127.0.0.1:{pages[1]}")
    with serve(tmp_path_factory.mktemp("server"), *flags) as live:
        yield live


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Return a browser in which the name of a foreign site leads to this machine."""
    folder: Path = tmp_path_factory.mktemp("browser")
    with browse(folder, f"--host-resolver-rules=MAP {EVIL} 127.0.0.1") as made:
        yield made


def generations(server: Live) -> int:
    return int(server.health()["counts"].get("requests", 0))


def port(server: Live) -> str:
    return server.url.rpartition(":")[2]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["127.0.0.1", EVIL])
def test_page_of_another_origin(
    name: str, way: str, browser: Browser, server: Live, pages: tuple[int, int]
) -> None:
    """A page of another port or site gets a 403 in whatever way it asks, and reads nothing."""
    before, said = len(asked(server)), generations(server)
    browser.open(f"http://{name}:{pages[0]}/")

    read = attempt(browser, way, server.url)

    mine = asked(server, before + 1)[before:]
    if way == "POST of JSON":  # the browser asks for leave first, and gets none
        assert mine == [("OPTIONS", 204)]
    else:
        assert {status for _, status in mine} == {403}
    assert read == ""
    assert generations(server) == said


@pytest.mark.parametrize("way", WAYS)
def test_rebound_name(way: str, browser: Browser, server: Live) -> None:
    """A site whose name is made to lead to this machine gets a 403 for all that it asks."""
    before, said = len(asked(server)), generations(server)
    # The page is the server's own refusal: of one origin with it, so nothing holds its scripts.
    browser.open(f"http://{EVIL}:{port(server)}/")

    read = attempt(browser, way, f"http://{EVIL}:{port(server)}")

    mine = asked(server, before + 2)[before:]
    assert len(mine) >= 2
    assert {status for _, status in mine} == {403}
    assert read == "" or "answers to its own machine only" in read
    assert generations(server) == said


def test_allowed_origin(browser: Browser, server: Live, pages: tuple[int, int]) -> None:
    """A page whose origin is allowed chats with the server."""
    browser.open(f"http://127.0.0.1:{pages[1]}/")
    before = len(asked(server))

    read = attempt(browser, "POST of JSON", server.url)

    assert json.loads(read)["choices"][0]["message"]["content"] == "told to a page"
    assert asked(server)[before:] == [("OPTIONS", 204), ("POST", 200)]
