"""The built-in traffic: its requests in each dialect, whatever the model did before."""

from __future__ import annotations

import json

import pytest

from mlx_tools_server.bench.conversation import Call, Conversation, Said
from mlx_tools_server.bench.dialects import DIALECTS
from mlx_tools_server.bench.script import FULL_SIZE, MAIN, Agent, scale_for, steps
from mlx_tools_server.bench.texts import system_prompt, text

from ..dialects.reading import read_request

CALLS = (Call("c1", "read_file", '{"path": "a"}'), Call("c2", "list_folder", "{broken"))
ANSWERS = {
    "text": Said("assistant", "Here."),
    "calls": Said("assistant", "", CALLS, thought="hm", signature="s"),
}


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_requests_are_sound(dialect: str, answer: str) -> None:
    """Every request of the traffic is one that a server takes, whether the model calls or not."""
    agent = Agent(0.05, "nonce")
    for step in steps():
        body = DIALECTS[dialect].body(agent.conversation(step), "m", 10)
        request = read_request(dialect, json.loads(json.dumps(body)))
        agent.hear(step, ANSWERS[answer])

        assert request.messages[0].role == "system"
        assert request.messages[0].content.startswith("Session nonce.\n")
        assert request.options.stream
        assert bool(request.tools) == (step.session != "side")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_dialects_say_the_same(dialect: str) -> None:
    """A conversation is the same in each dialect, and arguments that are no JSON are empty."""
    said = (
        Said("user", "Hello"),
        Said("assistant", "Well.", CALLS),
        Said("tool", "one", call_id="c1"),
        Said("tool", "two", call_id="c2"),
        Said("user", "Go on."),
    )
    conversation = Conversation("Be brief.", (), said)
    body = DIALECTS[dialect].body(conversation, "m", 10)

    request = read_request(dialect, body)

    assert [message.role for message in request.messages] == [
        *("system", "user", "assistant", "tool", "tool", "user")
    ]
    calls = request.messages[2].tool_calls
    assert [(call.id, dict(call.arguments)) for call in calls] == [
        ("c1", {"path": "a"}),
        ("c2", {}),
    ]


def test_results_follow_calls() -> None:
    """Each call gets a result; without a call the user hands the text over."""
    called, told = Agent(1.0, ""), Agent(1.0, "")
    for agent, answer in ((called, ANSWERS["calls"]), (told, ANSWERS["text"])):
        agent.conversation(MAIN[0])
        agent.hear(MAIN[0], answer)

    results = called.conversation(MAIN[1]).messages[2:]
    handed = told.conversation(MAIN[1]).messages[2:]

    assert [(said.role, said.call_id) for said in results] == [("tool", "c1"), ("tool", "c2")]
    assert [said.role for said in handed] == ["user"]
    assert results[0].text in handed[0].text


def test_prompts_grow_from_their_beginning() -> None:
    """Each request of a session begins with all of the one before it."""
    agent = Agent(0.3, "n")
    seen: dict[str, tuple[Said, ...]] = {}
    for step in steps():
        said = agent.conversation(step).messages
        assert said[: len(seen.get(step.session, ()))] == seen.get(step.session, ())
        agent.hear(step, ANSWERS["calls"])
        seen[step.session] = said


def test_agents_share_their_system_prompt() -> None:
    """The agents of a round, and its streams, have one system prompt and one set of tools."""
    agents = [Agent(0.5, "n", number) for number in (0, 1)]
    told = {
        (conversation.system, repr(conversation.tools))
        for agent in agents
        for step in steps()
        if step.session != "side"
        for conversation in [agent.conversation(step)]
    }
    first = {agent.conversation(MAIN[0]).messages[0].text for agent in agents}

    assert len(told) == 1
    assert len(first) == 2


def test_size() -> None:
    """At scale 1 the longest conversation has about the size that the scale is reckoned with."""
    agent = Agent(1.0, "n")
    for step in MAIN:
        body = DIALECTS["chat"].body(agent.conversation(step), "m", 10)
        agent.hear(step, ANSWERS["calls"])
    size = len(json.dumps(body))

    assert FULL_SIZE * 0.75 < size < FULL_SIZE * 1.15
    assert len(agent.tools) == 12


@pytest.mark.parametrize(
    ("context", "limit", "expected"),
    [(200_000, 512, 1.0), (32_768, 100, 0.72), (16_384, 100, 0.33), (1_000, 512, 0.01)],
)
def test_scale(context: int, limit: int, expected: float) -> None:
    """The traffic is as large as the context allows, and never larger than it is."""
    assert scale_for(context, limit) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("kind", ["map", "listing", "matches", "code", "log"])
@pytest.mark.parametrize("size", [100, 5_000])
def test_texts(kind: str, size: int) -> None:
    """A text is as long as it is asked for, the same each time, and another one elsewhere."""
    made = text(kind, size)

    assert size * 0.8 <= len(made) <= size + 120
    assert made == text(kind, size)
    assert made != text(kind, size, 7)


@pytest.mark.parametrize("size", [100, 1_000, 14_000])
def test_system_prompt(size: int) -> None:
    """A system prompt is about as long as it is asked for."""
    assert size * 0.5 < len(system_prompt(size)) < size * 1.1
