"""When free memory is given back, on the real allocator."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mlx_tools_server import allocator
from mlx_tools_server.allocator import Trimming

GLIBC = allocator._libc() is not None


@pytest.mark.skipif(not GLIBC, reason="only glibc keeps what was freed")
def test_trimming(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages go back once for what was done since the last time, and only at rest."""
    monkeypatch.setattr(allocator, "EVERY", 0.0)
    done = [3]
    trimming = Trimming(lambda: done[0])

    assert not trimming.look(rests=False)
    assert trimming.look(rests=True)
    assert not trimming.look(rests=True)
    done[0] += 1
    assert trimming.look(rests=True)


def test_not_at_once() -> None:
    """A server that has just started has nothing to give back."""
    assert not Trimming(lambda: 1).look(rests=True)


# Pages of this process while it runs, in kB, before and after a block of 8 MB was freed.
PROGRAM = """
from mlx_tools_server import allocator
allocator.set_up()
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
for _ in range(20):
    block = libc.malloc(8 << 20)
    ctypes.memset(block, 1, 8 << 20)
    libc.free(ctypes.c_void_p(block))
keeper = libc.malloc(100 << 10)
block = libc.malloc(8 << 20)
ctypes.memset(block, 1, 8 << 20)
top = libc.malloc(100 << 10)
def resident():
    return int(open("/proc/self/statm").read().split()[1]) << 2
before = resident()
libc.free(ctypes.c_void_p(block))
print(before - resident() > 7 << 10)
"""


@pytest.mark.skipif(not GLIBC, reason="only glibc keeps what was freed")
def test_set_up() -> None:
    """A large block goes back to the system when it is freed, whatever was allocated behind it."""
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)

    assert run.stdout == "True\n", run.stderr
