"""The files of the status page, as the server hands them out.

Rules of this folder:
- The page is static: no build, nothing from elsewhere, no data of this server in it. All that it
  shows, its script asks `/api/status` for.
- Its policy allows nothing but these files and this server: no inline script, no inline style.
- Scripts set texts, never markup, so nothing that a client or a model said can become markup.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    "img-src 'self' data:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
)
HEADERS = {
    "Content-Security-Policy": "; ".join(_POLICY),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # A newer server has a newer page.
    "Cache-Control": "no-cache",
}


@cache
def assets() -> dict[str, tuple[str, bytes]]:
    """Return all files by name, each with its media type."""
    found = {}
    for file in files(__name__).iterdir():
        _, dot, ending = file.name.rpartition(".")
        if kind := _KINDS.get(dot + ending):
            found[file.name] = (kind, file.read_bytes())
    return found


def asset(name: str) -> tuple[str, bytes] | None:
    """Return a file's media type and bytes; None if there is no such file."""
    return assets().get(name)
