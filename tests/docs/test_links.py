"""Links: each leads to a file that is there, and to a heading of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.site import inward

from .markdown import DOCS, DOCUMENTS, ROOT, anchors, links, name


def broken(path: Path, link: str) -> bool:
    """Return whether a link of a document leads nowhere."""
    if re.match(r"[a-z]+:", link):
        return False
    place, _, anchor = link.partition("#")
    target = (path.parent / place).resolve() if place else path
    if not target.exists() or not target.is_relative_to(ROOT):
        return True
    return bool(anchor) and (target.suffix != ".md" or anchor not in anchors(target))


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_links(path: Path) -> None:
    """Each relative link leads to a file and a heading in this repository."""
    assert [link for link in links(path) if broken(path, link)] == []


def test_links_are_seen() -> None:
    """A link that leads nowhere is found."""
    index = DOCS / "index.md"
    assert not broken(index, "doctor.md#the-self-check")
    assert broken(index, "doctor.md#no-such-heading")
    assert broken(index, "no-such-file.md")
    assert broken(index, "../../outside.md")
    assert len(links(index)) > 10


def test_navigation() -> None:
    """Every page of docs/ stands in the navigation of the site, once."""
    listed = re.findall(r"^ +- ([\w/.-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    there = [path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")]

    assert sorted(listed) == sorted(there), "put the page into the `nav` of mkdocs.yml"


OUTWARD = {
    "a file of the repository": (
        "a.md",
        "See [the unit](../service/a.service).",
        "See the unit (`service/a.service` in the repository).",
    ),
    "its own name": ("how-to/a.md", "See [a.diff](../../patches/a.diff).", "See `patches/a.diff`."),
    "another page": ("how-to/a.md", "See [b](../b.md#c).", "See [b](../b.md#c)."),
    "in code": ("a.md", "```md\n[a](../a)\n```\n", "```md\n[a](../a)\n```\n"),
}


@pytest.mark.parametrize("case", OUTWARD)
def test_outward_links(case: str) -> None:
    """On the site, a link that leaves the documents is the name of the file."""
    place, text, expected = OUTWARD[case]

    assert inward(text, place) == expected
