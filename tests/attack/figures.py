"""What a soak measures, and what is made of it: samples, a line through them, and a verdict."""

from __future__ import annotations

import json
import math
import signal
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.http.live import Live

MB = 1e6


@dataclass(frozen=True)
class Sample:
    """The server at one moment; `at` in seconds since the start, all else in bytes or numbers."""

    at: float
    rss: int
    threads: int
    fds: int
    kv_memory: int
    kv_disk: int
    kv_files: int
    history: int
    in_flight: int
    waiting: int


class Meter:
    """Looks at one server from outside, and from inside if it was started with a probe."""

    def __init__(self, live: Live, folder: Path) -> None:
        self._live = live
        self._folder = folder
        self._process = psutil.Process(live.process.pid)
        self._began = time.monotonic()

    def sample(self) -> Sample:
        """Take one sample."""
        health = self._live.health()
        cache = health["kv_cache"]
        with self._process.oneshot():
            return Sample(
                time.monotonic() - self._began,
                self._process.memory_info().rss,
                self._process.num_threads(),
                self._process.num_fds(),
                cache["memory"]["bytes"],
                cache["disk"]["bytes"],
                _size(self._folder / "kv" / "kv", "*.safetensors"),
                _size(self._folder / "kv", "history.sqlite3*"),
                health["in_flight"],
                health["waiting"],
            )

    def at_rest(self, seconds: float = 15.0) -> Sample:
        """Wait until nothing is in flight and the connections have gone; return the least seen."""
        self._live.wait_idle(seconds)
        # The one connection that asks is there each time.
        until = time.monotonic() + seconds
        best = self.sample()
        while time.monotonic() < until:
            time.sleep(0.5)
            now = self.sample()
            settled = (now.threads, now.fds) >= (best.threads, best.fds)
            best = min(best, now, key=lambda one: (one.threads, one.fds))
            if settled and until - time.monotonic() < seconds - 3:
                break
        return best

    def inside(self, answer: Path) -> dict[str, int]:
        """Return what the process holds, as its probe tells it in the file `answer`."""
        answer.unlink(missing_ok=True)
        self._process.send_signal(signal.SIGUSR1)
        until = time.monotonic() + 30.0
        while not answer.exists():
            if time.monotonic() > until:
                raise TimeoutError("the probe does not answer")
            time.sleep(0.1)
        told: dict[str, int] = json.loads(answer.read_text())
        return {**told, "rss": self._process.memory_info().rss}


def _size(folder: Path, pattern: str) -> int:
    total = 0
    for path in folder.rglob(pattern):
        with suppress(OSError):
            total += path.stat().st_size
    return total


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return how much the least-squares line through the points rises, per unit of the first."""
    if len(points) < 2 or points[0][0] == points[-1][0]:
        return 0.0
    return statistics.linear_regression(*zip(*points, strict=True)).slope


def slope_error(points: Sequence[tuple[float, float]]) -> float:
    """Return the standard error of that slope, were the points independent."""
    if len(points) < 3:
        return 0.0
    xs, ys = zip(*points, strict=True)
    line = statistics.linear_regression(xs, ys)
    left = sum((y - line.slope * x - line.intercept) ** 2 for x, y in points)
    spread = sum((x - statistics.fmean(xs)) ** 2 for x in xs)
    return math.sqrt(left / (len(points) - 2) / spread) if spread else 0.0


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def table(rows: Sequence[Sequence[Any]]) -> str:
    """Return rows as a Markdown table; the first holds the names."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[n]) for row in texts) for n in range(len(texts[0]))]
    texts.insert(1, ["-" * width for width in widths])
    padded = ([cell.ljust(n) for cell, n in zip(row, widths, strict=True)] for row in texts)
    return "\n".join(f"| {' | '.join(row)} |" for row in padded)
