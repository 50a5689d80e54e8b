"""Machines and packages: what runs, what does not, and what is said about it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from mlx_tools_server.doctor.finding import CHECKS
from mlx_tools_server.doctor.machine import (
    WANTED,
    Machine,
    check_backend,
    check_platform,
    check_python,
    check_versions,
    fits,
    mlx_range,
    this_machine,
)

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "mlx": "0.32.4",
    "mlx-lm": "0.32.2",
    "transformers": "5.23.0",
    "tokenizers": "0.23.3",
    "llguidance": "1.9.1",
    "mlx-metal": "0.32.4",
}


def machine(**fields: object) -> Machine:
    values = {
        "system": "Darwin",
        "release": "15.1",
        "arch": "arm64",
        "chip": "Apple M3 Max",
        "python": "3.12.4",
        "translated": False,
        "memory": 64 << 30,
        "usable": 48 << 30,
        "packages": PACKAGES,
        **fields,
    }
    return Machine(**values)  # type: ignore[arg-type]


PLATFORMS = [
    pytest.param({}, "ok", "", id="a Mac"),
    pytest.param({"release": "13.6"}, "problem", "Update macOS to 14", id="an old macOS"),
    pytest.param({"arch": "x86_64"}, "problem", "no version for Intel", id="an Intel Mac"),
    pytest.param({"arch": "x86_64", "translated": True}, "ok", "", id="Rosetta on a good Mac"),
    pytest.param({"system": "Linux", "release": "6.8", "arch": "x86_64"}, "ok", "", id="Linux"),
    pytest.param({"system": "Windows"}, "problem", "Use a Mac", id="Windows"),
]


@pytest.mark.parametrize(("fields", "status", "remedy"), PLATFORMS)
def test_platforms(fields: dict[str, object], status: str, remedy: str) -> None:
    """Only machines that MLX runs on are let pass."""
    found = check_platform(machine(**fields))

    assert found.status == status
    assert remedy in found.remedy
    assert bool(found.remedy) == (status != "ok")


def test_rosetta() -> None:
    """A Python that Rosetta translates is the problem, and an arm64 one the remedy."""
    found = check_python(machine(arch="x86_64", translated=True))

    assert found.status == "problem"
    assert "Rosetta" in found.seen
    assert "arm64" in found.remedy


def test_old_python() -> None:
    """A Python that mlx-lm does not run on is named."""
    assert check_python(machine(python="3.10.14")).status == "problem"
    assert check_python(machine()).status == "ok"


@pytest.mark.parametrize(
    ("found", "wanted", "fit"),
    [
        ("0.32.1", ">=0.32.1,<0.33", True),
        ("0.32.1.dev3+abc", ">=0.32.1,<0.33", True),
        ("0.33", ">=0.32.1,<0.33", False),
        ("0.33.0", ">=0.32.1,<0.33", False),
        ("0.32", ">=0.32.1", False),
        ("5.7.0", ">=5.7", True),
        ("2", ">=1.8,<2", False),
        ("10.0", ">=9.1", True),
        ("1.0", "", True),
    ],
)
def test_ranges(found: str, wanted: str, fit: bool) -> None:
    """Versions are compared number by number, missing ones being zero."""
    assert fits(found, wanted) is fit


def test_ranges_are_those_of_the_package() -> None:
    """What the doctor wants is what pyproject.toml and mlx-lm ask for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    for name, wanted in WANTED.items():
        if wanted:
            assert f"{name}{wanted}" in project["dependencies"]
    assert mlx_range().startswith(">=0.")


def test_versions() -> None:
    """Packages that are missing or do not fit are named with what would fit, ready to paste."""
    good = check_versions(machine(), lambda: ">=0.32")
    bad = check_versions(
        machine(packages={**PACKAGES, "mlx-lm": "0.33.0", "mlx": "0.31"}), lambda: ">=0.32"
    )
    gone = check_versions(machine(packages={}), lambda: "")

    assert good.status == "ok"
    assert bad.status == "problem"
    assert bad.remedy == "pip install 'mlx>=0.32' 'mlx-lm>=0.32.1,<0.33'"
    assert gone.status == "problem"
    assert gone.facts["mlx"] is None


def test_backends() -> None:
    """An mlx without any backend, as pip leaves it on Linux, is a problem."""
    none = check_backend(machine(system="Linux", packages={"mlx": "0.32.4"}))

    assert check_backend(machine()).seen == "Metal"
    assert none.status == "problem"
    assert "[cpu]" in none.remedy


def test_here() -> None:
    """This machine is fit to run these tests."""
    here = this_machine()

    assert 0 < here.usable <= here.memory
    for found in (check_platform(here), check_python(here), check_versions(here)):
        assert found.status == "ok", found
        assert found.why == CHECKS[found.check][1]
