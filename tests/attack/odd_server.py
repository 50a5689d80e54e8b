"""The server with odd surroundings: a clock that jumps, and an inside view on demand.

`ODD_CLOCK` is the seed of the jumps: hours forward and back, several times a second.
`ODD_PROBE` names a file: at each SIGUSR1 it gets, as JSON, what the process holds in memory. Free
pages go back to the system now and then, so that what is seen from outside is what is held.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import random
import re
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

DAY = 86400.0
TRIM = 2.0


class JumpingClock:
    """`time.time`, off by hours, up to a day; it jumps about three times a second, either way."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._true = time.time
        self._off = 0.0
        self._until = 0.0

    def __call__(self) -> float:
        if time.monotonic() > self._until:
            self._off = self._random.choice((-1, 1)) * self._random.uniform(DAY / 8, DAY)
            self._until = time.monotonic() + self._random.uniform(0.0, 0.6)
        return self._true() + self._off


class _MallInfo(ctypes.Structure):
    """The `struct mallinfo2` of glibc."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def inside() -> dict[str, int]:
    """Return what is alive: Python's blocks and objects, and bytes from malloc where glibc tells.

    Free pages go back to the system, as far as malloc can give them: what is resident afterwards
    is in use, or lies between what is.
    """
    gc.collect()
    told = {
        "blocks": sys.getallocatedblocks(),
        "objects": len(gc.get_objects()),
        "threads": threading.active_count(),
    }
    libc: Any = ctypes.CDLL(None)
    if hasattr(libc, "mallinfo2"):
        libc.mallinfo2.restype = _MallInfo
        info = libc.mallinfo2()
        told["malloc"] = int(info.uordblks) + int(info.hblkhd)
        libc.malloc_trim(0)
    told |= _mapped()
    mlx = sys.modules.get("mlx.core")
    if mlx is not None:
        told["mlx_active"] = int(mlx.get_active_memory())
        told["mlx_cache"] = int(mlx.get_cache_memory())
    return told


def _mapped() -> dict[str, int]:
    """Return the resident bytes of no file, and those of the pools that hold Python's blocks."""
    told = {}
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"RssAnon:\s*(\d+) kB", status.read_text())):
        told["anonymous"] = int(found[1]) << 10
    with tempfile.TemporaryFile() as said:
        kept = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            sys._debugmallocstats()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        said.seek(0)
        if found := re.search(r"(\d+) arenas \* (\d+) bytes/arena", said.read().decode()):
            told["pools"] = int(found[1]) * int(found[2])
    return told


def _trim_now_and_then() -> None:
    """Let malloc give back its free pages, which it may keep for ever: what is left is held."""
    libc: Any = ctypes.CDLL(None)
    while hasattr(libc, "malloc_trim"):
        time.sleep(TRIM)
        libc.malloc_trim(0)


def _tell(path: Path) -> None:
    written = path.with_suffix(".new")
    written.write_text(json.dumps(inside()))
    os.replace(written, path)


def main() -> int:
    """Run the server with the arguments of this process."""
    if seed := os.environ.get("ODD_CLOCK"):
        time.time = JumpingClock(int(seed))
    if probe := os.environ.get("ODD_PROBE"):
        signal.signal(signal.SIGUSR1, lambda *_: _tell(Path(probe)))
        threading.Thread(target=_trim_now_and_then, daemon=True).start()
    from mlx_tools_server.cli import main as serve  # after the clock was changed

    return serve(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
