"""A file of the KV cache is read while the generation thread does whatever it does."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import mlx.core as mx
import psutil
import pytest

from mlx_tools_server.engine.payloads import FileReader, Payload, write

pytestmark = pytest.mark.mlx

_READ = """
import os, sys, threading, time
from pathlib import Path
import mlx.core as mx
from mlx_tools_server.engine.payloads import Payload, read, write

def decode():
    while True:
        made = mx.ones((50_000,))
        mx.eval(made)
        del made
        mx.clear_cache()
        time.sleep(0.0003)

path = Path(sys.argv[1])
write(path, Payload({"a": mx.arange(1000)}, [], (), {}))
threading.Thread(target=decode, daemon=True).start()
for _ in range(300):
    assert read(path).arrays["a"][-1].item() == 999
print("read", flush=True)
os._exit(0)
"""


def test_reading_beside_a_prefill(tmp_path: Path) -> None:
    """Whoever frees MLX's buffers waits for reads, and a read never waits for whoever does."""
    command = [sys.executable, "-c", _READ, str(tmp_path / "a.safetensors")]

    said = subprocess.run(command, capture_output=True, text=True, timeout=30)

    assert said.stdout == "read\n", said.stderr


def test_threads_that_come_and_go(tmp_path: Path) -> None:
    """However many threads ask for files, MLX starts no more threads than there are readers."""
    path = tmp_path / "a.safetensors"
    write(path, Payload({"a": mx.arange(10)}, [], (), {}))
    read, process = FileReader(), psutil.Process()

    before = process.num_threads()

    for _ in range(60):
        asking = threading.Thread(target=read, args=(path,))
        asking.start()
        asking.join()

    # Four readers with a thread of MLX each, started when they are first needed, and those that
    # the system has yet to take away.
    assert process.num_threads() - before < 20
