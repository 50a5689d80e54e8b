"""What the release check finds wrong, without building anything."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tools.release_check import (
    WANTED,
    Check,
    Failure,
    check_ranges,
    contents,
    differences,
    version_problem,
    wheel_problems,
)

VERSIONS = [
    ("1.2.0", "# Changelog\n\n## 1.2.0 - 2026-11-23\n\n## 1.1.0 - 2026-01-01\n", ""),
    ("1.2.0", "# Changelog\n\n## [1.2.0] - 2026-11-23\n", ""),
    ("1.3.0.dev0", "# Changelog\n\n## Unreleased\n\n## 1.2.0 - 2026-11-23\n", ""),
    ("1.2.0", "# Changelog\n\n## Unreleased\n", "begins with Unreleased"),
    ("1.2.0", "# Changelog\n\n## 1.1.0 - 2026-01-01\n", "begins with 1.1.0"),
    ("1.2.0", "# Changelog\n\n## 1.2.0\n", "no date"),
    ("1.2.0", "# Changelog\n\n## 1.2.0 - soon\n", "no date"),
    ("1.3.0.dev0", "# Changelog\n\n## 1.2.0 - 2026-11-23\n", "not released"),
    ("1.2.0", "# Changelog\n", "no heading"),
]


@pytest.mark.parametrize(("version", "changelog", "problem"), VERSIONS)
def test_version(version: str, changelog: str, problem: str) -> None:
    """A version stands over the changelog, and one in the making under Unreleased."""
    found = version_problem(version, changelog)

    assert problem in found
    assert bool(found) == bool(problem)


GOOD = [
    *(f"mlx_tools_server/{name}" for name in WANTED),
    "mlx_tools_server/cli.py",
    "mlx_tools_server-1.0.dist-info/licenses/LICENSE",
]
FILES = [
    ("as it should be", GOOD, 1_000_000, []),
    ("no marker", [n for n in GOOD if not n.endswith("py.typed")], 1, ["py.typed is not"]),
    ("no licence", [name for name in GOOD if "LICENSE" not in name], 1, ["LICENSE is not"]),
    ("tests", [*GOOD, "tests/test_cli.py"], 1, ["tests/test_cli.py should not"]),
    ("a cache", [*GOOD, "mlx_tools_server/__pycache__/cli.pyc"], 1, ["cli.pyc should not"]),
    ("a model", [*GOOD, "mlx_tools_server/big.safetensors"], 1, ["big.safetensors should not"]),
    ("too large", GOOD, 80_000_000, ["80.0 MB"]),
]


@pytest.mark.parametrize(
    ("names", "nbytes", "problems"), [case[1:] for case in FILES], ids=[case[0] for case in FILES]
)
def test_contents(names: list[str], nbytes: int, problems: list[str]) -> None:
    """What a wheel lacks and what it should not have is named."""
    found = wheel_problems(names, nbytes)

    assert len(found) == len(problems)
    assert all(part in problem for part, problem in zip(problems, found, strict=True))


def test_two_wheels(tmp_path: Path) -> None:
    """Wheels differ where a file has other bytes or is in one of them only."""
    made = []
    for name, text in (("one", "1"), ("other", "2")):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("same.py", "x")
            archive.writestr("changed.py", text)
            archive.writestr(f"{name}.py", "")
            archive.writestr("a.dist-info/RECORD", text)
        made.append(contents(tmp_path / name))

    assert differences(*made) == ["changed.py", "one.py", "other.py"]
    assert differences(made[0], made[0]) == []


def test_all_name_the_same_mlx_lm(tmp_path: Path) -> None:
    """The package, the hint at start, the documents and the patches name one range."""
    assert check_ranges(Check(tmp_path, quick=True)).startswith("mlx-lm>=")


def test_a_failed_step(tmp_path: Path) -> None:
    """The steps after a failed one are taken, but for those that need what it makes."""

    def fails(_: Check) -> str:
        raise Failure("broken\ndo this")

    check = Check(tmp_path, quick=True)
    check.do("build", fails)
    check.do("contents", lambda _: "never", "wheel")
    check.do("version", lambda _: "1.0")

    assert [row[1] for row in check.rows] == ["failed", "skipped", "ok"]
    assert check.failed
    assert "do this" in check.table()
