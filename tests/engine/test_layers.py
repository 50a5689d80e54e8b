"""Layers that are put together from what was kept: they hold what mlx-lm's own would, uncopied."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models.cache import BatchKVCache, KVCache

from mlx_tools_server.engine.layers import as_rows, from_rows, is_plain, length_of

pytestmark = pytest.mark.mlx

ROOM = 40


def numbers(count: int, start: int = 0) -> mx.array:
    """Return rows that are numbered."""
    return mx.arange(start, start + count, dtype=mx.float32)[None, None, :, None]


def restored(length: int) -> Any:
    """Return a layer with rows from 0 on, and room for more."""
    rows = mx.concatenate([numbers(length), mx.zeros((1, 1, ROOM, 1))], axis=2)
    return from_rows([rows, rows * 1], (), ROOM)


def test_it_is_a_plain_layer() -> None:
    """A layer with room to grow is cut and counted without that room."""
    layer = restored(300)

    assert is_plain(layer)
    assert length_of(layer) == length_of(as_rows(layer)) == 300
    assert as_rows(layer).cut(256, 300)[0].tolist() == numbers(44, 256).tolist()


def test_its_batch_takes_its_arrays() -> None:
    """A batch of one such layer has its very arrays, and fills their room before it grows."""
    layer = restored(300)
    keys = layer.keys
    batch: Any = type(layer).merge([layer])

    assert batch.keys is keys
    assert layer.keys is None
    found, _ = batch.update_and_fetch(numbers(ROOM, 300), numbers(ROOM, 300))
    assert found.tolist() == numbers(300 + ROOM).tolist()
    assert batch.keys.shape[2] == 300 + ROOM


def test_several_are_merged_as_mlx_lm_does() -> None:
    """A batch of several layers is what mlx-lm makes of them."""
    ours = type(restored(1)).merge([restored(5), restored(3)])
    plain = []
    for length in (5, 3):
        plain.append(KVCache())
        plain[-1].update_and_fetch(numbers(length), numbers(length))
    theirs = BatchKVCache.merge(plain)

    for one, other in zip(ours.state, theirs.state, strict=True):
        assert mx.array_equal(mx.array(one), mx.array(other))
