"""Send thousands of hostile requests to a server of our own, and see that nothing suffers.

    python -m tests.attack.fuzz --count 10000 --seed 1
    python -m tests.attack.fuzz --count 300 --family all

Each request follows from the seed and its number alone; `--only NUMBER` sends one of them again.
What is wrong with an answer is said at the end, with the smallest body that still shows it.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from random import Random
from typing import Any

import httpx

from tests.http.folders import serve_folder
from tests.http.live import Live, serve
from tests.http.voices import VOICES, Speaker

from . import asking
from .hostile import Hostile, attack, smaller
from .raw import connected

# Seconds in which each answer must have ended.
LIMIT = 30.0
CONNECTIONS = 4
# Good requests come after so many hostile ones.
EVERY = 50
FLAGS = ("--context-length", "4096", "--constrain", "calls", "--no-kv-disk")
# The last event of a stream, in each dialect.
ENDS = ("data: [DONE]", "event: message_stop", "event: response.completed",
        "event: response.incomplete", "event: response.failed", "event: error",
        'data: {"type":"error"')  # fmt: skip


@dataclass
class Seen:
    """What came of all requests."""

    statuses: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, int] = (0.0, -1)
    wrongs: list[tuple[int, str]] = field(default_factory=list)
    good: int = 0
    memory: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def told(self) -> str:
        """Return the figures, for a person."""
        statuses = ", ".join(f"{status} {count}" for status, count in self.statuses.most_common())
        lines = [
            f"requests: {self.statuses.total()} ({statuses})",
            f"good requests between them: {self.good}",
            f"slowest: {self.slowest[0]:.2f} s (number {self.slowest[1]})",
            f"memory: {self.memory[0] / 1024:.0f} MB before, {self.memory[-1] / 1024:.0f} MB after",
            f"wrong: {len(self.wrongs)}",
        ]
        return "\n".join([*lines, *(f"  number {n}: {what}" for n, what in self.wrongs[:20])])


def wrong(url: str, hostile: Hostile) -> tuple[str, str]:
    """Send one request; return its status, and what is wrong with the answer ("" if nothing)."""
    try:
        with connected(url, reset=hostile.reset) as sock:
            sock.settimeout(LIMIT)
            _send(sock, hostile)
            if hostile.leave is not None:
                if hostile.leave:
                    sock.recv(hostile.leave)
                return "left", ""
            return _judged(sock, hostile)
    except TimeoutError:
        return "none", f"no answer in {LIMIT:g} s"
    except (OSError, HTTPException) as error:
        return "closed", f"no answer: {error!r}" if hostile.whole else ""


def _send(sock: socket.socket, hostile: Hostile) -> None:
    try:
        sock.sendall(hostile.data)
        if not hostile.whole and hostile.leave is None:
            sock.shutdown(socket.SHUT_WR)  # what is missing never comes
    except TimeoutError:
        raise
    except OSError:  # a server may answer, and close, before it has read all
        pass


def _judged(sock: socket.socket, hostile: Hostile) -> tuple[str, str]:
    response = HTTPResponse(sock, method="HEAD" if hostile.data.startswith(b"HEAD") else "POST")
    response.begin()
    body = response.read()
    status, text = str(response.status), body.decode("utf-8", "replace")
    if response.status >= 500 and response.status != 503:
        return status, f"status {status}: {text[:300]}"
    kind = response.headers.get("Content-Type", "")
    if kind.startswith("text/event-stream"):
        return "stream", _judged_stream(text)
    if not hostile.whole:
        return status, ""
    try:
        said = json.loads(text)
    except ValueError:
        return status, f"{status} with a body that is no JSON: {text[:300]}"
    if response.status >= 400:
        return status, _judged_error(said, hostile.dialect)
    return status, ""


def _judged_stream(text: str) -> str:
    events = [event for event in text.split("\n\n") if event]
    if not events or not any(line.startswith(ENDS) for line in events[-1].split("\n")):
        return f"a stream ends with {events[-1:]!r}"[:300]
    errors = [event for event in events if '"error":{' in event and '"error":null' not in event]
    if errors and "overloaded" not in errors[0]:
        return f"a stream holds an error: {errors[0][:300]}"
    return ""


def _judged_error(said: Any, dialect: str) -> str:
    error = said.get("error") if isinstance(said, Mapping) else None
    if not isinstance(error, Mapping) or not error.get("message") or "type" not in error:
        return f"an error in no envelope: {said!r}"[:300]
    if dialect in ("messages", "count") and said.get("type") != "error":
        return f"an error in a foreign envelope: {said!r}"[:300]
    if len(error["message"]) > 1000:
        return f"an error of {len(error['message'])} characters: {error['message'][:300]}"
    return ""


def check_good(url: str, rng: Random, speaker: Speaker | None = None) -> str:
    """Ask a right question in each dialect; return what is wrong with an answer."""
    with httpx.Client(base_url=url, timeout=LIMIT) as client:
        for name, kind in asking.TALKS.items():
            wanted = asking.any_wanted(rng, calls=1 if kind.has_tools else 0)
            if speaker is not None and not speaker.can_write([made for _, made in wanted.calls]):
                continue
            try:
                talk = kind(client, "Be brief.", rng)
                script = ""
                if speaker is not None and kind.has_tools:
                    script = speaker.script(*wanted.calls, text=wanted.text)
                talk.say(wanted, stream=rng.random() < 0.5, script=script)
                talk.leave()
            except asking.Refused:
                continue
            except Exception as error:
                return f"a good request of {name}: {error!r}"[:600]
        health = client.get("/health").json()
    return "" if health["status"] == "ok" else f"health says {health}"


def fuzz(live: Live, seed: int, numbers: range, speaker: Speaker | None = None) -> Seen:
    """Send all these requests over several connections at once."""
    seen = Seen(memory=[resident(live.process.pid)])
    waiting = iter(numbers)

    def work(_: int) -> None:
        while (number := _next(waiting, seen.lock)) is not None:
            hostile = attack(seed, number)
            start = time.monotonic()
            status, problem = wrong(live.url, hostile)
            took = time.monotonic() - start
            if took > LIMIT:
                problem = problem or f"took {took:.1f} s"
            with seen.lock:
                seen.statuses[status] += 1
                seen.slowest = max(seen.slowest, (took, number))
            if number % EVERY == EVERY - 1:
                problem = problem or check_good(live.url, Random(f"good {seed}:{number}"), speaker)
                with seen.lock:
                    seen.good += len(asking.TALKS)
                _say_where(seen)
            if problem:
                with seen.lock:
                    seen.wrongs.append((number, problem))
                print(f"number {number}: {problem}", file=sys.stderr, flush=True)
            if live.process.poll() is not None:
                return

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(work, range(CONNECTIONS)))
    _at_the_end(live, seen, speaker)
    return seen


def _say_where(seen: Seen) -> None:
    if seen.statuses.total() % 1000 < EVERY:
        count, wrongs = seen.statuses.total(), len(seen.wrongs)
        print(f"{count} sent, {wrongs} wrong", file=sys.stderr, flush=True)


def _next(waiting: Iterator[int], lock: threading.Lock) -> int | None:
    with lock:
        return next(waiting, None)


def _at_the_end(live: Live, seen: Seen, speaker: Speaker | None) -> None:
    if live.process.poll() is not None:
        seen.wrongs.append((-1, f"the server has ended: {live.log.read_text()[-1000:]}"))
        seen.memory.append(0)
        return
    if not live.wait_idle(LIMIT):
        seen.wrongs.append((-1, f"the server does not become idle: {live.health()}"))
    if problem := check_good(live.url, Random(0), speaker):
        seen.wrongs.append((-1, problem))
    log = live.log.read_text()
    if "Traceback" in log:
        place = log.index("Traceback")
        seen.wrongs.append((-1, f"the log has a traceback: {log[place - 200 : place + 2500]}"))
    seen.memory.append(resident(live.process.pid))


def resident(pid: int) -> int:
    """Return the memory of a process, in kB."""
    command = ["ps", "-o", "rss=", "-p", str(pid)]
    return int(subprocess.run(command, capture_output=True, check=True).stdout or 0)


def smallest(url: str, hostile: Hostile) -> Hostile:
    """Take members out of a body as long as the answer stays wrong."""
    until = time.monotonic() + 60
    again = True
    while again and hostile.body is not None:
        again = False
        for body in smaller(hostile.body):
            candidate = hostile.with_body(body)
            if time.monotonic() < until and wrong(url, candidate)[1]:
                hostile, again = candidate, True
                break
    return hostile


@contextmanager
def server(speaker: Speaker | None = None) -> Iterator[Live]:
    """Serve a scripted model as the attack wants it; a speaker's is of another family."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if speaker is None:
            served = serve(folder, *FLAGS)
        else:
            served = serve_folder(speaker.checkpoint(folder / "model"), *FLAGS)
        with served as live:
            yield live


def _attack(seed: int, numbers: range, speaker: Speaker | None) -> bool:
    """Attack one server, and say what came of it; return whether nothing is wrong."""
    with server(speaker) as live:
        start = time.monotonic()
        seen = fuzz(live, seed, numbers, speaker)
        what = f"{speaker.family.name}, " if speaker else ""
        print(f"{what}seed {seed}, {time.monotonic() - start:.0f} s\n{seen.told()}", flush=True)
        first = next((number for number, _ in seen.wrongs if number >= 0), None)
        if first is not None and live.process.poll() is None:
            found = smallest(live.url, attack(seed, first))
            print(f"The smallest like number {first}:\n{found.data[:3000]!r}")
    return not seen.wrongs


def main() -> int:
    """Attack, and say what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.attack.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="send the request of this number alone")
    parser.add_argument("--family", choices=[*VOICES, "all"], help="one that the model speaks as")
    options = parser.parse_args()
    numbers = range(options.count)
    if options.only is not None:
        numbers = range(options.only, options.only + 1)
        print(attack(options.seed, options.only).data[:2000].decode("utf-8", "replace"))
    names = VOICES if options.family == "all" else filter(None, [options.family])
    speakers: list[Speaker | None] = [Speaker(name) for name in names]
    failed = [one for one in speakers or [None] if not _attack(options.seed, numbers, one)]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
