"""Where clients are installed: a cache folder outside of the repository, filled on demand.

Rules of this file:
- A package is installed once, by its exact version, and marked as whole when that has worked.
- What can't be installed raises `NotInstalled` with the reason, and is shown as such.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

SECONDS = 900


class NotInstalled(Exception):
    """Why a client is not here."""


def cache_folder() -> Path:
    """Return the folder that `CLIENTS_CACHE` names, or one in the user's cache."""
    named = os.environ.get("CLIENTS_CACHE")
    default = Path.home() / ".cache" / "mlx-tools-server-clients"
    return Path(named).absolute() if named else default


def npm(name: str, specs: tuple[str, ...], *, path: str = "", patient: bool = True) -> Path:
    """Return the folder of these npm packages; without patience, give up on a network at once."""
    folder = cache_folder() / "npm" / slug(name)
    if not (folder / "installed").exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund"]
        if not patient:
            command += ["--fetch-retries=0", "--fetch-timeout=10000", "--ignore-scripts"]
        _install([*command, *specs], {**os.environ, "PATH": path or os.environ["PATH"]})
        (folder / "installed").touch()
    return folder


def pip(spec: str) -> Path:
    """Return the folder of an environment with this PyPI package."""
    folder = cache_folder() / "pip" / slug(spec)
    if not (folder / "installed").exists():
        shutil.rmtree(folder, ignore_errors=True)
        _install([sys.executable, "-m", "venv", str(folder)], os.environ)
        python = str(folder / "bin" / "python")
        _install([python, "-m", "pip", "install", "--quiet", spec], os.environ)
        (folder / "installed").touch()
    return folder


def slug(text: str) -> str:
    """Return a name for a folder."""
    return "-".join(re.findall(r"[a-z0-9.]+", text.lower()))


def _install(command: list[str], environment: Mapping[str, str]) -> None:
    try:
        subprocess.run(
            command,
            env=environment,
            timeout=SECONDS,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
    except subprocess.CalledProcessError as error:
        lines = [line for line in str(error.stderr).splitlines() if "error" in line.lower()]
        raise NotInstalled(f"does not install: {'; '.join(lines[:2])}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalled(f"does not install: {error}") from None
