"""Installs a client, lets it play the task, and says what came of it.

Rules of this file:
- Every run has a new home, a new folder and a new server: its first turn finds nothing kept.
- A client that can't be installed, fails or hangs is a result like any other; nothing is hidden.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from tests.http.live import serve

from . import processes, task
from .places import NotInstalled, cache_folder, npm, pip, slug
from .programs import MODEL, NODE, Client
from .recorder import Request, recording

PROGRAMS = Path("node_modules") / ".bin"
RUN_SECONDS = 240


@dataclass
class Result:
    """What came of a client's run."""

    client: Client
    problem: str = ""
    skipped: bool = False
    requests: list[Request] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def turns(self) -> list[Request]:
        """The task's own requests, in order: those that carry its script and were answered."""
        asked = [r for r in self.requests if r.generates and r.scripted and r.status == 200]
        tooled = [request for request in asked if request.tools]
        return tooled or asked

    @property
    def sides(self) -> int:
        """How many other requests made the model speak: titles, warm-ups, summaries."""
        turns = self.turns
        return sum(r.generates and r not in turns for r in self.requests)

    @property
    def lost(self) -> int | None:
        """How many tokens of the turns before were computed once more; None if it isn't known."""
        turns = self.turns
        if not all(turn.prompt for turn in turns):
            return None
        return sum(max(0, (a.prompt or 0) + a.said - b.cached) for a, b in pairwise(turns))

    @property
    def refused(self) -> str:
        """What the server did not answer with success, once each."""
        failed = [f"{r.status} on {r.path}" for r in self.requests if not 200 <= r.status < 300]
        return ", ".join(dict.fromkeys(failed))


def play(client: Client, *, keep: bool = False) -> Result:
    """Install the client, play the task and return what came of it."""
    result = Result(client)
    place = cache_folder() / "runs" / f"{slug(client.name)}-{client.dialect}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    try:
        paths = install(client)
    except NotInstalled as error:
        result.problem, result.skipped = str(error), True
        return result
    folder = place / "work"
    task.lay_out(folder)
    bodies = place / "bodies" if keep else None
    with (
        serve(place / "server", "--context-length", "65536") as live,
        recording(live.url, bodies) as recorder,
    ):
        began = time.monotonic()
        code, output = _start(client, paths, place, recorder.url)
        result.seconds = time.monotonic() - began
    processes.end_strays(folder)
    result.requests = recorder.requests
    result.problem = _judge(result, code, output, folder)
    return result


def _judge(result: Result, code: int | None, output: str, folder: Path) -> str:
    """Return what went wrong, or nothing."""
    if code is None:
        return f"did not end within {RUN_SECONDS} s"
    if missing := task.undone(folder):
        return missing
    if code:
        return f"exit code {code}"
    wanted = len(result.client.calls) + 1
    if result.client.calls and len(result.turns) < wanted:
        return f"{len(result.turns)} turns instead of {wanted}"
    if result.client.calls and task.FINAL not in output:
        return "the last text was not shown"
    return ""


def install(client: Client) -> list[Path]:
    """Return the folders of the programs that the client needs; install what is missing."""
    if client.checkout and not os.environ.get(client.checkout):
        raise NotInstalled(f"{client.checkout} names no checkout")
    if client.pip:
        return [pip(f"{client.pip}=={client.version}") / "bin"]
    spec = client.npm if "@" in client.npm[1:] else f"{client.npm}@{client.version}"
    node = npm(NODE, (NODE,)) / PROGRAMS
    return [npm(spec, (spec,), path=_path((node,))) / PROGRAMS, node]


def _start(client: Client, paths: list[Path], place: Path, url: str) -> tuple[int | None, str]:
    """Run the client's program; return its exit code, None if it had to be ended, and its text."""
    home, folder = place / "home", place / "work"
    words = {
        "@URL": url,
        "@HOME": str(home),
        "@FOLDER": str(folder),
        "@CHECKOUT": os.environ.get(client.checkout, ""),
        "@PORT": str(_free_port()),
        "@MODEL": MODEL,
        "@COMMAND": task.fill("@COMMAND", folder),
        "@PROMPT": _prompt(client, folder),
    }
    home.mkdir()
    for name, content in client.files.items():
        text = content if isinstance(content, str) else json.dumps(content, indent=2)
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(_fill(text, words))
    environment = {
        "HOME": str(home),
        "PATH": _path(tuple(paths)),
        "LANG": os.environ.get("LANG", "C.UTF-8"),
        "TERM": "xterm-256color" if client.typed else "dumb",
        **{key: _fill(value, words) for key, value in client.environment.items()},
    }
    log = place / "output.txt"
    how = {"cwd": folder, "env": environment}
    if client.before:
        processes.run([_fill(word, words) for word in client.before], log, RUN_SECONDS, **how)
    command = [_fill(word, words) for word in client.command]
    if client.typed:
        code = processes.run_in_terminal(command, client.typed, log, RUN_SECONDS, **how)
    else:
        code = processes.run(command, log, RUN_SECONDS, **how)
    return code, log.read_text(errors="replace")


def _prompt(client: Client, folder: Path) -> str:
    if client.answers:
        return f"[[SCRIPT]]{'[[NEXT]]'.join(client.answers)}[[/SCRIPT]]"
    return task.script(client.calls, folder)


def _fill(text: str, words: Mapping[str, str]) -> str:
    for mark, word in words.items():
        text = text.replace(mark, word)
    return text


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _path(first: tuple[Path, ...]) -> str:
    return os.pathsep.join([*map(str, first), os.environ.get("PATH", os.defpath)])
