"""Which folder MLX compiles its kernels into, on a real file system."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from mlx_tools_server import scratch

# The modes of the folder for temporary files and of the one that takes its place (None is a file),
# and which is used.
FOLDERS = {
    "a folder for all": (0o1777, 0o700, "cache/tmp"),
    "a folder of a group": (0o770, 0o700, "cache/tmp"),
    "a folder of one's own": (0o700, 0o700, "temporary"),
    "a folder that others may read": (0o755, 0o700, "temporary"),
    "two folders for all": (0o1777, 0o777, "temporary/mlx-tools-server-*"),
    "a file in place of the second": (0o1777, None, "temporary/mlx-tools-server-*"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_private(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels come from a folder that nobody else can write to, which is kept if it can be."""
    mode, second, expected = FOLDERS[name]
    (temporary := tmp_path / "temporary").mkdir()
    temporary.chmod(mode)
    (kept := tmp_path / "cache" / "tmp").parent.mkdir()
    if second is None:
        kept.touch()
    else:
        kept.mkdir()
        kept.chmod(second)
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)

    scratch.set_up(kept.parent)

    assert [Path(os.environ["TMPDIR"])] == list(tmp_path.glob(expected))
    assert not Path(os.environ["TMPDIR"]).stat().st_mode & 0o022


def test_folder_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that takes the place of a shared one is made for its owner alone."""
    (shared := tmp_path / "shared").mkdir()
    shared.chmod(0o1777)
    monkeypatch.setenv("TMPDIR", str(shared))

    scratch.set_up(tmp_path / "caches" / "server")

    made = tmp_path / "caches" / "server" / "tmp"
    assert os.environ["TMPDIR"] == str(made)
    assert [each.stat().st_mode & 0o777 for each in (made, made.parent)] == [0o700, 0o700]
