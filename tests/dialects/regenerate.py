"""Writes the golden files anew: `python -m tests.dialects.regenerate`. Then read what changed."""

from __future__ import annotations

import shutil

from .recordings import GOLDEN, RECORDINGS


def main() -> None:
    """Replace all golden files."""
    shutil.rmtree(GOLDEN, ignore_errors=True)
    for name, recording in RECORDINGS.items():
        for ending, content in recording.files.items():
            path = GOLDEN / f"{name}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


if __name__ == "__main__":
    main()
