"""Players: each plays traffic to one server, request by request, and keeps its conversations.

Rules of this file:
- Players of the same traffic have the same steps, so that servers can be asked in turns.
- Each round has a fresh word at the head of the system prompt: no round profits from the last.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from . import recordings, script
from .asking import Asked, Endpoint
from .dialects import DIALECTS
from .figures import Place, Row, row
from .recordings import Recorded
from .script import Agent


@dataclass(frozen=True, slots=True)
class Target:
    """A server to play to: what it is called, where it is, and how it is asked."""

    name: str
    endpoint: Endpoint
    dialect: str
    model: str


@dataclass(frozen=True, slots=True)
class Traffic:
    """What is played: a recording, or the built-in traffic of this scale."""

    recording: Sequence[Recorded] | None
    scale: float
    max_tokens: int | None

    @property
    def steps(self) -> int:
        """How many requests it has."""
        return len(script.steps() if self.recording is None else self.recording)


DEFAULT_MAX_TOKENS = 512


class Player(Protocol):
    """Plays one round of the traffic to one server."""

    def play(self, number: int) -> Row:
        """Send the request of this number, and return what it came to."""


def nonce(given: str | None, number: int) -> str:
    """Return the word at the head of a round's system prompts."""
    if given is None:
        return secrets.token_hex(4)
    return f"{given}-{number}" if given and number > 1 else given


def player(target: Target, traffic: Traffic, mark: str, number: int, stream: int) -> Player:
    """Return the player of one stream of a round; streams are told apart behind the mark."""
    if traffic.recording is None:
        return _AgentPlayer(target, traffic, mark, number, stream)
    # Streams must not be the same request at the same time: nobody would have to compute it.
    return _Replayer(
        target, traffic, f"{mark}.{stream}" if stream and mark else mark, number, stream
    )


class _AgentPlayer:
    """Plays the built-in traffic."""

    def __init__(
        self, target: Target, traffic: Traffic, mark: str, number: int, stream: int
    ) -> None:
        self._target = target
        self._limit = traffic.max_tokens or DEFAULT_MAX_TOKENS
        self._steps = script.steps()
        self._agent = Agent(traffic.scale, mark, stream)
        self._round, self._stream = number, stream
        # The tokens of each session: its last prompt and answer.
        self._known: dict[str, int] = {}

    def play(self, number: int) -> Row:
        """Send the request of this number, and return what it came to."""
        step, target = self._steps[number], self._target
        dialect = DIALECTS[target.dialect]
        body = dialect.body(self._agent.conversation(step), target.model, self._limit)
        asked = target.endpoint.ask(dialect, body)
        self._agent.hear(step, asked.heard.said())
        place = Place(
            target.name,
            self._round,
            self._stream,
            step.session,
            step.turn,
            step.label,
            target.dialect,
        )
        made = row(place, asked, self._known.get(step.session, 0))
        if asked.heard.prompt is not None:
            self._known[step.session] = asked.heard.prompt + (asked.heard.completion or 0)
        return made


class _Replayer:
    """Plays a recording."""

    def __init__(
        self, target: Target, traffic: Traffic, mark: str, number: int, stream: int
    ) -> None:
        assert traffic.recording is not None
        self._target, self._mark = target, mark
        self._recording, self._limit = traffic.recording, traffic.max_tokens
        self._round, self._stream = number, stream
        self._prompts: dict[int, int] = {}

    def play(self, number: int) -> Row:
        """Send the request of this number, and return what it came to."""
        recorded, target = self._recording[number], self._target
        body = recordings.prepared(recorded, target.model, self._limit, self._mark)
        asked: Asked = target.endpoint.ask(DIALECTS[recorded.dialect], body)
        # The next request has the answer that was recorded, not this one: that is new to a server.
        known = 0 if recorded.parent is None else self._prompts.get(recorded.parent, 0)
        if asked.heard.prompt is not None:
            self._prompts[number] = asked.heard.prompt
        place = Place(
            target.name,
            self._round,
            self._stream,
            recorded.session,
            recorded.turn,
            recorded.label,
            recorded.dialect,
        )
        return row(place, asked, known)
