"""Logits of which only the allowed tokens are left.

Rules of this file:
- A mask is bits, 32 tokens a word, one row an answer; a set bit allows its token. Rows are filled
  on the host and applied by plain operations, so every backend has them.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[np.int32]


def open_mask(rows: int, vocabulary: int) -> Bits:
    """Return a mask that allows all, for logits of this width."""
    return np.full((rows, -(-vocabulary // 32)), -1, dtype=np.int32)


def masked(logits: mx.array, bits: Bits) -> mx.array:
    """Return logits (rows, …, vocabulary) that are minus infinity where a bit is not set."""
    vocabulary = logits.shape[-1]
    words = mx.array(bits)[..., None]
    allowed = ((words >> _places()) & 1).reshape(len(bits), -1)[:, :vocabulary]
    middle: list[Any] = [1] * (logits.ndim - 2)
    allowed = allowed.reshape(len(bits), *middle, vocabulary).astype(mx.bool_)
    return mx.where(allowed, logits, mx.array(-mx.inf, logits.dtype))


def _places() -> mx.array:
    return mx.arange(32, dtype=mx.int32)
