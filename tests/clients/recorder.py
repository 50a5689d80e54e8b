"""A reverse proxy that passes bytes on as they come and notes what each request cost.

Rules of this file:
- Nothing is changed on its way: a client that works here works without it.
- A client that leaves closes the server's connection too, so that its generation is cancelled.
- What is kept in memory are counts and names; bodies are written to `keep` only where it is given,
  and they belong to the client's vendor: never into the repository.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_HOP = {"connection", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
_TIMEOUT = 300.0
# What clients send to steer how tokens are drawn.
SAMPLING = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "seed",
)
_ENDS = ("/chat/completions", "/messages", "/responses", "/completions")


@dataclass
class Request:
    """What one request asked, and what its answer said of it."""

    method: str
    path: str
    status: int = 0
    stream: bool = False
    scripted: bool = False
    tools: tuple[str, ...] = ()
    sampling: dict[str, Any] = field(default_factory=dict)
    prompt: int | None = None
    cached: int = 0
    said: int = 0
    seconds: float = 0.0

    @property
    def generates(self) -> bool:
        """Whether the model was asked to speak."""
        return self.method == "POST" and self.path.endswith(_ENDS)

    def read_body(self, body: bytes) -> None:
        """Note what the client asks for."""
        self.scripted = b"[[SCRIPT]]" in body
        try:
            asked = json.loads(body or b"null")
        except ValueError:
            return
        if isinstance(asked, dict):
            self.stream = bool(asked.get("stream"))
            self.tools = tuple(_tool_name(tool) for tool in asked.get("tools") or ())
            self.sampling = {key: asked[key] for key in SAMPLING if asked.get(key) is not None}

    def read_answer(self, answer: bytes) -> None:
        """Note the usage that the answer reports, whole or streamed, in any of the dialects."""
        for line in [answer] if answer.startswith(b"{") else answer.splitlines():
            try:
                said = json.loads(line.removeprefix(b"data:"))
            except ValueError:
                continue
            if isinstance(said, dict):
                for place in (said, said.get("message"), said.get("response")):
                    if isinstance(place, dict) and isinstance(place.get("usage"), dict):
                        self._read_usage(place["usage"])

    def _read_usage(self, usage: dict[str, Any]) -> None:
        self.said = usage.get("completion_tokens", usage.get("output_tokens")) or self.said
        if "prompt_tokens" in usage:
            self.prompt = usage["prompt_tokens"]
            self.cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
        elif "input_tokens_details" in usage:
            self.prompt = usage["input_tokens"]
            self.cached = (usage["input_tokens_details"] or {}).get("cached_tokens", 0)
        elif "input_tokens" in usage:
            # Anthropic counts apart what was read from the cache and what was put into it.
            self.cached = usage.get("cache_read_input_tokens") or 0
            created = usage.get("cache_creation_input_tokens") or 0
            self.prompt = usage["input_tokens"] + self.cached + created


def _tool_name(tool: Any) -> str:
    if not isinstance(tool, dict):
        return "?"
    inner = tool.get("function")
    source = inner if isinstance(inner, dict) else tool
    return str(source.get("name") or source.get("type"))


@dataclass
class Recorder:
    """The address for the client, and what has been heard so far."""

    url: str
    requests: list[Request] = field(default_factory=list)


@contextmanager
def recording(upstream: str, keep: Path | None = None) -> Iterator[Recorder]:
    """Stand before the server at `upstream` until the block ends."""
    host = urlsplit(upstream).netloc

    class Handler(_Handler):
        pass

    with _Server(("127.0.0.1", 0), Handler) as server:
        recorder = Recorder(f"http://127.0.0.1:{server.server_port}")
        Handler.upstream, Handler.recorder, Handler.keep = host, recorder, keep
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield recorder
        finally:
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    upstream = ""
    recorder: Recorder
    keep: Path | None = None

    def do_GET(self) -> None:
        """Pass on a GET."""
        self._pass_on()

    def do_HEAD(self) -> None:
        """Pass on a HEAD."""
        self._pass_on()

    def do_POST(self) -> None:
        """Pass on a POST."""
        self._pass_on()

    def _pass_on(self) -> None:
        body = self._read_body()
        request = Request(self.command, urlsplit(self.path).path)
        request.read_body(body)
        self.recorder.requests.append(request)
        number = len(self.recorder.requests)
        began = time.monotonic()
        connection = HTTPConnection(self.upstream, timeout=_TIMEOUT)
        answer = b""
        try:
            headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
            connection.request(self.command, self.path, body or None, headers)
            response = connection.getresponse()
            request.status = response.status
            answer = self._send_back(response)
        except (OSError, HTTPException):
            self.close_connection = True
        finally:
            connection.close()
            request.seconds = time.monotonic() - began
            request.read_answer(answer)
            if self.keep:
                self.keep.mkdir(parents=True, exist_ok=True)
                name = f"{number:03d}{request.path.replace('/', '_')}"
                (self.keep / f"{name}.request.json").write_bytes(body)
                (self.keep / f"{name}.answer.txt").write_bytes(answer)

    def _read_body(self) -> bytes:
        if "chunked" not in (self.headers.get("Transfer-Encoding") or "").lower():
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _send_back(self, response: HTTPResponse) -> bytes:
        chunked = response.getheader("Content-Length") is None and response.status != 204
        self.send_response_only(response.status, response.reason)
        for key, value in response.getheaders():
            if key.lower() not in _HOP:
                self.send_header(key, value)
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        pieces = []
        while piece := response.read1(65536):
            pieces.append(piece)
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")
        return b"".join(pieces)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class names it
        """Say nothing: the matrix is what is printed."""
