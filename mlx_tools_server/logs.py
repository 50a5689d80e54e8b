"""How the server logs: a line a fact, each with the request that it belongs to.

Rules of this file:
- The request's id is set in the thread that serves it; the generation loop serves many, and has
  none.
- A log that nobody asked to be verbose holds nothing of prompts and answers.
- Names that clients give can hold anything, so no message begins a line or moves a terminal.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from contextvars import ContextVar
from datetime import UTC, datetime

# The id of the request that this thread serves.
REQUEST: ContextVar[str] = ContextVar("request", default="-")

# What ends a line in some program or other, and what terminals take for orders.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


def set_up(level: str, form: str) -> None:
    """Log to stderr from now on, as `text` or as `json`, one object a line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Text())
    logging.basicConfig(level=level, handlers=[handler])


class _Text(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s [%(request)s] %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        record.request = REQUEST.get()
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:
        return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], super().formatMessage(record))


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "request": REQUEST.get(),
            "message": record.getMessage(),
        }
        # What a caller passes as `extra={"facts": {...}}` is for programs.
        line |= getattr(record, "facts", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)
