"""Each family through a real server: it is recognised, and its calls reach every dialect's client.

Rules of this file:
- A scripted model speaks as the family does (`voices`), with its control tokens; the server gets no
  flag that says which it is. All families but two are slow tests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from .folders import serve_folder, serve_folders
from .live import Live, tool, user
from .test_dialects import DIALECTS, Told
from .voices import TEXT, THOUGHT, VOICES, Speaker

pytestmark = pytest.mark.mlx

QUICK = ("hermes", "glm4")
READ = tool("read", path="string", lines="integer")
# Lines with quotes of both kinds, a backslash and characters outside of ASCII.
VALUE = "\n".join(
    ["#!/bin/sh", 'say "it\'s" \\ grüße ☃ 🎉', *("one two three four five six",) * 60, "the end"]
)
FINAL = "All is done."


@dataclass(frozen=True)
class Served:
    """A family and a server of it."""

    speaker: Speaker
    live: Live


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Live]]:
    """Return servers of the families that are always tested; they start at the same time."""
    folder = tmp_path_factory.mktemp("quick")
    folders = {name: Speaker(name).checkpoint(folder / name) for name in QUICK}
    with serve_folders(folders) as servers:
        yield servers


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in VOICES],
)
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """Return a server of the family's model."""
    speaker = Speaker(request.param)
    if request.param in QUICK:
        yield Served(speaker, request.getfixturevalue("quick")[request.param])
        return
    folder = speaker.checkpoint(tmp_path_factory.mktemp(request.param) / "model")
    with serve_folder(folder) as live:
        yield Served(speaker, live)


def results(dialect: str, told: Told, text: str) -> list[dict[str, Any]]:
    """Return what a client sends behind the question: the answer, and the result of its call."""
    (id_,) = told.ids
    back: dict[str, dict[str, Any]] = {
        "chat": {"role": "tool", "tool_call_id": id_, "content": text},
        "messages": {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": id_, "content": text}],
        },
        "responses": {"type": "function_call_output", "call_id": id_, "output": text},
    }
    return [*told.sent_back, back[dialect]]


def test_is_recognised(served: Served) -> None:
    """The family is known by its chat template alone."""
    assert served.live.client.get("/api/status").json()["model"]["family"] == (
        served.speaker.family.name
    )


@pytest.mark.parametrize("dialect", DIALECTS)
def test_turn(dialect: str, served: Served) -> None:
    """A thought, a text and a call with a long value come exact and in pieces, and go back."""
    ask, speaker = DIALECTS[dialect], served.speaker
    field = "input" if dialect == "responses" else "messages"
    unwritten = speaker.voice.unwritten
    text = "" if unwritten == "text" else TEXT
    thought = THOUGHT if speaker.thinks and unwritten != "thought" else ""
    script = speaker.script(("run", {"command": VALUE}), text=text, thought=thought)
    # No two conversations begin alike, so that all that is cached is this one's.
    said = [{"role": "user", "content": f"By {dialect}: {user(script)['content']}"}]
    told = ask(served.live, "", stream=True, **{field: said})

    assert told.calls == [("run", {"command": VALUE})]
    assert (told.text.strip(), told.reasoning.strip(), told.end) == (text, thought, "tool_calls")
    assert told.fragments >= 400

    final = user(speaker.script(text=FINAL))["content"]
    said += results(dialect, told, final)
    streamed = ask(served.live, "", stream=True, **{field: said})
    whole = ask(served.live, "", stream=False, **{field: said})
    assert (streamed.text, streamed.calls, streamed.end) == (FINAL, [], "stop")
    assert whole == streamed
    replayed = 0.9 * (told.prompt + told.completion)
    assert streamed.cached >= replayed


def test_two_calls(served: Served) -> None:
    """Two calls in one answer arrive in their order, whole in every dialect."""
    calls: list[tuple[str, dict[str, Any]]] = [("run", {"command": "ls\ncat a"}), ("now", {})]
    script = served.speaker.script(*calls, text=TEXT)

    for ask in DIALECTS.values():
        told = ask(served.live, script, stream=False)
        assert (told.text.strip(), told.calls, told.end) == (TEXT, calls, "tool_calls")
        assert told.reasoning.strip() == (THOUGHT if served.speaker.thinks else "")


def test_pieces_of_a_value_that_never_ends(served: Served) -> None:
    """A value is streamed before its end is known."""
    script = served.speaker.script(("run", {"command": VALUE}))
    heard = served.live.stream(script, tools=[tool("run", command="string")], max_tokens=200)

    assert (heard.finish, heard.calls[0]["name"]) == ("length", "run")
    assert heard.fragments[0] >= 100
    assert json.dumps(VALUE, ensure_ascii=False).startswith(
        heard.calls[0]["text"].removeprefix('{"command": ')
    )


def test_forced_call(served: Served) -> None:
    """Where a call is demanded, one comes, of its schema, if the shape has a grammar."""
    family = served.speaker.family
    if family.shape.grammar is None:
        pytest.skip("no grammar")
    thought = THOUGHT if family.thinking else ""
    script = served.speaker.script(("read", {"path": "a b", "lines": "three"}), thought=thought)
    wish = {"tool_choice": "required", "parallel_tool_calls": False, "max_tokens": 200}
    answer = served.live.chat(script, tools=[READ], **wish)
    (call,) = answer["choices"][0]["message"]["tool_calls"]
    arguments = json.loads(call["function"]["arguments"])

    assert (call["function"]["name"], arguments["path"]) == ("read", "a b")
    assert type(arguments["lines"]) is int


def test_spelled_control_tokens(served: Served) -> None:
    """A client's text that spells control tokens is text, and so is one that the model quotes."""
    speaker = served.speaker
    markers = speaker.family.control_texts
    quoted = f"Calls stand between `{' '.join(markers[:1])}` and `{' '.join(markers[1:2])}`."
    plain = served.live.chat(speaker.script(quoted=quoted), tools=[READ])
    tokens = served.live.chat(speaker.script(text=quoted), tools=[READ])

    for answer in (plain, tokens):
        assert answer["choices"][0]["message"]["content"] == quoted
        assert answer["choices"][0]["finish_reason"] == "stop"
    if markers:
        used = [each["usage"]["completion_tokens"] for each in (plain, tokens)]
        assert used[0] > used[1]
