"""Prove the patches for mlx-lm: each one's tests fail without it, and pass with it.

Rules of this file:
- A release is fetched by name, or given by --sdist, and only its copy in a temporary folder is
  changed. Nothing is installed into this environment, and no test downloads a model.
- A patch is judged alone, on the unchanged release; that all of them together work is judged last.
- Everything that a patch has to be is in the table. What isn't so makes the exit code 1; a release
  that can't be fetched makes it 2.
- Run it with `python -m tools.patches`; it needs the test environment, and `patch`.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .diffs import Failure, Part, Patch, all_patches

# The release that the patches are made for comes last.
VERSIONS = ("0.32.1", "0.32.2")
FORMATTERS = ("black==25.1.0", "isort==6.0.0")
# Those of the release's tests that need neither a download nor Metal, and are about what the
# patches change. Of the same files, these load a checkpoint when they begin: TestServer,
# TestServerWithDraftModel, TestServerKVCacheQuantization, TestServerWithoutKVCacheQuantization,
# TestPromptCache, TestGenerate and TestTokenizers; TestUtils does it in some tests. test_models
# takes a minute, and some of it needs Metal.
EXISTING = (
    "test_server.TestTextStateMachine",
    "test_server.TestToolCallFormatter",
    "test_server.TestKeepalive",
    "test_server.TestLRUPromptCache",
    "test_server.TestMakeSampler",
    "test_server.TestModelSwapClearsCache",
    "test_server.TestGenerationThreadDeath",
    "test_tool_parsing.TestToolParsing",
    "test_sample_utils.TestSampleUtils",
    "test_utils.TestTrustRemoteCode",
)

# How long tests may take; one that waits for a dead server is ended by this.
SECONDS = 180

# A mail's head, or the words that its writer signs with.
MAIL = re.compile(
    r"^(?:From |From:|Subject:|Date:|Message-Id:|Signed-off-by:|Co-authored-by:)",
    re.IGNORECASE | re.MULTILINE,
)

# Run in the tree's own process: prints which of the named tests fail, and why.
RUN = """
import json, re, sys, unittest


def why(text):
    lines = text.strip().splitlines()
    return next((one for one in lines if re.match(r"[\\w.]*(Error|Exception)\\b", one)), lines[-1])


suite = unittest.defaultTestLoader.loadTestsFromNames(sys.argv[1:])
result = unittest.TestResult()
suite.run(result)
bad = {case.id(): why(text) for case, text in result.failures + result.errors}
print("\\n" + json.dumps({"ran": result.testsRun, "bad": bad}))
"""


class Unfetched(Exception):
    """A release that could not be had."""


@dataclass(slots=True)
class Row:
    """What was found out about a patch."""

    patch: Patch
    fails_before: str = ""
    passes_after: str = ""
    formatted: str = ""
    versions: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def fetch(version: str, folder: Path) -> Path:
    """Download the source of a release and return its file."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--no-binary", "mlx-lm", "--dest", str(folder), f"mlx-lm=={version}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = sorted(folder.glob(f"mlx_lm-{version}.tar.*"))
    if done.returncode or not found:
        raise Unfetched(f"mlx-lm {version} can't be downloaded: {done.stderr.strip()[-500:]}")
    return found[0]


def unpack(sdist: Path, into: Path) -> Path:
    """Unpack the source of a release and return its root."""
    with tarfile.open(sdist) as archive:
        # Python 3.11.3 and before have none.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(into)
    return next(path for path in into.iterdir() if (path / "mlx_lm").is_dir())


def version_of(sdist: Path) -> str:
    """Return which release a file holds."""
    named = re.match(r"mlx_lm-(.+)\.tar\.", sdist.name)
    if named is None:
        raise Unfetched(f"{sdist} is no source of a release of mlx-lm")
    return named[1]


def apply(parts: Iterable[Part], tree: Path, *, dry: bool = False) -> None:
    """Apply parts of a patch; raise Failure where they don't fit exactly."""
    # The options that GNU's and BSD's `patch` share; neither may ask or leave its own files.
    command = ["patch", "-p1", "-f", "-N", "-F", "0", *(["--dry-run"] if dry else [])]
    done = subprocess.run(
        command,
        input="".join(part.text for part in parts),
        capture_output=True,
        text=True,
        cwd=tree,
        check=False,
    )
    for left in [*tree.rglob("*.orig"), *tree.rglob("*.rej")]:
        left.unlink()
    if done.returncode:
        raise Failure(f"does not apply: {' '.join(done.stdout.split())}")


def merge(patch: Patch, base: Path, tree: Path) -> None:
    """Bring a patch's source into a tree that others have changed; raise Failure if they collide.

    `patch` itself would guess by the lines around a change; a merge does not.
    """
    with tempfile.TemporaryDirectory() as folder:
        alone = Path(folder) / "alone"
        shutil.copytree(base / "mlx_lm", alone / "mlx_lm")
        apply(patch.source, alone)
        for path in (part.path for part in patch.source):
            if not (base / path).is_file():
                shutil.copy(alone / path, tree / path)
                continue
            files = [str(root / path) for root in (tree, base, alone)]
            if subprocess.run(["git", "merge-file", "--quiet", *files], check=False).returncode:
                raise Failure(f"changes lines of {path} that an earlier patch changes")


def named_tests(tree: Path, parts: Iterable[Part]) -> dict[str, str]:
    """Return the tests of the files that these parts change: their code by unittest's name."""
    found = {}
    for path in (tree / part.path for part in parts):
        if not path.is_file():
            continue
        cases = [one for one in ast.parse(path.read_text()).body if isinstance(one, ast.ClassDef)]
        for case in cases:
            for one in case.body:
                if isinstance(one, ast.FunctionDef):
                    found[f"{path.stem}.{case.name}.{one.name}"] = ast.dump(one)
    return {name: code for name, code in found.items() if name.split(".")[-1].startswith("test")}


def run(tree: Path, names: Sequence[str], tests: Path | None = None) -> dict[str, str]:
    """Run these tests on a tree; return what each failure says by its name.

    They are the tree's own unless another folder of tests is given.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", RUN, *names],
            capture_output=True,
            text=True,
            cwd=tests or tree / "tests",
            env=os.environ | {"PYTHONPATH": str(tree), "HF_HUB_OFFLINE": "1"},
            timeout=SECONDS,
            check=False,
        )
        end = f"the process ended with {done.returncode}"
        if done.returncode == 0:
            bad: dict[str, str] = json.loads(done.stdout.splitlines()[-1])["bad"]
            return bad
    except subprocess.TimeoutExpired:
        end = f"hung for {SECONDS} seconds"
    if len(names) == 1:
        return {names[0]: end}
    # One of them ended the process: find out which.
    return {name: why for one in names for name, why in run(tree, [one], tests).items()}


class Formatter:
    """Upstream's formatters, in an environment of their own; without a folder they aren't run."""

    def __init__(self, folder: Path | None) -> None:
        self._bin = folder / "format" / "bin" if folder else None
        if not self._bin:
            return
        subprocess.run([sys.executable, "-m", "venv", self._bin.parent], check=True)
        command = [str(self._bin / "python"), "-m", "pip", "install", "--quiet", *FORMATTERS]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unfetched(f"no formatters (--no-format goes without): {done.stderr[-500:]}")

    def check(self, tree: Path, base: Path, paths: Sequence[str]) -> str:
        """Return "clean", or that nothing was checked; raise Failure for files that aren't.

        What the release's own file has to be changed in is not the patch's fault.
        """
        if not self._bin:
            return "not run"
        for command in ("black", "--quiet"), ("isort", "--profile=black"):
            for path in paths:
                if self._changes(command, tree, path) != self._changes(command, base, path):
                    raise Failure(f"{command[0]} would change {path}")
        return "clean"

    def _changes(self, command: tuple[str, ...], tree: Path, path: str) -> list[str]:
        """Return the lines that a formatter would remove or add."""
        if not self._bin or not (tree / path).is_file():
            return []
        program = [str(self._bin / command[0]), *command[1:], "--diff", path]
        done = subprocess.run(program, capture_output=True, text=True, cwd=tree, check=True)
        return [line for line in done.stdout.splitlines() if re.match(r"[+-](?![+-]{2})", line)]


def shape_problems(patch: Patch) -> list[str]:
    """Return what is wrong with a diff by its text alone."""
    text = patch.path.read_text()
    problems = []
    if not (patch.source and patch.tests):
        problems.append("needs both a change and a test")
    if patch.lines > patch.limit:
        problems.append(f"changes {patch.lines} lines, more than {patch.limit}")
    if MAIL.search(text):
        problems.append("has the headers of a mail")
    if re.search(r"^-# Copyright", text, re.MULTILINE):
        problems.append("changes a copyright line")
    if any("+++ b/" not in part.text or "\r" in part.text for part in patch.parts):
        problems.append("is no plain unified diff")
    return problems


class Proof:
    """Proves patches against one unpacked release."""

    def __init__(self, releases: dict[str, Path], folder: Path, formatter: Formatter) -> None:
        self._releases = releases
        self._base = releases[VERSIONS[-1]]
        self._folder = folder
        self._formatter = formatter

    def start(self) -> None:
        """Check that the existing tests pass on the unchanged release."""
        if bad := run(self._base, EXISTING):
            raise Failure(f"the release's own tests fail here: {bad}")

    def prove(self, patch: Patch) -> Row:
        """Find out everything about one patch."""
        row = Row(patch, problems=shape_problems(patch))
        tree = self._folder / patch.path.stem
        shutil.copytree(self._base, tree)
        try:
            self._prove(row, tree)
        except Failure as problem:
            row.problems.append(str(problem))
        for version, base in self._releases.items():
            try:
                apply(patch.parts, base, dry=True)
            except Failure as problem:
                row.problems.append(f"{version}: {problem}")
            else:
                row.versions.append(version)
        shutil.rmtree(tree)
        return row

    def _prove(self, row: Row, tree: Path) -> None:
        patch = row.patch
        new = self._add_tests(patch, tree)
        bad = run(tree, new)
        failing = [name for name in new if any(one.startswith(name) for one in bad)]
        row.fails_before = f"{len(failing)} of {len(new)}"
        for name in failing:
            why = next(why for one, why in bad.items() if one.startswith(name))
            print(f"  {patch.number} without it: {name.split('.')[-1]}: {why}", flush=True)
        if not failing:
            row.problems.append("no new test fails without it")
        apply(patch.source, tree)
        if bad := run(tree, [*new, *EXISTING]):
            row.problems.append(f"tests fail with it: {bad}")
        passing = [name for name in new if not any(one.startswith(name) for one in bad)]
        row.passes_after = f"{len(passing)} of {len(new)}"
        paths = [part.path for part in patch.parts]
        row.formatted = self._formatter.check(tree, self._base, paths)

    def _add_tests(self, patch: Patch, tree: Path) -> list[str]:
        """Apply the tests of a patch and return the names of those that are new or changed."""
        known = named_tests(tree, patch.tests)
        apply(patch.tests, tree)
        new = [
            name for name, code in named_tests(tree, patch.tests).items() if known.get(name) != code
        ]
        if not new:
            raise Failure("no new test")
        return new

    def merge_all(self, patches: Sequence[Patch], tree: Path) -> list[str]:
        """Leave a tree with all patches, but the release's own tests; return what goes wrong."""
        shutil.copytree(self._base, tree)
        problems = []
        for patch in patches:
            try:
                merge(patch, self._base, tree)
            except Failure as problem:
                problems.append(f"{patch.path.stem}, after those before it: {problem}")
        return problems

    def together(self, patches: Sequence[Patch]) -> list[str]:
        """Run the tests of each patch on a tree that has them all; return what goes wrong."""
        tree = self._folder / "together"
        if problems := self.merge_all(patches, tree):
            return problems
        if bad := run(tree, EXISTING):
            problems.append(f"all together: the release's own tests fail: {bad}")
        for patch in patches:
            alone = self._folder / f"tests-{patch.number}"
            shutil.copytree(self._base / "tests", alone / "tests")
            if bad := run(tree, self._add_tests(patch, alone), alone / "tests"):
                problems.append(f"all together: tests of {patch.path.stem} fail: {bad}")
        return problems


def table(rows: Iterable[Row]) -> str:
    """Return what was found out, a line for each patch."""
    head = ("patch", "lines", "test lines", "fails before", "passes after", "format", "applies to")
    lines = [head]
    for row in rows:
        tests = sum(part.changed for part in row.patch.tests)
        counts = (str(row.patch.lines), str(tests), row.fails_before, row.passes_after)
        lines.append((row.patch.path.stem, *counts, row.formatted, " ".join(row.versions)))
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def releases(folder: Path, sdists: Sequence[Path], versions: Sequence[str]) -> dict[str, Path]:
    """Fetch what isn't given and return the unpacked releases."""
    given = {version_of(path): path for path in sdists}
    found = {}
    for version in versions:
        into = folder / version
        into.mkdir(parents=True)
        found[version] = unpack(given.get(version) or fetch(version, into), into)
    return found


def prove_all(args: argparse.Namespace, folder: Path) -> int:
    """Print the table and return the exit code."""
    patches = [one for one in all_patches() if not args.only or one.number in args.only]
    if args.tree and args.tree.exists():
        raise Failure(f"{args.tree} is there already")
    if args.tree:
        base = releases(folder, args.sdist, VERSIONS[-1:])
        problems = Proof(base, folder, Formatter(None)).merge_all(patches, args.tree.resolve())
        rows = []
    else:
        proof = Proof(
            releases(folder, args.sdist, VERSIONS),
            folder,
            Formatter(None if args.no_format else folder),
        )
        proof.start()
        rows = [proof.prove(patch) for patch in patches]
        problems = [f"{row.patch.path.stem}: {one}" for row in rows for one in row.problems]
        print(table(rows), flush=True)
        if not problems:
            problems += proof.together(patches)
            print(
                "" if problems else "They merge in this order, and all their tests pass together."
            )
    for problem in problems:
        print(f"NOT SO: {problem}")
    return 1 if problems else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Prove the patches, or leave a tree that has them all."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.patches", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "--sdist", type=Path, action="append", default=[], help="a release that is here already"
    )
    parser.add_argument("--only", action="append", help="the number of a patch; may be given again")
    parser.add_argument("--tree", type=Path, help="only leave a tree with all patches applied here")
    parser.add_argument("--no-format", action="store_true", help="don't install the formatters")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        try:
            return prove_all(args, Path(folder))
        except Unfetched as problem:
            print(problem, file=sys.stderr)
            return 2
        except Failure as problem:
            print(problem, file=sys.stderr)
            return 1


if __name__ == "__main__":
    sys.exit(main())
