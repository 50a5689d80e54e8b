"""What the cache keeps: blocks of a sequence, and marks at exact positions in it.

Rules of this file:
- A payload is opaque, evaluated, and never changed by anyone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

Kind = Literal["block", "prompt", "end", "user", "system"]
"""A block, or a mark: the end of a prompt, of an answer, of the history before the last user
message, or of the system prompt with its tools."""

# The later in `Kind`, the longer worth keeping: where two marks coincide, the later one counts.
RANK: dict[Kind, int] = {kind: rank for rank, kind in enumerate(get_args(Kind))}


@dataclass(frozen=True, slots=True)
class Record:
    """One block or mark.

    `parent` is the key of the last full block at or before a mark, or of the block before a
    block; where there is none, it is the seed. `length` is the number of tokens behind the parent:
    256 for a block, 0 to 255 for a mark. `position` is the number of tokens up to its end.
    """

    key: bytes
    parent: bytes
    kind: Kind
    length: int
    position: int
    payload: Any
    nbytes: int

    @property
    def first(self) -> bool:
        """Whether there is no block before it."""
        return self.position == self.length
