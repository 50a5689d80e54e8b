"""Which family a chat template belongs to."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlx_tools_server.families import FAMILIES, detect

FOLDERS = [Path(__file__).parents[1] / "data", Path(__file__).parents[2]]
NAMES = {family.name for family in FAMILIES}
TEMPLATES = [
    path
    for folder in FOLDERS
    for path in (folder / "chat_templates").glob("*.jinja")
    if path.stem in NAMES
]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_template(path: Path) -> None:
    """A family is known by its chat template, and by no other."""
    family, why = detect(path.read_text("utf-8"))

    assert family.name == path.stem
    assert "chat template" in why


def test_every_family_has_a_template() -> None:
    """There is a template to know each family by."""
    assert {path.stem for path in TEMPLATES} == NAMES


def test_thoughts() -> None:
    """A family that may think does so where its template shows thoughts."""
    hermes = "{{ '<tool_call>\\n{' }}"

    assert detect(hermes)[0].thinking is None
    assert detect(f"{hermes} </think>")[0].thinking is not None
