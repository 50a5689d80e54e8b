"""One turn: what becomes of an engine's events before a dialect tells them.

Rules of this file:
- The engine is a small one that says what a test gives it; the turn is the real one.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_tools_server.errors import ContextOverflow
from mlx_tools_server.events import (
    EngineEvent,
    Event,
    Failed,
    Finished,
    FinishReason,
    Noticed,
    PartDelta,
    PartEnded,
    PartKind,
    PartStarted,
    Started,
    Usage,
    fold,
)
from mlx_tools_server.messages import ChatRequest, Message, Sampling, TextRequest, ToolSpec
from mlx_tools_server.sampling import SamplingPolicy

pytestmark = pytest.mark.mlx

RUN = ToolSpec(
    "run",
    parameters={"properties": {"cmd": {"type": "string"}}, "required": ["cmd"]},
)
ANY = ToolSpec("any")
REQUEST = ChatRequest((Message("user", "hi"),), tools=(RUN, ANY))


class Asked:
    """A prompt that is nothing but tokens."""

    ids = (1, 2, 3)


class Script:
    """An engine that says these events; `closed` once whoever listens has gone."""

    def __init__(self, *events: EngineEvent) -> None:
        self._events = events
        self.closed = False

    def prepare_chat(self, request: ChatRequest) -> Asked:
        """Take a conversation, unless it is empty."""
        if not request.messages:
            raise ContextOverflow(2, 1)
        return Asked()

    def prepare_text(self, request: TextRequest) -> Asked:
        """Take a raw prompt."""
        return Asked()

    in_flight = 0

    def run(self, _prompt: Any, _options: Any) -> Iterator[EngineEvent]:
        """Say the events."""
        try:
            yield from self._events
        finally:
            self.closed = True


def turns(*events: EngineEvent) -> Any:
    """Return the turns of an engine that says these events."""
    from mlx_tools_server.turn import Turns

    engine: Any = Script(*events)
    return Turns(engine, SamplingPolicy("client", Sampling()))


def part(kind: PartKind, text: str = "", name: str = "", complete: bool = True) -> list[Event]:
    """Return the events of a part."""
    return [PartStarted(kind, name), PartDelta(text), PartEnded(complete)]


def end(reason: FinishReason) -> Finished:
    """Return the end of a generation."""
    return Finished(reason, Usage(1, 1))


CALL = part("tool_call", '{"cmd": "ls"}', "run")
CUT = part("tool_call", '{"cmd": "l', "run", complete=False)
TEXT = part("text", "hi")

REASONS: dict[str, tuple[Sequence[Event], FinishReason]] = {
    "text": ([*TEXT, end("stop")], "stop"),
    "nothing": ([end("stop")], "stop"),
    "a call": ([*CALL, end("stop")], "tool_calls"),
    "two calls": ([*CALL, *CALL, end("stop")], "tool_calls"),
    "a call, then text": ([*CALL, *TEXT, end("stop")], "tool_calls"),
    "a call that does not fit": ([*part("tool_call", "{}", "run"), end("stop")], "tool_calls"),
    "a call of no tool": ([*part("tool_call", "{}", "none"), end("stop")], "tool_calls"),
    "cut in a text": ([*TEXT, end("length")], "length"),
    "cut in a call": ([*CUT, end("length")], "length"),
    "cut in a second call": ([*CALL, *CUT, end("length")], "length"),
    "cut behind a call": ([*CALL, *TEXT, end("length")], "length"),
    "an unread call": ([*CUT, end("stop")], "stop"),
}


@pytest.mark.parametrize("name", REASONS)
def test_reason(name: str) -> None:
    """An answer ends with tool_calls if and only if a call was delivered and nothing was cut."""
    events, expected = REASONS[name]

    finished = fold(turns(*events).chat(REQUEST)).finished

    assert finished is not None
    assert expected == finished.reason


PARTS = st.lists(st.sampled_from([CALL, TEXT, part("reasoning", "hm")]), max_size=5)


@given(PARTS, st.booleans())
def test_reason_of_any_answer(parts: list[list[Event]], cut: bool) -> None:
    """The same holds for whatever parts an answer has."""
    events = [event for one in parts for event in one]

    answer = fold(turns(*events, end("length" if cut else "stop")).chat(REQUEST))

    assert answer.finished is not None
    assert (answer.finished.reason == "tool_calls") == (bool(answer.calls) and not cut)


def test_ids() -> None:
    """Every call has an id of its own; other parts have none, and nothing else is changed."""
    events = [Started(1), *TEXT, *CALL, *CALL, end("stop")]

    told = list(turns(*events).chat(REQUEST))

    ids = [event.id for event in told if isinstance(event, PartStarted)]
    assert ids[0] == ""
    assert all(re.fullmatch(r"call_[0-9a-f]{24}", one) for one in ids[1:])
    assert ids[1] != ids[2]
    others = (PartStarted, Finished)
    assert [e for e in events if not isinstance(e, others)] == [
        e for e in told if not isinstance(e, others)
    ]


REPAIRED, UNREAD = Noticed("repaired"), Noticed("text")
COUNTS: dict[str, tuple[Sequence[EngineEvent], dict[str, int]]] = {
    "text": (TEXT, {}),
    "a call that fits": (CALL, {"tool_calls": 1}),
    "a call of a tool without a schema": (
        part("tool_call", '{"a": 1}', "any"),
        {"tool_calls": 1},
    ),
    "a call that does not fit": (
        part("tool_call", '{"cmd": 5}', "run"),
        {"tool_calls": 1, "invalid_tool_calls": 1},
    ),
    "a call of no tool": (
        part("tool_call", "{}", "none"),
        {"tool_calls": 1, "invalid_tool_calls": 1},
    ),
    "a call that is found to be faulty within": (
        [*CALL[:2], REPAIRED, *CALL[2:]],
        {"tool_calls": 1, "repaired_tool_calls": 1},
    ),
    "a call that is found to be faulty behind its end": (
        [*CALL, REPAIRED, *CALL],
        {"tool_calls": 2, "repaired_tool_calls": 1},
    ),
    "a faulty call that does not fit": (
        [*part("tool_call", "{}", "run"), REPAIRED],
        {"tool_calls": 1, "invalid_tool_calls": 1},
    ),
    "a faulty call, then one that does not fit": (
        [CALL[0], REPAIRED, *CALL[1:], *part("tool_call", "{}", "run")],
        {"tool_calls": 2, "repaired_tool_calls": 1, "invalid_tool_calls": 1},
    ),
    "what only looks like a call": ([UNREAD, *TEXT], {"unread_tool_calls": 1}),
    "a cut call": (CUT, {}),
    "a faulty cut call": ([CUT[0], REPAIRED, *CUT[1:]], {}),
    "a failure": ([Failed("broken")], {"failures": 1}),
}


@pytest.mark.parametrize("name", COUNTS)
def test_counts(name: str) -> None:
    """Calls are counted and checked once each; one that does not fit is delivered all the same."""
    events, expected = COUNTS[name]
    made = turns(*events, end("stop"))

    answer = fold(made.chat(REQUEST))

    figures = {name: expected.get(name, 0) for name in made.metrics.summary()}
    assert figures | expected | {"requests": 1} == made.metrics.summary()
    assert expected.get("tool_calls", 0) == len(answer.calls)


def test_clients_see_no_notices() -> None:
    """How the model wrote its calls is told to nobody but the figures."""
    told = list(turns(UNREAD, *CALL, REPAIRED, end("stop")).chat(REQUEST))

    assert not any(isinstance(event, Noticed) for event in told)
    assert len(told) == len(CALL) + 1


def test_tokens_that_are_computed_again(caplog: pytest.LogCaptureFixture) -> None:
    """Tokens of a conversation that have to be computed again are counted, and told in the log."""
    made = turns(Started(900, 100, computed_again=700), *TEXT, end("stop"))

    with caplog.at_level(logging.INFO):
        list(made.chat(REQUEST))

    assert made.metrics.count("tokens", kind="computed_again") == 700
    assert "700 computed again" in caplog.text


def test_log_tells_what_is_wrong(caplog: pytest.LogCaptureFixture) -> None:
    """A call that does not fit is logged in a line; why, only if asked for."""
    with caplog.at_level(logging.DEBUG):
        list(turns(*part("tool_call", "{}", "run"), end("stop")).chat(REQUEST))

    assert [(one.levelname, one.getMessage()) for one in caplog.records[:2]] == [
        ("WARNING", "A call of run does not fit its schema"),
        ("DEBUG", "A call of run does not fit: 'cmd' is a required property"),
    ]


def test_text_has_no_tools() -> None:
    """A raw prompt is continued as it is."""
    answer = fold(turns(*TEXT, end("stop")).text(TextRequest("hi")))

    assert answer.joined("text") == "hi"


def test_refusal() -> None:
    """What can't be served is said before the first event, and is no request."""
    made = turns()

    with pytest.raises(ContextOverflow):
        next(made.chat(ChatRequest(())))

    assert not any(made.metrics.summary().values())
    assert made.load == (0, 0)


def test_leaving_closes() -> None:
    """Whoever stops listening stops the engine; the turn counts as running until then."""
    made = turns(*TEXT, end("stop"))
    events = made.chat(REQUEST)
    next(events)
    assert made._running == 1

    events.close()

    assert made.engine.closed
    made.wait_until_ended(0)
    assert made._running == 0
