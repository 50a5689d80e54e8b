"""Runs a client's program to its end, in a terminal with somebody who types where it wants one.

Rules of this file:
- Whatever a program started and left behind ends with it; one that hangs is ended.
- In a terminal the next line is typed when the screen is still: a program that draws is busy.
- What a program says is kept as it came, control sequences included.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

_LINES, _COLUMNS = 40, 120
# Seconds without a byte after which a program waits for its user, and a pause before the key that
# sends what was typed: a program takes what comes at once for a paste.
_STILL, _PAUSE = 3.0, 0.5


def run(command: Sequence[str], log: Path, seconds: float, **how: Any) -> int | None:
    """Run a program; return its exit code, None if it had to be ended."""
    with log.open("wb") as said:
        streams = {"stdin": subprocess.DEVNULL, "stdout": said, "stderr": subprocess.STDOUT}
        with _started(command, **streams, **how) as running:
            try:
                return running.wait(seconds)
            except subprocess.TimeoutExpired:
                return None


def run_in_terminal(
    command: Sequence[str], typed: Sequence[str], log: Path, seconds: float, **how: Any
) -> int | None:
    """Run a program in a terminal and type these lines; return its exit code, None if it hangs."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", _LINES, _COLUMNS, 0, 0))
    until, lines = time.monotonic() + seconds, iter(typed)
    with (
        log.open("wb") as drawn,
        _started(command, stdin=theirs, stdout=theirs, stderr=theirs, **how) as running,
    ):
        os.close(theirs)
        while running.poll() is None and time.monotonic() < until:
            if not _draw(ours, drawn) and (line := next(lines, None)) is not None:
                os.write(ours, line.encode())
                time.sleep(_PAUSE)
                os.write(ours, b"\r")
        os.close(ours)
        return running.poll()


def _draw(screen: int, drawn: BinaryIO) -> bool:
    """Keep what the program draws next; return whether it drew."""
    if not select.select([screen], [], [], _STILL)[0]:
        return False
    try:
        data = os.read(screen, 65536)
    except OSError:  # how Linux says that nobody has the other end open any more
        data = b""
    drawn.write(data)
    if not data:
        time.sleep(0.1)
    return True


def end_strays(place: Path) -> None:
    """End the daemons that a client left in a session of their own: they name this folder."""
    listed = subprocess.run(
        ["ps", "-axww", "-o", "pid=,args="], capture_output=True, text=True, check=True
    )
    for line in listed.stdout.splitlines():
        number, _, arguments = line.strip().partition(" ")
        if str(place) in arguments:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(number), signal.SIGKILL)


@contextlib.contextmanager
def _started(command: Sequence[str], **how: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program in a group of its own, and end the group."""
    running = subprocess.Popen(command, start_new_session=True, **how)
    try:
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
