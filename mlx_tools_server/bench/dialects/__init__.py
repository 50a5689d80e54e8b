"""The dialects that a server may speak: how a request is written, and how its stream is read.

Rules of this folder:
- Nothing is asked or timed here: a reader is fed the lines of a stream, a writer returns a body.
- A server's mistake is an error of that answer, never an exception; what is missing is None.
"""

from __future__ import annotations

from collections.abc import Mapping

from . import chat, messages, responses
from .base import Delta, Dialect, Heard, Reader

DIALECTS: Mapping[str, Dialect] = {
    each.name: each for each in (chat.DIALECT, messages.DIALECT, responses.DIALECT)
}

__all__ = ["DIALECTS", "Delta", "Dialect", "Heard", "Reader"]
