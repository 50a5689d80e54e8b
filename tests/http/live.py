"""A real server process, and what tests ask of it over real HTTP."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from mlx_tools_server.engine.scripted import write_checkpoint
from mlx_tools_server.templates import read_ours

START_TIMEOUT = 60.0


@dataclass
class Heard:
    """What a stream said: its chunks and comments, and the answer that they add up to."""

    status: int = 200
    chunks: list[dict[str, Any]] = field(default_factory=list)
    comments: int = 0
    done: bool = False
    content: str = ""
    reasoning: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    fragments: list[int] = field(default_factory=list)
    finish: str | None = None
    usage: dict[str, Any] | None = None
    error: dict[str, Any] | None = None

    def hear(self, line: str) -> None:
        """Take one line of the stream."""
        if line.startswith(":"):
            self.comments += 1
        elif line == "data: [DONE]":
            self.done = True
        elif line.startswith("data: "):
            self._chunk(json.loads(line.removeprefix("data: ")))

    def _chunk(self, chunk: dict[str, Any]) -> None:
        self.chunks.append(chunk)
        self.error = chunk.get("error", self.error)
        self.usage = chunk.get("usage") or self.usage
        for choice in chunk.get("choices", ()):
            delta = choice.get("delta", {"content": choice.get("text")})
            self.content += delta.get("content") or ""
            self.reasoning += delta.get("reasoning_content") or ""
            self.finish = choice["finish_reason"] or self.finish
            for call in delta.get("tool_calls", ()):
                self._call(call)

    def _call(self, call: dict[str, Any]) -> None:
        if "id" in call:
            assert call["index"] == len(self.calls)
            assert call["type"] == "function"
            assert call["function"]["arguments"] == ""
            self.calls.append({"id": call["id"], "name": call["function"]["name"], "text": ""})
            self.fragments.append(0)
        else:
            assert set(call) == {"index", "function"}
            assert set(call["function"]) == {"arguments"}
            self.calls[call["index"]]["text"] += call["function"]["arguments"]
            self.fragments[call["index"]] += 1


@dataclass
class Live:
    """A server and a client of it."""

    url: str
    process: subprocess.Popen[str]
    log: Path
    client: httpx.Client
    killed: bool = False

    def kill(self) -> None:
        """End the server as a power cut would."""
        self.killed = True
        self.process.kill()

    def post(self, path: str, body: Any, **kwargs: Any) -> httpx.Response:
        """Send a JSON body."""
        return self.client.post(path, json=body, **kwargs)

    def chat(self, script: str, **fields: Any) -> dict[str, Any]:
        """Let the model say `script`, and return the whole answer."""
        response = self.post("/v1/chat/completions", self.body(script, **fields))
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def stream(self, script: str, path: str = "/v1/chat/completions", **fields: Any) -> Heard:
        """Let the model say `script`, and return what the stream said."""
        heard = Heard()
        body = self.body(script, stream=True, **fields)
        with self.client.stream("POST", path, json=body) as response:
            heard.status = response.status_code
            for line in response.iter_lines():
                heard.hear(line)
        return heard

    def body(self, script: str, **fields: Any) -> dict[str, Any]:
        """Return a chat body whose one message tells the model what to say."""
        return {"model": "m", "messages": [user(script)], **fields}

    def health(self) -> dict[str, Any]:
        """Return what /health says."""
        health: dict[str, Any] = self.client.get("/health").json()
        return health

    def wait_busy(self, requests: int) -> None:
        """Wait until so many requests are in flight."""
        while self.health()["in_flight"] < requests:
            time.sleep(0.02)

    def wait_idle(self, seconds: float = 5.0) -> bool:
        """Return whether nothing is in flight within this time."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            health = self.health()
            if health["in_flight"] == health["waiting"] == 0:
                return True
            time.sleep(0.05)
        return False


def user(script: str) -> dict[str, Any]:
    """Return the user message that makes the scripted model say `script`."""
    return {"role": "user", "content": f"[[SCRIPT]]{script}[[/SCRIPT]]"}


def tool(name: str, **properties: str) -> dict[str, Any]:
    """Return a tool whose required parameters have these types."""
    parameters = {
        "type": "object",
        "properties": {key: {"type": kind} for key, kind in properties.items()},
        "required": list(properties),
    }
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def call(name: str, **arguments: str) -> str:
    """Return a call as the model writes it."""
    lines = ["<tool_call>", f"<function={name}>"]
    for key, value in arguments.items():
        lines += [f"<parameter={key}>", value, "</parameter>"]
    return "\n".join([*lines, "</function>", "</tool_call>"])


@contextmanager
def serve(
    folder: Path,
    *flags: str,
    template: str = "qwen3_coder",
    environment: Mapping[str, str] | None = None,
    **checkpoint: Any,
) -> Iterator[Live]:
    """Serve a scripted checkpoint from a process of its own."""
    write_checkpoint(folder / "model", chat_template=read_ours(template), **checkpoint)
    command = [sys.executable, "-m", "mlx_tools_server", "--model-path", str(folder / "model")]
    command += ["--trust-remote-code", "--port", "0", "--kv-dir", str(folder / "kv")]
    with process([*command, *flags], folder, environment) as live:
        yield live


@contextmanager
def process(
    command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Live]:
    """Run a server until the block ends; it says its address in its banner."""
    log = folder / "server.log"
    with log.open("w") as errors:
        running = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        )
    try:
        url = _address(running, log)
        path = url.removeprefix("unix:") if url.startswith("unix:") else None
        transport = httpx.HTTPTransport(uds=path)
        base = "http://localhost" if path else url
        with httpx.Client(base_url=base, transport=transport, timeout=60.0) as client:
            live = Live(url, running, log, client)
            yield live
    finally:
        running.terminate()
        with running:  # reads and closes its output, and waits
            pass
    assert live.killed or running.returncode == 0, log.read_text()


def _address(running: subprocess.Popen[str], log: Path) -> str:
    timer = threading.Timer(START_TIMEOUT, running.kill)
    timer.start()
    assert running.stdout is not None
    lines = iter(running.stdout.readline, "")
    address = re.compile(r"(http://\S+?)/v1|  (unix:\S+)")
    found = next((match for line in lines if (match := address.search(line))), None)
    timer.cancel()
    assert found, log.read_text()
    return str(found[1] or found[2])
