"""What the readers share: lines to events, events to deltas, and the answer they add up to.

Rules of this file:
- It reads server-sent events as the standard says: comments are skipped, an event's lines of data
  are one text, and a blank line ends it.
- What a server does not tell is None; nothing is guessed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..conversation import Call, Conversation, Said

CUT = "The stream was cut: it has no end."


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an answer: text, a thought, the start of a call, or more of its arguments."""

    kind: Literal["text", "thought", "call", "arguments"]
    text: str


@dataclass(slots=True)
class Heard:
    """What an answer has come to so far; counts are None where the server tells none."""

    text: str = ""
    thought: str = ""
    signature: str = ""
    calls: list[Call] = field(default_factory=list)
    finish: str | None = None
    error: str | None = None
    prompt: int | None = None
    cached: int | None = None
    completion: int | None = None

    def said(self) -> Said:
        """Return the answer as the next request has it; many servers would refuse an empty one."""
        text = self.text if self.text or self.calls else "(no answer)"
        for number, call in enumerate(self.calls):
            call.id = call.id or f"call_{number}"
        return Said("assistant", text, tuple(self.calls), "", self.thought, self.signature)


class Reader:
    """Reads one stream, line by line; subclasses know the events."""

    def __init__(self) -> None:
        self.heard = Heard()
        self._data: list[str] = []
        self._ended = False

    def feed(self, line: str) -> list[Delta]:
        """Return what is new with this line, which comes without its line break."""
        if not line:
            return self._dispatch()
        if line.startswith("data:"):
            self._data.append(line[5:].removeprefix(" "))
        elif line.startswith("{"):  # an error, or an answer that is no stream
            self._data.append(line)
        return []

    def close(self) -> list[Delta]:
        """Return what the end of the stream still tells; a cut one is an error."""
        deltas = self._dispatch()
        if not self._ended and self.heard.finish is None and self.heard.error is None:
            self.heard.error = CUT
        return deltas

    def _dispatch(self) -> list[Delta]:
        data, self._data = "\n".join(self._data), []
        if not data:
            return []
        if data == "[DONE]":
            self._ended = True
            return []
        try:
            event = json.loads(data)
        except ValueError:
            event = None
        if not isinstance(event, Mapping):
            self.heard.error = f"An event is no JSON object: {data[:80]}"
            return []
        try:
            return list(self._event(event))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            self.heard.error = f"An event can't be understood ({error!r}): {data[:80]}"
            return []

    def _event(self, event: Mapping[str, Any]) -> Iterator[Delta]:
        raise NotImplementedError

    # What events are made of.

    def _text(self, text: str | None) -> Iterator[Delta]:
        if text:
            self.heard.text += text
            yield Delta("text", text)

    def _thought(self, text: str | None) -> Iterator[Delta]:
        if text:
            self.heard.thought += text
            yield Delta("thought", text)

    def _call(self, id_: str | None, name: str | None) -> Iterator[Delta]:
        self.heard.calls.append(Call(id_ or "", name or ""))
        yield Delta("call", name or "")

    def _arguments(self, call: Call, text: str | None) -> Iterator[Delta]:
        if text:
            call.arguments += text
            yield Delta("arguments", text)


@dataclass(frozen=True, slots=True)
class Dialect:
    """A dialect: where it is asked, with which headers, what is sent, and who reads the answer.

    `named` says whether a body has its system prompt under a name of its own, and which.
    """

    name: str
    path: str
    key_variable: str
    headers: Callable[[str | None], dict[str, str]]
    body: Callable[[Conversation, str, int], dict[str, Any]]
    reader: type[Reader]
    system: str = ""


def bearer(key: str | None) -> dict[str, str]:
    """Return the headers of OpenAI's dialects."""
    return {"Authorization": f"Bearer {key}"} if key else {}


def count(value: Any) -> int | None:
    """Return a number of tokens; None if it is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def message_of(error: Any) -> str:
    """Return what an error says, whatever its form."""
    if isinstance(error, Mapping):
        for name in ("message", "error", "detail"):
            if error.get(name):
                return message_of(error[name])
    return error if isinstance(error, str) else json.dumps(error)
