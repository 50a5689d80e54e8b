"""Recordings of requests: what is in them, and what is not."""

from __future__ import annotations

import json
import logging
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from mlx_tools_server.bench import recordings
from mlx_tools_server.config import ServerConfig
from mlx_tools_server.errors import StartupError
from mlx_tools_server.recording import Recorder, Redactor, recorder

from ..dialects.reading import read_request
from .live import call, serve, tool, user

SECRET = "Heinrich"
REDACTOR = Redactor(b"key")
SCHEMA = {
    "type": "object",
    "description": SECRET,
    "properties": {
        "description": {"type": "string", "description": SECRET, "pattern": "^a+$"},
        "default": {"enum": ["on", "off"], "default": SECRET, "examples": [SECRET]},
        "deep": {"$ref": "#/$defs/title"},
    },
    "required": ["description"],
    "$defs": {"title": {"type": "string", "format": "uri", "title": SECRET}},
}
KEPT = {
    "type": "object",
    "properties": {
        "description": {"type": "string", "pattern": "^a+$"},
        "default": {"enum": ["on", "off"]},
        "deep": {"$ref": "#/$defs/title"},
    },
    "required": ["description"],
    "$defs": {"title": {"type": "string", "format": "uri"}},
}
ARGUMENTS = {"description": SECRET, "env": {SECRET: [SECRET, 7]}}
IMAGE = {"type": "base64", "media_type": "image/png", "data": SECRET}

BODIES: dict[str, dict[str, Any]] = {
    "chat": {
        "model": "m",
        "messages": [
            {"role": "system", "content": SECRET, "name": SECRET},
            {"role": "user", "content": [{"type": "text", "text": f"I am {SECRET}."}]},
            {
                "role": "assistant",
                "content": SECRET,
                "reasoning_content": SECRET,
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "note", "arguments": json.dumps(ARGUMENTS)},
                    },
                    {
                        "id": "call_2",
                        "type": "function",
                        "function": {"name": "note", "arguments": f'{{"x": {SECRET}'},
                    },
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": SECRET},
        ],
        "tools": [
            {
                "type": "function",
                "function": {"name": "note", "description": SECRET, "parameters": SCHEMA},
            }
        ],
        "stop": [SECRET],
        "user": SECRET,
        "metadata": {"name": SECRET, SECRET: "x"},
        "max_tokens": 9,
        "stream": True,
    },
    "messages": {
        "model": "m",
        "system": [{"type": "text", "text": SECRET, "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": SECRET},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": SECRET, "signature": SECRET},
                    {"type": "tool_use", "id": "tu_1", "name": "note", "input": ARGUMENTS},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "tu_1",
                        "content": [{"type": "text", "text": SECRET}],
                    },
                    {"type": "text", "text": SECRET},
                ],
            },
        ],
        "tools": [{"name": "note", "description": SECRET, "input_schema": SCHEMA}],
        "metadata": {"user_id": SECRET},
        "max_tokens": 9,
    },
    "responses": {
        "model": "m",
        "instructions": SECRET,
        "input": [
            {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": SECRET}],
            },
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": SECRET}]},
            {
                "type": "function_call",
                "call_id": "c1",
                "name": "note",
                "arguments": json.dumps(ARGUMENTS),
            },
            {"type": "function_call_output", "call_id": "c1", "output": SECRET},
        ],
        "tools": [
            {"type": "function", "name": "note", "description": SECRET, "parameters": SCHEMA}
        ],
        "reasoning": {"effort": "high", "summary": "auto"},
        "max_output_tokens": 9,
    },
}


@pytest.mark.parametrize("dialect", BODIES)
def test_no_content(dialect: str) -> None:
    """What is recorded has none of the words, and is a request of the same form."""
    body = BODIES[dialect]

    made = REDACTOR.body(body)

    assert SECRET not in json.dumps(made)
    before, after = read_request(dialect, body), read_request(dialect, made)
    assert [message.role for message in after.messages] == [
        message.role for message in before.messages
    ]
    for one, other in zip(before.messages, after.messages, strict=True):
        assert len(one.content) == len(other.content)
        assert [(each.id, each.name) for each in one.tool_calls] == [
            (each.id, each.name) for each in other.tool_calls
        ]
        assert [[*each.arguments][:1] for each in one.tool_calls] == [
            [*each.arguments][:1] for each in other.tool_calls
        ]
    assert after.tools[0].name == "note"
    assert _bare(after.tools[0].parameters) == KEPT
    assert after.options.max_tokens == 9


def _bare(schema: Any) -> Any:
    """Return a schema without what it tells the model."""
    if not isinstance(schema, dict):
        return schema
    named = ("properties", "$defs")
    return {
        key: {name: _bare(item) for name, item in value.items()} if key in named else value
        for key, value in schema.items()
        if key not in ("description", "title", "default", "examples")
    }


TEXTS = [
    "",
    " \n\t",
    "Hello, World!  x_1 = f(22)\n",
    "straße Ünï 数字 ٣ 😀 \ud800",
    "a" * 100,
    "snake_case CamelCase KEY=42",
]


@pytest.mark.parametrize("text", TEXTS)
def test_form_of_texts(text: str) -> None:
    """A text keeps its length, its white space and punctuation, its capitals and its digits."""
    made = REDACTOR.text(text)

    assert len(made) == len(text)
    for one, other in zip(text, made, strict=True):
        assert one == other if not one.isalnum() else other.isalnum()
        assert one.isdecimal() == other.isdecimal()
        assert not one.isupper() or other.isupper()


def test_what_stays_equal() -> None:
    """Equal texts stay equal, beginnings stay shared, and one word is not the same everywhere."""
    long, longer = "one two three", "one two three four"

    assert REDACTOR.text(long) == Redactor(b"key").text(long)
    assert REDACTOR.text(longer).startswith(REDACTOR.text(long))
    assert REDACTOR.text("one two") != REDACTOR.text("one six")
    assert len(set(REDACTOR.text("word " * 20).split())) > 10
    assert REDACTOR.text(long) != Redactor(b"other").text(long)


def test_file(tmp_path: Path) -> None:
    """Each request is a line of a file for this user alone, and a new server appends to it."""
    path = tmp_path / "r.jsonl"
    path.touch(0o644)
    clock = iter((100.0, 101.5, 200.0, 200.0))
    for _ in range(2):
        made = Recorder(path, clock=lambda: next(clock))
        made.record("/v1/messages", "client", BODIES["messages"])

    entries = [json.loads(line) for line in path.read_text().splitlines()]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry["seconds"] for entry in entries] == [1.5, 0.0]
    assert entries[0]["session"] != entries[1]["session"]
    assert "client" not in path.read_text()
    assert len(recordings.read(str(path))) == 2


def test_content_on_demand(tmp_path: Path) -> None:
    """With the content kept, a body is recorded as it came."""
    path = tmp_path / "r.jsonl"

    Recorder(path, keeps_content=True).record("/v1/chat/completions", "c", BODIES["chat"])

    assert json.loads(path.read_text())["body"] == BODIES["chat"]


def test_failure_to_write(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What can't be written is told once, and raises nothing."""
    made = Recorder(tmp_path / "r.jsonl")
    os.close(made._file)

    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            made.record("/v1/messages", "c", {})

    assert len(caplog.records) == 1
    assert "are answered all the same: Bad file descriptor" in caplog.text


SETTINGS = [
    pytest.param({"--record": "/no/such/folder/r"}, "No such file", id="folder"),
    pytest.param({"--record": "/"}, "Is a directory", id="no file"),
    pytest.param({"--record-content": True}, "Give --record FILE too", id="content alone"),
]


@pytest.mark.parametrize(("flags", "message"), SETTINGS)
def test_bad_settings(flags: dict[str, Any], message: str) -> None:
    """A recording that can't be made is told at the start."""
    with pytest.raises(StartupError, match=message):
        recorder(ServerConfig.from_sources(flags, {}, {}))


def test_nothing_by_default() -> None:
    """Without a word from the user nothing is recorded."""
    assert recorder(ServerConfig()) is None


@pytest.mark.slow
def test_over_http(tmp_path: Path) -> None:
    """A server records the requests of each dialect, and nothing of what they say."""
    path = tmp_path / "r.jsonl"
    script = call("note", text=SECRET)
    with serve(tmp_path, "--record", str(path), "--no-kv-disk") as live:
        live.chat(script, tools=[tool("note", text="string")])
        live.post("/v1/messages", {"max_tokens": 9, "messages": [user(SECRET)]})
        live.post("/v1/responses", {"input": SECRET}, headers={"User-Agent": "other"})
        live.post("/v1/completions", {"prompt": SECRET, "max_tokens": 1})

    found = recordings.read(str(path))
    assert [each.dialect for each in found] == ["chat", "messages", "responses"]
    assert [each.turn for each in found] == [1, 2, 1]
    assert SECRET not in path.read_text()
