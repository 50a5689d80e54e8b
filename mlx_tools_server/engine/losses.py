"""Why a prompt is computed again that mostly was computed before.

Rules of this file:
- A prompt is compared with the latest sequences; what counts is the longest common beginning.
- Only what belongs to the same conversation is a loss: a new one that shares the system prompt of
  another loses nothing.
- One line tells the place, both sides of it, and the likely cause, in few words of the prompt. A
  log that nobody asked for has none of them.
"""

from __future__ import annotations

import re
import threading
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# Sequences that are remembered, and tokens of loss that are worth a word.
REMEMBERED = 32
WORTH_TELLING = 256
# Tokens shown of each side, and those of a sequence's end by which a later prompt is known.
_SHOWN = 12
_KNOWN_BY = 16
# A conversation's end is looked for in this many of a prompt's tokens behind where it should be.
_MOVED = 4096


@dataclass(frozen=True, slots=True)
class Loss:
    """Tokens that are computed again; the prompts part at `position`."""

    tokens: int
    position: int
    earlier: str
    now: str
    cause: str

    def __str__(self) -> str:
        return self._told(f", {self.earlier!r} then and {self.now!r} now")

    @property
    def summary(self) -> str:
        """What can be told without a word of the prompt."""
        return self._told("")

    def _told(self, sides: str) -> str:
        return (
            f"{self.tokens} tokens of the history are computed again: the prompt differs from the "
            f"one before at token {self.position}{sides}. Likely cause: {self.cause}."
        )


class Losses:
    """Remembers the latest sequences of one model; safe to use from many threads.

    `tokens` counts what was lost so far.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._lock = threading.Lock()
        self._latest: deque[array[int]] = deque(maxlen=REMEMBERED)
        self.tokens = 0

    def remember(self, ids: Sequence[int]) -> None:
        """Keep a sequence; it takes the place of those that it goes on from."""
        new = array("i", ids)
        with self._lock:
            kept = [old for old in self._latest if old != new[: len(old)]]
            self._latest = deque([*kept, new], maxlen=REMEMBERED)

    def find(self, ids: Sequence[int], cached: int) -> Loss | None:
        """Return what is lost of a prompt whose first `cached` tokens need no computing."""
        prompt = array("i", ids)
        with self._lock:
            latest = list(self._latest)
        if not latest:
            return None
        common, best = max(
            ((common_length(prompt, old), old) for old in latest), key=lambda pair: pair[0]
        )
        if common == min(len(best), len(prompt) - 1):
            tokens, cause = common - cached, "the KV cache had no room for it, or was cleared"
        elif _goes_on(prompt, best, common):
            tokens, cause = len(best) - cached, ""
        else:
            return None
        if tokens <= WORTH_TELLING:
            return None
        with self._lock:
            self.tokens += tokens
        earlier, now = (self._decode(side[common : common + _SHOWN]) for side in (best, prompt))
        return Loss(tokens, common, earlier, now, cause or _cause(earlier, now, common, len(best)))


def common_length(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens two sequences of one type have in common from the first on."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _goes_on(prompt: array[int], old: array[int], common: int) -> bool:
    """Return whether a prompt has the end of an older sequence, somewhere near its place."""
    end = old[max(common + 1, len(old) - _KNOWN_BY) :].tobytes()
    first = max(common, len(old) - _MOVED)
    return bool(end) and end in prompt[first : len(old) + _MOVED].tobytes()


def _cause(earlier: str, now: str, position: int, size: int) -> str:
    if "<think>" in earlier and "<think>" not in now:
        return "the template leaves out earlier thoughts; --history-thinking preserve keeps them"
    if position < size // 10 or position < WORTH_TELLING:
        if re.sub(r"\d", "0", earlier)[:8] == re.sub(r"\d", "0", now)[:8]:
            return "a date, clock or counter in the system prompt"
        return "the system prompt or the tools changed"
    return "the client changed an earlier message"
