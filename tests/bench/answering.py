"""A server of a few lines that says what it is told to, for clients to be measured with."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias

# Lines of a stream, a status and a body, or None: to hang up.
Answer: TypeAlias = list[str] | tuple[int, str] | None
MODELS = {"data": [{"id": "tiny", "context_length": 4096}]}


@dataclass
class Answering:
    """What the server was asked, and what it answers."""

    answers: Sequence[Answer]
    url: str = ""
    models: dict[str, Any] = field(default_factory=lambda: MODELS)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)


def call_stream(prompt: int, cached: int) -> list[str]:
    """Return the stream of one call, in chat's dialect."""
    pieces: list[dict[str, Any]] = [
        {"id": "c1", "function": {"name": "list_folder", "arguments": ""}},
        {"function": {"arguments": '{"path":'}},
        {"function": {"arguments": ' "."}'}},
    ]
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    chunks: list[dict[str, Any]] = [
        {"choices": [{"delta": {"tool_calls": [{"index": 0, **piece}]}}]} for piece in pieces
    ]
    chunks += [{"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}]
    chunks += [{"choices": [], "usage": usage}]
    return [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks] + ["data: [DONE]\n\n"]


@contextmanager
def answering(*answers: Answer) -> Iterator[Answering]:
    """Run the server until the block ends; the answers come in turns."""
    told = Answering(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(200, json.dumps(told.models if "models" in self.path else {"version": "7"}))

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            answer = told.answers[len(told.bodies) % len(told.answers)]
            told.bodies.append(json.loads(self.rfile.read(length)))
            told.headers.append(dict(self.headers))
            if isinstance(answer, tuple):
                self._send(*answer)
                return
            if answer is None:
                return
            self.send_response(200)
            self.end_headers()
            for line in answer:
                self.wfile.write(line.encode())

        def _send(self, status: int, body: str) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    told.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
