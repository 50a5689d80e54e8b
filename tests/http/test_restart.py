"""The KV cache on disk: after the end of a server, however it came, the next one goes on."""

from __future__ import annotations

import random
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from .live import Live, serve, user
from .test_history import STYLES, TOOLS, Conversation

pytestmark = pytest.mark.mlx

# Seconds in which what a finished turn computed is on disk.
WRITTEN = 3.0


def kill_within_a_turn(server: Live, before: Conversation) -> None:
    """End the server somewhere in the next turn of a conversation."""
    messages = [*before.messages, user("[[SLOW]]" + "word " * 100)]
    body = {"model": "m", "messages": messages, "tools": TOOLS, "stream": True}
    with (
        suppress(httpx.TransportError),
        server.client.stream("POST", "/v1/chat/completions", json=body) as answer,
    ):
        lines = answer.iter_lines()
        for _ in range(random.randrange(60)):
            next(lines)
        server.kill()
        list(lines)


@pytest.mark.parametrize(
    "hybrid",
    [pytest.param(False, marks=pytest.mark.slow, id="plain"), pytest.param(True, id="hybrid")],
)
@pytest.mark.parametrize("end", [pytest.param("SIGTERM", marks=pytest.mark.slow), "SIGKILL"])
def test_restart(tmp_path: Path, end: str, hybrid: bool) -> None:
    """What finished turns computed comes from disk, and the model goes on as if nothing was."""
    style = STYLES["other token boundaries"]
    with serve(tmp_path, hybrid=hybrid) as server:
        before = Conversation(server, style)
        before.turn()
        before.turn()
        if end == "SIGKILL":
            time.sleep(WRITTEN)
            kill_within_a_turn(server, before)
    with serve(tmp_path, hybrid=hybrid) as server:
        after = Conversation(server, style, messages=before.messages, history=before.history)
        after.turn()

    assert before.history > 1000
    assert after.lost <= before.history // 100
    assert after.messages[-1]["content"].strip() == "Done."


def test_another_model(tmp_path: Path) -> None:
    """What one model computed is never used by another in the same folder."""
    style = STYLES["the template's form"]
    with serve(tmp_path) as server:
        before = Conversation(server, style)
        before.turn()
    with serve(tmp_path, hybrid=True) as server:
        after = Conversation(server, style, messages=before.messages, history=before.history)
        after.ask()

    assert after.lost == before.history


def test_nothing_on_disk(tmp_path: Path) -> None:
    """With --no-kv-disk nothing is written, and a new server begins anew."""
    with serve(tmp_path, "--no-kv-disk") as server:
        before = Conversation(server, STYLES["the template's form"])
        before.turn()
    with serve(tmp_path, "--no-kv-disk") as server:
        after = Conversation(server, before.style, messages=before.messages, history=before.history)
        after.ask()

    assert after.lost == before.history
    assert not (tmp_path / "kv").exists()
