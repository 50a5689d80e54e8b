"""The prompt cache: mlx-lm's, found faster, never whole, within its bytes.

Rules of this file:
- What the search must find is what mlx-lm's own search finds on the same sequences.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlx_lm.models.cache import ArraysCache, CacheList, KVCache, PromptTrie, RotatingKVCache

from mlx_tools_server.engine.layers import PromptCache, _LinearTrie

pytestmark = pytest.mark.mlx

# Few tokens, so that sequences share prefixes.
TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=8)


def layers(length: int, *, hybrid: bool = False) -> list[Any]:
    """A prompt cache whose keys are the numbers from 0 to `length`."""
    made = KVCache()
    numbers = mx.arange(length, dtype=mx.float32)[None, None, :, None]
    made.update_and_fetch(numbers, numbers)
    if not hybrid:
        return [made]
    state = ArraysCache(1)
    state[0] = mx.array([[float(length)]])
    return [state, made]


@given(st.lists(TOKENS, max_size=8), TOKENS)
def test_search_finds_what_mlx_lm_finds(stored: list[list[int]], wanted: list[int]) -> None:
    """Exact, shorter and common prefix are as mlx-lm's; longer is some stored extension."""
    ours, theirs = _LinearTrie(), PromptTrie()
    for tokens in stored:
        ours.add("m", tokens, len(tokens))
        theirs.add("m", tokens, len(tokens))

    found, expected = ours.search("m", wanted), theirs.search("m", wanted)

    assert expected.exact == found.exact
    assert expected.common_prefix == found.common_prefix
    # mlx-lm overlooks a stored sequence of one token.
    one = wanted[:1] if wanted[:1] in stored and found.exact is None else None
    assert (expected.shorter or one) == found.shorter
    assert (expected.longer is None) == (found.longer is None)
    if found.longer is not None:
        assert found.longer in stored
        assert found.longer[: found.common_prefix] == wanted[: found.common_prefix]


def test_search_of_an_unknown_model() -> None:
    """Nothing is found for a model that has stored nothing."""
    found = _LinearTrie().search("m", [1])

    assert (found.exact, found.shorter, found.longer, found.common_prefix) == (None, None, None, 0)


def test_search_is_linear() -> None:
    """A long stored prompt that shares only its start is found in no time."""
    trie = _LinearTrie()
    trie.add("m", list(range(50_000)), 1)

    found = trie.search("m", [*range(50), -1])

    assert found.common_prefix == 50
    assert len(found.longer) == 50_000


@pytest.mark.parametrize("hybrid", [False, True], ids=["plain", "hybrid"])
@pytest.mark.parametrize("length", [1, 2, 9])
def test_something_is_always_left(length: int, hybrid: bool) -> None:
    """The last token of a prompt is never taken from the cache: its logits are needed."""
    cache = PromptCache(10, None)
    tokens = list(range(length))
    cache.insert_cache("m", tokens, layers(length, hybrid=hybrid))

    _, rest = cache.fetch_nearest_cache("m", tokens)

    assert rest == (tokens if hybrid else tokens[-2:])
    assert cache.fetch_nearest_cache("other", tokens) == (None, tokens)


def test_hybrid_state_is_taken_whole() -> None:
    """A state that can't be cut back is used after exactly its tokens, and is not changed."""
    cache = PromptCache(10, None)
    cache.insert_cache("m", [1, 2, 3], layers(3, hybrid=True))

    found, rest = cache.fetch_nearest_cache("m", [1, 2, 3, 4, 5])
    missed, all_ = cache.fetch_nearest_cache("m", [1, 2, 9])

    assert rest == [4, 5]
    assert (found[0][0].item(), found[1].offset) == (3.0, 3)
    found[0][0] = mx.array([[0.0]])
    assert cache.fetch_nearest_cache("m", [1, 2, 3, 4])[0][0][0].item() == 3.0
    assert (missed, all_) == (None, [1, 2, 9])


def test_longer_prompt_is_cut_back() -> None:
    """Of a longer stored prompt the common start is used, and the stored one stays whole."""
    cache = PromptCache(10, None)
    cache.insert_cache("m", list(range(9)), layers(9))

    found, rest = cache.fetch_nearest_cache("m", [0, 1, 2, 99, 98])

    assert rest == [99, 98]
    assert found[0].offset == 3
    assert cache.fetch_nearest_cache("m", list(range(10)))[0][0].offset == 9


def test_bytes_are_capped() -> None:
    """The cache never holds more bytes than it may, and an entry that is too large is not kept."""
    size = sum(layer.nbytes for layer in layers(4))
    cache = PromptCache(100, 3 * size)

    for number in range(10):
        cache.insert_cache("m", [number] * 4, layers(4))
        assert cache.nbytes <= 3 * size

    assert len(cache) == 3
    assert cache.fetch_nearest_cache("m", [9] * 5)[1] == [9]
    cache.insert_cache("m", [50] * 4096, layers(4096))
    assert cache.nbytes <= 3 * size


def test_entries_are_capped() -> None:
    """The cache never holds more entries than it may."""
    cache = PromptCache(2, None)

    for number in range(5):
        cache.insert_cache("m", [number] * 4, layers(4))

    assert len(cache) == 2


def test_layers_that_lag_behind() -> None:
    """A cache whose layers hold fewer tokens than were said is kept for those that all hold."""
    cache = PromptCache(10, None)

    cache.insert_cache("m", [1, 2, 3, 4, 5], [*layers(4), *layers(3), *layers(6)])
    found, rest = cache.fetch_nearest_cache("m", [1, 2, 3, 4, 5])

    assert rest == [4, 5]
    assert [layer.offset for layer in found] == [3, 3, 3]


def test_layers_of_several_parts_that_lag_behind() -> None:
    """Layers that are made of several are cut like others."""
    cache = PromptCache(10, None)

    cache.insert_cache("m", [1, 2, 3, 4], [CacheList(*layers(4), *layers(4)), *layers(3)])
    cache.insert_cache("n", [1, 2, 3, 4], [CacheList(*layers(3), KVCache()), *layers(4)])

    for model in ("m", "n"):
        found, rest = cache.fetch_nearest_cache(model, [1, 2, 3, 4])
        assert (found[0][0].offset, found[1].offset, rest) == (3, 3, [4])


def test_layers_that_lag_behind_and_can_not_be_cut() -> None:
    """A cache whose state is of other tokens than were said is not kept."""
    cache = PromptCache(10, None)

    cache.insert_cache("m", [1, 2, 3, 4], layers(3, hybrid=True))

    assert len(cache) == 0


@pytest.mark.parametrize(
    "layer",
    [KVCache(), ArraysCache(2), RotatingKVCache(4)],
    ids=lambda layer: type(layer).__name__,
)
def test_empty_layers_can_be_kept(layer: Any) -> None:
    """A layer that has not seen a token can be stored and had back."""
    cache = PromptCache(2, None)

    cache.insert_cache("m", [1, 2], [layer])

    assert cache.fetch_nearest_cache("m", [1, 2, 3])[1] == [3]
