"""The time of day may jump; nothing in the engine goes by it."""

from __future__ import annotations

import time
from collections.abc import Generator
from pathlib import Path

import pytest

from mlx_tools_server.engine.scripted import write_checkpoint
from mlx_tools_server.events import EngineEvent, PartDelta

from .running import answer, ask, running, script

pytestmark = pytest.mark.mlx

DAY = 86400.0


def test_clock_that_is_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one answer is generated and the clock is set back, new requests are still taken in."""
    folder = write_checkpoint(tmp_path / "model", step_delay=0.01)
    now = time.time
    with running(folder) as engine:
        long = ask(engine, script("word " * 400))
        _hear_some(long)
        monkeypatch.setattr(time, "time", lambda: now() - DAY)

        assert answer(engine, script("quick")).joined("text") == "quick"

        assert engine.in_flight == 1
        long.close()


def _hear_some(events: Generator[EngineEvent, None, None]) -> None:
    for event in events:
        if isinstance(event, PartDelta):
            return
