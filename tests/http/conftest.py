"""The servers that the tests share; each is started once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .live import Live, serve


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Return a server of the scripted Qwen3-Coder model."""
    with serve(tmp_path_factory.mktemp("plain"), "--context-length", "8192") as server:
        yield server


@pytest.fixture(scope="session")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Return a server of a model that thinks, and whose layers can't be cut back."""
    folder = tmp_path_factory.mktemp("thinker")
    with serve(folder, template="qwen3_5", thinking=True, hybrid=True) as server:
        yield server


@pytest.fixture(scope="session")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Return a server that takes 30 ms a token and 1.5 s a thousand prompt tokens."""
    folder = tmp_path_factory.mktemp("slow")
    flags = ("--prefill-step-size", "512")
    with serve(folder, *flags, step_delay=0.03, prefill_delay_per_1k=1.5) as server:
        yield server
