"""Prove that a release can go out: versions, the built files, and the tests on the installed wheel.

Rules of this file:
- Each step says what is wrong and what to do; a step that failed lets the others go on, but for
  those that need what it makes. The exit code is 1 if any failed.
- What is tested is what users get: the wheel in an empty environment, with the tests of the source
  release beside it and the package's source nowhere near.
- Nothing is written outside a temporary folder, and nothing is uploaded.
- Run it with `python -m tools.release_check`; it needs `build` (the extra `release`) and PyPI.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from packaging.metadata import Metadata
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from mlx_tools_server import __version__

from .patches import VERSIONS

ROOT = Path(__file__).parents[1]
PACKAGE = "mlx_tools_server"
MAX_WHEEL = 8_000_000
# What a wheel must have, below the package or its metadata.
WANTED = (
    "py.typed",
    "demo_model/model.safetensors",
    "demo_model/tokenizer.json",
    "engine/scripted/model.py",
    "engine/scripted/merges.txt",
    *(f"chat_templates/{path.name}" for path in sorted((ROOT / "chat_templates").glob("*.jinja"))),
    *(
        path.relative_to(ROOT / PACKAGE).as_posix()
        for path in sorted((ROOT / PACKAGE / "page").rglob("*.*"))
        if "__pycache__" not in path.parts
    ),
)
# What none may have.
UNWANTED = re.compile(
    r"(^|/)(tests|tools|patches|docs|__pycache__|\.[^/]+_cache|build|dist)/|\.(pyc|log|sqlite3|diff)$"
)
MODEL = re.compile(r"\.(safetensors|gguf|bin|npz|pt)$")
# A look at each layer, in well under a minute.
QUICK = ("test_config.py", "test_cli.py", "test_templates.py", "test_turn.py", "kv", "dialects")


class Failure(Exception):
    """What is wrong, and what to do."""


@dataclass(slots=True)
class Check:
    """The state of one check: what is built, and what was found out."""

    folder: Path
    quick: bool
    files: dict[str, Path] = field(default_factory=dict)
    rows: list[tuple[str, str, str, float]] = field(default_factory=list)

    def do(self, name: str, step: Callable[[Check], str], *needs: str) -> None:
        """Take a step, if what it needs is there."""
        began = time.monotonic()
        if missing := [need for need in needs if need not in self.files]:
            state, told = "skipped", f"there is no {missing[0]}"
        else:
            print(f"{name} ...", flush=True)
            try:
                state, told = "ok", step(self)
            except Failure as failure:
                state, told = "failed", str(failure)
        self.rows.append((name, state, told, time.monotonic() - began))

    @property
    def failed(self) -> bool:
        """Whether any step did not come to a good end."""
        return any(state != "ok" for _, state, _, _ in self.rows)

    def table(self) -> str:
        """Return what was found, a step a line."""
        lines = []
        for name, state, told, seconds in self.rows:
            first, *more = told.splitlines() or [""]
            lines.append(f"{state:<8} {name:<12} {seconds:6.1f} s  {first}")
            lines += [f"{'':<32}{line}" for line in more]
        return "\n".join(lines)


# Steps.


def check_version(_: Check) -> str:
    """Compare the version with the changelog."""
    changelog = (ROOT / "CHANGELOG.md").read_text()
    if problem := version_problem(__version__, changelog):
        raise Failure(problem)
    return __version__


def check_ranges(_: Check) -> str:
    """Look whether all that name a range of mlx-lm name the same one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = next(one for one in project["dependencies"] if one.startswith("mlx-lm>"))
    places = [f"{PACKAGE}/engine/contract.py", "docs/upstream.md"]
    if other := [place for place in places if wanted not in (ROOT / place).read_text()]:
        raise Failure(f"{', '.join(other)} does not say {wanted}, which pyproject.toml asks for.")
    allowed = SpecifierSet(wanted.removeprefix("mlx-lm"))
    if outside := [one for one in VERSIONS if one not in allowed]:
        raise Failure(f"tools/patches.py has {outside[0]}, which is not {wanted}.")
    return f"{wanted}; patches for {', '.join(VERSIONS)}"


def build(check: Check) -> str:
    """Build the source release and the wheel, and look whether one makes the other."""
    for source, kind in ((ROOT, "--sdist"), (ROOT, "--wheel")):
        out = check.folder / kind.strip("-")
        run([sys.executable, "-m", "build", kind, "--outdir", str(out), str(source)], ROOT)
    sdist = next((check.folder / "sdist").glob("*.tar.gz"))
    wheel = next((check.folder / "wheel").glob("*.whl"))
    with tarfile.open(sdist) as archive:
        # Python 3.11.3 and before have none.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(check.folder / "source")
    source = next((check.folder / "source").iterdir())
    again = check.folder / "again"
    run([sys.executable, "-m", "build", "--wheel", "--outdir", str(again), str(source)], source)
    if differ := differences(contents(wheel), contents(next(again.glob("*.whl")))):
        raise Failure(f"The source release makes another wheel: {', '.join(differ[:5])}")
    check.files |= {"sdist": sdist, "wheel": wheel, "source": source}
    return f"{sdist.name} ({size(sdist)}), {wheel.name} ({size(wheel)}), the same from both"


def check_contents(check: Check) -> str:
    """Look at what is in the wheel and in the source release."""
    names = list(contents(check.files["wheel"]))
    problems = wheel_problems(names, check.files["wheel"].stat().st_size)
    needed = ("tests", "tools", "docs", "patches", "Makefile", "CHANGELOG.md", "LICENSE")
    problems += [
        f"{name} is not in the source release"
        for name in needed
        if not (check.files["source"] / name).exists()
    ]
    if problems:
        raise Failure("\n".join(problems))
    folders: dict[str, int] = {}
    for name in names:
        part = "/".join(name.split("/")[1:-1][:1]) or "."
        folders[part] = folders.get(part, 0) + 1
    listed = ", ".join(f"{name} {count}" for name, count in sorted(folders.items()))
    return f"{len(names)} files: {listed}"


def check_metadata(check: Check) -> str:
    """Read the wheel's metadata as an index does."""
    with zipfile.ZipFile(check.files["wheel"]) as archive:
        path = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        text = archive.read(path)
    try:
        found = Metadata.from_email(text, validate=True)
    except ExceptionGroup as errors:
        raise Failure("\n".join(map(str, errors.exceptions))) from errors
    wrong = [
        name
        for name, good in {
            "version": found.version == Version(__version__),
            "licence": bool(found.license_expression and found.license_files),
            "description": bool(found.description and found.summary),
            "type of the description": found.description_content_type == "text/markdown",
            "Python": bool(found.requires_python),
        }.items()
        if not good
    ]
    if wrong:
        raise Failure(f"The metadata has a wrong or no {', '.join(wrong)}.")
    return f"{found.name} {found.version}, {found.license_expression}, {found.requires_python}"


def install(check: Check) -> str:
    """Install the wheel, with what the tests need, into an empty environment."""
    environment = check.folder / "venv"
    run([sys.executable, "-m", "venv", str(environment)], check.folder)
    python = environment / "bin" / "python"
    extras = "metal" if sys.platform == "darwin" else "cpu"
    wanted = f"{check.files['wheel']}[{extras},test]"
    uv = shutil.which("uv")
    command = [uv, "pip", "install", "-p"] if uv else [str(python), "-m", "pip", "install"]
    run([*command, *([str(python)] if uv else []), "--quiet", wanted], check.folder)
    # The package's source goes: what is imported can only be what was installed.
    shutil.move(check.files["source"] / PACKAGE, check.folder / "moved")
    code = f"import {PACKAGE}; print({PACKAGE}.__file__)"
    where = run([str(python), "-c", code], check.files["source"]).strip()
    if not Path(where).is_relative_to(environment) or "site-packages" not in where:
        raise Failure(f"{PACKAGE} was imported from {where}, not from the environment.")
    check.files["python"] = python
    return where.removeprefix(f"{check.folder}/")


def check_commands(check: Check) -> str:
    """Run what a user runs first."""
    python, wheel = check.files["python"], check.files["wheel"]
    extra = "" if sys.platform == "darwin" else "[cpu]"
    commands = [
        [str(python.with_name("mlx-tools-server")), "--version"],
        [str(python), "-m", PACKAGE, "demo", "--once"],
    ]
    if uv := shutil.which("uv"):
        user = [uv, "tool", "run", "--isolated", "--from", f"{wheel}{extra}", "mlx-tools-server"]
        commands.append([*user, "--version"])
    for command in commands:
        told = run(command, check.folder)
        if "--version" in command and __version__ not in told:
            raise Failure(f"{' '.join(command)} says {told.strip()!r}, not {__version__}.")
    return "--version, demo --once" + (", uvx --version" if uv else " (uv is not there)")


def test(check: Check) -> str:
    """Run the tests on what is installed."""
    chosen = [f"tests/{name}" for name in QUICK] if check.quick else ["tests"]
    command = [str(check.files["python"]), "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile"]
    command += ["-p", "no:cacheprovider", "-m", "not slow and not real_model"]
    # The documents link to the package's source, which is out of reach here.
    command += ["--ignore", "tests/docs/test_links.py"]
    told = run([*command, *chosen], check.files["source"])
    return told.strip().splitlines()[-1].strip("= ")


# What they are made of.


def version_problem(version: str, changelog: str) -> str:
    """Return what is wrong with a version beside its changelog, "" if nothing is.

    A `.dev` version is described under "Unreleased", any other under a heading with its date.
    """
    found = re.search(r"^## (\S+)(?: - (\S+))?$", changelog, re.MULTILINE)
    if found is None:
        return 'CHANGELOG.md has no heading such as "## 1.2.3 - 2026-01-31".'
    heading, date = found[1].strip("[]"), found[2]
    if Version(version).is_devrelease:
        if heading == "Unreleased":
            return ""
        return (
            f'{version} is not released, but CHANGELOG.md begins with {heading}, not "Unreleased".'
        )
    if heading != version:
        return (
            f"The version is {version}, but CHANGELOG.md begins with {heading}. Name its newest "
            f'heading "## {version} - DATE", or make the version {version}.dev0.'
        )
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", date or ""):
        return f'CHANGELOG.md has no date for {version}: "## {version} - YYYY-MM-DD".'
    return ""


def wheel_problems(names: Sequence[str], nbytes: int, wanted: Iterable[str] = WANTED) -> list[str]:
    """Return what a wheel with these files lacks, and what it has that it should not."""
    problems = [
        f"{name} is not in the wheel" for name in wanted if f"{PACKAGE}/{name}" not in set(names)
    ]
    if not any(re.search(r"\.dist-info/licenses/LICENSE$", name) for name in names):
        problems.append("LICENSE is not in the wheel")
    for name in names:
        model = MODEL.search(name) and not name.startswith(f"{PACKAGE}/demo_model/")
        if model or UNWANTED.search(name):
            problems.append(f"{name} should not be in the wheel")
    if nbytes > MAX_WHEEL:
        problems.append(f"the wheel has {nbytes / 1e6:.1f} MB, {MAX_WHEEL / 1e6:.0f} are the most")
    return problems


def differences(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Return the files that are not the same in two wheels."""
    names = sorted(one.keys() | other.keys())
    return [name for name in names if one.get(name) != other.get(name)]


def contents(wheel: Path) -> dict[str, str]:
    """Return the digest of each file in a wheel, but of the list of digests."""
    with zipfile.ZipFile(wheel) as archive:
        return {
            name: hashlib.sha256(archive.read(name)).hexdigest()
            for name in archive.namelist()
            if not name.endswith((".dist-info/RECORD", "/"))
        }


def size(path: Path) -> str:
    """Return the size of a file for people."""
    return f"{path.stat().st_size / 1e6:.2f} MB"


def run(command: Sequence[str], folder: Path) -> str:
    """Run a command and return what it said; raise Failure with the end of it if it failed."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command,
        cwd=folder,
        env=clean,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        last = "\n".join(done.stdout.strip().splitlines()[-25:])
        raise Failure(f"{' '.join(command)} ended with {done.returncode}:\n{last}")
    return done.stdout


def main() -> int:
    """Check all, and print what was found."""
    parser = argparse.ArgumentParser(prog="release_check", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="run only some of the tests")
    with tempfile.TemporaryDirectory() as folder:
        check = Check(Path(folder).resolve(), parser.parse_args().quick)
        check.do("version", check_version)
        check.do("mlx-lm", check_ranges)
        check.do("build", build)
        check.do("contents", check_contents, "wheel")
        check.do("metadata", check_metadata, "wheel")
        check.do("install", install, "wheel")
        check.do("commands", check_commands, "python")
        check.do("tests", test, "python")
    print(f"\n{check.table()}")
    return 1 if check.failed else 0


if __name__ == "__main__":
    sys.exit(main())
