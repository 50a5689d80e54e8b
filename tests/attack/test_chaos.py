"""Whatever befalls the server, good requests get their right answers, and it ends well."""

from __future__ import annotations

from pathlib import Path

import pytest

from .agents import Book
from .chaos import chaos

pytestmark = pytest.mark.mlx


def _endure(folder: Path, seconds: float, seed: int) -> Book:
    book = chaos(folder, seconds, seed)

    assert book.wrongs == []
    assert all(book.counts[f"turns: {dialect}"] for dialect in ("chat", "messages", "responses"))
    for trouble in ("clients killed", "model failures", "answers at a wrong time"):
        assert book.counts[trouble]
    return book


def test_chaos_in_short(tmp_path: Path) -> None:
    """Killed clients, failing passes, a jumping clock and a breaking disk hurt no good request."""
    _endure(tmp_path, 2.0, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
def test_chaos(seed: int, tmp_path: Path) -> None:
    """The same for longer, so that each disaster comes several times."""
    book = _endure(tmp_path, 20.0, seed=seed)

    assert book.counts["KV cache on disk: reads"]
    assert book.counts["KV cache on disk: errors"]
