"""Fuzzing that is guided by coverage, with atheris where it is installed.

pip install atheris && python -m tests.attack.atheris_parsers --seconds 300
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

INSTALLED = importlib.util.find_spec("atheris") is not None


def instrumented() -> AbstractContextManager[Any]:
    """Return the context in which modules are to be imported, so that their branches are seen."""
    if not INSTALLED:
        return nullcontext()
    atheris: Any = importlib.import_module("atheris")
    context: AbstractContextManager[Any] = atheris.instrument_imports(include=["mlx_tools_server"])
    return context


def run(one: Callable[[bytes], None], seeds: Iterable[bytes], length: int) -> None:
    """Give `one` inputs of at most `length` bytes for a set time; end where it raises."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=60)
    seconds = parser.parse_args().seconds
    if not INSTALLED:
        print("atheris is not installed, so nothing is fuzzed here: pip install atheris")
        return
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(seeds):
            (Path(folder) / f"seed{number}").write_bytes(seed)
        limits = [f"-max_total_time={seconds}", f"-max_len={length}", "-timeout=30"]
        found = f"-artifact_prefix={tempfile.gettempdir()}/fuzz-"
        atheris: Any = importlib.import_module("atheris")
        atheris.Setup([sys.argv[0], *limits, found, folder], one)
        atheris.Fuzz()
