"""How one request draws its tokens.

Rules of this file:
- Equal settings share one sampler, so that the loop can draw for a whole batch at once.
- A seed belongs to its request: the sampler carries its own random state, and the batch goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any
from weakref import WeakKeyDictionary

import mlx.core as mx
from mlx_lm import sample_utils

from ..messages import Sampling

Sampler = Callable[[mx.array], mx.array]
# Takes the random key of the step too; without one, the draw is from the common state.
Filter = Callable[[mx.array, mx.array | None], mx.array]


# One factory a model; it goes when its tokenizer goes.
_factories: WeakKeyDictionary[Any, SamplerFactory] = WeakKeyDictionary()


def sampler(settings: Sampling, tokenizer: Any) -> Sampler:
    """Return the sampler for these settings; called in the generation thread."""
    if tokenizer not in _factories:
        _factories[tokenizer] = SamplerFactory(tokenizer)
    return _factories[tokenizer].sampler(settings)


class SamplerFactory:
    """Makes samplers for one model, in the generation thread."""

    def __init__(self, tokenizer: Any) -> None:
        self._vocabulary = len(tokenizer)
        # XTC must not remove what ends a line or the answer.
        self._keep = [*tokenizer.encode("\n"), *tokenizer.eos_token_ids]
        self._shared = lru_cache(maxsize=32)(self._make)

    def sampler(self, settings: Sampling) -> Sampler:
        """Return the sampler for these settings."""
        if settings.temperature == 0:
            return sample_utils.greedy_sampler
        # What shapes the distribution; penalties and biases are applied to the logits before.
        shape = _Shape(
            settings.temperature,
            settings.top_p,
            settings.top_k,
            settings.min_p,
            settings.xtc_probability,
            settings.xtc_threshold,
        )
        if settings.seed is None:
            return self._shared(shape)
        return _Seeded(self._filters(shape), shape.temperature, settings.seed)

    def _make(self, shape: _Shape) -> Sampler:
        filters = self._filters(shape)

        def sampler(logprobs: mx.array) -> mx.array:
            for keep in filters:
                logprobs = keep(logprobs, None)
            return sample_utils.categorical_sampling(logprobs, shape.temperature)

        return sampler

    def _filters(self, shape: _Shape) -> Sequence[Filter]:
        filters: list[Filter] = []
        if 0 < shape.top_p < 1:
            filters.append(lambda x, _: sample_utils.apply_top_p(x, shape.top_p))
        if shape.min_p > 0:
            filters.append(lambda x, _: sample_utils.apply_min_p(x, shape.min_p))
        if shape.xtc_probability > 0:
            filters.append(partial(self._xtc, shape))
        # At or above the size of the vocabulary it excludes nothing, and mlx-lm would raise.
        if 0 < shape.top_k < self._vocabulary:
            filters.append(lambda x, _: sample_utils.apply_top_k(x, shape.top_k))
        return filters

    def _xtc(self, shape: _Shape, logprobs: mx.array, key: mx.array | None) -> mx.array:
        if key is None:
            xtc = (shape.xtc_probability, shape.xtc_threshold, self._keep)
            return sample_utils.apply_xtc(logprobs, *xtc)
        cut = sample_utils.apply_xtc(logprobs, 1.0, shape.xtc_threshold, self._keep)
        return mx.where(mx.random.uniform(key=key) > shape.xtc_probability, logprobs, cut)


@dataclass(frozen=True, slots=True)
class _Shape:
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    xtc_probability: float
    xtc_threshold: float


class _Seeded:
    """Draws from a random state of its own: the same seed and prompt give the same answer."""

    def __init__(self, filters: Sequence[Filter], temperature: float, seed: int) -> None:
        self._filters = filters
        self._scale = 1.0 / temperature
        self._key = mx.random.key(seed)

    def __call__(self, logprobs: mx.array) -> mx.array:
        self._key, key, chance = mx.random.split(self._key, 3)
        for keep in self._filters:
            logprobs = keep(logprobs, chance)
        return mx.random.categorical(logprobs * self._scale, key=key)
