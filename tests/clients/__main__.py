"""`make clients`: every client plays the task, and the matrix says what came of it.

Rules of this file:
- A whole run writes `docs/clients/matrix.md`; a run of some clients only prints.
- The exit code is 1 if a client that is here has failed; one that is not here is shown as such.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from .programs import CLIENTS
from .run import Result, play

MATRIX = Path(__file__).parents[2] / "docs" / "clients" / "matrix.md"
HEAD = (
    "client",
    "version",
    "dialect",
    "turns",
    "cached per turn",
    "computed again",
    "side requests",
    "result",
)
INTRODUCTION = """\
# Which clients work

Written by `make clients`, which lets each client read a file, edit it and run a command on a real
server. The scripted checkpoint plays the model, so what is shown is the client and the server, not
how clever a model is. *Cached* is the share of a turn's prompt that came from the KV cache, and
*computed again* counts the tokens of earlier prompts and answers that did not; an answer that a
client takes out of its own history, as Claude Code does for `/compact`, counts there too.
"""


def main() -> int:
    """Play all the clients that are wanted; return the exit code."""
    parser = argparse.ArgumentParser(prog="tests.clients", description=__doc__)
    parser.add_argument("--only", action="append", default=[], help="part of a client's name")
    parser.add_argument("--dialect", help="chat, messages or responses")
    parser.add_argument("--keep", action="store_true", help="keep bodies in the cache folder")
    parser.add_argument("--write", action="store_true", help="write the matrix in any case")
    wanted = parser.parse_args()
    results = []
    for client in CLIENTS:
        if wanted.only and not any(part.lower() in client.name.lower() for part in wanted.only):
            continue
        if wanted.dialect not in (None, client.dialect):
            continue
        result = play(client, keep=wanted.keep)
        results.append(result)
        print(" | ".join(row(result)), f"| {result.seconds:.0f} s", flush=True)
    if wanted.write or not (wanted.only or wanted.dialect):
        MATRIX.write_text(matrix(results))
    return int(any(r.problem and not r.skipped for r in results))


def row(result: Result) -> tuple[str, ...]:
    """Return what the matrix says of one run."""
    turns = result.turns
    shares = " · ".join(
        f"{r.cached / r.prompt:.1%}" if r.prompt else "not asked for" for r in turns
    )
    verdict = "not here" if result.skipped else "failed" if result.problem else "works"
    why = [" ".join(text.split()) for text in (result.problem, result.refused) if text]
    return (
        result.client.name,
        result.client.version,
        result.client.dialect,
        str(len(turns)) if turns else "–",
        shares or "–",
        "–" if result.lost is None or not turns else str(result.lost),
        str(result.sides) if result.requests else "–",
        ": ".join([verdict, *why]),
    )


def matrix(results: list[Result]) -> str:
    """Return the page."""
    lines = [HEAD, ("---",) * len(HEAD), *map(row, results)]
    table = "\n".join(
        f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines
    )
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    when = datetime.now(UTC).date().isoformat()
    about = f"{when}, {machine}, Python {platform.python_version()}, mlx-lm {version('mlx-lm')}."
    return f"{INTRODUCTION}\n{table}\n\n{about}\n"


if __name__ == "__main__":
    sys.exit(main())
