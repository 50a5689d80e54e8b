"""The guide to a new family: its code is code that runs, and it is short."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .markdown import DOCS, blocks

GUIDE = DOCS / "adding-a-model-family.md"
TOY = Path(__file__).parent / "toy_family"
SHOWN = ("toy_call.py", "row.py", "test_toy_call.py")


@pytest.mark.parametrize("file", SHOWN)
def test_shown_code(file: str) -> None:
    """What the guide shows is the file that is tested, character by character."""
    assert blocks(GUIDE, "python")[SHOWN.index(file)] == (TOY / file).read_text()


def test_shown_diff() -> None:
    """What the guide shows of the family that was added stands in the package as it is shown."""
    root = DOCS.parent
    files = ("families/forms.py", "families/rows.py")
    texts = [(root / "mlx_tools_server" / file).read_text() for file in files]
    texts.append((root / "tests" / "families" / "cases" / "kimi_k2.py").read_text())

    for block, text in zip(blocks(GUIDE, "diff"), texts, strict=True):
        assert re.sub(r"^\+", "", block, flags=re.MULTILINE) in text


def test_length() -> None:
    """A family with its tests takes less than 100 lines, as the guide says."""
    lines = sum(len(path.read_text().splitlines()) for path in TOY.glob("*.py"))

    assert lines < 100
    assert f"in {lines} lines with its tests" in GUIDE.read_text()
    assert len(blocks(GUIDE, "python")) == len(SHOWN)
