"""A headless Chromium that tests drive: its debugging protocol over a pipe.

Rules of this file:
- The browser has a profile of its own, talks to nobody but its pages, and ends with its block.
"""

from __future__ import annotations

import base64
import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
    "--remote-debugging-pipe",
)
# Seconds for anything that the browser is asked.
PATIENCE = 60.0
# The browser reads commands from its file 3, and writes to its file 4.
LAUNCH = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """One browser, and the page in front."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands = commands
        self._answers = answers
        self._ids = itertools.count(1)
        self._rest = b""
        self._session: str | None = None
        self._target = ""
        # What went wrong in the pages so far: exceptions, errors in their consoles.
        self.problems: list[str] = []

    def open(self, url: str) -> None:
        """Open a page in a new tab, and wait until it is there; the tab before is closed."""
        self._session = None
        before = self._target
        self._target = target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        if before:
            self._ask("Target.closeTarget", targetId=before)
        attached = self._ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._ask(f"{domain}.enable")
        self._ask("Page.navigate", url=url)
        while self._next().get("method") != "Page.loadEventFired":
            pass

    def run(self, script: str) -> Any:
        """Return what a script of the page comes to, once its promise is kept."""
        options = {"awaitPromise": True, "returnByValue": True, "userGesture": True}
        told = self._ask("Runtime.evaluate", expression=script, **options)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Return what a command of the protocol comes to, in the page in front."""
        return self._ask(method, **params)

    def wait(self, script: str) -> Any:
        """Return what a script comes to, once that is anything but false."""
        until = time.monotonic() + PATIENCE
        while not (value := self.run(script)):
            assert time.monotonic() < until, f"never true: {script}"
            time.sleep(0.05)
        return value

    def picture(self, clip: dict[str, float] | None = None) -> bytes:
        """Return a PNG of what is in view, or of a part of the page."""
        part = {"clip": clip, "captureBeyondViewport": True} if clip else {}
        told = self._ask("Page.captureScreenshot", **part)
        return base64.b64decode(told["data"])

    def view(self, width: int, height: int, scheme: str = "light") -> None:
        """Give the page in front this size and colour scheme."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._ask("Emulation.setDeviceMetricsOverride", **size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._ask("Emulation.setEmulatedMedia", features=features)

    def close(self) -> None:
        """Ask the browser to end."""
        self._session = None
        with suppress(AssertionError, OSError):
            self._ask("Browser.close")

    def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._ids)
        command: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        while (message := self._next()).get("id") != number:
            pass
        assert "error" not in message, message
        result: dict[str, Any] = message["result"]
        return result

    def _next(self) -> dict[str, Any]:
        until = time.monotonic() + PATIENCE
        while b"\0" not in self._rest:
            ready = select.select([self._answers], [], [], max(0.0, until - time.monotonic()))[0]
            data = os.read(self._answers, 1 << 16) if ready else b""
            assert data, "the browser does not answer"
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        self._note(message)
        return message

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                self.problems.append(str(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                self.problems.append(str(params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.problems.append(str(params["entry"]))
            case _:
                pass


@contextmanager
def browse(folder: Path, *flags: str) -> Iterator[Browser]:
    """Run a browser until the block ends."""
    theirs_in, commands = _pipe()
    answers, theirs_out = _pipe()
    launch = [sys.executable, "-c", LAUNCH, str(theirs_in), str(theirs_out), str(PROGRAM)]
    with (folder / "chromium.log").open("w") as log:
        running = subprocess.Popen(
            [*launch, *FLAGS, f"--user-data-dir={folder / 'profile'}", *flags],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "HOME": str(folder)},
        )
    os.close(theirs_in)
    os.close(theirs_out)
    browser = Browser(commands, answers)
    try:
        yield browser
    finally:
        browser.close()
        with suppress(subprocess.TimeoutExpired):
            running.wait(10)
        running.kill()
        running.wait()
        os.close(commands)
        os.close(answers)


def _pipe() -> tuple[int, int]:
    """Return the ends of a pipe whose numbers are not among the first."""
    ends = os.pipe()
    read, write = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return read, write
