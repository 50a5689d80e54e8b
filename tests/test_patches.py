"""The patches for mlx-lm: bare diffs with tests, small, and proven by the tool."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tools.diffs import FOLDER, Failure, Patch, all_patches, read
from tools.patches import apply, merge, named_tests, shape_problems

PATCHES = all_patches()
NAMES = [patch.path.stem for patch in PATCHES]

DIFF = """\
diff --git a/mlx_lm/a.py b/mlx_lm/a.py
index 1111111..2222222 100644
--- a/mlx_lm/a.py
+++ b/mlx_lm/a.py
@@ -1,3 +1,4 @@
 one
-two
+TWO
+and a half
 three
diff --git a/tests/test_a.py b/tests/test_a.py
--- a/tests/test_a.py
+++ b/tests/test_a.py
@@ -1,2 +1,4 @@
 class TestA:
     def test_one(self): pass
+
+    def test_two(self): pass
"""


@pytest.fixture
def patch(tmp_path: Path) -> Patch:
    """Return a patch of one source file and its test."""
    path = tmp_path / "001-a.diff"
    path.write_text(DIFF)
    return read(path)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a tree that the patch fits."""
    root = tmp_path / "tree"
    (root / "mlx_lm").mkdir(parents=True)
    (root / "tests").mkdir()
    (root / "mlx_lm" / "a.py").write_text("one\ntwo\nthree\n")
    (root / "tests" / "test_a.py").write_text("class TestA:\n    def test_one(self): pass\n")
    return root


def test_numbers() -> None:
    """The patches are numbered without a gap, and nothing else lies in their folder."""
    assert [patch.number for patch in PATCHES] == [f"{i + 1:03}" for i in range(len(PATCHES))]
    others = {path.name for path in FOLDER.iterdir()} - {patch.path.name for patch in PATCHES}
    assert others - {"__pycache__"} <= {"README.md", "bench_logprobs.py", "bench_prompt_trie.py"}


@pytest.mark.parametrize("patch", PATCHES, ids=NAMES)
def test_shape(patch: Patch) -> None:
    """Each patch is a bare diff of a small change and its tests."""
    assert shape_problems(patch) == []
    assert {part.path.split("/")[0] for part in patch.parts} == {"mlx_lm", "tests"}


@pytest.mark.parametrize(
    "head", ["From 1234 Mon Sep 17\n", "Subject: Fix it\n", "---\nDate: now\n"]
)
def test_mails_are_refused(patch: Patch, head: str) -> None:
    """What a person has to write is in no patch."""
    assert shape_problems(patch) == []
    patch.path.write_text(head + DIFF)
    assert shape_problems(patch) == ["has the headers of a mail"]


def test_large_ones_are_refused(patch: Patch) -> None:
    """A change that takes long to read is told."""
    more = "".join(f"+line {i}\n" for i in range(50))
    patch.path.write_text(DIFF.replace("+TWO\n", "+TWO\n" + more))
    assert shape_problems(read(patch.path)) == ["changes 52 lines, more than 45"]


def test_parts(patch: Patch) -> None:
    """A replaced line counts once."""
    assert [part.path for part in patch.source] == ["mlx_lm/a.py"]
    assert [part.path for part in patch.tests] == ["tests/test_a.py"]
    assert patch.lines == 2
    assert [(part.added, part.removed) for part in patch.parts] == [(2, 1), (2, 0)]


def test_applies_in_parts(patch: Patch, tree: Path) -> None:
    """The tests can be applied without the change."""
    apply(patch.tests, tree)
    assert set(named_tests(tree, patch.tests)) == {"test_a.TestA.test_one", "test_a.TestA.test_two"}
    assert (tree / "mlx_lm" / "a.py").read_text() == "one\ntwo\nthree\n"
    apply(patch.source, tree, dry=True)
    apply(patch.source, tree)
    assert (tree / "mlx_lm" / "a.py").read_text() == "one\nTWO\nand a half\nthree\n"
    with pytest.raises(Failure, match="does not apply"):
        apply(patch.source, tree)
    assert not [*tree.rglob("*.rej"), *tree.rglob("*.orig")]


def test_merge(patch: Patch, tree: Path, tmp_path: Path) -> None:
    """A patch goes beside another's change, but not over it."""
    other = tmp_path / "other"
    for folder in "mlx_lm", "tests":
        (other / folder).mkdir(parents=True)
    (other / "mlx_lm" / "a.py").write_text("one\n2\nthree\n")
    with pytest.raises(Failure, match="an earlier patch"):
        merge(patch, tree, other)
    (other / "mlx_lm" / "a.py").write_text("zero\n\none\ntwo\nthree\n")
    merge(patch, tree, other)
    assert (other / "mlx_lm" / "a.py").read_text() == "zero\n\none\nTWO\nand a half\nthree\n"


@pytest.mark.slow
@pytest.mark.mlx
def test_proof() -> None:
    """Each patch's tests fail without it and pass with it, alone and with all the others."""
    done = subprocess.run(
        [sys.executable, "-m", "tools.patches"],
        capture_output=True,
        text=True,
        cwd=FOLDER.parent,
        check=False,
    )
    if done.returncode == 2:
        pytest.skip(f"no release to be had: {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.mlx
def test_benchmark_runs(tmp_path: Path) -> None:
    """The benchmark of the trie runs on the installed release."""
    command = [sys.executable, str(FOLDER / "bench_prompt_trie.py"), "--tokens", "1000"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert "1000 cached tokens" in done.stdout


@pytest.mark.slow
@pytest.mark.mlx
def test_logprobs_benchmark_runs(tmp_path: Path) -> None:
    """The benchmark of the log probabilities has a line for each size of a batch."""
    small = ["--hidden=64", "--layers=1", "--steps=2", "--pairs=2", "--batch", "1", "2"]
    command = [sys.executable, str(FOLDER / "bench_logprobs.py"), *small]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()[2:]] == ["1", "2"]
