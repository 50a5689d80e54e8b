"""The files that make the server a service, and the page that installs them."""

from __future__ import annotations

import os
import plistlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlx_tools_server.config import FLAGS, OPTIONS, ServerConfig
from mlx_tools_server.flags import load_config

from .http.live import process

ROOT = Path(__file__).parents[1]
PLIST = ROOT / "service" / "com.mlx-tools-server.plist"
UNIT = ROOT / "service" / "mlx-tools-server.service"
PAGE = ROOT / "docs" / "service.md"
# Seconds that ending takes at most behind the answers: goodbyes, and writing the KV cache.
ENDING = 15

KEYS: dict[str, type] = {
    "Label": str,
    "ProgramArguments": list,
    "RunAtLoad": bool,
    "KeepAlive": dict,
    "ThrottleInterval": int,
    "ExitTimeOut": int,
    "ProcessType": str,
    "Umask": int,
    "SoftResourceLimits": dict,
    "StandardOutPath": str,
    "StandardErrorPath": str,
}


def agent() -> dict[str, Any]:
    """Return what launchd reads."""
    read: dict[str, Any] = plistlib.loads(PLIST.read_bytes())
    return read


def unit(text: str) -> dict[str, dict[str, str]]:
    """Return the sections of a unit, read strictly: no doubled key, no line of another kind."""
    sections: dict[str, dict[str, str]] = {}
    section: dict[str, str] = {}
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        if head := re.fullmatch(r"\[([A-Z]\w+)\]", line):
            section = sections.setdefault(head[1], {})
            continue
        pair = re.fullmatch(r"([A-Z]\w+)=(\S.*\S|\S)", line)
        assert pair, line
        assert pair[1] not in section, line
        section[pair[1]] = pair[2]
    return sections


def commands() -> dict[str, list[str]]:
    """Return the command of each file."""
    service = unit(UNIT.read_text("utf-8"))["Service"]
    return {
        "launchd": agent()["ProgramArguments"],
        "systemd": shlex.split(service["ExecStart"]),
    }


@pytest.mark.parametrize("system", ["launchd", "systemd"])
def test_command(system: str, tmp_path: Path) -> None:
    """The command is the program by its whole path, and our command line takes its flags."""
    program, *arguments = commands()[system]
    settings = tmp_path / "config.toml"
    settings.write_text('model = "x"\n')
    there = [str(settings) if each.endswith("config.toml") else each for each in arguments]

    config = load_config(there, {})

    assert program.startswith(("/Users/YOU/", "%h/"))
    assert program.endswith("/mlx-tools-server")
    assert [each for each in arguments if each.startswith("--")] == [
        each for each in arguments if each in (*FLAGS, "--config")
    ]
    assert config.model == "x"


def test_launch_agent() -> None:
    """Launchd gets keys that it knows, starts the server with its user, and again if it fails."""
    read = agent()

    assert {key: type(value) for key, value in read.items()} == KEYS
    assert f"{read['Label']}.plist" == PLIST.name
    assert read["RunAtLoad"] is True
    assert read["KeepAlive"] == {"SuccessfulExit": False}
    assert read["Umask"] == 0o077
    assert read["SoftResourceLimits"]["NumberOfFiles"] > ServerConfig().max_connections
    assert all(read[key].startswith("/Users/YOU/Library/Logs/") for key in read if "Path" in key)


@pytest.mark.parametrize("system", ["launchd", "systemd"])
def test_time_to_stop(system: str) -> None:
    """The system waits longer for the end than answers may go on and the KV cache takes."""
    command = commands()[system]
    drain = float(command[command.index("--drain-seconds") + 1])
    service = unit(UNIT.read_text("utf-8"))["Service"]
    stop = {"launchd": agent()["ExitTimeOut"], "systemd": int(service["TimeoutStopSec"])}

    assert drain + ENDING < stop[system]


def test_unit() -> None:
    """The unit starts again what fails, but not a wrong setting, and knows only its own places."""
    sections = unit(UNIT.read_text("utf-8"))
    service = sections["Service"]

    assert set(sections) == {"Unit", "Service", "Install"}
    assert service["Restart"] == "on-failure"
    assert service["RestartPreventExitStatus"] == "2"
    assert set(re.findall(r"%.", UNIT.read_text("utf-8").split("[Service]")[1])) == {
        "%h",
        "%E",
        "%C",
    }
    assert "MemoryDenyWriteExecute" not in service
    assert "NoExecPaths" not in service


def machine_wide(unit_text: str) -> str:
    """Return the unit with what the page puts beside it for a whole machine."""
    page = PAGE.read_text("utf-8")
    (beside,) = re.findall(r"```ini\n(.*?)```", page, re.DOTALL)
    return f"{unit_text}\n{beside}"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
@pytest.mark.parametrize("scope", ["--user", "--system"])
def test_systemd_takes_the_unit(scope: str, tmp_path: Path) -> None:
    """Systemd itself has nothing to say about the unit, for a user and for the machine."""
    text = UNIT.read_text("utf-8")
    text = text if scope == "--user" else machine_wide(text)
    copy = tmp_path / UNIT.name
    copy.write_text(re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={sys.executable}", text))

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", scope, str(copy)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
    )

    about = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert (about, done.returncode) == ([], 0)


def test_page() -> None:
    """The page names files, options and settings that there are."""
    page = PAGE.read_text("utf-8")
    tables = [*re.findall(r"```toml\n(.*?)```", page, re.DOTALL)]
    tables += re.findall(r"<<'END'\n(.*?)END", page, re.DOTALL)
    ours = re.findall(r"mlx-tools-server (--.*)", page)

    assert len(tables) == 3
    for table in tables:
        assert set(tomllib.loads(table)) <= set(OPTIONS)
    for flag in re.findall(r"--[a-z-]+", " ".join(ours)):
        assert flag in (*FLAGS, "--config", "--print-config", "--help"), flag
    for path in re.findall(r"\]\(\.\./(.*?)\)", page):
        assert (ROOT / path).is_file()


@pytest.mark.mlx
@pytest.mark.slow
@pytest.mark.parametrize("system", ["launchd", "systemd"])
def test_command_serves(system: str, tmp_path: Path) -> None:
    """The command, with places of a test, serves, and SIGTERM ends it with success."""
    settings = tmp_path / "config.toml"
    settings.write_text('demo = true\nport = 0\nlog_level = "WARNING"\n')
    _, *arguments = commands()[system]
    arguments = [str(settings) if each.endswith(".toml") else each for each in arguments]
    arguments = [each.replace("%C", str(tmp_path)) for each in arguments]

    command = [sys.executable, "-m", "mlx_tools_server", *arguments]
    with process(command, tmp_path, {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}) as live:
        assert httpx.get(f"{live.url}/health").json()["status"] == "ok"
        live.process.send_signal(signal.SIGTERM)
        assert live.process.wait(30) == 0
