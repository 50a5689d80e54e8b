"""Keys: a sha256 chain over blocks of token ids.

Rules of this file:
- A key depends on the seed and on every token up to its end, and on nothing else.
- Token ids are hashed as little-endian int64, so keys are the same on every machine.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from hashlib import sha256

BLOCK = 256
"""Tokens in a block."""

_ID_BYTES = 8
# hashlib lets go of the interpreter lock for 2,048 bytes or more; to get it back costs more than
# the hashing while the generation thread is busy.
_HALF = BLOCK * _ID_BYTES // 2


def seed(fingerprint: bytes, salt: str = "") -> bytes:
    """Return the hash before the first block, for a model's fingerprint and a user's salt."""
    return sha256(sha256(fingerprint).digest() + salt.encode()).digest()


def chain(seed: bytes, ids: Sequence[int]) -> list[bytes]:
    """Return the keys of the full blocks of `ids`."""
    data = memoryview(_as_bytes(ids))
    keys: list[bytes] = []
    key = seed
    for start in range(0, len(data) - 2 * _HALF + 1, 2 * _HALF):
        hashed = sha256(key)
        hashed.update(data[start : start + _HALF])
        hashed.update(data[start + _HALF : start + 2 * _HALF])
        key = hashed.digest()
        keys.append(key)
    return keys


def mark_key(parent: bytes, tail: Sequence[int]) -> bytes:
    """Return the key of the mark behind `tail`, the tokens since `parent`, a block or the seed."""
    return sha256(parent + b"mark" + _as_bytes(tail)).digest()


def _as_bytes(ids: Sequence[int]) -> bytes:
    numbers = array("q", ids)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()
