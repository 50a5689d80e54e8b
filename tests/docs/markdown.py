"""The documents as the tests read them: links, headings and blocks of code.

Rules of this file:
- Markdown as the documents use it: fences at the start of a line, links in one line.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
# All that a person may read on the forge.
DOCUMENTS = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), ROOT / "patches" / "README.md"])

_FENCE = re.compile(r"^```(?P<kind>[^\n`]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)[^)]*\)")
_HEADING = re.compile(r"^#+ +(.*?)#*$", re.MULTILINE)


def name(path: Path) -> str:
    """Return how a document is called in the repository."""
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path, kind: str) -> list[str]:
    """Return the blocks of code of this kind, which may have words behind it."""
    found = _FENCE.finditer(path.read_text(encoding="utf-8"))
    return [one["text"] for one in found if one["kind"].split(" ")[0] == kind]


def prose(path: Path) -> str:
    """Return a document without its blocks of code."""
    return _FENCE.sub("", path.read_text(encoding="utf-8"))


def codes(path: Path) -> list[str]:
    """Return the pieces of code within the text."""
    return [one.replace("\\|", "|") for one in _CODE.findall(prose(path))]


def links(path: Path) -> list[str]:
    """Return where a document's links lead."""
    return _LINK.findall(_CODE.sub("", prose(path)))


def anchors(path: Path) -> set[str]:
    """Return the names of a document's headings, as forges and MkDocs make them."""
    heads = (
        re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", head) for head in _HEADING.findall(prose(path))
    )
    return {re.sub(r"[^\w\- ]", "", head.strip().lower()).replace(" ", "-") for head in heads}
