"""Whether the KV caches of all requests at work fit into memory.

Rules of this file:
- It says no before anything is computed: neither Metal nor the kernel asks before it ends us.
- The sequences of a batch are padded to the longest of them, a batch that takes another one in is
  copied, and so is what is read of a KV cache: all are counted.
- What is kept of earlier requests makes way for those at work.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx

from ..budgets import STEP_SHARE, physical_memory, usable_memory
from ..config import ServerConfig
from .layers import Footprint, footprint

log = logging.getLogger(__name__)

# The least that requests at work have, whatever the weights take.
LEAST = 256 << 20
# Tokens of its answer for which a request must have room when it begins.
HEADROOM = 1024
# How often a batch of several sequences is there while another one is taken in.
COPIES = 2


class MemoryGuard:
    """Compares what requests need with what there is.

    `keep` is told how many bytes are left for what is kept of earlier requests, `kept` at most.
    """

    def __init__(
        self, footprint: Footprint, room: int, kept: int, keep: Callable[[int], None]
    ) -> None:
        self._footprint = footprint
        self._room = room
        self._kept = self._left = kept
        self._keep = keep
        self.most_tokens = footprint.most_tokens(room)

    def need(self, lengths: Sequence[int], copied: Sequence[int] = ()) -> int:
        """Return how many bytes a batch of these sequences takes at most.

        `copied` are the lengths of what was read of them and has not gone into the batch yet.
        """
        if not lengths:
            return 0
        padded = len(lengths) * self._footprint.nbytes(max(lengths))
        read = sum(self._footprint.nbytes(length) for length in copied)
        return read + (padded * COPIES if len(lengths) > 1 else padded)

    def fits(self, lengths: Sequence[int], copied: Sequence[int] = ()) -> bool:
        """Return whether sequences of these lengths can be at work together."""
        return self.need(lengths, copied) <= self._room

    def settle(self, lengths: Sequence[int], copied: Sequence[int] = ()) -> None:
        """Let what is kept have what requests of these lengths leave."""
        left = max(0, min(self._kept, self._room - self.need(lengths, copied)))
        # To the sixteenth, so that not every token changes it.
        left -= left % max(1, self._kept // 16) if left < self._kept else 0
        if left != self._left:
            self._left = left
            self._keep(left)


def guard_for(
    model: Any, limit: int | None, kept: int, keep: Callable[[int], None]
) -> MemoryGuard | None:
    """Return a guard for a loaded model; None if nothing can be said of its needs."""
    try:
        needs = footprint(model)
    except Exception as error:  # noqa: BLE001  it runs the model's own code
        log.warning("What the KV cache takes is not known, so memory is not guarded: %s", error)
        return None
    limit = limit or machine_memory()
    room = int(limit * (1 - STEP_SHARE)) - int(mx.get_active_memory())
    if room < LEAST:
        log.warning(
            "The model takes %.1f of the %.1f GB that there are: little is left for requests. "
            "Choose a smaller model, or raise --memory-limit.",
            mx.get_active_memory() / 1e9,
            limit / 1e9,
        )
    return MemoryGuard(needs, max(room, LEAST), kept, keep)


def machine_memory() -> int:
    """Return how many bytes a model and its requests may take on this machine."""
    told = mx.device_info().get("max_recommended_working_set_size")
    return int(told) if told else usable_memory()


def kept_in_memory(config: ServerConfig) -> int:
    """Return the bytes for what is kept: a quarter of what the weights leave, at least 0.5 GB."""
    free = int(max(1 << 29, (physical_memory() - mx.get_active_memory()) // 4))
    return config.kv_ram_bytes or config.prompt_cache_bytes or free


def kept_on_disk(config: ServerConfig, folder: Path | None) -> int:
    """Return the bytes for what is kept there: a quarter of what is free, at most 50 GB."""
    places = [place for place in (folder, *folder.parents) if place.exists()] if folder else []
    free = min(50 * 10**9, shutil.disk_usage(places[0]).free // 4) if places else 0
    return config.kv_disk_bytes or free
