"""The layers of mlx-lm's KV cache, as rows that can be cut, and its own prompt cache, mended.

Rules of this file:
- Like `seams`, it may touch what mlx-lm does not promise, and all of it stands in `contract`.
- Rows are views: nothing is copied before somebody cuts and evaluates.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx_lm.generate import GenerationBatch, PromptProcessingBatch
from mlx_lm.models import cache as mlx_cache
from mlx_lm.models.cache import LRUPromptCache as StockPromptCache

__all__ = [
    "Footprint",
    "PromptCache",
    "Rows",
    "StockPromptCache",
    "as_rows",
    "footprint",
    "fresh_cache",
    "from_rows",
    "is_plain",
    "length_of",
]


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one sequence in a layer that can be cut, where they lie in the batch's arrays.

    `arrays` are the keys, then the values: one array each, or three if they are quantised in the
    way that `form` tells: group size and bits.
    """

    arrays: tuple[mx.array, ...]
    row: int
    start: int
    length: int
    form: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[Any, ...]:
        """What layers that can be stacked have in common."""
        return tuple((array.shape[1], array.shape[3], array.dtype) for array in self.arrays)

    def cut(self, begin: int, end: int) -> list[mx.array]:
        """Return the rows of these tokens, each array (1, heads, tokens, width)."""
        rows, tokens = slice(self.row, self.row + 1), slice(self.start + begin, self.start + end)
        return [array[rows, :, tokens] for array in self.arrays]


def fresh_cache(model: Any) -> list[Any]:
    """Return empty layers of the model's KV cache."""
    layers: list[Any] = mlx_cache.make_prompt_cache(model)
    return layers


def is_plain(layer: Any) -> bool:
    """Return whether a layer has a row for each token, so that it can be cut anywhere."""
    return type(layer) in (mlx_cache.KVCache, _Restored)


@dataclass(frozen=True, slots=True)
class Footprint:
    """What the KV cache of one sequence takes, in bytes.

    `fixed` does not depend on its length; `growing` has the bytes of a token, and up to how many
    tokens they are kept, if not for all.
    """

    fixed: int
    growing: tuple[tuple[int, int | None], ...]

    def nbytes(self, length: int) -> int:
        """Return what a sequence of this many tokens takes."""
        grown = (
            size * (length if most is None else min(length, most)) for size, most in self.growing
        )
        return self.fixed + sum(grown)

    def most_tokens(self, room: int) -> int | None:
        """Return how long a sequence can get in this many bytes; None if there is no end."""
        endless = sum(size for size, most in self.growing if most is None)
        if not endless:
            return None
        # Layers that forget count with all that they hold: it matters for short sequences only.
        bounded = sum(size * most for size, most in self.growing if most is not None)
        return max(0, room - self.fixed - bounded) // endless


def footprint(model: Any) -> Footprint:
    """Return what the model's KV cache takes, from what one token leaves in it."""
    layers = fresh_cache(model)
    mx.eval(model(mx.array([[0]]), cache=layers))
    fixed, growing = 0, []
    while layers:
        layer = layers.pop()
        keys = getattr(layer, "keys", None)
        if isinstance(layer, mlx_cache.CacheList):
            layers += layer.caches
        elif isinstance(keys, mx.array) and keys.ndim == 4:
            size = (keys.nbytes + layer.values.nbytes) // keys.shape[2]
            growing.append((size, getattr(layer, "max_size", None)))
        else:
            fixed += layer.nbytes
    return Footprint(fixed, tuple(growing))


def as_rows(layer: Any) -> Any:
    """Return a layer of one sequence that can be cut as rows, and any other as it is."""
    if isinstance(layer, Rows) or getattr(layer, "keys", None) is None:
        return layer
    if is_plain(layer):
        return Rows((layer.keys, layer.values), 0, 0, layer.offset)
    if type(layer) is mlx_cache.QuantizedKVCache:
        form = (layer.group_size, layer.bits)
        return Rows((*layer.keys, *layer.values), 0, 0, layer.offset, form)
    return layer


def length_of(layer: Any) -> int:
    """Return how many tokens a layer has seen; 0 if it does not say."""
    length = layer.length if isinstance(layer, Rows) else getattr(layer, "offset", 0)
    return length if isinstance(length, int) else 0


def from_rows(arrays: Sequence[mx.array], form: Sequence[int], room: int = 0) -> Any:
    """Return a layer of one sequence with these rows, the last `room` of them still to be used."""
    length = arrays[0].shape[2] - room
    if not form:
        made = _Restored()
        made.state = (*arrays, length)
        return made
    made = mlx_cache.QuantizedKVCache(*form)
    half = len(arrays) // 2
    made.state = (tuple(arrays[:half]), tuple(arrays[half:]), length, *form)
    return made


class _Restored(mlx_cache.KVCache):
    """A plain layer that hands its arrays to its batch, where mlx-lm would copy them."""

    @classmethod
    def merge(cls, caches: Sequence[Any]) -> Any:
        if len(caches) > 1:
            return mlx_cache.BatchKVCache.merge(caches)
        (layer,) = caches
        batch = mlx_cache.BatchKVCache([0])
        batch.state = (layer.keys, layer.values, *_places(layer.offset))
        # What has two owners is copied at the next step.
        layer.keys = layer.values = None
        return batch


def _places(length: int) -> tuple[mx.array, mx.array, int]:
    """Return offset, left padding and index of a batch of one sequence."""
    return mx.array([length]), mx.array([0]), length


def _extract(self: Any, idx: int) -> list[Any]:
    """Return the layers of one sequence of a batch; plain ones are not copied yet."""
    return [_row(layer, idx) for layer in self.prompt_cache]


def _row(layer: Any, index: int) -> Any:
    if type(layer) is not mlx_cache.BatchKVCache or layer.keys is None:
        return layer.extract(index)
    padding = layer.left_padding.tolist()[index]
    return Rows((layer.keys, layer.values), index, padding, layer._idx - padding)


def _whole(layer: Any) -> Any:
    """Return a layer as mlx-lm has it."""
    if not isinstance(layer, Rows):
        return layer
    return from_rows([mx.contiguous(array) for array in layer.cut(0, layer.length)], layer.form)


# A sequence's cache would be copied whole where only its newest rows are wanted.
PromptProcessingBatch.extract_cache = _extract
_stock_split = PromptProcessingBatch.split


def _split(self: Any, indices: list[int]) -> Any:
    """Take sequences out of a batch; all of them as they are, where mlx-lm copies them."""
    if len(indices) < len(self.uids):
        return _stock_split(self, indices)
    taken = copy.copy(self)
    self.prompt_cache = []
    self.filter([])
    return taken


# Unnecessary with patches/013-split-without-copy.
PromptProcessingBatch.split = _split
GenerationBatch.extract_cache = _extract


# Unnecessary with patches/001-linear-prompt-trie-search.
class _LinearTrie(mlx_cache.PromptTrie):
    """Finds some longer sequence by walking down once, where mlx-lm compares all of them."""

    def search(self, model: Any, tokens: list[int]) -> Any:
        node = self._trie.get(model)
        if node is None:
            return mlx_cache.PromptTrieResult(model, None, None, None, 0)
        depth, last = 0, 0
        while depth < len(tokens) and tokens[depth] in node:
            node = node[tokens[depth]]
            depth += 1
            if "__value__" in node:
                last = depth
        if last and last == len(tokens):
            return mlx_cache.PromptTrieResult(model, tokens, None, None, 0)
        longer = None
        if depth:
            path = tokens[:depth]
            while "__value__" not in node:
                token, node = next(iter(node.items()))
                path.append(token)
            longer = path
        shorter = tokens[:last] if last else None
        return mlx_cache.PromptTrieResult(model, None, shorter, longer, depth)


class PromptCache(mlx_cache.LRUPromptCache):
    """mlx-lm's in-memory prompt cache, without the ways in which it stops the server."""

    def __init__(self, max_size: int, max_bytes: int | None) -> None:
        # That None has to be a number: unnecessary with patches/009-prompt-cache-recency-and-bytes.
        super().__init__(max_size, 1 << 63 if max_bytes is None else max_bytes)
        self._trie = _LinearTrie()

    # Unnecessary with patches/008-exact-prompt-cache-hit.
    def fetch_nearest_cache(self, model: Any, tokens: list[int]) -> tuple[Any, list[int]]:
        """Return a cache for a prefix of the tokens, and the rest, which is never empty."""
        found, rest = super().fetch_nearest_cache(model, tokens[:-1])
        return found, rest + tokens[-1:]

    def insert_cache(
        self, model: Any, tokens: list[int], prompt_cache: Any, *, cache_type: str = "assistant"
    ) -> None:
        """Keep a cache; it is computed first, so that a later failure can't spoil it."""
        prompt_cache = [_whole(layer) for layer in prompt_cache]
        if held := _align(tokens, prompt_cache):
            mx.eval([layer.state for layer in prompt_cache])
            super().insert_cache(model, held, prompt_cache, cache_type=cache_type)


# Unnecessary with patches/012-draft-cache-length.
def _align(tokens: list[int], layers: Sequence[Any]) -> list[int]:
    """Cut the layers to the tokens that all of them hold; return these, none if that can't be.

    After speculative decoding a layer may lack the last token, or a draft's have one more.
    """
    # Some architectures make layers that they never use.
    used = [layer for layer in layers if _offset(layer)]
    offsets = [_offset(layer) for layer in used]
    held = min([len(tokens), *offsets])
    if held == max([len(tokens), *offsets]):
        return tokens
    if not mlx_cache.can_trim_prompt_cache(layers):
        return []
    for layer in used:
        layer.trim(_offset(layer) - held)
    return tokens[:held]


def _offset(layer: Any) -> int:
    """Return how many tokens a layer holds, which may be made of several; 0 if it can't be told."""
    parts = layer.caches if isinstance(layer, mlx_cache.CacheList) else [layer]
    return max(getattr(part, "offset", 0) for part in parts)
