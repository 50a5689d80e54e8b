"""The reference: what is committed is what the code says, and nothing is left out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from mlx_tools_server.cli import COMMANDS
from mlx_tools_server.config import FLAGS, OPTIONS
from mlx_tools_server.events import EngineEvent
from mlx_tools_server.families import FAMILIES
from mlx_tools_server.metrics import Metrics
from mlx_tools_server.sources import env_name
from tools.reference import COMMAND, FOLDER, handler_routes, matches, pages

from ..http.live import serve

STALE = f"The code says something else by now: run `{COMMAND}` and look at what changed."


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    """Return the pages as the code gives them."""
    return pages()


def test_committed(made: dict[str, str]) -> None:
    """The folder holds the pages that the code gives, and nothing else."""
    committed = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.iterdir()}

    assert [name for name in made if committed.get(name) != made[name]] == [], STALE
    assert set(committed) == set(made), STALE


def names(metrics: bytes) -> set[str]:
    """Return the names of what /metrics shows."""
    types = [line.split() for line in metrics.decode().splitlines() if line.startswith("# TYPE")]
    return {name for _, _, name, _ in types if not name.endswith("_created")}


NAMES = {
    "settings.md": [*FLAGS, *OPTIONS, *map(env_name, OPTIONS)],
    "commands.md": ["serve", *COMMANDS],
    "events.md": [kind.__name__ for kind in get_args(EngineEvent)],
    "families.md": [family.name for family in FAMILIES],
    "metrics.md": sorted(names(Metrics().text())),
}


@pytest.mark.parametrize("name", NAMES)
def test_complete(made: dict[str, str], name: str) -> None:
    """Every flag, variable, key, command, event, family and metric has its place."""
    page = made[name]
    said = {*re.findall(r"`([^`\n]+)`", page), *re.findall("^## (.+)$", page, re.MULTILINE)}

    assert [each for each in NAMES[name] if each not in said] == []


def test_every_command_says_its_usage(made: dict[str, str]) -> None:
    """Every command but the server, whose flags are settings, is shown with its own help."""
    assert made["commands.md"].count("\nusage: mlx-tools-server ") == len(COMMANDS) - 1


def test_every_route(made: dict[str, str]) -> None:
    """Every route that the server answers is described."""
    said = re.findall(r"`([A-Z]+) (/[^`]*)`", made["routes.md"])
    left = [
        (method, pattern)
        for method, pattern in handler_routes()
        if not any(method == one and matches(pattern, path) for one, path in said)
    ]

    assert left == []


@pytest.mark.slow
@pytest.mark.mlx
def test_metrics_of_a_server(made: dict[str, str], tmp_path: Path) -> None:
    """A server that has answered shows no metric that the reference lacks."""
    with serve(tmp_path) as live:
        live.chat("fine")
        shown = names(live.client.get("/metrics").content)

    listed = set(re.findall(r"`(mlx_tools_\w+)`", made["metrics.md"]))
    assert shown == listed
