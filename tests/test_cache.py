"""The `cache` command, on a folder that a server has written."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlx_tools_server.cache import run
from mlx_tools_server.errors import StartupError
from mlx_tools_server.history import History
from mlx_tools_server.kv import BLOCK, DiskTier, Record, chain, entries, seed
from mlx_tools_server.messages import Exact, Message

SEED = seed(b"model")


def write(path: Path, payload: bytes) -> None:
    """Write a payload as a file."""
    path.write_bytes(payload)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a server that has kept three blocks and an answer."""
    tier = DiskTier(
        tmp_path / "kv",
        seed=SEED,
        capacity=1 << 20,
        floor=0,
        write=write,
        read=Path.read_bytes,
    )
    parent = SEED
    for i, key in enumerate(chain(SEED, range(3 * BLOCK))):
        tier.offer(Record(key, parent, "block", BLOCK, (i + 1) * BLOCK, b"x" * 100, 100))
        parent = key
    assert tier.flush(5)
    tier.close()
    history = History(tmp_path / "history.sqlite3", b"t")
    history.remember([Message("user", "hi")], Message("assistant", "ho"), Exact((1,)))
    history.close()
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Return the exit code of a command, and what it printed."""
    code = run(arguments)
    return code, capsys.readouterr().out


def test_list(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`ls` shows each model with what is kept for it."""
    code, out = said(capsys, "ls", "--kv-dir", str(folder))

    assert code == 0
    assert out.splitlines()[1].split()[:2] == [SEED.hex()[:16], "3"]


def test_stats(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`stats` shows how much there is of each kind."""
    code, out = said(capsys, "stats", "--kv-dir", str(folder))

    assert code == 0
    assert str(folder) in out
    assert "block             3" in out
    assert "history" in out


def test_verify(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`verify` finds what is damaged and deletes it; the next time all is well."""
    assert said(capsys, "verify", "--kv-dir", str(folder))[0] == 0
    damaged = next(entries(folder / "kv")).path
    damaged.write_bytes(b"y" * 100)

    code, out = said(capsys, "verify", "--kv-dir", str(folder))

    assert code == 1
    assert str(damaged) in out
    assert not damaged.exists()
    assert said(capsys, "verify", "--kv-dir", str(folder))[0] == 0


def test_purge(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`purge` deletes all that the server wrote, and nothing else."""
    (folder / "kv" / "mine.txt").write_text("mine")

    code, _ = said(capsys, "purge", "--kv-dir", str(folder))

    assert code == 0
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["mine.txt"]


def test_no_folder(tmp_path: Path) -> None:
    """Where nothing was kept, the command says so."""
    with pytest.raises(StartupError, match="There is no cache"):
        run(["ls", "--kv-dir", str(tmp_path / "absent")])
