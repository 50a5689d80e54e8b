"""Where things are kept that outlive the process.

Rules of this file:
- It names places and makes none; whoever writes there makes them, for their owner only.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from .config import PROG, ServerConfig

KV_FILES = "kv"
"""The folder in `--kv-dir` that holds the KV cache."""
HISTORY = "history.sqlite3"
"""The file there that holds answers; SQLite puts others beside it, whose names begin alike."""


def kv_folder(config: ServerConfig) -> Path | None:
    """The folder for what outlives the process; None if nothing should."""
    if config.no_kv_disk:
        return None
    return Path(config.kv_dir) if config.kv_dir else cache_folder()


def cache_folder() -> Path:
    """The folder of this user for what can be made again."""
    home = Path.home()
    caches = home / "Library" / "Caches" if sys.platform == "darwin" else home / ".cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or caches) / PROG


def history_file(config: ServerConfig) -> Path | None:
    """The file in which answers are remembered; None if nothing should be kept."""
    folder = kv_folder(config)
    return folder / HISTORY if folder else None
