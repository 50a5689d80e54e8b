"""A server in a process of its own, for what drives it over HTTP: the demo and the benchmarks.

Rules of this file:
- It is the server that a user starts, on a free port of the loopback address.
- It ends with the block that started it; its own messages go where ours go.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .errors import StartupError

TIMEOUT = 120.0


@dataclass(frozen=True, slots=True)
class Child:
    """Where the server listens, and what it printed at its start."""

    url: str
    banner: str

    def ask(
        self,
        body: Mapping[str, Any],
        on_delta: Callable[[Delta], None],
        route: str = "/v1/chat/completions",
    ) -> Answer:
        """Stream one answer, and show each delta as it comes.

        `body` is that of the route, or of `/v1/completions`, without what asks for the stream.
        """
        streamed = {**body, "stream": True, "stream_options": {"include_usage": True}}
        request = urllib.request.Request(
            f"{self.url}{route}",
            json.dumps(streamed).encode(),
            {"Content-Type": "application/json"},
        )
        answer, began = Answer(), time.monotonic()
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            for line in response:
                if not line.startswith(b"data: {"):
                    continue
                for delta in answer.take(json.loads(line[6:])):
                    answer.first = answer.first or time.monotonic() - began
                    on_delta(delta)
        answer.seconds = time.monotonic() - began
        return answer


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an answer: text, the start of a call, or a fragment of its arguments."""

    kind: str
    text: str


@dataclass(slots=True)
class Answer:
    """What one request brought, and what it cost; times in seconds since it was sent."""

    content: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    usage: Mapping[str, Any] = field(default_factory=dict)
    first: float = 0.0
    seconds: float = 0.0

    @property
    def message(self) -> dict[str, Any]:
        """The answer as the next request's history has it."""
        message: dict[str, Any] = {"role": "assistant", "content": self.content}
        return {**message, "tool_calls": self.calls} if self.calls else message

    @property
    def cached(self) -> int:
        """How many tokens of the prompt were in the KV cache."""
        count: int = self.usage["prompt_tokens_details"]["cached_tokens"]
        return count

    def take(self, chunk: Mapping[str, Any]) -> Iterator[Delta]:
        """Add a chunk of the stream, and yield what is new in it."""
        if "error" in chunk:
            raise StartupError(f"The server failed: {chunk['error']['message']}", "See its log.")
        self.usage = chunk.get("usage") or self.usage
        for choice in chunk["choices"]:
            delta = choice.get("delta") or {"content": choice.get("text")}
            if text := delta.get("content"):
                self.content += text
                yield Delta("text", text)
            for piece in delta.get("tool_calls", ()):
                function = piece["function"]
                if "id" in piece:
                    self.calls.append({**piece, "function": dict(function)})
                    yield Delta("call", function["name"])
                elif fragment := function["arguments"]:
                    self.calls[-1]["function"]["arguments"] += fragment
                    yield Delta("arguments", fragment)


@contextmanager
def serving(*flags: str) -> Iterator[Child]:
    """Run a server with these flags until the block ends; it says only what went wrong."""
    quiet = [] if "--log-level" in flags else ["--log-level", "WARNING"]
    command = [sys.executable, "-m", "mlx_tools_server", *flags, *quiet, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield _child(process)
        finally:
            process.terminate()


def _child(process: subprocess.Popen[str]) -> Child:
    assert process.stdout is not None
    url, lines = "", []
    for line in process.stdout:
        lines.append(line)
        if not url and (found := re.search(r"(http://\S+?)/v1", line)):
            url = found[1]
        if "OPENAI_BASE_URL" in line:  # the banner's last line
            return Child(url, "".join(lines))
    raise StartupError("The server did not start", "Its own message above says why.")


def tool(name: str, description: str, kind: str = "string", **parameters: str) -> dict[str, Any]:
    """Return a tool as a request offers it; all its parameters are required and of one type."""
    properties = {key: {"type": kind, "description": text} for key, text in parameters.items()}
    schema = {"type": "object", "properties": properties, "required": list(parameters)}
    function = {"name": name, "description": description, "parameters": schema}
    return {"type": "function", "function": function}
