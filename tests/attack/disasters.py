"""What befalls the files of a running server, and how each disaster ends again.

Each is a context: inside the block it is so, afterwards the way is free again, and what was lost
stays lost.
"""

from __future__ import annotations

import random
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

HISTORY = "history.sqlite3"


@dataclass(frozen=True)
class Victim:
    """A server process, and the folder that it was given by `--kv-dir`."""

    pid: int
    kv_dir: Path
    rng: random.Random

    @property
    def records(self) -> list[Path]:
        """The files of the KV cache that are there now."""
        return sorted((self.kv_dir / "kv").rglob("*.safetensors"))

    def some(self) -> list[Path]:
        """Return half of the records."""
        found = self.records
        return self.rng.sample(found, len(found) // 2)


@contextmanager
def deleted(victim: Victim) -> Iterator[None]:
    """Half of the records are gone."""
    for path in victim.some():
        path.unlink(missing_ok=True)
    yield


@contextmanager
def damaged(victim: Victim) -> Iterator[None]:
    """Half of the records have a wrong byte somewhere, or end too early."""
    for path in victim.some():
        with suppress(OSError), path.open("r+b") as file:
            size = path.stat().st_size
            file.seek(victim.rng.randrange(max(1, size)))
            if victim.rng.random() < 0.5:
                file.write(victim.rng.randbytes(8))
            else:
                file.truncate()
    yield


@contextmanager
def emptied(victim: Victim) -> Iterator[None]:
    """The whole folder of records is gone, as after a clean-up by hand."""
    shutil.rmtree(victim.kv_dir / "kv", ignore_errors=True)
    yield


@contextmanager
def blocked(victim: Victim) -> Iterator[None]:
    """A file stands where the folder was, so that nothing can be written or read there."""
    folder, aside = victim.kv_dir / "kv", victim.kv_dir / "aside"
    try:
        folder.rename(aside)
    except OSError:
        yield  # it has gone and is made anew by the next record
        return
    folder_made = False
    try:
        with suppress(FileExistsError, IsADirectoryError), folder.open("x"):
            folder_made = True
        yield
    finally:
        if folder_made:
            folder.unlink()
        if folder.exists():
            shutil.rmtree(aside)
        else:
            aside.rename(folder)


@contextmanager
def read_only(victim: Victim) -> Iterator[None]:
    """No folder of records can be written to, unless the server runs as root."""
    folders = [path for path in (victim.kv_dir / "kv").rglob("*") if path.is_dir()]
    try:
        for path in folders:
            path.chmod(0o500)
        yield
    finally:
        for path in folders:
            with suppress(OSError):
                path.chmod(0o700)


@contextmanager
def full(victim: Victim) -> Iterator[None]:
    """No file can grow beyond a thousand bytes, the log and the history included."""
    if sys.platform != "linux":
        yield
        return
    before = resource.prlimit(victim.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(victim.pid, resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.prlimit(victim.pid, resource.RLIMIT_FSIZE, before)


@contextmanager
def forgotten(victim: Victim) -> Iterator[None]:
    """The file of answers has wrong bytes in its middle."""
    with suppress(OSError), (victim.kv_dir / HISTORY).open("r+b") as file:
        size = (victim.kv_dir / HISTORY).stat().st_size
        file.seek(size // 2)
        file.write(victim.rng.randbytes(3000))
    yield


Disaster = Callable[[Victim], AbstractContextManager[None]]
DISASTERS: tuple[Disaster, ...] = (
    deleted,
    damaged,
    emptied,
    blocked,
    read_only,
    full,
    forgotten,
)
