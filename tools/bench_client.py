"""A client that times what any OpenAI-compatible server streams, and forgives what it leaves out.

Rules of this file:
- The standard library only, so that the client takes as little as it can of the machine it
  shares with the server.
- `Answer.take` is pure: a line of the stream in, what it adds to the answer out. A fault of the
  server is the answer's `error`, never an exception.
- The first token is the first piece of text, thought or call; comments and roles don't count.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

SECONDS = 300.0


@dataclass(slots=True)
class Answer:
    """What a request brought, and when; times in seconds since it was sent."""

    content: str = ""
    # By index: id, name, arguments.
    calls: dict[int, dict[str, str]] = field(default_factory=dict)
    finish: str | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    done: bool = False
    # When each piece came.
    times: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def first(self) -> float | None:
        """When the first token came."""
        return self.times[0] if self.times else None

    @property
    def tokens(self) -> int:
        """How many tokens it has, or pieces where the server doesn't say."""
        told: int = self.usage.get("completion_tokens") or len(self.times)
        return told

    @property
    def rate(self) -> float | None:
        """Tokens per second, from the first to the last."""
        if self.tokens < 2 or len(self.times) < 2 or self.times[-1] <= self.times[0]:
            return None
        return (self.tokens - 1) / (self.times[-1] - self.times[0])

    @property
    def prompt(self) -> int | None:
        """How many tokens the prompt has, where the server says so."""
        return self.usage.get("prompt_tokens")

    @property
    def cached(self) -> int | None:
        """How many of them it had computed before, where the server says so."""
        details = self.usage.get("prompt_tokens_details") or {}
        told: int | None = details.get("cached_tokens")
        return told

    @property
    def message(self) -> dict[str, Any]:
        """The answer as the next request's history has it."""
        message: dict[str, Any] = {"role": "assistant", "content": self.content}
        if self.calls:
            message["tool_calls"] = [
                {
                    "id": call["id"],
                    "type": "function",
                    "function": {"name": call["name"], "arguments": call["arguments"]},
                }
                for call in self.calls.values()
            ]
        return message

    def take(self, line: str, now: float = 0.0) -> None:
        """Add a line of the stream, which came at `now`."""
        if not line.startswith("data:"):
            return
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            self.done = True
            return
        try:
            chunk = json.loads(data)
        except ValueError:
            self.error = f"not JSON: {data[:80]}"
            return
        if not isinstance(chunk, dict) or chunk.get("error"):
            self.error = str(chunk)[:200]
            return
        self.usage = chunk.get("usage") or self.usage
        for choice in chunk.get("choices") or ():
            self.finish = choice.get("finish_reason") or self.finish
            if self._add(choice.get("delta") or choice.get("message") or {}):
                self.times.append(now)

    def _add(self, delta: Mapping[str, Any]) -> bool:
        """Add what a delta has, and return whether it has anything."""
        text = delta.get("content") or ""
        self.content += text
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        calls = delta.get("tool_calls") or ()
        for i, piece in enumerate(calls):
            empty = {"id": "", "name": "", "arguments": ""}
            call = self.calls.setdefault(piece.get("index", i), empty)
            function = piece.get("function") or {}
            call["id"] = call["id"] or piece.get("id") or ""
            call["name"] = call["name"] or function.get("name") or ""
            call["arguments"] += function.get("arguments") or ""
        return bool(text or thought or calls)


def model_of(url: str) -> str:
    """Return the name of the model that a server has; raise OSError while it doesn't say."""
    connection = _connection(url, 10.0)
    try:
        connection.request("GET", "/v1/models")
        response = connection.getresponse()
        name: str = json.load(response)["data"][0]["id"]
    except (HTTPException, ValueError, LookupError, TypeError) as error:
        raise OSError(f"no model at {url}: {error!r}") from error
    finally:
        connection.close()
    return name


def ask(url: str, body: Mapping[str, Any], seconds: float = SECONDS) -> Answer:
    """Ask the chat route, and return what came within this time; `body` says whether it streams."""
    answer, connection = Answer(), _connection(url, seconds)
    if body.get("stream"):
        body = {**body, "stream_options": {"include_usage": True}}
    began = time.perf_counter()
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        if response.status != 200:
            answer.error = f"HTTP {response.status}: {response.read()[:200]!r}"
        elif body.get("stream"):
            for line in response:
                answer.take(line.decode("utf-8", "replace").rstrip(), time.perf_counter() - began)
        else:
            answer.take("data: " + response.read().decode(), time.perf_counter() - began)
    except (OSError, HTTPException) as error:
        answer.error = repr(error)
    finally:
        connection.close()
    answer.seconds = time.perf_counter() - began
    return answer


def ask_at_once(url: str, bodies: Sequence[Mapping[str, Any]]) -> tuple[list[Answer], float]:
    """Send all these at the same time; return the answers, and the seconds until the last."""
    began = time.perf_counter()
    pool = ThreadPoolExecutor(len(bodies))
    try:
        answers = list(pool.map(lambda body: ask(url, body), bodies))
    finally:
        # Whoever is interrupted doesn't wait: the servers end next, and with them the answers.
        pool.shutdown(wait=False)
    return answers, time.perf_counter() - began


def _connection(url: str, seconds: float) -> HTTPConnection:
    parts = urlsplit(url)
    return HTTPConnection(parts.hostname or "127.0.0.1", parts.port or 80, timeout=seconds)
