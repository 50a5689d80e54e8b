"""`cache`: what the server keeps on disk, listed, checked and deleted.

Rules of this file:
- It needs no model and no running server, and harms none: a record that is gone is only a miss.
- Nothing is deleted but what this server wrote.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from .config import ServerConfig
from .errors import StartupError
from .kv import Entry, entries, purge, verify
from .places import HISTORY, KV_FILES, kv_folder

_DAY = 86400


def run(arguments: Sequence[str]) -> int:
    """Do what the arguments ask for; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="mlx-tools-server cache", description="What the server keeps on disk."
    )
    parser.add_argument("command", choices=sorted(_COMMANDS), help="what to do")
    parser.add_argument("--kv-dir", help="the folder (default: your cache folder)")
    options = parser.parse_args(arguments)
    folder = kv_folder(ServerConfig(kv_dir=options.kv_dir))
    if folder is None or not folder.is_dir():
        raise StartupError(
            f"There is no cache in {folder}", "Start a server first, or give --kv-dir DIR."
        )
    return _COMMANDS[options.command](folder)


def _list(folder: Path) -> int:
    """Show the models, each with what is kept for it."""
    models: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries(folder / KV_FILES):
        models[entry.fingerprint].append(entry)
    print(f"{'model':<16} {'blocks':>8} {'marks':>6} {'size':>10} {'last used':>12}")
    for name, found in sorted(models.items()):
        blocks = sum(entry.kind == "block" for entry in found)
        size = _size(sum(entry.nbytes for entry in found))
        days = (time.time() - max(entry.used for entry in found)) / _DAY
        ago = f"{days:.1f} days ago"
        print(f"{name:<16} {blocks:>8} {len(found) - blocks:>6} {size:>10} {ago:>12}")
    return 0


def _stats(folder: Path) -> int:
    """Show how much there is of each kind."""
    sizes: dict[str, list[int]] = defaultdict(list)
    for entry in entries(folder / KV_FILES):
        sizes[entry.kind].append(entry.nbytes)
    print(f"folder {folder}")
    for kind, found in sorted(sizes.items()):
        print(f"{kind:<10} {len(found):>8} {_size(sum(found)):>12}")
    history = sum(path.stat().st_size for path in folder.glob(f"{HISTORY}*"))
    print(f"{'history':<10} {'':>8} {_size(history):>12}")
    return 0


def _verify(folder: Path) -> int:
    """Read every record; those that are damaged are named and deleted."""
    good, bad = verify(folder / KV_FILES, delete=True)
    for entry in bad:
        print(f"damaged, and deleted: {entry.path}")
    print(f"{good} records are intact, {len(bad)} were damaged")
    return 1 if bad else 0


def _purge(folder: Path) -> int:
    """Delete all that is kept, answers included."""
    freed = purge(folder / KV_FILES)
    for path in folder.glob(f"{HISTORY}*"):
        freed += path.stat().st_size
        path.unlink(missing_ok=True)
    print(f"{_size(freed)} deleted")
    return 0


_COMMANDS: dict[str, Callable[[Path], int]] = {
    "ls": _list,
    "stats": _stats,
    "verify": _verify,
    "purge": _purge,
}


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
