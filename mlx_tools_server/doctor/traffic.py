"""The self-check's items over HTTP: a tool call that streams, and a stop during an answer.

Rules of this file:
- The server is the one that a user starts, in a process of its own, on a free port.
- A server that takes too long is killed, so whatever waits for it ends.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from ..child import Answer, Child, Delta, tool
from ..errors import StartupError

WISH = "Read the file notes.txt."
RESULT = "Buy milk and bread."
TOOLS = [tool("read_file", "Read a text file.", path="File")]
# Room for the thoughts of models that can't do without.
MOST = 4000
# Seconds in which a server that was asked to stop must be gone, beyond what answers may take.
STOPPING = 30.0

Outcome = tuple[str, str, str, float]


class Wrong(Exception):
    """What the server did is not what it should do."""


@dataclass(frozen=True, slots=True)
class Served:
    """A server and the process that it is."""

    child: Child
    process: subprocess.Popen[str]


def run(flags: Sequence[str], limit: float, *, strict: bool) -> Iterator[Outcome]:
    """Yield how each item went; `strict` asks for the very call, as the built-in model makes it."""
    began = time.monotonic()
    items: list[tuple[str, Callable[[Served], str]]] = [
        ("tool_call", lambda served: tool_call(served, strict=strict)),
        ("drain", drain),
    ]
    with tempfile.TemporaryFile("w+") as errors:
        try:
            with _started(flags, errors, limit) as served:
                for name, item in items:
                    yield (name, *_outcome(item, served, errors, limit))
        except StartupError as error:
            seconds = round(time.monotonic() - began, 2)
            for name, _ in items:
                yield name, "failed", f"{error.problem}{last_line(errors)}", seconds


def _outcome(
    item: Callable[[Served], str], served: Served, errors: IO[str], limit: float
) -> tuple[str, str, float]:
    began = time.monotonic()
    timer = threading.Timer(limit, served.process.kill)
    timer.start()
    try:
        status, detail = "ok", item(served)
    except Wrong as wrong:
        status, detail = "failed", str(wrong)
    except Exception as error:  # noqa: BLE001  a failed item must not stop the others
        status, detail = "failed", f"{type(error).__name__}: {error}{last_line(errors)}"
    finally:
        timer.cancel()
    seconds = round(time.monotonic() - began, 2)
    if seconds >= limit:
        status, detail = "failed", f"it took longer than {limit:.0f} s"
    return status, detail, seconds


@contextmanager
def _started(flags: Sequence[str], errors: IO[str], limit: float) -> Iterator[Served]:
    """Run a server until the block ends; raises StartupError if it does not start in time."""
    command = [sys.executable, "-m", "mlx_tools_server", *flags, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    timer = threading.Timer(limit, process.kill)
    with process:
        timer.start()
        try:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")
            url = next((found[1] for each in lines if (found := _URL.search(each))), "")
            timer.cancel()
            if not url:
                raise StartupError("the server did not start", "See its message.")
            yield Served(Child(url, ""), process)
        finally:
            timer.cancel()
            process.kill()


_URL = re.compile(r"(http://\S+?)/v1")


def last_line(errors: IO[str]) -> str:
    """Return the last thing that a process said on stderr, to be put behind a sentence."""
    errors.seek(0)
    lines = [each.strip() for each in errors if each.strip()]
    return f": {lines[-1]}" if lines else ""


# --- The items ----------------------------------------------------------------------------------


def tool_call(served: Served, *, strict: bool) -> str:
    """A call streams, its result goes back, and the next turn takes the first from the cache."""
    fragments: list[str] = []

    def hear(delta: Delta) -> None:
        if delta.kind == "arguments":
            fragments.append(delta.text)

    messages: list[dict[str, Any]] = [{"role": "user", "content": WISH}]
    body = {"model": "m", "messages": messages, "tools": TOOLS, "max_tokens": MOST}
    answer, how = served.child.ask(body, hear), "by itself"
    if not answer.calls:
        answer, how = served.child.ask({**body, "tool_choice": "required"}, hear), "when told to"
    arguments = _arguments(answer)
    if strict and arguments != {"path": "notes.txt"}:
        raise Wrong(f"the built-in model called with {arguments}")
    first = answer.first
    results = [
        {"role": "tool", "tool_call_id": call["id"], "content": RESULT} for call in answer.calls
    ]
    messages += [answer.message, *results]
    answer = served.child.ask(body, hear)
    if not (answer.content or answer.calls):
        raise Wrong("the call's result got an empty answer")
    prompt = answer.usage["prompt_tokens"]
    return (
        f"called {how}, {len(fragments)} fragments, first after {first * 1000:.0f} ms; "
        f"next turn: {answer.cached} of {prompt} prompt tokens cached"
    )


def _arguments(answer: Answer) -> dict[str, Any]:
    if not answer.calls:
        raise Wrong("the model made no call, even when told to")
    function = answer.calls[0]["function"]
    try:
        arguments = json.loads(function["arguments"])
    except ValueError as error:
        raise Wrong("the arguments that were streamed are not JSON") from error
    fits = isinstance(arguments, dict) and isinstance(arguments.get("path"), str)
    if function["name"] != "read_file" or not fits:
        raise Wrong("the call does not fit its tool")
    return dict(arguments)


def drain(served: Served) -> str:
    """A server that is asked to stop ends the answer that it is giving, and itself with code 0."""
    process = served.process
    asked: list[float] = []

    def stop(_: Delta | None = None) -> None:
        if not asked:
            asked.append(time.monotonic())
            process.send_signal(signal.SIGTERM)

    body = {"model": "m", "messages": [{"role": "user", "content": "Count to 100."}]}
    how = "the answer was given to its end"
    try:
        answer = served.child.ask({**body, "max_tokens": 400}, stop)
        if not answer.usage:
            raise Wrong("the stream just ended")
    except StartupError:  # an event that says that the server stops
        how = "the answer was cut, and its client was told"
    stop()
    try:
        code = process.wait(STOPPING)
    except subprocess.TimeoutExpired:
        raise Wrong(f"the server was still there after {STOPPING:.0f} s") from None
    if code != 0:
        raise Wrong(f"the server ended with code {code}")
    return f"{how}; exit code 0 after {time.monotonic() - asked[0]:.1f} s"
