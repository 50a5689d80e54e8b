"""Where MLX keeps the kernels that it compiles on a CPU: in a folder that is this user's alone.

Rules of this file:
- MLX loads and runs what lies in `mlx` in the folder for temporary files, whoever put it there. In
  a folder that others may write to, that name is for anybody to take.
- A folder that is this user's alone is left as it is; in place of any other, TMPDIR names one.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

# As the C++ library looks them up, for whom the last is the default.
_NAMES = ("TMPDIR", "TMP", "TEMP", "TEMPDIR")
_DEFAULT = "/tmp"


def set_up(cache: Path) -> None:
    """Give this process a private folder for temporary files, in `cache`, if it has none."""
    folder = Path(next(filter(None, map(os.environ.get, _NAMES)), _DEFAULT))
    if not _is_private(folder):
        os.environ["TMPDIR"] = str(_made(cache / "tmp"))


def _made(folder: Path) -> Path:
    """Return the folder, made if need be; another one for this process only if it can't be had."""
    try:
        # The first call would make the parents with the mode that everybody's folders have.
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError:
        pass
    else:
        if _is_private(folder):
            return folder
    other = tempfile.mkdtemp(prefix="mlx-tools-server-")
    atexit.register(shutil.rmtree, other, ignore_errors=True)
    return Path(other)


def _is_private(folder: Path) -> bool:
    """Return whether nobody else may put anything into a folder; root always may."""
    try:
        state = folder.stat()
    except OSError:
        return False
    return state.st_uid == os.geteuid() and not state.st_mode & 0o022
