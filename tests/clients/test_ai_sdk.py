"""Vercel's AI SDK 5, whose parser of chat streams is the strictest of all, against a real server.

Rules of this file:
- Its packages are pinned to what anyclaude-local has in its lock file.
- They are installed once, in the cache folder; without Node or a registry the test is skipped.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.http.live import Live

from . import task
from .conftest import CALLS
from .places import NotInstalled, npm

pytestmark = pytest.mark.mlx

PACKAGES = (
    "ai@5.0.100",
    "@ai-sdk/anthropic@2.0.44",
    "@ai-sdk/openai@2.0.53",
    "@ai-sdk/openai-compatible@1.0.61",
    "zod@3.25.76",
)
PROVIDERS = ("openai chat", "openai-compatible", "openai responses", "anthropic")
PROGRAM = Path(__file__).with_name("ai_sdk.mjs")


@pytest.fixture(scope="session")
def modules() -> Path:
    """Return the folder with the packages."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("Node is not here")
    try:
        return npm("ai-sdk", PACKAGES, patient=False)
    except NotInstalled as error:
        pytest.skip(f"the AI SDK {error}")


def test_every_provider_plays_the_task(modules: Path, live: Live, tmp_path: Path) -> None:
    """Four providers at once stream their loops, and each finds its own turns in the KV cache."""
    folders = {name: tmp_path / name.replace(" ", "-") for name in PROVIDERS}
    for folder in folders.values():
        task.lay_out(folder)
    runs = [
        {"provider": name, "folder": str(folder), "prompt": f"{name} {task.script(CALLS, folder)}"}
        for name, folder in folders.items()
    ]
    asked = {"modules": str(modules), "url": live.url, "runs": runs}

    ran = subprocess.run(
        ["node", str(PROGRAM), json.dumps(asked)], capture_output=True, text=True, timeout=60
    )

    assert ran.returncode == 0, ran.stderr
    for heard in json.loads(ran.stdout):
        check(heard, folders[heard["provider"]])


def check(heard: dict[str, Any], folder: Path) -> None:
    """The loop of one provider did the task, with streamed arguments, on what was kept."""
    assert heard["errors"] == []
    assert heard["text"] == task.FINAL
    assert task.undone(folder) == ""
    assert heard["pieces"] > 3 * len(CALLS)
    assert all(map(lambda kept, before: kept >= before, heard["cached"][1:], heard["prompts"]))
