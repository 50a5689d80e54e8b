"""What the sections ask a server, and what came of it: the client is that of `bench turns`.

Rules of this file:
- Nothing is read or timed here: `mlx_tools_server.bench` does both, for servers of any make.
- Times count from before the request was sent; a fault of the server is the answer's `error`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from mlx_tools_server.bench.asking import Asked, Endpoint
from mlx_tools_server.bench.dialects.base import Heard
from mlx_tools_server.bench.dialects.chat import DIALECT, message
from mlx_tools_server.errors import StartupError

SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request brought, and when; times in seconds since it was sent."""

    asked: Asked

    @property
    def heard(self) -> Heard:
        """What was said."""
        return self.asked.heard

    @property
    def error(self) -> str:
        """What went wrong, if anything did."""
        return self.heard.error or ""

    @property
    def times(self) -> list[float]:
        """When each piece came."""
        return [arrival - self.asked.began for arrival in self.asked.arrivals]

    @property
    def seconds(self) -> float:
        """How long all of it took."""
        return self.asked.ended - self.asked.began

    @property
    def first(self) -> float | None:
        """When the first token came."""
        return self.times[0] if self.times else None

    @property
    def tokens(self) -> int:
        """How many tokens it has, or pieces where the server doesn't say."""
        return self.heard.completion or len(self.asked.arrivals)

    @property
    def rate(self) -> float | None:
        """Tokens per second, from the first to the last."""
        arrivals = self.asked.arrivals
        if self.tokens < 2 or len(arrivals) < 2 or arrivals[-1] <= arrivals[0]:
            return None
        return (self.tokens - 1) / (arrivals[-1] - arrivals[0])

    @property
    def message(self) -> dict[str, Any]:
        """The answer as the next request's history has it."""
        return message(self.heard.said())


def model_of(url: str) -> str:
    """Return the name of the model that a server has; raise StartupError while it doesn't say."""
    name = Endpoint(url, timeout=10.0).about(DIALECT).model
    if name is None:
        raise StartupError(f"{url} does not tell its model", "See what its /v1/models answers.")
    return name


def ask(url: str, body: Mapping[str, Any], seconds: float = SECONDS) -> Answer:
    """Ask the chat route, and return what came within this time; `body` says whether it streams."""
    if body.get("stream"):
        body = {**body, "stream_options": {"include_usage": True}}
    return Answer(Endpoint(url, timeout=seconds).ask(DIALECT, body))


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
