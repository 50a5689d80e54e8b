"""The patches for mlx-lm as files: what each changes, and how much.

Rules of this file:
- A patch is a bare diff; it is read here and judged elsewhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "patches"
# A maintainer reads this many changed lines in two minutes.
LINES = 45
# One is a feature, and larger.
LARGE = {"011": 170}


class Failure(Exception):
    """Something that isn't as a patch has to be."""


@dataclass(frozen=True, slots=True)
class Part:
    """What a patch changes in one file."""

    path: str
    text: str

    @property
    def added(self) -> int:
        return sum(line.startswith("+") for line in self.text.splitlines()[2:])

    @property
    def removed(self) -> int:
        return sum(line.startswith("-") for line in self.text.splitlines()[2:])

    @property
    def changed(self) -> int:
        """Return how many lines are not as before; a line that was replaced counts once."""
        count = added = removed = 0
        for line in [*self.text.splitlines()[2:], " "]:
            if line.startswith("+"):
                added += 1
            elif line.startswith("-"):
                removed += 1
            else:
                count += max(added, removed)
                added = removed = 0
        return count


@dataclass(frozen=True, slots=True)
class Patch:
    """One diff of the folder, by file."""

    path: Path
    parts: tuple[Part, ...]

    @property
    def number(self) -> str:
        return self.path.stem.split("-")[0]

    @property
    def source(self) -> list[Part]:
        return [part for part in self.parts if not part.path.startswith("tests/")]

    @property
    def tests(self) -> list[Part]:
        return [part for part in self.parts if part.path.startswith("tests/")]

    @property
    def lines(self) -> int:
        """Return how many lines of the source change."""
        return sum(part.changed for part in self.source)

    @property
    def limit(self) -> int:
        return LARGE.get(self.number, LINES)


def read(path: Path) -> Patch:
    """Read a diff into its files."""
    text = path.read_text()
    parts = []
    for chunk in re.split(r"^(?=--- )", text, flags=re.MULTILINE)[1:]:
        named = re.match(r"--- (?:a/\S+|/dev/null).*\n\+\+\+ b/(\S+).*\n", chunk)
        if named is None:
            raise Failure(f"{path.name}: {chunk.splitlines()[0]!r} begins no file")
        body = re.split(r"^(?:diff |index )", chunk, flags=re.MULTILINE)[0]
        parts.append(Part(named[1], body))
    return Patch(path, tuple(parts))


def all_patches(folder: Path = FOLDER) -> list[Patch]:
    """Return the patches in the order of their numbers."""
    return [read(path) for path in sorted(folder.glob("[0-9][0-9][0-9]-*.diff"))]
