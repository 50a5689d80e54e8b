"""Chaos: clients are killed, passes of the model fail, the clock jumps, the disk breaks.

`python -m tests.attack.chaos --seconds 60 --seed 7` prints what happened; its exit code is 1 if
one good request got a wrong answer, or the server was not ready, did not live or did not end well.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from tests.http.live import Live

from . import agents
from .agents import Book, Scene, company
from .asking import TALKS, Wrong, one_message, scripted
from .disasters import DISASTERS, Disaster, Victim
from .figures import table
from .raw import connected, post
from .soak import look_at_log, server

# So little memory that most of what is kept is read from disk again.
KV_RAM = 32 << 10
# Seconds that streams may go on once the server is asked to end.
DRAIN = 0.2
# A client that reads what it gets until it is killed.
_CLIENT = """
import socket, sys
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))
sock.sendall(sys.stdin.buffer.read())
while sock.recv(1000):
    pass
"""


def be_killed(scene: Scene) -> None:
    """Be a process that asks for something long and is killed at any moment."""
    rng, place = scene.rng, urlsplit(scene.url)
    talk = rng.choice(list(TALKS.values()))(scene.client, agents.SYSTEMS[1], rng)
    body = {**talk.ask(scripted("word " * 2000)), "stream": rng.random() < 0.7}
    command = [sys.executable, "-S", "-c", _CLIENT, str(place.hostname), str(place.port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as client:
        assert client.stdin is not None
        client.stdin.write(post(talk.path, body))
        client.stdin.close()
        scene.stop.wait(rng.uniform(0.02, 0.5))
        client.send_signal(signal.SIGKILL)
    scene.book.count("clients killed")


KINDS = {
    **agents.GOOD,
    "slow senders": agents.send_slowly,
    "leave in prefill": agents.leave_in_prefill,
    "leave in decode": agents.leave_in_decode,
    "killed": be_killed,
    **{f"boom {n}": agents.boom for n in range(3)},
}


def chaos(folder: Path, seconds: float, seed: int) -> Book:
    """Let it all happen for some seconds; raises where the server did not end well."""
    book = Book()
    odd = {"ODD_CLOCK": str(seed)}
    flags = ("--drain-seconds", str(DRAIN))
    with server(folder, odd, *flags, kv_ram=KV_RAM) as live:
        with company(live.url, KINDS, book, seed=seed, pause=0.05):
            _befall(live, folder, book, seconds, random.Random(seed))
        for name in ("reads", "errors", "evicted"):
            book.counts[f"KV cache on disk: {name}"] = live.health()["kv_cache"]["disk"][name]
        if not live.wait_idle(10.0):
            book.wrong("server", Wrong("something is left in flight"))
        with company(live.url, agents.GOOD, book, seed=seed + 1, pause=0.0):
            time.sleep(0.3)
        _end_it(live, book)
    look_at_log(folder, book)
    return book


def _end_it(live: Live, book: Book) -> None:
    """Ask the server to end in the middle of some streams, each of which has to be ended too."""
    with ExitStack() as held:
        socks = [held.enter_context(connected(live.url)) for _ in range(3)]
        for sock in socks:
            sock.sendall(post("/v1/chat/completions", one_message("word " * 5000, stream=True)))
        for sock in socks:
            sock.recv(1000)
        live.process.terminate()
        for sock in socks:
            rest = b"".join(iter(partial(sock.recv, 1 << 16), b""))
            if not rest.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"):
                book.wrong("stream at the end", Wrong(repr(rest[-300:])))
    live.process.wait(60.0)


def _befall(live: Live, folder: Path, book: Book, seconds: float, rng: random.Random) -> None:
    """Let one disaster follow the other, all in turn before any comes again."""
    victim = Victim(live.process.pid, folder / "kv", rng)
    until = time.monotonic() + seconds
    coming: list[Disaster] = []
    while time.monotonic() < until:
        coming = coming or rng.sample(DISASTERS, len(DISASTERS))
        disaster = coming.pop()
        time.sleep(rng.uniform(0.02, 0.2))
        with disaster(victim):
            time.sleep(rng.uniform(0.02, 0.3))
            _be_ready(live, book)
        book.count(f"disasters: {disaster.__name__}")


def _be_ready(live: Live, book: Book) -> None:
    response = live.client.get("/health")
    told = live.chat("What time is it?", max_tokens=20)
    if abs(told["created"] - time.time()) > 3600:
        book.count("answers at a wrong time")
    if response.status_code != 200 or response.json()["status"] != "ok":
        book.wrong("health", Wrong(response.text))


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; return 1 if something went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.attack.chaos")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        book = chaos(Path(folder), args.seconds, args.seed)
    print(table([("what", "times"), *sorted(book.counts.items())]))
    print("\n".join(book.wrongs) or "Every good request got its right answer.")
    return 1 if book.wrongs else 0


if __name__ == "__main__":
    sys.exit(main())
