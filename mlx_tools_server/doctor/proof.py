"""`doctor --self-check`: runs on this very machine what can't be proven on another.

Rules of this file:
- Each item has a time limit, and runs in a process that can be ended: a hang or a crash is a
  result, and the other items go on.
- The report is made to be pasted: no user names, and of paths only the last part.
- Nothing of the user's is changed: KV caches go to a temporary folder, ports are any that are free.
"""

from __future__ import annotations

import getpass
import json
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from .. import __version__
from ..budgets import size
from ..chosen import DEMO, DEMO_MODEL, look_at_model
from ..config import OPTIONS, SERVER, ServerConfig
from ..errors import StartupError
from ..options import SWITCH
from ..sources import ENV_PREFIX
from . import report, traffic
from .machine import WANTED, Machine, this_machine

# Item → what it proves; the first ones run in the engine's process, the others over HTTP.
ENGINE_ITEMS = {
    "machine": "device",
    "restore": "restored KV",
    "masks": "forced call",
    "threads": "threads",
    "cancel": "cancel",
}
SERVER_ITEMS = {"tool_call": "tool call", "drain": "SIGTERM"}
TITLES = {**ENGINE_ITEMS, **SERVER_ITEMS}
# Seconds for an item, and for each GB of weights on top.
LIMIT, LIMIT_PER_GB = 300.0, 20.0
# Settings that the self-check chooses itself.
_OWN = ("model", "demo", "model_name", "kv_dir", "no_kv_disk", "kv_disk_bytes")


@dataclass(frozen=True, slots=True)
class Result:
    """How one item went with one model."""

    model: str
    item: str
    status: str
    detail: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to check: how its server is started, and how long an item may take."""

    name: str
    flags: tuple[str, ...]
    limit: float = LIMIT
    demo: bool = False


def prove(config: ServerConfig, *, as_document: bool, colour: bool) -> int:
    """Run all items and print the report; return 1 if one failed."""
    machine = this_machine()
    hide = Scrubber(config)
    subjects = list(subjects_of(config))
    results: list[Result] = []
    if not as_document:
        sys.stdout.write(_head(machine, subjects))
    with tempfile.TemporaryDirectory() as folder, _plain_environment():
        for number, subject in enumerate(subjects):
            place = Path(folder) / str(number)
            place.mkdir()
            for result in check(subject, place):
                one = Result(**{**asdict(result), "detail": hide(result.detail)})
                results.append(one)
                if not as_document:
                    sys.stdout.write(_line(one, colour))
                    sys.stdout.flush()
    failed = sum(one.status == "failed" for one in results)
    if as_document:
        sys.stdout.write(f"{_document(machine, subjects, results)}\n")
    else:
        told = f"{failed} of {len(results)} failed." if failed else "All of it works here."
        sys.stdout.write(f"\n{told}\n")
    return 1 if failed else 0


def subjects_of(config: ServerConfig) -> Iterator[Subject]:
    """Yield the built-in model, and the one that the settings name."""
    yield Subject(DEMO, ("--demo",), demo=True)
    if config.model is None or config.model == str(DEMO_MODEL):
        return
    info = None
    with suppress(StartupError):  # which the item itself will tell
        info = look_at_model(config)
    limit = LIMIT + LIMIT_PER_GB * (info.size_bytes / 1e9 if info else 0)
    name = info.name if info else Path(config.model).name
    yield Subject(name, (f"--model={config.model}", *flags_of(config)), limit)


def flags_of(config: ServerConfig) -> Iterator[str]:
    """Yield the flags that give a server these settings, wherever they came from."""
    for name, each in OPTIONS.items():
        if name in _OWN or name not in config.sources or each.group == SERVER:
            continue
        value = getattr(config, name)
        if each.kind is SWITCH:
            if value:
                yield each.flags[0]
        elif value not in (None, ""):
            text = json.dumps(value) if isinstance(value, dict) else str(value)
            yield f"{each.flags[0]}={text}"


@contextmanager
def _plain_environment() -> Iterator[None]:
    """Keep the settings of the environment from the servers: they are given as flags."""
    ours = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith(ENV_PREFIX)}
    try:
        yield
    finally:
        os.environ.update(ours)


# --- Running ------------------------------------------------------------------------------------


def check(subject: Subject, folder: Path) -> Iterator[Result]:
    """Run all items with one model; `folder` is empty, and for this alone."""

    def command(items: Sequence[str]) -> list[str]:
        worker = [sys.executable, "-m", "mlx_tools_server.engine.selfcheck", ",".join(items)]
        return [*worker, str(folder / f"kv-{items[0]}"), *subject.flags]

    for outcome in in_turn(list(ENGINE_ITEMS), command, subject.limit):
        yield Result(subject.name, *outcome)
    flags = (*subject.flags, f"--kv-dir={folder / 'kv'}")
    for outcome in traffic.run(flags, subject.limit, strict=subject.demo):
        yield Result(subject.name, *outcome)


def in_turn(
    items: Sequence[str], command: Callable[[Sequence[str]], list[str]], limit: float
) -> Iterator[traffic.Outcome]:
    """Yield how each item went: what ends or hangs loses one item, and a new process goes on."""
    left = list(items)
    while left:
        for outcome in _one_process(command(left), tuple(left), limit):
            yield outcome
            left.pop(0)


def _one_process(
    command: list[str], items: Sequence[str], limit: float
) -> Iterator[traffic.Outcome]:
    """Yield the outcomes of a process up to the item that it does not survive."""
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            yield from _outcomes(process, errors, items, limit)
            with suppress(subprocess.TimeoutExpired):
                process.wait(limit)
        finally:
            process.kill()


def _outcomes(
    process: subprocess.Popen[str], errors: IO[str], items: Sequence[str], limit: float
) -> Iterator[traffic.Outcome]:
    assert process.stdout is not None
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
    for item in items:
        began = time.monotonic()
        outcome = _next(lines, limit)
        seconds = round(time.monotonic() - began, 2)
        if isinstance(outcome, str):
            process.kill()
            code = process.wait()
            told = outcome or f"its process ended (exit code {code}){traffic.last_line(errors)}"
            yield item, "failed", told, seconds
            return
        yield item, outcome["status"], outcome["detail"], seconds


def _read(stream: IO[str], lines: queue.Queue[str | None]) -> None:
    for each in stream:
        lines.put(each)
    lines.put(None)


def _next(lines: queue.Queue[str | None], limit: float) -> dict[str, Any] | str:
    """Return the next outcome; a text says why there is none, "" that the process ended."""
    until = time.monotonic() + limit
    while True:
        try:
            told = lines.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            return f"it took longer than {limit:.0f} s"
        if told is None:
            return ""
        # Libraries may print, too.
        with suppress(ValueError):
            outcome = json.loads(told)
            if isinstance(outcome, dict) and "item" in outcome:
                return outcome


# --- The report ---------------------------------------------------------------------------------


class Scrubber:
    """Takes what a stranger need not know out of a text: names of users, and where files lie."""

    def __init__(self, config: ServerConfig) -> None:
        places = {str(Path.home()), os.path.realpath(tempfile.gettempdir()), os.getcwd()}
        if config.model:
            places |= {
                os.path.dirname(os.path.abspath(config.model)),
                os.path.dirname(config.model),
            }
        self._places = sorted(places - {"", "/"}, key=len, reverse=True)
        self._users = {Path.home().name}
        with suppress(OSError, KeyError):
            self._users.add(getpass.getuser())

    def __call__(self, text: str) -> str:
        for place in self._places:
            text = text.replace(f"{place}/", "")
        text = re.sub(r"(?<![\w:/.])/(?:[^\s/'\"]+/)+(?=[^\s/])", "", text)
        for user in self._users - {"root", ""}:
            text = re.sub(rf"\b{re.escape(user)}\b", "user", text)
        return " ".join(text.split())[:400]


def _facts(machine: Machine, subjects: Sequence[Subject]) -> dict[str, Any]:
    versions = {name: machine.packages.get(name, "missing") for name in WANTED}
    return {
        "machine": str(machine),
        "backend": machine.backend or "none",
        "versions": {"mlx-tools-server": __version__, "python": machine.python, **versions},
        "models": [subject.name for subject in subjects],
    }


def _head(machine: Machine, subjects: Sequence[Subject]) -> str:
    facts = _facts(machine, subjects)
    versions = ", ".join(f"{name} {found}" for name, found in facts["versions"].items())
    return (
        f"self-check of mlx-tools-server {__version__}\n"
        f"machine   {facts['machine']}, {facts['backend']}, {size(machine.usable)} for models\n"
        f"versions  {versions}\n"
        f"models    {', '.join(facts['models'])}\n\n"
    )


def _line(one: Result, colour: bool) -> str:
    text = f"{one.model}: {one.detail} ({one.seconds:.1f} s)"
    return f"{report.line(one.status, TITLES[one.item], text, colour=colour)}\n"


def _document(machine: Machine, subjects: Sequence[Subject], results: Sequence[Result]) -> str:
    document = {
        "format": report.FORMAT,
        **_facts(machine, subjects),
        "ok": all(one.status != "failed" for one in results),
        "results": [asdict(one) for one in results],
    }
    return json.dumps(document, indent=2, ensure_ascii=False)
