"""What is copied by hand from mlx-lm agrees with the mlx-lm that is installed."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from mlx_tools_server.config import OPTIONS, ServerConfig
from mlx_tools_server.errors import StartupError
from mlx_tools_server.models import PYTHON_TEMPLATES

pytestmark = pytest.mark.mlx

# Flags whose default differs on purpose.
OTHER_DEFAULTS = {
    "--allowed-origins": "a web page of another origin must not drive a local model",
    "--max-tokens": "512 tokens cut an agent's answer; what is left of the context is the limit",
}
SIZES = ["1024", "10GB", "10 gb", "1.5G", "500M", "500MB", "0.5 m", "7 ", "8KB", "GB", "1.2.3G"]

# Runs upstream's main() up to the parsing of its command line.
SCRIPT = """
import argparse, json, sys
from pathlib import Path
import mlx_lm
from mlx_lm import server
from mlx_lm.utils import _parse_size

class Captured(Exception):
    pass

def capture(parser, *args, **kwargs):
    raise Captured(parser)

argparse.ArgumentParser.parse_args, parse = capture, argparse.ArgumentParser.parse_args
try:
    server.main()
except Captured as captured:
    parser = captured.args[0]
defaults = vars(parse(parser, []))
flags = {
    flag: {"dest": action.dest, "default": defaults[action.dest]}
    for action in parser._actions if action.dest != "help"
    for flag in action.option_strings
}

def size(text):
    try:
        return _parse_size(text)
    except Exception:
        return None

models = Path(mlx_lm.__file__).parent / "models"
templates = [
    path.stem for path in models.glob("*.py") if '"chat_template_type"' in path.read_text()
]
json.dump({
    "flags": flags, "sizes": [size(text) for text in json.loads(sys.argv[1])],
    "templates": templates,
}, sys.stdout)
"""


@pytest.fixture(scope="module")
def upstream() -> Any:
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(SIZES)],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return json.loads(result.stdout)


def test_flags(upstream: Any) -> None:
    """Each of upstream's flags exists here and sets the field of upstream's name."""
    ours = {flag: name for name, each in OPTIONS.items() for flag in each.flags}

    assert len(upstream["flags"]) >= 20
    assert {flag: ours.get(flag) for flag in upstream["flags"]} == {
        flag: each["dest"] for flag, each in upstream["flags"].items()
    }


def test_defaults(upstream: Any) -> None:
    """Defaults are upstream's, save for a few that have a reason."""
    ours = ServerConfig().values()

    differing = {
        flag for flag, each in upstream["flags"].items() if ours[each["dest"]] != each["default"]
    }

    assert differing == set(OTHER_DEFAULTS)


def test_sizes(upstream: Any) -> None:
    """A size means here what it means upstream."""

    def ours(text: str) -> int | None:
        try:
            return ServerConfig.from_sources(
                {"--prompt-cache-bytes": text}, {}, {}
            ).prompt_cache_bytes
        except StartupError:
            return None

    assert [ours(text) for text in SIZES] == upstream["sizes"]


def test_templates_in_code(upstream: Any) -> None:
    """The model types whose template upstream holds as code are the ones that models.py names."""
    assert sorted(upstream["templates"]) == sorted(PYTHON_TEMPLATES)
