"""The KV cache: what was computed for a prefix of tokens, kept in memory and on disk.

Rules of this folder:
- Nothing here knows a model: payloads are opaque objects, evaluated by whoever made them.
- A key is a hash of every token before the record's end, so equal keys mean equal prefixes.
- Whatever goes wrong is a miss; only the caller's own mistakes raise.
"""

from __future__ import annotations

from .disk import DiskTier
from .files import Entry, entries, purge, verify
from .keys import BLOCK, chain, mark_key, seed
from .memory import MemoryTier
from .records import Kind, Record
from .store import Found, Store

__all__ = [
    "BLOCK",
    "DiskTier",
    "Entry",
    "Found",
    "Kind",
    "MemoryTier",
    "Record",
    "Store",
    "chain",
    "entries",
    "mark_key",
    "purge",
    "seed",
    "verify",
]
