"""Small real things for these tests: sequences, their records, and a format for files.

Rules of this file:
- A payload is the digest of the tokens that it stands for, so a wrong one is recognised.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from mlx_tools_server.kv import BLOCK, DiskTier, Kind, Record, chain, mark_key, seed

SEED = seed(b"a model")
MANY = 1 << 40
TIMEOUT = 20.0


def tokens(text: str, run: int = 64) -> list[int]:
    """Return `run` tokens for each letter."""
    return [ord(letter) for letter in text for _ in range(run)]


def payload(ids: Sequence[int], nbytes: int = 32) -> bytes:
    """Return the payload for the record at the end of these tokens."""
    return sha256(array("q", ids)).digest().ljust(nbytes, b".")


def blocks(ids: Sequence[int], *, start: int = 0, nbytes: int = 32) -> list[Record]:
    """Return the full blocks of a sequence from `start` tokens on."""
    parents = [SEED, *chain(SEED, ids)]
    ends = range(start + BLOCK, len(ids) + 1, BLOCK)
    return [
        Record(
            key=parents[end // BLOCK],
            parent=parents[end // BLOCK - 1],
            kind="block",
            length=BLOCK,
            position=end,
            payload=payload(ids[:end], nbytes),
            nbytes=nbytes,
        )
        for end in ends
    ]


def mark(ids: Sequence[int], kind: Kind = "end", *, nbytes: int = 32) -> Record:
    """Return the mark at the end of these tokens."""
    length = len(ids) % BLOCK
    parent = [SEED, *chain(SEED, ids)][-1]
    return Record(
        key=mark_key(parent, ids[len(ids) - length :]),
        parent=parent,
        kind=kind,
        length=length,
        position=len(ids),
        payload=payload(ids, nbytes),
        nbytes=nbytes,
    )


def write(path: Path, payload: Any) -> None:
    """Write a payload as a file."""
    path.write_bytes(payload)


def read(path: Path) -> Any:
    """Read a payload."""
    return path.read_bytes()


tier = partial(DiskTier, seed=SEED, capacity=MANY, floor=0, write=write, read=read)


@contextmanager
def opened(folder: Path, **options: Any) -> Iterator[DiskTier]:
    """Open a disk tier, and close it."""
    disk = tier(folder, **options)
    try:
        yield disk
    finally:
        disk.close()


def offer(disk: DiskTier, *records: Record, replaces: Sequence[bytes] = ()) -> None:
    """Offer records and wait until they are written or refused."""
    for record in records:
        disk.offer(record, replaces=replaces)
    assert disk.flush(TIMEOUT)


def files(folder: Path) -> list[Path]:
    """Return all files below a folder, the deepest record first."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(found, key=lambda path: -int((path.name.split(".") * 5)[4]))


def size(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in files(folder))


def age(path: Path, seconds: float) -> None:
    """Make a file look as if it was last used this long ago."""
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))
