"""All checks in their order.

Rules of this file:
- With `fast`, neither mlx, mlx-lm nor transformers is imported, and nothing large is read.
- A check that breaks is a finding like any other: a person who asks for help gets the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ..banner import client_settings
from ..config import ServerConfig
from ..errors import StartupError
from ..families import ForeignFormat
from ..models import ModelInfo
from .finding import Finding
from .machine import (
    Machine,
    check_backend,
    check_platform,
    check_python,
    check_versions,
    this_machine,
)
from .memory import check_memory, layers_of
from .model import Foreign, Voice, check_calls, check_template, look
from .settings import Settings, check_access
from .surroundings import check_cache, check_files, check_port


@dataclass(frozen=True, slots=True)
class _Engine:
    """What only mlx and mlx-lm can tell."""

    findings: tuple[Finding, ...] = ()
    usable: int | None = None
    foreign: Foreign | None = None


def all_findings(settings: Settings, config: ServerConfig, *, fast: bool) -> list[Finding]:
    """Make every check; `config` names the model that would be served."""
    machine = this_machine()
    found = [
        *_guarded("platform", lambda: [check_platform(machine)]),
        *_guarded("python", lambda: [check_python(machine)]),
        *_guarded("versions", lambda: [check_versions(machine)]),
    ]
    installed = _guarded("backend", lambda: [check_backend(machine)])
    fit = all(one.status == "ok" for one in (*found, *installed))
    engine = _Engine(tuple(installed))
    if fit and not fast:
        engine = _look_inside(config)
    found += [*engine.findings, *settings.findings]
    found += _about_model(config, machine, engine)
    found += _guarded("cache", lambda: check_cache(config, fast=fast))
    found += _guarded("port", lambda: [check_port(config)])
    found += _guarded("access", lambda: check_access(settings))
    found += _guarded("files", lambda: [check_files(config)])
    found += _guarded("clients", lambda: [check_clients(config)])
    return found


def _about_model(config: ServerConfig, machine: Machine, engine: _Engine) -> list[Finding]:
    """Check the model's folder, and what follows from it."""
    info: list[ModelInfo] = []
    voices: list[Voice] = []

    def inspect() -> Iterable[Finding]:
        seen = look(config)
        yield from seen.findings
        if seen.info is not None:
            info.append(seen.info)
            yield check_memory(
                config, seen.info, layers_of(seen.config), engine.usable or machine.usable
            )

    def read() -> Iterable[Finding]:
        voice, finding = check_template(config, info[0], engine.foreign)
        yield finding
        if voice is not None:
            voices.append(voice)

    found = _guarded("model", inspect)
    if info:
        found += _guarded("template", read)
    if voices:
        found += _guarded("tool_calls", lambda: [check_calls(voices[0])])
    return found


def check_clients(config: ServerConfig) -> Finding:
    """Return the settings that clients need, as the banner has them."""
    port = config.port or ServerConfig().port
    host = f"[{config.host}]" if ":" in config.host else config.host
    url = f"unix:{config.uds}" if config.uds else f"http://{host}:{port}"
    lines = [line.strip() for line in client_settings(url, api_key=bool(config.keys))]
    return Finding("clients", "ok", "\n".join(lines), facts={"url": url, "settings": lines})


def _look_inside(config: ServerConfig) -> _Engine:
    """Import mlx and mlx-lm, and ask them."""
    try:
        # This takes seconds.
        from ..engine import diagnosis
    except Exception as error:  # noqa: BLE001  libraries that fail to load raise what they like
        seen = f"mlx or mlx-lm can't be imported: {type(error).__name__}: {error}"
        remedy = "pip install --force-reinstall mlx-tools-server, with [cpu] or [cuda] on Linux."
        return _Engine((Finding("backend", "problem", seen, remedy),))
    device = diagnosis.device()
    facts = {**device, "backend": device["kind"]}
    found = [Finding("backend", "ok", f"{device['kind']}, {device['name']}", facts=facts)]
    if device["kind"] == "CPU":
        found = [Finding("backend", "ok", "CPU: it works, and is slow", facts=facts)]
    try:
        diagnosis.check_contract()
        found.append(Finding("contract", "ok", "it is as this server expects it"))
    except StartupError as error:
        found.append(Finding("contract", "problem", error.problem, error.remedy))

    def foreign(folder: Path) -> ForeignFormat:
        return diagnosis.foreign_format(folder, trusted=config.trust_remote_code)

    return _Engine(tuple(found), diagnosis.machine_memory(), foreign)


def _guarded(check: str, make: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """Return what a check finds, or that it broke."""
    found: list[Finding] = []
    try:
        found.extend(make())
    except Exception as error:  # noqa: BLE001  files, templates and programs of others
        seen = f"this check broke: {type(error).__name__}: {error}"
        remedy = "Please report it, with the output of --json."
        found.append(Finding(check, "warning", seen, remedy))
    return found
