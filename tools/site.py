"""A hook of MkDocs: links that leave the documents become the names of files in the repository.

Rules of this file:
- On the forge such links lead to the file; the site has no other files than the documents.
- Text in code is left as it is.
"""

from __future__ import annotations

import posixpath
import re
from typing import Any

FENCE = re.compile(r"^(```.*?^```$)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[([^\]]*)\]\((\.\./[^)\s#]*)[^)]*\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Return a page's text with its outward links written out."""
    return inward(markdown, page.file.src_uri)


def inward(markdown: str, place: str) -> str:
    """Return the text of the page at `place`, below the documents, without outward links."""
    folder = posixpath.join("docs", posixpath.dirname(place))

    def written(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link[2]))
        if target.startswith("docs/"):
            return link[0]
        text = link[1].strip("`")
        return f"`{target}`" if text in target else f"{text} (`{target}` in the repository)"

    parts = FENCE.split(markdown)
    # Every other part is a block of code.
    parts[::2] = [LINK.sub(written, part) for part in parts[::2]]
    return "".join(parts)
