"""What an operation of the demo model's dialogues consists of.

Rules of this file:
- Nothing here knows a particular operation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter: its role in the operation, the kind of its values, and what it may be called."""

    role: str
    kind: str
    names: tuple[str, ...]
    descriptions: tuple[str, ...]
    required: bool = True
    phrases: tuple[str, ...] = ()
    phrases_off: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """Something that a tool can do. `kin` are operations that can do it in its place."""

    key: str
    canonical: str
    verbs: tuple[str, ...]
    nouns: tuple[str, ...]
    descriptions: tuple[str, ...]
    params: tuple[Param, ...]
    wishes: tuple[str, ...]
    answers: tuple[str, ...]
    results: tuple[str, ...] = ()
    compute: Callable[[dict[str, Any]], str] | None = None
    kin: tuple[str, ...] = ()


def split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split("|"))
