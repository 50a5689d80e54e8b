"""Token-exact history: what we generated is what we replay.

Rules of this file:
- An answer of the history is recognised by the ids of its calls, which are ours, or by its text
  and the conversation before it. It is replayed token by token if the client sent it back as it
  was; what the client really changed is rendered like any other message.
- What counts as unchanged: the same JSON, whatever its order and spacing; what `REWRITES` lists;
  text beside calls that was left out. Thoughts are never compared.
- What is remembered is as private as a transcript: in memory, or in a file that only its owner
  can read. A fault of that file is a forgotten answer, never a failed request.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import sqlite3
import threading
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .messages import Exact, Message, ToolSpec

log = logging.getLogger(__name__)

# Answers remembered, in bytes of their rows; the oldest go first.
LIMIT = 64 << 20
_TABLE = """
CREATE TABLE IF NOT EXISTS answers (
  number INTEGER PRIMARY KEY, key BLOB UNIQUE, row TEXT, ids BLOB, proof BLOB
)
"""
_SIZE = "SELECT coalesce(sum(length(ids) + length(row)), 0) FROM answers"


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A way in which a client changes the arguments of its own calls when it sends them back.

    `undo` takes the arguments that we sent, those that came back, and the tool's parameters; it
    returns the latter as they were before the client changed them.
    """

    client: str
    what: str
    undo: Callable[[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any]]


_CHANGE_FOLDER = re.compile(r"""cd ("[^"]*"|'[^']*'|[^\s;&|]+) && """)


def _restore_cd(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], _: Mapping[str, Any]
) -> Mapping[str, Any]:
    said = str(ours.get("command", ""))
    found = _CHANGE_FOLDER.match(said)
    if found is None or theirs.get("command") != said[found.end() :]:
        return theirs
    return {**theirs, "command": said}


def _drop_replace_all(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], _: Mapping[str, Any]
) -> Mapping[str, Any]:
    if "replace_all" in ours or theirs.get("replace_all") is not False:
        return theirs
    return {key: value for key, value in theirs.items() if key != "replace_all"}


def _drop_defaults(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], parameters: Mapping[str, Any]
) -> Mapping[str, Any]:
    properties = parameters.get("properties")
    schemas = properties if isinstance(properties, Mapping) else {}

    def added(key: str, value: Any) -> bool:
        schema = schemas.get(key)
        if key in ours or not isinstance(schema, Mapping) or "default" not in schema:
            return False
        return same_json(value, schema["default"])

    return {key: value for key, value in theirs.items() if not added(key, value)}


# Seen in recordings of real clients; a new row needs one, and a test.
REWRITES = (
    Rewrite("Claude Code", "drops `cd FOLDER && ` from the command of Bash", _restore_cd),
    Rewrite("Claude Code", "adds `replace_all: false` to Edit", _drop_replace_all),
    Rewrite("any", "adds parameters at the default of their schema", _drop_defaults),
)


def same_json(one: Any, other: Any) -> bool:
    """Return whether two JSON values are equal: 1 is 1.0, true is not 1, keys have no order."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same_json(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same_json, one, other))
    return bool(one == other)


def unchanged(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], parameters: Mapping[str, Any]
) -> bool:
    """Return whether arguments came back as we sent them, or as a known client rewrites them."""
    for rewrite in REWRITES:
        theirs = rewrite.undo(ours, theirs, parameters)
    return same_json(ours, theirs)


class History:
    """Remembers the answers of one model; safe to use from many threads.

    `scope` is whatever an answer's ids depend on, above all the tokenizer. Without a `path` it
    forgets all when the process ends.
    """

    def __init__(self, path: Path | None, scope: bytes, limit: int = LIMIT) -> None:
        self._scope = scope
        self._limit = limit
        self._lock = threading.Lock()
        self._faulty = False
        self._base = _open(path)
        (self._size,) = self._base.execute(_SIZE).fetchone()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._base.close()

    def recall(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()
    ) -> tuple[Message, ...]:
        """Return the messages; those that are answers of ours, unchanged, with their ids."""
        schemas = {tool.name: tool.parameters for tool in tools}
        found = []
        for message, parent in self._with_parents(messages):
            exact = self._find(message, parent, schemas)
            found.append(replace(message, exact=exact) if exact else message)
        return tuple(found)

    def remember(self, messages: Sequence[Message], answer: Message, exact: Exact) -> None:
        """Keep an answer to these messages; its calls have the ids that the client got."""
        calls = [[call.id, call.name, call.arguments] for call in answer.tool_calls]
        content = answer.content.strip()
        if not exact.ids or not (calls or content):
            return
        *_, (_, parent) = self._with_parents((*messages, answer))
        row = json.dumps(
            [content_hash(content), calls, exact.opening, exact.closing, exact.thought]
        )
        ids = array("i", exact.ids).tobytes()
        key = self._key(answer, parent)

        def store(base: sqlite3.Connection) -> None:
            (replaced,) = base.execute(f"{_SIZE} WHERE key = ?", (key,)).fetchone()
            base.execute("DELETE FROM answers WHERE key = ?", (key,))
            base.execute(
                "INSERT INTO answers (key, row, ids, proof) VALUES (?, ?, ?, ?)",
                (key, row, ids, _proof(key, row, ids)),
            )
            size = self._forget_oldest(self._size - replaced + len(ids) + len(row))
            base.commit()  # what fails up to here is undone, and does not count
            self._size = size

        self._with_base(store)

    def _forget_oldest(self, total: int) -> int:
        """Delete answers until those that are left, `total` bytes now, fit; return their bytes."""
        while total > self._limit:
            number, size = self._base.execute(
                "SELECT number, length(ids) + length(row) FROM answers ORDER BY number LIMIT 1"
            ).fetchone()
            self._base.execute("DELETE FROM answers WHERE number = ?", (number,))
            total -= size
        return total

    def _find(self, message: Message, parent: bytes, schemas: Mapping[str, Any]) -> Exact | None:
        content = message.content.strip()
        if message.role != "assistant" or not (message.tool_calls or content):
            return None
        key = self._key(message, parent)
        query = "SELECT row, ids, proof FROM answers WHERE key = ?"
        found = self._with_base(lambda base: base.execute(query, (key,)).fetchone())
        if found is None or found[2] != _proof(key, found[0], found[1]):
            return None
        text, calls, opening, closing, thought = json.loads(found[0])
        # Some clients leave out the text beside a call.
        if text != content_hash(content) and (content or not calls):
            return None
        if len(calls) != len(message.tool_calls):
            return None
        for (call_id, name, arguments), call in zip(calls, message.tool_calls, strict=True):
            if (call_id, name) != (call.id, call.name):
                return None
            if not unchanged(arguments, call.arguments, schemas.get(name, {})):
                return None
        return Exact(tuple(array("i", found[1])), opening, closing, thought)

    def _key(self, message: Message, parent: bytes) -> bytes:
        if message.tool_calls:
            return _digest(self._scope, message.tool_calls[0].id.encode())
        return _digest(parent, message.content.strip().encode())

    def _with_parents(self, messages: Sequence[Message]) -> Iterator[tuple[Message, bytes]]:
        """Yield each message with a digest of what was said before it.

        System messages don't count: they change between requests, and the answers stay the same.
        """
        digest = _digest(self._scope, b"conversation")
        for message in messages:
            yield message, digest
            if message.role != "system":
                said = [call.id for call in message.tool_calls] or [message.content.strip()]
                digest = _digest(digest, message.role.encode(), *(part.encode() for part in said))

    def _with_base(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        """Return what the work gives, None if it fails; the first failure is logged."""
        try:
            with self._lock, self._base:
                return work(self._base)
        except sqlite3.Error as error:
            if not self._faulty:
                self._faulty = True
                log.warning("An answer can't be remembered or recalled: %s", error)
            return None


def content_hash(content: str) -> str:
    """Return a digest of a text."""
    return hashlib.sha256(content.encode()).hexdigest()


def _digest(*parts: bytes) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()


def _proof(key: bytes, row: str, ids: bytes) -> bytes:
    return _digest(key, row.encode(), ids)


def _open(path: Path | None) -> sqlite3.Connection:
    """Open the file, anew if it is broken; in memory if there can be none."""
    for attempt in range(2 if path else 0):
        assert path is not None
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
            try:
                os.fchmod(file, 0o600)  # a copy of a file is often for all
            finally:
                os.close(file)
            base = _connect(str(path))
            base.execute("PRAGMA journal_mode = WAL")
            return base
        except (OSError, sqlite3.Error) as error:
            log.warning("%s can't be used, and is made anew: %s", path, error)
            if attempt == 0:
                _remove(path)
    return _connect(":memory:")


def _connect(name: str) -> sqlite3.Connection:
    base = sqlite3.connect(name, timeout=1.0, check_same_thread=False)
    try:
        base.execute("PRAGMA synchronous = NORMAL")
        base.execute(_TABLE)
        base.execute("SELECT max(number) FROM answers").fetchone()
    except sqlite3.Error:
        base.close()
        raise
    return base


def _remove(path: Path) -> None:
    for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        try:
            name.unlink(missing_ok=True)
        except OSError:
            return
