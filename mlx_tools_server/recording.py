"""A recording of what clients ask for, to be measured with later (`bench turns --traffic`).

Rules of this file:
- Without a word from the user no content is in it: what is not known to be a name, an id or the
  form of a schema is replaced, whatever field it stands in.
- Equal texts stay equal and beginnings stay shared, as far as words go, for that is what a cache
  sees. What stands for a word depends on all words before it in its text, so that common words
  can't be told by how often they come.
- The key is drawn anew by each server and never written; a failure to write fails no request.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

from .config import ServerConfig
from .errors import StartupError

log = logging.getLogger(__name__)

# Letters and digits; what is between them is kept.
_WORD = re.compile(r"[^\W_]+")
# Consonants and vowels in turn: tokenizers take such words in fewer pieces than random letters.
_CONSONANTS, _VOWELS = (
    bytes(sounds[byte % len(sounds)] for byte in range(256))
    for sounds in (b"bdfgklmnprstvz", b"aeiou")
)
# Bytes of the state behind a word, and characters of texts that are remembered.
_STATE = 16
_MEMORY = 8_000_000
# Names, ids and settings of the API: strings in these fields are kept, outside of all content.
_KEPT = frozenset(
    {
        *("role", "type", "id", "name", "model", "phase", "status", "detail", "format", "ttl"),
        *("tool_call_id", "tool_use_id", "call_id", "item_id", "previous_response_id"),
        *("tool_name", "tool_choice", "effort", "reasoning_effort", "verbosity", "truncation"),
        *("generate_summary", "include", "modalities", "media_type", "service_tier"),
        *("syntax", "definition"),  # a tool's own grammar
    }
)
# What is content altogether: of its fields' names only those are kept that a tool has.
_CONTENT = frozenset(("input", "arguments", "metadata"))
_SUMMARIES = ("auto", "concise", "detailed")
_SCHEMAS = frozenset(("parameters", "input_schema", "schema"))
# In a schema: what is said to the model, and what has names of the user's own as its keys.
_TOLD = frozenset(("description", "title", "default", "examples", "example", "$comment"))
_NAMED = frozenset(("properties", "patternProperties", "$defs", "definitions", "dependentSchemas"))


class Redactor:
    """Replaces what was said by words that mean nothing."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._known: dict[str, str] = {}
        self._kept = 0

    def text(self, text: str) -> str:
        """Return a text of other words, each as long as the one it stands for."""
        known = self._known.get(text)
        if known is None:
            known = self._new_text(text)
            # Conversations come again with each request, one answer longer.
            if self._kept + len(text) > _MEMORY:
                self._known, self._kept = {}, 0
            self._known[text] = known
            self._kept += len(text)
        return known

    def _new_text(self, text: str) -> str:
        state = self._key
        pieces: list[str] = []
        end = 0
        for match in _WORD.finditer(text):
            word = match[0]
            hashed = state + word.encode("utf-8", "surrogatepass")
            state = blake2b(hashed, digest_size=_STATE, key=self._key).digest()
            pieces += (text[end : match.start()], self._word(word, state))
            end = match.end()
        return "".join((*pieces, text[end:]))

    def _word(self, word: str, state: bytes) -> str:
        drawn = state
        while len(drawn) < len(word):
            drawn += blake2b(drawn[-_STATE:], digest_size=_STATE, key=self._key).digest()
        drawn = drawn[: len(word)]
        sounds = bytearray(drawn.translate(_CONSONANTS))
        sounds[1::2] = drawn.translate(_VOWELS)[1::2]
        made = sounds.decode()
        if word.islower() and word.isalpha():
            return made
        return "".join(map(_alike, word, made, drawn))

    def digest(self, client: str) -> str:
        """Return by what a client is known in the recording."""
        return blake2b(client.encode("utf-8", "replace"), digest_size=6, key=self._key).hexdigest()

    def body(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a request's body without its content."""
        names = frozenset(_names(body))
        return {name: self._field(name, value, names) for name, value in body.items()}

    def _field(self, name: str, value: Any, names: Collection[str]) -> Any:
        """Return the value of a field of the API."""
        if isinstance(value, str):
            return self._string(name, value, names)
        if name in _SCHEMAS and isinstance(value, Mapping):
            return self._schema(value)
        if name in _CONTENT and isinstance(value, Mapping):
            return self._content(value, names)
        if isinstance(value, list):
            # What it holds are strings of this field, or objects of the API again.
            return [
                self._field(name if isinstance(item, str) else "", item, names) for item in value
            ]
        if isinstance(value, Mapping):
            speaks = value.get("role") in ("system", "developer", "user", "assistant")
            return {
                # A name beside a role is a person's.
                key: self._field("" if speaks and key == "name" else key, item, names)
                for key, item in value.items()
            }
        return value

    def _string(self, name: str, text: str, names: Collection[str]) -> str:
        if name in _KEPT or (name == "summary" and text in _SUMMARIES):
            return text
        if name in _CONTENT and text.lstrip().startswith("{"):
            try:
                return json.dumps(self._content(json.loads(text), names), ensure_ascii=False)
            except (ValueError, RecursionError):
                pass
        return self.text(text)

    def _content(self, value: Any, names: Collection[str]) -> Any:
        """Return arguments and the like: every string is content, and every unknown name."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self._content(item, names) for item in value]
        if isinstance(value, Mapping):
            return {
                key if key in names else self.text(key): self._content(item, names)
                for key, item in value.items()
            }
        return value

    def _schema(self, schema: Any) -> Any:
        if isinstance(schema, list):
            return [self._schema(item) for item in schema]
        if not isinstance(schema, Mapping):
            return schema
        kept: dict[str, Any] = {}
        for key, value in schema.items():
            if key in _TOLD:
                kept[key] = self._content(value, ())
            elif key in _NAMED and isinstance(value, Mapping):
                kept[key] = {name: self._schema(item) for name, item in value.items()}
            else:
                kept[key] = self._schema(value)
        return kept


def _alike(character: str, letter: str, byte: int) -> str:
    """Return what stands for a character: a digit for a digit, and a capital for a capital."""
    if character.isdecimal():
        return str(byte % 10)
    return letter.upper() if character.isupper() else letter


def _names(value: Any) -> Iterator[str]:
    """Yield the names of parameters in all schemas of a body."""
    if isinstance(value, list):
        for item in value:
            yield from _names(item)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if key in _NAMED and isinstance(item, Mapping):
                yield from item
            yield from _names(item)


class Recorder:
    """Appends each request to a file, one JSON object a line."""

    def __init__(
        self,
        path: Path,
        *,
        keeps_content: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._keeps = keeps_content
        self._redactor = Redactor(secrets.token_bytes(32))
        self._clock, self._began = clock, clock()
        self._lock = threading.Lock()
        self._failed = False
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.fchmod(self._file, 0o600)
        except OSError as error:
            raise StartupError(
                f"Requests can't be recorded in {path}: {error.strerror}",
                "Give --record a file that you may write.",
            ) from None

    def record(self, route: str, client: str, body: Mapping[str, Any]) -> None:
        """Append a request; what fails is told once."""
        try:
            entry = {
                "route": route,
                "seconds": round(self._clock() - self._began, 3),
                "session": self._redactor.digest(client),
                "body": body if self._keeps else self._redactor.body(body),
            }
            line = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
            with self._lock:
                # One write: the line is in the file as a whole, and at once.
                os.write(self._file, line)
        except Exception as error:  # noqa: BLE001  a recording must never fail a request
            if not self._failed:
                self._failed = True
                log.warning(
                    "Requests can't be recorded in %s, and are answered all the same: %s",
                    self._path,
                    getattr(error, "strerror", None) or type(error).__name__,
                )


def recorder(config: ServerConfig) -> Recorder | None:
    """Return what records requests, if the settings ask for it; raises StartupError if it can't."""
    if config.record is None:
        if config.record_content:
            raise StartupError(
                "--record-content without --record records nothing", "Give --record FILE too."
            )
        return None
    made = Recorder(Path(config.record), keeps_content=config.record_content)
    log.warning(
        "Requests are recorded in %s, %s their content",
        config.record,
        "with" if config.record_content else "without",
    )
    return made
