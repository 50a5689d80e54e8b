"""The server that the SDKs share, and the hands that do what the model asks for."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.http.live import Live, serve

from . import task
from .task import Call

# What the model asks of the hands below.
CALLS = (
    Call("read_file", {"path": task.FILE}),
    Call("edit_file", {"path": task.FILE, "old": "@OLD", "new": "@NEW"}),
    Call("run_command", {"command": "@COMMAND", "seconds": "5"}),
)


class Hands:
    """Real tools that work in one folder; frameworks read their signatures and docstrings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read_file(self, path: str) -> str:
        """Return the text of a file."""
        return (self.folder / path).read_text()

    def edit_file(self, path: str, old: str, new: str) -> str:
        """Replace one text in a file with another."""
        file = self.folder / path
        file.write_text(file.read_text().replace(old, new))
        return "edited"

    def run_command(self, command: str, seconds: int = 10) -> str:
        """Run a shell command, for so many seconds at most."""
        ran = subprocess.run(
            command, shell=True, cwd=self.folder, timeout=seconds, capture_output=True, text=True
        )
        return f"exit code {ran.returncode}\n{ran.stdout}"

    def do(self, name: str, arguments: dict[str, object]) -> str:
        """Call a tool by its name."""
        result: str = getattr(self, name)(**arguments)
        return result


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Return a server of the scripted Qwen3-Coder model."""
    with serve(tmp_path_factory.mktemp("clients"), "--context-length", "16384") as server:
        yield server


@pytest.fixture
def hands(tmp_path: Path) -> Hands:
    """Return tools for a folder in which the task is laid out."""
    task.lay_out(tmp_path / "work")
    return Hands(tmp_path / "work")
