"""Keys: what they depend on, and what they do not."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_tools_server.kv import BLOCK, chain, mark_key, seed

from .samples import SEED, tokens

runs = st.lists(st.tuples(st.integers(0, 2**63 - 1), st.integers(1, 400)), max_size=6)


def spelled(runs: list[tuple[int, int]]) -> list[int]:
    return [token for token, count in runs for _ in range(count)]


def test_chain_is_as_specified() -> None:
    """A block's key is the sha256 of the key before it and its ids as little-endian int64."""
    ids = list(range(2 * BLOCK + 5))
    first = sha256(SEED + b"".join(one.to_bytes(8, "little") for one in ids[:BLOCK])).digest()
    middle = ids[BLOCK : 2 * BLOCK]
    second = sha256(first + b"".join(one.to_bytes(8, "little") for one in middle)).digest()

    assert [first, second] == chain(SEED, ids)


def test_mark_key_is_as_specified() -> None:
    """A mark's key is the sha256 of its parent, a word, and the ids behind the parent."""
    tail = b"".join(one.to_bytes(8, "little") for one in (1, 2))

    assert sha256(SEED + b"mark" + tail).digest() == mark_key(SEED, [1, 2])


@given(runs, runs)
def test_equal_prefixes_have_equal_keys(
    left: list[tuple[int, int]], right: list[tuple[int, int]]
) -> None:
    """Two sequences share exactly the keys of the blocks up to which they are equal."""
    one, other = spelled(left), spelled(left[:3] + right)
    same = next(
        (n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )
    shared = same // BLOCK

    assert chain(SEED, one)[:shared] == chain(SEED, other)[:shared]
    assert not set(chain(SEED, one)[shared:]) & set(chain(SEED, other)[shared:])


@pytest.mark.parametrize(
    "other",
    [seed(b"another model"), seed(b"a model", "a user")],
    ids=["fingerprint", "salt"],
)
def test_seed(other: bytes) -> None:
    """Another fingerprint or salt gives other keys from the first block on."""
    ids = tokens("abcdefgh")

    assert not set(chain(SEED, ids)) & set(chain(other, ids))
    assert mark_key(SEED, ids[:9]) != mark_key(other, ids[:9])


def test_salt_is_apart() -> None:
    """No salt stands for a part of another fingerprint."""
    assert seed(b"ab", "c") != seed(b"a", "bc")
    assert seed(b"ab", "c") != seed(b"abc")


@pytest.mark.parametrize("ids", [[-1, 2**63 - 1] * 128, range(256), tuple(range(256))])
def test_any_sequence(ids: list[int]) -> None:
    """Ids may come in any sequence, and may be as large as an int64."""
    assert chain(SEED, list(ids)) == chain(SEED, ids)
