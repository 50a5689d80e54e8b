"""A soak: mixed agents play against one server for a while; nothing may grow, no answer be wrong.

`python -m tests.attack.soak --minutes 20` prints a table of samples and a verdict; its exit code
is 1 if an answer was wrong or something grew. `--only boom --only idle` plays some kinds of agents
only, which tells who makes it grow.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from mlx_tools_server.engine.scripted import write_checkpoint
from mlx_tools_server.templates import read_ours
from tests.http.live import Live, process

from . import agents
from .agents import Book, company
from .asking import Wrong, check, one_message
from .figures import MB, Meter, Sample, percentile, slope, slope_error, table

# The scripted model's KV cache has 8 bytes a token: these hold some conversations, not all.
KV_RAM, KV_DISK = 256 << 10, 2 << 20
# glibc gives threads pools of their own, up to eight a core, and each keeps its own holes: that is
# growth for an hour or more without any leak. With one pool, what still grows is a leak.
ONE_POOL = {"MALLOC_ARENA_MAX": "1"}
EVERY = 5.0
FIXED = 100
# What may grow over the measured part without being called a leak: pools fill holes of other sizes
# for long, and SQLite's cache of pages fills up.
MAY_GROW_MB = 8.0
MAY_KEEP_BLOCKS = 8000
# Pools start their threads when they are first needed: the four readers of the KV cache, of which
# at least one is there after the warm-up, and MLX's stream of each.
MAY_START_THREADS = 6
# What the log must not say: that an error reached the last line of defence.
NEVER_LOGGED = ("a request failed", "a connection failed", "a stream failed")


@dataclass
class Edge:
    """The server at rest, at the start or the end: a sample, its inside, times of one request."""

    sample: Sample
    inside: dict[str, int]
    seconds: list[float]
    requests: int


@dataclass
class Soak:
    """All that a soak brought."""

    book: Book
    start: Edge
    end: Edge
    samples: list[Sample] = field(default_factory=list)

    @property
    def measured(self) -> list[Sample]:
        """The last two thirds of the samples."""
        return self.samples[len(self.samples) // 3 :]

    @property
    def megabytes_an_hour(self) -> float:
        """How fast the resident memory grows."""
        return slope([(one.at / 3600, one.rss / MB) for one in self.measured])

    @property
    def grown_megabytes(self) -> float:
        """How much the line through the resident memory rises over what is measured."""
        hours = (self.measured[-1].at - self.measured[0].at) / 3600
        return self.megabytes_an_hour * hours

    @property
    def rest_megabytes(self) -> float:
        """How much more memory is resident at rest, free pages aside."""
        return (self.end.inside["rss"] - self.start.inside["rss"]) / MB

    @property
    def grows(self) -> bool:
        """Whether the resident memory grows by more than what chance explains."""
        points = [(one.at / 3600, one.rss / MB) for one in self.measured]
        hours = points[-1][0] - points[0][0]
        return self.grown_megabytes > max(MAY_GROW_MB, 3 * hours * slope_error(points))

    @property
    def kept_blocks(self) -> int:
        """How many of Python's blocks the requests have left behind."""
        return self.end.inside["blocks"] - self.start.inside["blocks"]

    def faults(self) -> list[str]:
        """Return what is not as promised; none if all is flat and right."""
        start, end = self.start.sample, self.end.sample
        promises = {
            f"{self.book.counts['wrong']} answers were wrong": self.book.counts["wrong"] == 0,
            f"threads at rest: {start.threads}, then {end.threads}": (
                end.threads <= start.threads + MAY_START_THREADS
            ),
            f"files at rest: {start.fds}, then {end.fds}": end.fds <= start.fds,
            "requests are left in flight": end.in_flight == end.waiting == 0,
            "the KV cache in memory has outgrown its cap": all(
                one.kv_memory <= KV_RAM for one in self.samples
            ),
            "the KV cache on disk has outgrown its cap": all(
                max(one.kv_disk, one.kv_files) <= KV_DISK for one in self.samples
            ),
            f"memory grew by {self.grown_megabytes:.1f} MB": not self.grows,
            f"memory at rest grew by {self.rest_megabytes:.1f} MB": (
                self.rest_megabytes <= MAY_GROW_MB
            ),
            f"the requests leave {self.kept_blocks} blocks": self.kept_blocks <= MAY_KEEP_BLOCKS,
        }
        return [fault for fault, kept in promises.items() if not kept]


@contextmanager
def server(
    folder: Path, environment: Mapping[str, str], *flags: str, kv_ram: int = KV_RAM
) -> Iterator[Live]:
    """Run the server on a scripted checkpoint, with caps so low that eviction never rests."""
    template = read_ours("qwen3_5")
    model = write_checkpoint(folder / "model", chat_template=template, thinking=True)
    command = [sys.executable, "-m", "tests.attack.odd_server", "--model-path", str(model)]
    command += ["--trust-remote-code", "--port", "0", "--kv-dir", str(folder / "kv")]
    command += ["--kv-ram-bytes", str(kv_ram), "--kv-disk-bytes", str(KV_DISK)]
    command += ["--reasoning", "off", "--context-length", str(agents.CONTEXT), *flags]
    with process(command, folder, {**os.environ, **environment}) as live:
        yield live


def soak(
    minutes: float,
    kinds: Mapping[str, agents.Play],
    *,
    seed: int,
    pause: float,
    environment: Mapping[str, str],
) -> Soak:
    """Play for so many minutes, a tenth of them (at most one) as warm-up."""
    book = Book()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        probe = folder / "probe.json"
        with server(folder, {**environment, "ODD_PROBE": str(probe)}) as live:
            meter = Meter(live, folder)
            warm = min(60.0, 6.0 * minutes)
            _load(live, meter, kinds, book, warm, seed=seed, pause=pause)
            start = _edge(live, meter, book, probe, seed)
            samples = _load(
                live, meter, kinds, book, 60 * minutes - warm, seed=seed + 1, pause=pause
            )
            end = _edge(live, meter, book, probe, seed + 1)
            if live.process.poll() is not None or live.health()["status"] != "ok":
                book.wrong("server", Wrong("it is not well at the end"))
        look_at_log(folder, book)
    return Soak(book, start, end, samples)


def look_at_log(folder: Path, book: Book) -> None:
    """Look for what the log of a server must not say."""
    said = (folder / "server.log").read_text()
    for line in NEVER_LOGGED:
        if line in said:
            book.wrong("log", Wrong(said[said.index(line) :]))


def _load(
    live: Live,
    meter: Meter,
    kinds: Mapping[str, agents.Play],
    book: Book,
    seconds: float,
    *,
    seed: int,
    pause: float,
) -> list[Sample]:
    """Let all agents play for some seconds, and look at the server now and then."""
    samples = []
    until = time.monotonic() + seconds
    with company(live.url, kinds, book, seed=seed, pause=pause):
        while time.monotonic() < until:
            time.sleep(max(0.0, min(EVERY, until - time.monotonic())))
            samples.append(meter.sample())
            _progress(samples[-1], book)
    return samples


def _progress(sample: Sample, book: Book) -> None:
    print(
        f"{sample.at:6.0f} s  RSS {sample.rss / MB:6.1f} MB  threads {sample.threads:3}  files "
        f"{sample.fds:3}  in flight {sample.in_flight:2}  wrong {book.counts['wrong']}",
        file=sys.stderr,
        flush=True,
    )


def _edge(live: Live, meter: Meter, book: Book, probe: Path, seed: int) -> Edge:
    """Time the fixed request beside one gentle agent, then look at the server at rest."""
    rng = random.Random(f"fixed {seed}")
    seconds = []
    with company(live.url, {"chat": agents.GOOD["chat"]}, book, seed=seed, pause=0.3):
        for _ in range(FIXED):
            try:
                seconds.append(fixed(live.client, rng))
            except Exception as error:
                book.wrong("fixed request", error)
    sample = meter.at_rest()
    requests = live.health()["counts"]["requests"]
    return Edge(sample, meter.inside(probe), seconds, requests)


def fixed(client: httpx.Client, rng: random.Random) -> float:
    """Return the seconds of a request of 500 tokens, 20 of them answered, none of them known."""
    said = "w " * 19 + "w"
    body = one_message(said)
    text = f"{rng.randint(10**6, 10**7 - 1)} " + "word " * 470
    body["messages"].insert(0, {"role": "user", "content": text})
    began = time.perf_counter()
    response = client.post("/v1/chat/completions", json=body)
    taken = time.perf_counter() - began
    check(response)
    if response.json()["choices"][0]["message"]["content"] != said:
        raise Wrong(response.text)
    return taken


# --- The report ---------------------------------------------------------------------------------


def report(made: Soak) -> str:
    """Return what came of a soak, for a person."""
    counts = sorted(made.book.counts.items())
    faults = made.faults()
    parts = [
        _over_time(made.samples),
        _edges(made),
        table([("what", "times"), *counts]),
        f"Resident memory under load, last two thirds: {made.megabytes_an_hour:+.1f} MB an hour, "
        f"{made.grown_megabytes:+.1f} MB in all.",
        *made.book.wrongs,
        "FAULTS: " + "; ".join(faults) if faults else "All is flat, and every answer was right.",
    ]
    return "\n\n".join(parts)


def _over_time(samples: Sequence[Sample]) -> str:
    """Return about twenty rows of the samples."""
    step = max(1, len(samples) // 20)
    rows: list[Sequence[object]] = [
        ("minute", "RSS MB", "threads", "files", "KV mem KB", "KV disk KB", "history MB", "flight")
    ]
    for one in samples[::step]:
        kv = (one.kv_memory // 1000, one.kv_disk // 1000, f"{one.history / MB:.1f}")
        numbers = (f"{one.rss / MB:.1f}", one.threads, one.fds, *kv, one.in_flight)
        rows.append((f"{one.at / 60:.1f}", *numbers))
    return table(rows)


def _edges(made: Soak) -> str:
    start, end = made.start, made.end
    rows: list[Sequence[object]] = [("at rest", "start", "end")]
    rows += [
        (name, f"{a / MB:.1f} MB", f"{b / MB:.1f} MB")
        for name, a, b in (
            ("RSS, free pages returned", start.inside["rss"], end.inside["rss"]),
            ("of it no file's", start.inside.get("anonymous", 0), end.inside.get("anonymous", 0)),
            ("Python's pools", start.inside.get("pools", 0), end.inside.get("pools", 0)),
            ("in use of malloc", start.inside.get("malloc", 0), end.inside.get("malloc", 0)),
            ("MLX arrays", start.inside["mlx_active"], end.inside["mlx_active"]),
            ("MLX's cache of buffers", start.inside["mlx_cache"], end.inside["mlx_cache"]),
            ("history file", start.sample.history, end.sample.history),
        )
    ]
    rows += [
        ("Python's blocks", start.inside["blocks"], end.inside["blocks"]),
        ("Python's objects", start.inside["objects"], end.inside["objects"]),
        ("Python's threads", start.inside["threads"], end.inside["threads"]),
        ("threads", start.sample.threads, end.sample.threads),
        ("files", start.sample.fds, end.sample.fds),
        ("requests answered", start.requests, end.requests),
    ]
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        times = [f"{percentile(one.seconds, share) * 1000:.1f} ms" for one in (start, end)]
        rows.append((f"fixed request, {name}", *times))
    return table(rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a soak; return 1 if something is not as promised."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.attack.soak")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--only", action="append", choices=list(agents.KINDS), default=[])
    parser.add_argument("--without", action="append", choices=list(agents.KINDS), default=[])
    parser.add_argument("--pause", type=float, default=0.4, help="seconds between requests")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pools", action="store_true", help="leave malloc its pools a thread")
    args = parser.parse_args(argv)
    names = [name for name in args.only or agents.KINDS if name not in args.without]
    kinds = {name: agents.KINDS[name] for name in names}
    environment = {} if args.pools else ONE_POOL
    made = soak(args.minutes, kinds, seed=args.seed, pause=args.pause, environment=environment)
    print(report(made))
    print(json.dumps({"inside": [made.start.inside, made.end.inside]}))
    return 1 if made.faults() else 0


if __name__ == "__main__":
    sys.exit(main())
