"""The arguments of a call as one JSON object, written piece by piece while the model speaks.

Rules of this file:
- What is emitted is JSON text from the first piece to the last; nothing emitted is taken back.
- A value that can only be a string leaves as it comes. Any other leaves when it is whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..jsontext import dumps
from ..schema import ValueType

# A text this long that could still be something other than a string is something else.
MAX_UNDECIDED = 64


class Arguments:
    """The object; `seen` are the names it has so far, and `emit` passes its JSON on."""

    def __init__(self, emit: Callable[[str], None]) -> None:
        self.emit = emit
        self.seen: set[str] = set()

    def open(self, name: str, value_type: ValueType) -> Argument:
        """Begin the argument of this name."""
        self.key(name)
        return Argument(self.emit, value_type)

    def add_all(self, values: Mapping[str, Any]) -> None:
        """Add arguments whose values are known."""
        for name, value in values.items():
            self.key(name)
            self.emit(dumps(value))

    def close(self) -> None:
        """End the object; one without arguments is `{}`."""
        self.emit("}" if self.seen else "{}")

    def key(self, name: str) -> None:
        """Begin the argument of this name, whose value is then emitted as JSON."""
        self.emit(f"{', ' if self.seen else '{'}{dumps(name)}: ")
        self.seen.add(name)


class Argument:
    """One argument, told as raw text."""

    def __init__(self, emit: Callable[[str], None], value_type: ValueType) -> None:
        self._emit = emit
        self._type = value_type
        self._held: list[str] = []
        self._prefix = ""
        self._streams = value_type.is_string
        if self._streams:
            emit('"')

    def write(self, text: str) -> None:
        """Add raw text of the value."""
        if self._streams:
            self._emit(dumps(text)[1:-1])
            return
        self._held.append(text)
        if len(self._prefix) < MAX_UNDECIDED:
            self._prefix += text
            if not self._type.could_differ(self._prefix):
                self._streams = True
                self._emit(dumps("".join(self._held))[:-1])

    def close(self) -> None:
        """End the value."""
        self._emit('"' if self._streams else dumps(self._type.convert("".join(self._held))))
