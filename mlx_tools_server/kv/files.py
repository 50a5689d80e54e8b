"""The files of the disk tier: their names, how they are found, checked and deleted.

Rules of this file:
- A file's name tells all that the index needs, and the checksum of its content.
- In `<folder>/<fingerprint>/<2 digits of the key>/` a file is named
  `<key>.<parent>.<kind>.<length>.<position>.<checksum>.safetensors`.
- What is not named like this is not ours: it is never read or deleted, and no link is followed.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

import xxhash

from .records import Kind, Record

_SUFFIX = ".safetensors"  # MLX appends it to any other name
_TEMPORARY = re.compile(rf"\.tmp-\d+-[0-9a-f]{{8}}{re.escape(_SUFFIX)}")
_NAME = re.compile(
    rf"([0-9a-f]{{64}})\.([0-9a-f]{{64}})\.({'|'.join(get_args(Kind))})\.(\d{{1,3}})\.(\d{{1,9}})"
    rf"\.([0-9a-f]{{32}}){re.escape(_SUFFIX)}"
)
_FINGERPRINT = re.compile(r"[0-9a-f]{16}")
_SHARD = re.compile(r"[0-9a-f]{2}")
_CHUNK = 1 << 20
_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the cache; `used` is when it was last used, in seconds since the epoch."""

    path: Path
    key: bytes
    parent: bytes
    kind: Kind
    length: int
    position: int
    digest: str
    nbytes: int
    used: float

    @property
    def fingerprint(self) -> str:
        """The name of the folder of its model."""
        return self.path.parts[-3]

    def intact(self) -> bool:
        """Read the file; return whether it is what was written; raises OSError."""
        return checksum(self.path, self) == self.digest


def fingerprint(seed: bytes) -> str:
    """Return the name of the folder for a seed."""
    return seed.hex()[:16]


def shard(folder: Path, seed: bytes, key: bytes) -> Path:
    """Return the folder of a key in an existing folder, made if need be, for this user only."""
    made = folder / fingerprint(seed) / key.hex()[:2]
    made.parent.mkdir(mode=0o700, exist_ok=True)
    made.mkdir(mode=0o700, exist_ok=True)
    return made


def temporary(shard: Path) -> Path:
    """Return a name for a file that is being written."""
    return shard / f".tmp-{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}"


def name(record: Record, digest: str) -> str:
    """Return the name of a record's file."""
    place = f"{record.kind}.{record.length}.{record.position}"
    return f"{record.key.hex()}.{record.parent.hex()}.{place}.{digest}{_SUFFIX}"


def checksum(path: Path, record: Record | Entry) -> str:
    """Return the checksum of a file's content as that of a record, of whatever kind."""
    place = b"%d.%d." % (record.length, record.position)
    made = xxhash.xxh3_128(record.key + record.parent + place)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            made.update(chunk)
    return made.hexdigest()


def entry(file: os.DirEntry[str] | Path) -> Entry | None:
    """Return what a file's name and state tell; None if it is not ours or has gone."""
    match = _NAME.fullmatch(file.name)
    if match is None:
        return None
    try:
        state = file.stat()
    except OSError:
        return None
    key, parent, kind, length, position, digest = match.groups()
    return Entry(
        path=Path(file),
        key=bytes.fromhex(key),
        parent=bytes.fromhex(parent),
        kind=cast("Kind", kind),
        length=int(length),
        position=int(position),
        digest=digest,
        nbytes=state.st_size,
        used=state.st_mtime,
    )


def entries(folder: Path) -> Iterator[Entry]:
    """Yield the records in a folder, those of all models."""
    return filter(None, map(entry, _files(folder)))


def verify(folder: Path, *, delete: bool = False) -> tuple[int, list[Entry]]:
    """Read all records; return how many are good, and those that are not, deleted on demand."""
    good = 0
    bad: list[Entry] = []
    for one in entries(folder):
        try:
            intact = one.intact()
        except OSError:
            intact = False
        if intact:
            good += 1
            continue
        bad.append(one)
        if delete:
            with suppress(OSError):
                one.path.unlink()
    return good, bad


def purge(folder: Path) -> int:
    """Delete all records in a folder, and the folders that this empties; return the bytes."""
    freed = 0
    for file in _files(folder):
        if _NAME.fullmatch(file.name) or _TEMPORARY.fullmatch(file.name):
            with suppress(OSError):
                size = file.stat().st_size
                os.unlink(file)
                freed += size
    for model in _folders(folder, _FINGERPRINT):
        for emptied in (*_folders(model, _SHARD), model):
            with suppress(OSError):
                os.rmdir(emptied)
    return freed


def sweep(folder: Path) -> None:
    """Delete files that were left half written an hour ago or before."""
    for file in _files(folder):
        if _TEMPORARY.fullmatch(file.name):
            with suppress(OSError):
                if file.stat().st_mtime < time.time() - _HOUR:
                    os.unlink(file)


def _files(folder: Path) -> Iterator[os.DirEntry[str]]:
    for model in _folders(folder, _FINGERPRINT):
        for shard in _folders(model, _SHARD):
            yield from (file for file in _scan(shard) if file.is_file(follow_symlinks=False))


def _folders(folder: str | os.PathLike[str], pattern: re.Pattern[str]) -> list[os.DirEntry[str]]:
    named = (one for one in _scan(folder) if pattern.fullmatch(one.name))
    return [one for one in named if one.is_dir(follow_symlinks=False)]


def _scan(folder: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    """List a folder; one that can't be read counts as empty."""
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError:
        return []
