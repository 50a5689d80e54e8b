"""Responses that clients refer to later by their ids: `previous_response_id` and `GET`.

Rules of this file:
- A response keeps its own items and the id of the one that it went on from, so a conversation
  costs what was said in it, not its square. Where a link is missing, the conversation is unknown.
- All is in memory, bounded in bytes and in number; what was used last stays. Whoever uses a
  response uses all that came before it.
- Kept as compressed JSON: its size is known, and nothing is shared with those who sent it. What
  counts is its size before: a text that compresses well is as large as any when it is used.
"""

from __future__ import annotations

import json
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# What a response costs beside its JSON, roughly.
_OVERHEAD = 500


@dataclass(frozen=True, slots=True)
class _Entry:
    parent: str | None
    items: bytes
    body: bytes
    size: int


class Stored:
    """Keeps responses; safe to use from many threads.

    `limit` and `longest`, which is that of a conversation, are in bytes of JSON before it is
    compressed, `count` in responses.
    """

    def __init__(
        self, limit: int = 256 << 20, count: int = 4096, *, longest: int = 64 << 20
    ) -> None:
        self._limit = limit
        self._longest = longest
        self._count = count
        self._lock = threading.Lock()
        self._size = 0
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    @property
    def size(self) -> int:
        """What is kept weighs so many bytes."""
        with self._lock:
            return self._size

    def remember(
        self,
        answer_id: str,
        parent_id: str | None,
        items: Sequence[Mapping[str, Any]],
        body: Mapping[str, Any],
    ) -> None:
        """Keep a response: its own items, input and then output, and its body."""
        own, about = json.dumps(items).encode(), json.dumps(body).encode()
        size = len(own) + len(about) + _OVERHEAD
        entry = _Entry(parent_id, zlib.compress(own, 1), zlib.compress(about, 1), size)
        with self._lock:
            self._drop(answer_id)
            before = self._touch(parent_id) or ()
            if entry.size > self._limit or entry.size + _total(before) > self._longest:
                return
            self._entries[answer_id] = entry
            self._size += entry.size
            while self._size > self._limit or len(self._entries) > self._count:
                self._drop(next(iter(self._entries)))

    def recall(self, answer_id: str) -> list[dict[str, Any]] | None:
        """Return all items of a conversation up to this response; None if one is unknown."""
        with self._lock:
            chain = self._touch(answer_id)
        if chain is None:
            return None
        return [item for entry in reversed(chain) for item in _unpacked(entry.items)]

    def items(self, answer_id: str) -> list[dict[str, Any]] | None:
        """Return what this response answered: all items before its own output; None if unknown."""
        items, body = self.recall(answer_id), self.get(answer_id)
        if items is None or body is None:
            return None
        return items[: len(items) - len(body["output"])]

    def get(self, answer_id: str) -> dict[str, Any] | None:
        """Return the body of a response; None if unknown."""
        with self._lock:
            entry = self._entries.get(answer_id)
        return None if entry is None else dict(_unpacked(entry.body))

    def forget(self, answer_id: str) -> bool:
        """Forget a response; nothing can go on from it any more. Return whether it was known."""
        with self._lock:
            return self._drop(answer_id)

    def _drop(self, answer_id: str) -> bool:
        entry = self._entries.pop(answer_id, None)
        self._size -= entry.size if entry else 0
        return entry is not None

    def _touch(self, answer_id: str | None) -> list[_Entry] | None:
        """Mark a conversation as used now; return its responses, last first, None if one lacks."""
        chain: list[_Entry] = []
        while answer_id is not None:
            entry = self._entries.get(answer_id)
            if entry is None or len(chain) == len(self._entries):  # the latter is a circle
                return None
            self._entries.move_to_end(answer_id)
            chain.append(entry)
            answer_id = entry.parent
        return chain


def _total(entries: Iterable[_Entry]) -> int:
    return sum(entry.size for entry in entries)


def _unpacked(data: bytes) -> Any:
    return json.loads(zlib.decompress(data))
