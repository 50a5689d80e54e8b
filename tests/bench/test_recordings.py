"""Recordings: what is played again is what was recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlx_tools_server.bench import recordings
from mlx_tools_server.errors import StartupError

ROUTES = {"chat": "/v1/chat/completions", "messages": "/v1/messages", "responses": "/v1/responses"}


def write(path: Path, *entries: tuple[str, str, dict[str, Any]]) -> str:
    lines = (
        json.dumps({"route": ROUTES[dialect], "seconds": 0, "session": session, "body": body})
        for dialect, session, body in entries
    )
    path.write_text("\n".join(lines) + "\n\n")
    return str(path)


def user(*texts: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text} for text in texts]}


def test_conversations(tmp_path: Path) -> None:
    """A request goes on with the longest earlier one that it begins with, in its session."""
    path = write(
        tmp_path / "r",
        ("chat", "a", user("1")),
        ("chat", "a", user("title")),
        ("chat", "b", user("1", "2")),
        ("chat", "a", user("1", "2")),
        ("chat", "a", user("1", "2", "3")),
        ("messages", "a", user("1", "2", "3", "4")),
        ("chat", "a", user("1", "other")),
    )

    found = recordings.read(path)

    assert [each.parent for each in found] == [None, None, None, 0, 3, None, 0]
    assert [each.turn for each in found] == [1, 2, 1, 3, 4, 5, 6]
    assert [each.dialect for each in found][5:] == ["messages", "chat"]


BODIES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "a string": (
        "chat",
        {"messages": [{"role": "system", "content": "Be."}]},
        {"messages": [{"role": "system", "content": "Session n.\nBe."}]},
    ),
    "parts": (
        "chat",
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]},
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "Session n.\n"},
                        {"type": "text", "text": "Hi"},
                    ],
                }
            ]
        },
    ),
    "Anthropic's system": (
        "messages",
        {"system": "Be.", **user("Hi")},
        {"system": "Session n.\nBe.", **user("Hi")},
    ),
    "Anthropic without one": ("messages", user("Hi"), user("Session n.\nHi")),
    "instructions": (
        "responses",
        {"instructions": "Be.", "input": "Hi"},
        {"instructions": "Session n.\nBe.", "input": "Hi"},
    ),
    "a bare input": ("responses", {"input": "Hi"}, {"input": "Session n.\nHi"}),
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies(name: str, tmp_path: Path) -> None:
    """A body is sent as it was recorded, but for the model, the stream and the word at its head."""
    dialect, body, marked = BODIES[name]
    recorded = recordings.read(write(tmp_path / "r", (dialect, "a", {**body, "top_p": 0.5})))[0]

    plain = recordings.prepared(recorded, "m", None, "")
    made = recordings.prepared(recorded, "m", 7, "n")

    ours = {"model": "m", "stream": True, "top_p": 0.5}
    usage = {"stream_options": {"include_usage": True}} if dialect == "chat" else {}
    limit = {"max_output_tokens" if dialect == "responses" else "max_tokens": 7}
    assert plain == {**body, **ours, **usage}
    assert made == {**marked, **ours, **usage, **limit}


BAD = [
    pytest.param("", "is empty", id="empty"),
    pytest.param("{", "Line 1 of", id="no JSON"),
    pytest.param('{"route": "/v1/x", "session": "a", "body": {}}', "Line 1 of", id="route"),
    pytest.param('{"route": "/v1/messages", "session": "a"}', "Line 1 of", id="no body"),
    pytest.param("[]", "Line 1 of", id="no object"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_bad_recordings(text: str, message: str, tmp_path: Path) -> None:
    """What is no recording is refused with its line."""
    path = tmp_path / "r"
    path.write_text(text)

    with pytest.raises(StartupError, match=message):
        recordings.read(str(path))


def test_no_recording(tmp_path: Path) -> None:
    """A file that is not there is refused with the reason."""
    with pytest.raises(StartupError, match="No such file"):
        recordings.read(str(tmp_path / "none"))
