"""The clients that are programs: where each comes from, its settings, its tools, how it is started.

Rules of this file:
- It is a table. `@URL`, `@HOME`, `@FOLDER`, `@PROMPT`, `@CHECKOUT` and `@MODEL` are filled in for a
  run; a settings file that isn't text is written as JSON.
- Versions are pinned here and nowhere else. What a client needs is stated here, as its page says.
- Each client keeps to a home of its own, asks nobody but the server, and reports to no one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from .task import AFTER, BEFORE, FILE, NEW, OLD, Call

NODE = "node@22.23.3"
MODEL = "scripted"


@dataclass(frozen=True)
class Client:
    """A client, one of the ways in which it can speak to the server."""

    name: str
    version: str
    dialect: str
    command: tuple[str, ...]
    # What is run once before, for a client that writes its settings itself.
    before: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    npm: str = ""
    pip: str = ""
    # The variable that says where its checkout is, for what is on no registry.
    checkout: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    files: dict[str, Any] = field(default_factory=dict)
    # What a user types into the client's terminal, one line after another; nothing: no terminal.
    typed: tuple[str, ...] = ()
    # A prompt of its own, for a client without tools.
    answers: tuple[str, ...] = ()


# Claude Code and what stands between it and the server.

_CLAUDE_TOOLS = (
    Call("Read", {"file_path": "@FILE"}),
    Call("Edit", {"file_path": "@FILE", "old_string": "@OLD", "new_string": "@NEW"}),
    Call("Bash", {"command": "@COMMAND", "description": "Copy the file"}),
)
_CLAUDE_ENV = {
    "ANTHROPIC_AUTH_TOKEN": "local",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "IS_SANDBOX": "1",
}
_CLAUDE_FLAGS = ("-p", "@PROMPT", "--output-format", "json", "--dangerously-skip-permissions")
_CLAUDE_CODE = Client(
    name="Claude Code",
    version="2.1.330",
    dialect="messages",
    npm="@anthropic-ai/claude-code",
    command=("claude", *_CLAUDE_FLAGS, "--model", "@MODEL"),
    calls=_CLAUDE_TOOLS,
    environment={
        **_CLAUDE_ENV,
        "ANTHROPIC_BASE_URL": "@URL",
        "CLAUDE_CODE_MAX_CONTEXT_TOKENS": "65536",
    },
)
_CLAUDE_BUSY = replace(
    _CLAUDE_CODE,
    name="Claude Code, tool search and subagent",
    calls=(
        _CLAUDE_TOOLS[0],
        Call("ToolSearch", {"query": "select:CronList,Monitor", "max_results": "5"}),
        Call("CronList", {}),
        Call(
            "Agent",
            {
                "description": "Look around",
                "prompt": "Say that all is well.",
                "subagent_type": "Explore",
            },
        ),
        *_CLAUDE_TOOLS[1:],
    ),
)
_CLAUDE_TERMINAL = replace(
    _CLAUDE_CODE,
    name="Claude Code, interactive, /context and /compact",
    command=("claude", "--model", "@MODEL", "--dangerously-skip-permissions", "@PROMPT"),
    typed=("/context", "/compact", "/exit"),
    # Nonessential traffic is what its title requests are; the host that it would ask is the server.
    environment={
        key: value
        for key, value in _CLAUDE_CODE.environment.items()
        if key != "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"
    },
    files={
        ".claude.json": {
            "hasCompletedOnboarding": True,
            "projects": {"@FOLDER": {"hasTrustDialogAccepted": True}},
        },
        ".claude/settings.json": {"skipDangerousModePermissionPrompt": True},
    },
)
_ANYCLAUDE_LOCAL = Client(
    name="anyclaude-local",
    version="2.2.0 (256cc18), Claude Code 2.1.330",
    dialect="chat",
    npm="@anthropic-ai/claude-code@2.1.330",
    checkout="ANYCLAUDE_LOCAL",
    command=(
        *("node", "@CHECKOUT/dist/main-cli.js", *_CLAUDE_FLAGS),
        *("--model", "claude-sonnet-4-5"),
    ),
    calls=_CLAUDE_TOOLS,
    environment={
        **_CLAUDE_ENV,
        "ANYCLAUDE_MODE": "local",
        "ANYCLAUDE_SKIP_SETUP_CHECK": "1",
        "ANYCLAUDE_PORT": "@PORT",
        "LOCAL_URL": "@URL/v1",
        "LOCAL_API_KEY": "local",
        "LOCAL_MODEL": "@MODEL",
    },
)
_ANYCLAUDE = Client(
    name="coder/anyclaude",
    version="1.2.1 (e7d360d), Claude Code 1.0.77",
    dialect="responses",
    npm="@anthropic-ai/claude-code@1.0.77",
    checkout="ANYCLAUDE_CODER",
    command=("node", "@CHECKOUT/dist/main.js", *_CLAUDE_FLAGS, "--model", "openai/@MODEL"),
    calls=_CLAUDE_TOOLS,
    environment={
        **_CLAUDE_ENV,
        "ANTHROPIC_SMALL_FAST_MODEL": "openai/@MODEL",
        "OPENAI_API_KEY": "local",
        "OPENAI_API_URL": "@URL/v1",
    },
)

# The others, in the order of the alphabet.

_CLINE = Client(
    name="Cline",
    version="3.0.65",
    dialect="chat",
    npm="cline",
    before=(
        *("cline", "auth", "openai-compatible", "-k", "local", "-m", "@MODEL"),
        *("-b", "@URL/v1"),
    ),
    command=(
        *("cline", "-P", "openai-compatible", "-k", "local", "-m", "@MODEL"),
        *("--auto-approve", "true", "-t", "100", "@PROMPT"),
    ),
    calls=(
        Call("read_files", {"files": '[{"path": "@FILE"}]'}),
        Call("editor", {"path": "@FILE", "old_text": "@OLD", "new_text": "@NEW"}),
        Call("run_commands", {"commands": '["@COMMAND"]'}),
    ),
    environment={"CLINE_TELEMETRY_DISABLED": "1"},
)
_CODEX = Client(
    name="Codex",
    version="0.169.0",
    dialect="responses",
    npm="@openai/codex",
    command=(
        *("codex", "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"),
        "@PROMPT",
    ),
    calls=(
        Call("exec_command", {"cmd": f"cat {FILE}"}),
        Call("exec_command", {"cmd": f"sed 's/{OLD}/{NEW}/' {FILE} > new && mv new {FILE}"}),
        Call("exec_command", {"cmd": "@COMMAND"}),
    ),
    environment={"LOCAL_API_KEY": "local"},
    files={
        ".codex/config.toml": """\
model = "@MODEL"
model_provider = "mlx"
check_for_update_on_startup = false

[analytics]
enabled = false

[model_providers.mlx]
name = "mlx-tools-server"
base_url = "@URL/v1"
wire_api = "responses"
env_key = "LOCAL_API_KEY"
"""
    },
)
_CONTINUE = Client(
    name="Continue",
    version="1.5.47",
    dialect="chat",
    npm="@continuedev/cli",
    command=("cn", "--config", "@HOME/config.yaml", "--auto", "-p", "@PROMPT"),
    calls=(
        Call("Read", {"filepath": "@FILE"}),
        Call("Edit", {"file_path": "@FILE", "old_string": "@OLD", "new_string": "@NEW"}),
        Call("Bash", {"command": "@COMMAND"}),
    ),
    environment={"CONTINUE_TELEMETRY_ENABLED": "0"},
    files={
        "config.yaml": """\
name: local
version: 1.0.0
schema: v1
models:
  - name: mlx
    provider: openai
    model: @MODEL
    apiBase: @URL/v1
    apiKey: local
    roles: [chat]
    capabilities: [tool_use]
"""
    },
)
_OPENCODE = Client(
    name="OpenCode",
    version="1.18.33",
    dialect="chat",
    npm="opencode-ai",
    command=("opencode", "run", "-m", "mlx/@MODEL", "--auto", "@PROMPT"),
    calls=(
        Call("read", {"filePath": "@FILE"}),
        Call("edit", {"filePath": "@FILE", "oldString": "@OLD", "newString": "@NEW"}),
        Call("bash", {"command": "@COMMAND", "description": "Copies the file"}),
    ),
    environment={
        "OPENCODE_DISABLE_AUTOUPDATE": "1",
        "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
        "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
        "OPENCODE_DISABLE_MODELS_FETCH": "1",
    },
    files={
        ".config/opencode/opencode.json": {
            "$schema": "https://opencode.ai/config.json",
            "provider": {
                "mlx": {
                    "npm": "@ai-sdk/openai-compatible",
                    "name": "mlx-tools-server",
                    "options": {"baseURL": "@URL/v1", "apiKey": "local"},
                    "models": {"@MODEL": {"limit": {"context": 65536, "output": 8192}}},
                }
            },
        }
    },
)
_PI = Client(
    name="pi",
    version="0.73.1",
    dialect="chat",
    npm="@mariozechner/pi-coding-agent",
    command=(
        *("pi", "--offline", "--provider", "mlx", "--model", "@MODEL", "--no-session"),
        *("-p", "@PROMPT"),
    ),
    calls=(
        Call("read", {"path": "@FILE"}),
        Call("edit", {"path": "@FILE", "edits": '[{"oldText": "@OLD", "newText": "@NEW"}]'}),
        Call("bash", {"command": "@COMMAND"}),
    ),
    environment={"PI_OFFLINE": "1"},
)
_PI_APIS = {
    "chat": ("openai-completions", "@URL/v1"),
    "responses": ("openai-responses", "@URL/v1"),
    "messages": ("anthropic-messages", "@URL"),
}
_QWEN = Client(
    name="Qwen Code",
    version="0.24.4",
    dialect="chat",
    npm="@qwen-code/qwen-code",
    command=(
        *("qwen", "--auth-type", "openai", "--openai-api-key", "local"),
        *("--openai-base-url", "@URL/v1", "-m", "@MODEL", "--yolo", "-p", "@PROMPT"),
    ),
    calls=(
        Call("read_file", {"file_path": "@FILE"}),
        Call("edit", {"file_path": "@FILE", "old_string": "@OLD", "new_string": "@NEW"}),
        Call("run_shell_command", {"command": "@COMMAND", "is_background": "false"}),
    ),
    environment={"OPENAI_API_KEY": "local"},
    files={
        ".qwen/settings.json": {
            "privacy": {"usageStatisticsEnabled": False},
            "general": {"enableAutoUpdate": False},
        }
    },
)
_AIDER = Client(
    name="aider",
    version="0.86.2",
    dialect="chat",
    pip="aider-chat",
    command=(
        *("aider", "--model", "openai/@MODEL", "--message", "@PROMPT", "--yes-always", "--no-git"),
        *("--no-check-update", "--analytics-disable", "--no-show-model-warnings"),
        # Aider has no tools: it runs this command after each edit, and tells when it fails.
        *("--auto-test", "--test-cmd", f"grep {NEW} {FILE} && @COMMAND", FILE),
    ),
    # The first edit misses, so that a command's failure comes back and a second turn is played.
    # Aider answers itself three times in between.
    answers=(
        f"{FILE}\n```\n{BEFORE.replace('Hello', 'Dear')}```",
        *("Ok.", "Ok.", "Ok."),
        f"{FILE}\n```\n{AFTER}```",
    ),
    environment={"OPENAI_API_BASE": "@URL/v1", "OPENAI_API_KEY": "local"},
    files={".aider/caches/model_prices_and_context_window.json": {"@MODEL": {}}},
)


def _pi(dialect: str) -> Client:
    api, url = _PI_APIS[dialect]
    provider = {"baseUrl": url, "api": api, "apiKey": "local", "models": [{"id": "@MODEL"}]}
    files = {".pi/agent/models.json": {"providers": {"mlx": provider}}}
    return replace(_PI, dialect=dialect, files=files)


def _qwen_responses() -> Client:
    command = tuple("openai-responses" if word == "openai" else word for word in _QWEN.command)
    return replace(_QWEN, dialect="responses", command=command)


CLIENTS = (
    _CLAUDE_CODE,
    _CLAUDE_BUSY,
    _CLAUDE_TERMINAL,
    _ANYCLAUDE_LOCAL,
    _ANYCLAUDE,
    _CODEX,
    _QWEN,
    _qwen_responses(),
    _OPENCODE,
    _CLINE,
    *map(_pi, _PI_APIS),
    _CONTINUE,
    _AIDER,
)
