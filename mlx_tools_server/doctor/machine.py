"""The machine: processor, system, Python, and the versions of the packages that count.

Rules of this file:
- mlx is not imported: what is installed is read from the packages' metadata.
- `Machine` is what was seen; the checks over it are pure, so that any machine can be tested.
"""

from __future__ import annotations

import contextlib
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from ..budgets import physical_memory, size, usable_memory
from .finding import Finding

# A test compares these with pyproject.toml; mlx-lm itself says which mlx it needs.
WANTED = {
    "mlx": "",
    "mlx-lm": ">=0.32.1,<0.33",
    "transformers": ">=5.7",
    "tokenizers": ">=0.21",
    "llguidance": ">=1.8,<2",
}
BACKENDS = {
    "mlx-metal": "Metal",
    "mlx-cuda-13": "CUDA 13",
    "mlx-cuda-12": "CUDA 12",
    "mlx-cpu": "CPU",
}
LEAST_MACOS = 14
# The part of a Mac's memory that its GPU may take unless told otherwise; of larger ones more.
GPU_SHARE, LARGE_GPU_SHARE, LARGE = 2 / 3, 3 / 4, 36 << 30


@dataclass(frozen=True, slots=True)
class Machine:
    """What there is; `usable` are the bytes that model and requests may take, about."""

    system: str
    release: str
    arch: str
    chip: str
    python: str
    translated: bool
    memory: int
    usable: int
    packages: Mapping[str, str] = field(default_factory=dict)

    @property
    def backend(self) -> str:
        """The backend that is installed beside mlx; "" if there is none."""
        return next((text for name, text in BACKENDS.items() if name in self.packages), "")

    def __str__(self) -> str:
        system = "macOS" if self.system == "Darwin" else self.system
        return f"{system} {self.release}, {self.arch}, {self.chip}, {size(self.memory)}"


def this_machine() -> Machine:
    """Look at this machine."""
    system = platform.system()
    mac = system == "Darwin"
    memory = physical_memory()
    return Machine(
        system=system,
        release=platform.mac_ver()[0] if mac else platform.release(),
        arch=platform.machine(),
        chip=_chip(mac),
        python=platform.python_version(),
        translated=mac and _sysctl("sysctl.proc_translated") == "1",
        memory=memory,
        usable=_usable_mac(memory) if mac else usable_memory(),
        packages=installed((*WANTED, *BACKENDS)),
    )


def installed(names: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of those packages that are there."""
    found = {}
    for name in names:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _chip(mac: bool) -> str:
    if mac:
        return _sysctl("machdep.cpu.brand_string") or "unknown processor"
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        if found := re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE):
            return found[1].strip()
    return platform.processor() or "unknown processor"


def _sysctl(name: str) -> str:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        told = subprocess.run(
            ["/usr/sbin/sysctl", "-n", name], capture_output=True, text=True, timeout=5, check=False
        )
        return told.stdout.strip()
    return ""


def _usable_mac(memory: int) -> int:
    limit = _sysctl("iogpu.wired_limit_mb")
    if limit.isdecimal() and int(limit):
        return int(limit) << 20
    return int(memory * (LARGE_GPU_SHARE if memory >= LARGE else GPU_SHARE))


# --- The checks ---------------------------------------------------------------------------------


def check_platform(machine: Machine) -> Finding:
    """Whether MLX runs on such a machine at all."""
    remedy = ""
    if machine.system not in ("Darwin", "Linux"):
        remedy = "Use a Mac with Apple Silicon, or Linux."
    elif machine.system == "Darwin" and not (machine.translated or machine.arch == "arm64"):
        remedy = "MLX has no version for Intel Macs; use a Mac with Apple Silicon, or Linux."
    elif machine.system == "Darwin" and _numbers(machine.release) < (LEAST_MACOS,):
        remedy = f"Update macOS to {LEAST_MACOS} or newer."
    return Finding("platform", "problem" if remedy else "ok", str(machine), remedy)


def check_python(machine: Machine) -> Finding:
    """Whether this Python is new enough and made for this processor."""
    seen = f"{machine.python}, {sys.implementation.name}"
    if machine.translated:
        seen += ", translated by Rosetta, where MLX can't use the GPU"
        remedy = "Install a Python for arm64 (python.org, Homebrew in /opt/homebrew, or uv)."
        return Finding("python", "problem", seen, remedy)
    if _numbers(machine.python) < (3, 11):
        return Finding("python", "problem", seen, "Install Python 3.11 or newer.")
    return Finding("python", "ok", seen)


def check_versions(
    machine: Machine, mlx_wanted: Callable[[], str] = lambda: mlx_range()
) -> Finding:
    """Whether the packages that count are there, in versions that fit."""
    wrong, missing = [], []
    for name, given in WANTED.items():
        wanted, found = given or mlx_wanted(), machine.packages.get(name)
        if found is None:
            missing.append(f"{name}{wanted}")
        elif not fits(found, wanted):
            wrong.append(f"{name}{wanted}")
    seen = ", ".join(f"{name} {machine.packages.get(name, 'missing')}" for name in WANTED)
    bad = [*missing, *wrong]
    remedy = f"pip install {' '.join(repr(each) for each in bad)}" if bad else ""
    versions = {name: machine.packages.get(name) for name in WANTED}
    return Finding("versions", "problem" if bad else "ok", seen, remedy, versions)


def check_backend(machine: Machine) -> Finding:
    """Which backend is installed, as far as that shows without loading it."""
    backend = machine.backend
    if not backend:
        extra = "" if machine.system == "Darwin" else "[cpu]"
        remedy = f"pip install --force-reinstall 'mlx-tools-server{extra}'"
        return Finding("backend", "problem", "none is installed", remedy)
    if backend == "CPU":
        seen = "CPU: it works, and is slow"
        return Finding("backend", "ok", seen, facts={"backend": backend})
    return Finding("backend", "ok", backend, facts={"backend": backend})


def mlx_range() -> str:
    """Return which mlx the installed mlx-lm needs; "" if it does not say."""
    with contextlib.suppress(PackageNotFoundError):
        for each in requires("mlx-lm") or ():
            if found := re.match(r"mlx\s*(?:\[[^\]]*\])?\s*([<>=!~][^;]*)", each):
                return found[1].strip()
    return ""


def fits(found: str, wanted: str) -> bool:
    """Return whether a version is in a range such as `>=1,<2`; unknown operators fit."""
    have = _numbers(found)
    for each in filter(None, wanted.replace(" ", "").split(",")):
        match = re.fullmatch(r"(>=|<)([\d.]+)", each)
        if match is None:
            continue
        bound = _numbers(match[2])
        width = max(len(have), len(bound))
        left, right = (part + (0,) * (width - len(part)) for part in (have, bound))
        if (left < right) if match[1] == ">=" else (left >= right):
            return False
    return True


def _numbers(text: str) -> tuple[int, ...]:
    match = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(map(int, match[0].split("."))) if match else ()
