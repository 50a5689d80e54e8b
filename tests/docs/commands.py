"""The commands that the documents show, and what can be done with each of them here.

Rules of this file:
- Every command of a page in `PAGES` stands in one of the tables; a new one has to be put there.
- What can't run here says why. Commands of ours are parsed all the same, wherever they stand.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from .markdown import DOCS, ROOT, blocks

PAGES = [
    ROOT / "README.md",
    DOCS / "index.md",
    DOCS / "tutorial.md",
    DOCS / "adding-a-model-family.md",
    DOCS / "doctor.md",
    *sorted((DOCS / "how-to").glob("*.md")),
]

BIG = "~/models/Qwen3-Coder-30B-A3B-Instruct-4bit"

# Run among the default tests: they take a moment, and load no model.
QUICK = {
    "mlx-tools-server --version",
    "mlx-tools-server doctor --fast",
    "python3 --version",
}
# Run among the slow tests, with the built-in model in place of those that are downloaded.
SLOW = {
    f"mlx-tools-server doctor --fast --model-path {BIG}",
    f"mlx-tools-server doctor --model-path {BIG}",
    "mlx-tools-server doctor --model-path ~/models/Qwen3-Coder",
    "mlx-tools-server doctor --model-path ~/models/NAME",
    f"mlx-tools-server doctor --self-check --model-path {BIG}",
    "mlx-tools-server doctor --self-check --model-path ~/models/Qwen3-Coder",
    "mlx-tools-server cache stats",
    "mlx-tools-server cache ls",
    "mlx-tools-server cache verify",
    "mlx-tools-server cache purge",
    "python -m pytest -q tests/docs/toy_family",
    "python -m pytest -q tests/families -k kimi_k2",
    "python -m tools.check_templates ~/models/NAME",
}
# Started among the slow tests, asked whether they are well, and stopped.
SERVERS = {
    "python -m mlx_tools_server --model-path ~/models/Qwen3-Coder",
    f"mlx-tools-server --model-path {BIG} --context-length 32768 --sampling model",
    f"mlx-tools-server --model-path {BIG} --context-length 131072",
    f"mlx-tools-server --model-path {BIG} --port 8080 --memory-limit 24GB",
    "mlx-tools-server --model-path ~/models/Qwen3-4B-Instruct-2507-4bit --port 8081 "
    "--memory-limit 8GB --kv-dir ~/.cache/mlx-second",
}
# Asked of such a server.
ASKED = {
    "curl -fsS http://127.0.0.1:8080/health",
    "curl -fsS http://127.0.0.1:8080/metrics",
}
# Run among the slow tests with the wheel of this checkout in place of the release.
FROM_WHEEL = {
    "uvx mlx-tools-server demo",
    "uvx --from 'mlx-tools-server[cpu]' mlx-tools-server demo --once",
}

REGISTRY = "it fetches the release from PyPI; test_package.py installs the wheel of this checkout"
MAC = "it needs a Mac with Homebrew"
NETWORK = "it fetches from a registry or hub that is not there in tests"
SETTING = "it sets a variable of the reader's own shell"
GPU = "it needs an NVIDIA GPU"
DELETES = "it deletes what the reader installed"
MAKE = "it sets up .venv from PyPI; .ci/run runs it, and here make finds the target"

ELSEWHERE = {
    "make demo": MAKE,
    "make test": MAKE,
    "pip install mlx-tools-server": REGISTRY,
    "pip install 'mlx-tools-server[cpu]'": REGISTRY,
    "pip install 'mlx-tools-server[cuda]'": GPU,
    "brew install uv": MAC,
    "brew install python@3.13": MAC,
    "python3 -m venv ~/mlx-tools": REGISTRY,
    "python3.13 -m venv ~/mlx-tools": MAC,
    "~/mlx-tools/bin/pip install mlx-tools-server": REGISTRY,
    "~/mlx-tools/bin/pip install 'mlx-tools-server[cpu]'": REGISTRY,
    "~/mlx-tools/bin/pip install --upgrade mlx-tools-server": REGISTRY,
    "~/mlx-tools/bin/mlx-tools-server demo --once": "test_demo.py runs it, without the folder",
    "uv tool install mlx-tools-server": REGISTRY,
    "uv tool install 'mlx-tools-server[cpu]'": REGISTRY,
    "uv tool install 'mlx-tools-server[cuda]'": GPU,
    "uv tool upgrade mlx-tools-server": REGISTRY,
    "uv tool uninstall mlx-tools-server": DELETES,
    "rm -rf ~/mlx-tools": DELETES,
    "rm -rf ~/Library/Caches/mlx-tools-server ~/.cache/mlx-tools-server "
    "~/.config/mlx-tools-server": DELETES,
    f"uvx hf download mlx-community/{BIG.rpartition('/')[2]} --local-dir {BIG}": NETWORK,
    "npm install -g @anthropic-ai/claude-code": NETWORK,
    "claude --model local": "make clients runs it, against a server of this checkout",
    "nvidia-smi": GPU,
    'export PATH="$HOME/mlx-tools/bin:$PATH"': SETTING,
    "export ANTHROPIC_BASE_URL=http://127.0.0.1:8080": SETTING,
    "export ANTHROPIC_AUTH_TOKEN=local": SETTING,
    "export CLAUDE_CODE_MAX_CONTEXT_TOKENS=32768": SETTING,
    "export CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1": SETTING,
}

KNOWN = QUICK | SLOW | SERVERS | ASKED | FROM_WHEEL | set(ELSEWHERE)


def lines(path: Path) -> Iterator[str]:
    """Yield the commands of a page, without comments, each in one line."""
    for block in blocks(path, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            command = re.sub(r"(^|\s)#.*$", "", line)
            if command.strip():
                yield " ".join(command.split())


# What stands in front of our command where uvx, python or a path starts it.
_OURS = re.compile(
    r"^(?:\w+=\S+ +)*(?:uvx (?:--(?:from|python) (?:'[^']*'|\S+) +)*)?"
    r"(?:(?:\S*/)?mlx-tools-server|python -m mlx_tools_server)(?: +|$)"
)


def ours(command: str) -> list[str] | None:
    """Return the arguments that a command gives to our program; None if it is another's."""
    found = _OURS.match(command)
    if found is None:
        return None
    rest = shlex.split(command[found.end() :], comments=True)
    ends = [at for at, word in enumerate(rest) if word in ("|", ">", "&&", "&", ";")]
    return rest[: ends[0]] if ends else rest
