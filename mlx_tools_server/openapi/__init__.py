"""The server's own description, as OpenAPI 3.1: every route, what it reads and what it answers.

Rules of this folder:
- Pure: no I/O, no mlx. Bounds and names come from `wire` and the dialects.
- Each route is described once, under the path that its clients know; schemas are components.
"""

from __future__ import annotations

from .document import description

__all__ = ["description"]
