"""What the benchmarks of this server itself share.

Rules of this file:
- What is drawn from a server of our own is asked for as a client does it, over HTTP.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence

from ..child import Answer, Delta
from ..options import Parser

REPEATS = 5


def no_options(arguments: Sequence[str], prog: str, description: str | None) -> None:
    """Read the command line of a benchmark that has no options."""
    Parser(prog=prog, description=description).parse_args(arguments)


def server_flags(arguments: Sequence[str], prog: str, description: str | None) -> list[str]:
    """Return the flags for the server that a benchmark starts; those of the demo model if none."""
    parser = Parser(
        prog=prog,
        usage=f"{prog} [options of the server]",
        description=f"{description} Options of the server choose its model; without any, it is "
        "the demo model.",
        allow_abbrev=False,
    )
    parser.parse_known_args(arguments)
    return [*arguments]


def server_name(flags: Sequence[str]) -> str:
    """Return in words which server is asked."""
    return "a server with " + " ".join(flags) if flags else "a server of the demo model"


def unseen(_: Delta) -> None:
    """Show nothing of an answer."""


def rate(answer: Answer) -> float:
    """Return how many tokens a second an answer had behind its first one."""
    return float((answer.usage["completion_tokens"] - 1) / (answer.seconds - answer.first))


def milliseconds(look: Callable[[], object]) -> float:
    """Return the median of what this takes."""
    runs = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        look()
        runs.append(time.perf_counter() - began)
    return statistics.median(runs) * 1e3


def resident() -> float:
    """Return the megabytes of this process that are in memory."""
    asked = subprocess.run(["ps", "-o", "rss=", "-p", str(os.getpid())], capture_output=True)
    return int(asked.stdout or 0) / 1e3
