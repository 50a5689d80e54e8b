"""The site: it builds without a warning, and asks nobody for anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .markdown import DOCS, ROOT

pytestmark = pytest.mark.slow

# What a browser fetches by itself, from another host.
FETCHED = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*(?:src|href)=[\"']?(?:https?:)?//")


def test_builds(tmp_path: Path) -> None:
    """Every page is on the site, no link is broken, and nothing comes from elsewhere."""
    pytest.importorskip("material", reason="the `docs` extra is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

    built = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.html")}
    pages = (path.relative_to(DOCS).with_suffix(".html").as_posix() for path in DOCS.rglob("*.md"))
    assert {re.sub(r"README\.html$", "index.html", page) for page in pages} <= built
    assert not [page for page in built if FETCHED.search((tmp_path / page).read_text())]
