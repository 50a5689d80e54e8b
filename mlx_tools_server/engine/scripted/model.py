"""The architecture of a scripted checkpoint: it says what its prompt tells it to say.

Rules of this file:
- It is copied into the checkpoint and run from there, so it imports nothing of this package.
  The loader doesn't register it as a module: no postponed annotations, dataclasses need real ones.
- The token ids are the keys of a real KV cache and are read back from it at every step, so nothing
  is remembered outside the caches: what the model says next follows from their contents alone.
- The values are a running hash of the whole prefix, as real ones depend on all that came before.
  If values or the hybrid layer's state don't fit the keys, the model says MISMATCH.
- Faults and pauses belong to decode steps, which have one token a row. A longer pass is prefill;
  one of up to `_VERIFIED` tokens also gets the logits that speculative decoding asks for.
"""

import time
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import numpy.typing as npt
from mlx_lm.models.base import BaseModelArgs
from mlx_lm.models.cache import ArraysCache, KVCache

Ids = npt.NDArray[np.int64]

_PRIME = 65521  # keeps hashes exact in float32
_CYCLE = 997
_VERIFIED = 16
_CERTAIN = 8
_SLOW_STEP = 0.05
# Far apart, so that sampling can't leave the script; an end is what a mask that forbids it leaves.
_WANTED, _END = 100.0, 50.0


@dataclass
class ModelArgs(BaseModelArgs):
    """What the checkpoint's config.json holds for us."""

    vocab_size: int
    script: dict[str, Any]
    model_type: str = "scripted"
    hybrid: bool = False
    step_delay: float = 0.0
    prefill_delay_per_1k: float = 0.0


class Model(nn.Module):
    """One layer of keys and values, and in a hybrid one recurrent layer before it."""

    def __init__(self, args: ModelArgs) -> None:
        super().__init__()
        self.args = args
        self.model_type = args.model_type
        self.unit = mx.ones((1,))
        self._player = Player(args.script)

    @property
    def layers(self) -> list[nn.Module]:
        """As many as `make_cache` has entries; there is nothing in them."""
        return [nn.Identity() for _ in self.make_cache()]

    def make_cache(self) -> list[Any]:
        """The recurrent layer comes first, as in Qwen3-Next."""
        return [ArraysCache(size=1), KVCache()] if self.args.hybrid else [KVCache()]

    def __call__(self, inputs: mx.array, cache: list[Any] | None = None) -> mx.array:
        """The logits after `inputs`; of a long prefill nobody reads them and they are zeros."""
        cache = cache or self.make_cache()
        ids = np.array(inputs).astype(np.int64)
        rows, length = ids.shape
        state = _advance_state(cache[0], ids) if self.args.hybrid else None
        keys, values = _append(cache[-1], ids)
        padded = getattr(cache[-1], "_right_padding", None) is not None
        if length > 1:
            time.sleep(self.args.prefill_delay_per_1k * rows * length / 1000)
        if padded or length > _VERIFIED:
            return mx.zeros((rows, length, self.args.vocab_size))
        logits = np.zeros((rows, length, self.args.vocab_size), np.float32)
        logits[:, :, self.args.script["stop"]] = _END
        pause = 0.0
        for row, context in enumerate(_contexts(cache[-1], keys)):
            hashes = values[row, values.shape[1] - len(context) :]
            intact = np.array_equal(hashes, _hashes(context)) and (
                state is None or length > 1 or _state_fits(state[row], context)
            )
            for i in range(length):
                known = context[: len(context) - length + 1 + i]
                token, slow = self._player.next_token(known, intact=intact, live=length == 1)
                logits[row, i, token] = _WANTED
                pause = max(pause, _SLOW_STEP if slow else 0.0)
        if length == 1:
            time.sleep(max(pause, self.args.step_delay))
        return mx.array(logits)


class Player:
    """Finds the script in a context, and the place that the output has come to."""

    def __init__(self, script: dict[str, Any]) -> None:
        self._ids = script
        self._played_as = dict(script["played_as"])
        self._unsaid = (script["cut"], script["slow"])

    def next_token(self, context: Ids, *, intact: bool, live: bool) -> tuple[int, bool]:
        """The next token, and whether the turn is slow by now. A fault is raised if `live`."""
        heads = self._heads(context)
        chat = heads.size > 0
        part = self._part(context[: heads[-1]] if chat else context, heads)
        if not intact:
            part = np.array(self._ids["wrong"])
        wanted = [self._played_as.get(t, t) for t in part.tolist() if t not in self._unsaid]
        if chat and intact:
            place = self._place(context[heads[-1] :], wanted)
        else:
            said = context[self._last(context, "end") + 1 :]
            place = _place_without_header(said, np.array(wanted, np.int64))
        slow = self._is_slow(part, place)
        if place >= len(wanted):
            return self._ids["stop"], slow
        if wanted[place] == self._ids["boom"]:
            if live:
                raise RuntimeError("scripted failure")
            return self._ids["stop"], slow
        return wanted[place], slow

    def _heads(self, context: Ids) -> Ids:
        """Where an assistant turn begins. Its newline may have merged with the text's own."""
        start, role, _ = self._ids["header"]
        return np.flatnonzero((context[:-1] == start) & (context[1:] == role))

    def _place(self, turn: Ids, wanted: list[int]) -> int:
        """How much has been said in this turn: all but its header and a thought opened for it."""
        said = turn[len(self._ids["header"]) :].tolist()
        for opened in self._ids["opened"]:
            # A script that opens its own thought has said this itself.
            if said[: len(opened)] == opened != wanted[: len(opened)]:
                return len(said) - len(opened)
        return len(said)

    def _is_slow(self, part: Ids, place: int) -> bool:
        marks = np.flatnonzero(part == self._ids["slow"])
        if not marks.size:
            return False
        return place >= int(np.isin(part[: marks[0]], self._unsaid, invert=True).sum())

    def _part(self, prompt: Ids, heads: Ids) -> Ids:
        """The part of the prompt's last script that belongs to the last turn."""
        end = self._last(prompt, "end")
        start = self._last(prompt[: max(end, 0)], "script")
        if start < 0:
            return np.array(self._ids["default"])
        script = prompt[start + 1 : end]
        cuts = [-1, *np.flatnonzero(script == self._ids["next"]).tolist(), script.size]
        turn = max(0, int((heads > end).sum()) - 1)
        if turn + 1 >= len(cuts):
            return np.array(self._ids["default"])
        return script[cuts[turn] + 1 : cuts[turn + 1]]

    def _last(self, ids: Ids, mark: str) -> int:
        found = np.flatnonzero(ids == self._ids[mark])
        return int(found[-1]) if found.size else -1


def _place_without_header(said: Ids, wanted: Ids) -> int:
    """How much has been said, where no header says where output began: where `wanted` begins.

    What follows there fits up to the end, or long enough, since a mask may have had another word.
    """
    longest, place = 0, 0
    for start in np.flatnonzero(said == wanted[0]).tolist() if wanted.size else ():
        length = min(said.size - start, wanted.size)
        other = np.flatnonzero(said[start : start + length] != wanted[:length])
        same = int(other[0]) if other.size else length
        if same > longest and (same in (said.size - start, wanted.size) or same >= _CERTAIN):
            longest, place = same, said.size - start
    return place


def _terms(ids: Ids, start: Ids) -> Ids:
    """What each token adds to the running hash; it depends on the token and on its position."""
    place = start + np.arange(ids.shape[-1])
    return (ids + 1) * (place % _CYCLE + 1) % _PRIME


def _hashes(context: Ids) -> Ids:
    return np.cumsum(_terms(context, np.array(0))) % _PRIME


def _append(cache: Any, ids: Ids) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Store the new tokens; return the keys and values of all of them, padding included."""
    offset = np.array(cache.offset).reshape(-1, 1)
    last = np.zeros((ids.shape[0], 1), np.int64)
    if cache.size():
        # An empty row of a batch has no last value, whatever its padding holds.
        last = np.where(offset > 0, np.array(cache.keys_and_values()[1][:, 0, -1]), 0).astype(
            np.int64
        )
    hashes = (last + np.cumsum(_terms(ids, offset), axis=1)) % _PRIME
    keys, values = cache.update_and_fetch(_as_heads(ids), _as_heads(hashes))
    return np.array(keys)[:, 0, :, 0], np.array(values)[:, 0, :, 0]


def _as_heads(numbers: Ids) -> mx.array:
    return mx.array(numbers.astype(np.float32))[:, None, :, None]


def _contexts(cache: Any, keys: npt.NDArray[np.float32]) -> list[Ids]:
    """Each row's own tokens, without its left padding."""
    padding = np.array(getattr(cache, "left_padding", np.zeros(len(keys), np.int64)))
    return [row[pad:].astype(np.int64) for row, pad in zip(keys, padding.tolist(), strict=True)]


def _advance_state(cache: Any, ids: Ids) -> npt.NDArray[np.float32]:
    """Fold the new tokens into each row's (count, hash), past its right padding not at all."""
    mask = cache.make_mask(ids.shape[1])
    counted = np.ones_like(ids) if mask is None else np.array(mask).astype(np.int64)
    before = np.zeros((len(ids), 2)) if cache[0] is None else np.array(cache[0])
    count, total = before[:, :1].astype(np.int64), before[:, 1:].astype(np.int64)
    total = (total + (_terms(ids, count) * counted).sum(axis=1, keepdims=True)) % _PRIME
    count = count + counted.sum(axis=1, keepdims=True)
    after = np.concatenate([count, total], axis=1).astype(np.float32)
    cache[0] = mx.array(after)
    cache.advance(ids.shape[1])
    return after


def _state_fits(state: npt.NDArray[np.float32], context: Ids) -> bool:
    return state.tolist() == [len(context), _hashes(context)[-1]]
