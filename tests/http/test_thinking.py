"""Thoughts over real HTTP: whether and how long a model thinks, as each dialect asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .live import Live, call, user
from .test_dialects import DIALECTS, EACH, Told

pytestmark = pytest.mark.mlx

# Fields that switch thoughts off, and that limit them to three tokens.
OFF: list[tuple[str, dict[str, Any]]] = [
    ("chat", {"reasoning_effort": "none"}),
    ("chat", {"chat_template_kwargs": {"thinking": False}}),
    ("messages", {"thinking": {"type": "disabled"}}),
    ("responses", {"reasoning": {"effort": "minimal"}}),
]
SHORT: list[tuple[str, dict[str, Any]]] = [
    ("chat", {"reasoning": {"max_tokens": 3}}),
    ("messages", {"thinking": {"type": "enabled", "budget_tokens": 3}}),
    ("responses", {"thinking_budget": 3}),
]


def both(live: Live, dialect: str, script: str, **fields: Any) -> Iterator[Told]:
    """Yield an answer as it comes whole, and as it comes in a stream."""
    for stream in (False, True):
        yield DIALECTS[dialect](live, script, stream=stream, extra_body=fields)


@pytest.mark.parametrize(("dialect", "fields"), OFF)
def test_off(dialect: str, fields: dict[str, Any], thinker: Live) -> None:
    """Who asks for no thought gets none: what would have been one is the answer."""
    for told in both(thinker, dialect, "Yes.", **fields):
        assert (told.reasoning, told.text, told.end) == ("", "Yes.", "stop")


@pytest.mark.parametrize(("dialect", "fields"), SHORT)
def test_budget(dialect: str, fields: dict[str, Any], thinker: Live) -> None:
    """A thought ends when its budget is spent, the answer follows, and the usage counts both."""
    script = "a b c d e f"

    for told in both(thinker, dialect, script, **fields):
        assert (told.reasoning, told.text.strip(), told.end) == ("a b", "d e f", "stop")
        assert told.completion == len(script.split())


@EACH
def test_call_in_a_thought(dialect: str, thinker: Live) -> None:
    """A call within a thought ends it, and counts."""
    for told in both(thinker, dialect, f"Hm.\n{call('run', command='ls')}"):
        assert (told.reasoning, told.text, told.end) == ("Hm.", "", "tool_calls")
        assert told.calls == [("run", {"command": "ls"})]


@EACH
def test_only_a_thought(dialect: str, thinker: Live) -> None:
    """A thought that never ends is a thought, and no answer."""
    for told in both(thinker, dialect, "Hm, and"):
        assert (told.reasoning, told.text, told.end) == ("Hm, and", "", "stop")


def test_reasoning_tokens(thinker: Live) -> None:
    """The tokens of a thought are told in the usage of each dialect, its end among them."""
    said = user("a b c d e f")
    chat = thinker.post("/v1/chat/completions", {"messages": [said], "thinking_budget": 4}).json()[
        "usage"
    ]
    messages = thinker.post(
        "/v1/messages",
        {
            "messages": [said],
            "max_tokens": 50,
            "thinking": {"type": "enabled", "budget_tokens": 4},
        },
    ).json()["usage"]
    responses = thinker.post("/v1/responses", {"input": [said], "thinking_budget": 4}).json()[
        "usage"
    ]

    assert chat["completion_tokens_details"]["reasoning_tokens"] == 4
    assert messages["output_tokens_details"]["thinking_tokens"] == 4
    assert responses["output_tokens_details"]["reasoning_tokens"] == 4


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [user("x")]}),
        ("/v1/responses", {"input": [user("x")]}),
    ],
)
def test_unknown_variable(path: str, body: dict[str, Any], thinker: Live) -> None:
    """A variable that the template does not read is refused by its name, with those it reads."""
    response = thinker.post(path, {**body, "chat_template_kwargs": {"mood": "good"}})
    error = response.json()["error"]

    assert (response.status_code, error["param"]) == (400, "chat_template_kwargs.mood")
    assert "enable_thinking" in error["message"]
    assert "preserve_thinking" in error["message"]
