"""Servers of checkpoints that a test has written itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .live import Live, process


@contextmanager
def serve_folder(folder: Path, *flags: str) -> Iterator[Live]:
    """Serve the checkpoint in `folder` from a process of its own."""
    command = [sys.executable, "-m", "mlx_tools_server", "--model-path", str(folder)]
    with process(
        [*command, "--trust-remote-code", "--port", "0", "--no-kv-disk", *flags], folder
    ) as live:
        yield live


@contextmanager
def serve_folders(folders: Mapping[str, Path]) -> Iterator[dict[str, Live]]:
    """Serve several checkpoints; they are loaded at the same time."""
    with ExitStack() as stack, ThreadPoolExecutor(len(folders)) as pool:
        contexts = {name: serve_folder(folder) for name, folder in folders.items()}
        yield dict(zip(contexts, pool.map(stack.enter_context, contexts.values()), strict=True))


def banner(live: Live) -> str:
    """Return the lines of the banner behind the server's address, which can be read once."""
    assert live.process.stdout is not None
    lines: list[str] = []
    while not lines or "OPENAI_BASE_URL" not in lines[-1]:
        lines.append(live.process.stdout.readline())
    return "".join(lines)
