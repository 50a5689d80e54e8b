"""The settings: config file, environment and flags, and who they let in.

Rules of this file:
- A bad flag is the person's own mistake at this very moment, and raises. A bad file or variable is
  a finding, and the rest is checked without it.
- No key is ever shown.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import OPTIONS, ServerConfig, is_loopback, is_secret
from ..errors import StartupError
from ..options import expand_user, read_toml
from ..sources import CONFIG_ENV, ENV_PREFIX, env_name, find
from .finding import Finding

# Shorter keys can be guessed by whoever tries long enough.
LEAST_KEY = 16


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings that count; `refusal` is why the server would not take them."""

    config: ServerConfig
    findings: tuple[Finding, ...]
    key_files: tuple[str, ...] = ()
    refusal: StartupError | None = None


def read_settings(args: argparse.Namespace, env: Mapping[str, str]) -> Settings:
    """Return the settings and what is wrong with their sources; raises on a bad flag."""
    find(OPTIONS, args.given, {}, {})
    file, about_file = _read_file(args.config or env.get(CONFIG_ENV))
    good, about_env = _read_env(env)
    found = find(OPTIONS, args.given, good, file)
    config = ServerConfig(
        **{name: value for name, (_, value) in found.items()},
        sources={name: origin for name, (origin, _) in found.items()},
    )
    refusal = None
    try:
        ServerConfig.from_sources(args.given, good, file)
    except StartupError as error:
        refusal = error
    name = "api_key_file"
    given = (args.given.get("--api-key-file"), good.get(env_name(name)), file.get(name))
    return Settings(config, (about_file, about_env), tuple(filter(None, given)), refusal)


def _read_file(path: str | None) -> tuple[dict[str, Any], Finding]:
    if not path:
        return {}, Finding("config_file", "ok", "none is used")
    try:
        file = read_toml(path)
        find(OPTIONS, {}, {}, file)
    except StartupError as error:
        return {}, Finding("config_file", "problem", error.problem, error.remedy)
    return file, Finding("config_file", "ok", f"{path}: {', '.join(file) or 'nothing set'}")


def _read_env(env: Mapping[str, str]) -> tuple[dict[str, str], Finding]:
    ours = {name: env[name] for name in sorted(env) if name.startswith(ENV_PREFIX) and env[name]}
    good: dict[str, str] = {}
    bad: list[StartupError] = []
    for name, value in ours.items():
        try:
            find(OPTIONS, {}, {name: value}, {})
        except StartupError as error:
            bad.append(error)
        else:
            good[name] = value
    if bad:
        seen = "; ".join(error.problem for error in bad)
        return good, Finding("environment", "problem", seen, bad[0].remedy)
    shown = ", ".join(f"{name}={_shown(name, value)}" for name, value in ours.items())
    facts = {"variables": list(ours)}
    return good, Finding("environment", "ok", shown or "no MLX_TOOLS_ variable", facts=facts)


def _shown(variable: str, value: str) -> str:
    secret = any(env_name(name) == variable and is_secret(one) for name, one in OPTIONS.items())
    return "(not shown)" if secret else value


# --- Who is let in ------------------------------------------------------------------------------


def check_access(settings: Settings) -> list[Finding]:
    """Who can reach the server, and what they need."""
    config, refusal = settings.config, settings.refusal
    if refusal is not None:
        return [Finding("access", "problem", refusal.problem, refusal.remedy)]
    found = list(_doubts(settings))
    if found:
        return found
    if config.uds:
        seen = "a unix socket, for its owner alone"
    elif is_loopback(config.host):
        seen = f"{config.host}: this machine only"
    else:
        seen = f"{config.host}: other machines too"
    return [Finding("access", "ok", f"{seen}; {'with' if config.keys else 'without'} an API key")]


def _doubts(settings: Settings) -> list[Finding]:
    config, found = settings.config, []
    if "*" in config.allowed_origins:
        remedy = "Name the pages: --allowed-origins http://localhost:3000"
        seen = "--allowed-origins * lets every web page use the model"
        found.append(Finding("access", "warning", seen, remedy))
    if config.sources.get("api_key", "").startswith("--"):
        remedy = f"Set {env_name('api_key')}, or use --api-key-file."
        seen = "--api-key shows the key to whoever can list the processes of this machine"
        found.append(Finding("access", "warning", seen, remedy))
    reachable = not (config.uds or is_loopback(config.host))
    if reachable and any(len(key) < LEAST_KEY for key in config.keys):
        remedy = "Make one: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
        seen = f"a key has fewer than {LEAST_KEY} characters, and other machines may try"
        found.append(Finding("access", "warning", seen, remedy))
    for path in settings.key_files:
        if Path(expand_user(path)).stat().st_mode & 0o077:
            seen = f"others on this machine can read the keys in {path}"
            found.append(Finding("access", "warning", seen, f"chmod 600 {path}"))
    return found
