"""Payloads without a model, for measuring what it costs to keep them.

Rules of this file:
- They have the form of a real model's, and random bits, so that nothing can be squeezed.
"""

from __future__ import annotations

import mlx.core as mx

from .payloads import Payload


def random_payload(layers: int, heads: int, width: int, length: int) -> Payload:
    """Return keys and values of attention layers for this many tokens, in 16 bits."""
    shape = (layers, 1, heads, length, width)
    arrays = {
        name: mx.random.normal(shape, dtype=mx.float32).astype(mx.bfloat16)
        for name in ("keys0", "values0")
    }
    mx.eval(list(arrays.values()))
    return Payload(arrays, [[*range(layers)]])
