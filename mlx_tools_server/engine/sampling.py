"""How one request draws its tokens.

Rules of this file:
- Equal settings share one sampler, so that the loop can draw for a whole batch at once.
- A seed belongs to its request: the sampler carries its own random state, and the batch goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import mlx.core as mx
from mlx_lm import sample_utils

from ..messages import Sampling

Sampler = Callable[[mx.array], mx.array]


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
                logprobs = keep(logprobs)
            return sample_utils.categorical_sampling(logprobs, shape.temperature)

        return sampler

    def _filters(self, shape: _Shape) -> Sequence[Sampler]:
        filters: list[Sampler] = []
        if 0 < shape.top_p < 1:
            filters.append(lambda x: sample_utils.apply_top_p(x, shape.top_p))
        if shape.min_p > 0:
            filters.append(lambda x: sample_utils.apply_min_p(x, shape.min_p))
        if shape.xtc_probability > 0:
            xtc = (shape.xtc_probability, shape.xtc_threshold, self._keep)
            filters.append(lambda x: sample_utils.apply_xtc(x, *xtc))
        # At or above the size of the vocabulary it excludes nothing, and mlx-lm would raise.
        if 0 < shape.top_k < self._vocabulary:
            filters.append(lambda x: sample_utils.apply_top_k(x, shape.top_k))
        return filters


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

    def __init__(self, filters: Sequence[Sampler], temperature: float, seed: int) -> None:
        self._filters = filters
        self._scale = 1.0 / temperature
        self._key = mx.random.key(seed)

    def __call__(self, logprobs: mx.array) -> mx.array:
        for keep in self._filters:
            logprobs = keep(logprobs)
        self._key, key = mx.random.split(self._key)
        return mx.random.categorical(logprobs * self._scale, key=key)
