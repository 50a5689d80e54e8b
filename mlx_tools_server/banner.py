"""What the server says when it is ready: what it serves, how it will parse it, how to connect.

Rules of this file:
- Text in, text out; whoever prints it decides where to.
- A line to paste works as it stands. A key is never shown: its variable is.
"""

from __future__ import annotations

import shlex

from .budgets import size
from .models import ModelInfo
from .sources import env_name


def banner(
    url: str,
    info: ModelInfo,
    *,
    family: str,
    why: str,
    template: str,
    context_length: int | None,
    api_key: bool = False,
    machines: int = 1,
) -> str:
    """The lines shown at start; `url` has no path, `api_key` says whether clients need one."""
    base = _base(url)
    facts = {
        "model": f"{info.name} ({_facts(info)})",
        "context": f"{context_length:,} tokens" if context_length else "not stated by the model",
        "tool calls": f"{family}: {why}",
        "template": template,
    }
    if machines > 1:
        facts["machines"] = f"{machines}, each with a part of the model; this one talks to clients"
    shown = base if base.startswith("unix:") else f"{base}/v1"
    clients = client_settings(url, api_key=api_key)
    return "\n".join(["", f"  {shown}", "", *_table(facts), "", *clients, ""])


def client_settings(url: str, *, api_key: bool = False) -> list[str]:
    """The lines to paste for each client; of a server that listens at `url`."""
    return _table(client_commands(url, api_key=api_key))


def client_commands(url: str, *, api_key: bool = False) -> dict[str, str]:
    """What to paste, by client."""
    base = _base(url)
    key = f'"${env_name("api_key")}"' if api_key else "local"
    clients = {
        "Claude Code": f"ANTHROPIC_BASE_URL={base} ANTHROPIC_AUTH_TOKEN={key} claude --model local",
        # It fails on what Claude Code sends for models that it knows to be newer.
        "anyclaude": f"ANYCLAUDE_MODE=local LOCAL_URL={base}/v1 LOCAL_API_KEY={key} anyclaude "
        "--model claude-sonnet-4-5",
        "OpenAI": f"OPENAI_BASE_URL={base}/v1 OPENAI_API_KEY={key}",
    }
    if base.startswith("unix:"):
        socket = shlex.quote(base.removeprefix("unix:"))
        clients = {"curl": f"curl --unix-socket {socket} http://localhost/v1/models"}
    return clients


def _base(url: str) -> str:
    return url.rstrip("/").removesuffix("/v1")


def _table(rows: dict[str, str]) -> list[str]:
    return [f"  {name:<12} {' '.join(text.split())}" for name, text in rows.items()]


def _facts(info: ModelInfo) -> str:
    facts = [info.architecture, size(info.size_bytes)]
    if info.quantization:
        facts.append(f"{info.quantization.bits}-bit")
    return ", ".join(facts)
