"""A recording of real traffic: what `--record` wrote, read and played again.

Rules of this file:
- Each request is sent as it was recorded, to the route of its dialect; only the model's name, the
  wish for a stream and, if asked for, a word at the head of the system prompt are ours.
- Requests belong to a session; when they came is not played again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import StartupError
from .dialects import DIALECTS

# Where each dialect has its messages, and how it limits an answer.
MESSAGES = {"chat": "messages", "messages": "messages", "responses": "input"}
LIMITS = {"chat": "max_tokens", "messages": "max_tokens", "responses": "max_output_tokens"}


@dataclass(frozen=True, slots=True)
class Recorded:
    """A request; `parent` is the number of the one whose conversation it goes on with."""

    dialect: str
    session: str
    turn: int
    body: Mapping[str, Any]
    parent: int | None = None

    @property
    def label(self) -> str:
        """What the table calls it."""
        said = self.body.get(MESSAGES[self.dialect])
        return f"{len(said)} messages" if isinstance(said, list) else "text"


def read(path: str) -> list[Recorded]:
    """Return the requests of a recording in their order; raises StartupError if there are none."""
    try:
        lines = Path(path).expanduser().read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise StartupError(
            f"The recording {path} can't be read: {why}",
            "Make one with `mlx-tools-server --record FILE`.",
        ) from None
    found: list[Recorded] = []
    turns: Counter[str] = Counter()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        dialect, session, body = _line(path, number, line)
        turns[session] += 1
        parent = _parent(found, dialect, session, body)
        found.append(Recorded(dialect, session, turns[session], body, parent))
    if not found:
        raise StartupError(f"The recording {path} is empty", "Let a client ask the server first.")
    return found


def _line(path: str, number: int, line: str) -> tuple[str, str, Mapping[str, Any]]:
    try:
        entry = json.loads(line)
        route, session, body = entry["route"], entry["session"], entry["body"]
        dialect = next(each.name for each in DIALECTS.values() if each.path == route)
        if not isinstance(body, dict) or not isinstance(session, str):
            raise TypeError
    except (ValueError, KeyError, TypeError, StopIteration):
        raise StartupError(
            f"Line {number} of {path} is no recorded request",
            "Give a file that `mlx-tools-server --record FILE` wrote.",
        ) from None
    return dialect, session, body


def _parent(
    found: Sequence[Recorded], dialect: str, session: str, body: Mapping[str, Any]
) -> int | None:
    """Return which earlier request has the longest beginning of this one's messages."""
    said = body.get(MESSAGES[dialect])
    best, length = None, 0
    for number, other in enumerate(found):
        earlier = other.body.get(MESSAGES[dialect])
        if (other.session, other.dialect) != (session, dialect) or not isinstance(earlier, list):
            continue
        if isinstance(said, list) and length < len(earlier) and _begins(said, earlier):
            best, length = number, len(earlier)
    return best


def _begins(said: Sequence[Any], earlier: Sequence[Any]) -> bool:
    return len(earlier) < len(said) and list(said[: len(earlier)]) == earlier


def prepared(recorded: Recorded, model: str, max_tokens: int | None, nonce: str) -> dict[str, Any]:
    """Return the body to send."""
    name = recorded.dialect
    body = {**recorded.body, "model": model, "stream": True}
    if name == "chat":
        body["stream_options"] = {"include_usage": True}
    if max_tokens is not None:
        body.pop("max_completion_tokens", None)
        body[LIMITS[name]] = max_tokens
    return _marked(body, name, f"Session {nonce}.\n") if nonce else body


def _marked(body: dict[str, Any], dialect: str, mark: str) -> dict[str, Any]:
    """Return a body with a mark at the head of its system prompt, or else of its first message."""
    system, kind = DIALECTS[dialect].system, "input_text" if dialect == "responses" else "text"
    if system and body.get(system):
        return {**body, system: _headed(body[system], mark, kind)}
    where = MESSAGES[dialect]
    said = body.get(where)
    if isinstance(said, list) and said and isinstance(said[0], dict):
        first = {**said[0], "content": _headed(said[0].get("content") or "", mark, kind)}
        return {**body, where: [first, *said[1:]]}
    return {**body, where: mark + said} if isinstance(said, str) else body


def _headed(content: Any, mark: str, kind: str) -> Any:
    return mark + content if isinstance(content, str) else [{"type": kind, "text": mark}, *content]
