"""The built-in model: real weights that make real calls through the real server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from mlx_tools_server.demo import WISHES, Tools

from .live import Live, process

pytestmark = pytest.mark.mlx

COMMAND = [sys.executable, "-m", "mlx_tools_server"]
EXPECTED: list[tuple[str, dict[str, Any], str]] = [
    ("write_file", {"path": "notes.txt", "content": "milk and bread"}, "wrote 14 characters"),
    ("read_file", {"path": "notes.txt"}, "milk and bread"),
    ("replace_text", {"path": "notes.txt", "old": "milk", "new": "tea"}, "1 replacement"),
    ("add_numbers", {"a": 17, "b": 25}, "42"),
    ("list_folder", {"path": "reports"}, "april.txt may.txt"),
]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Return a server of the built-in model."""
    folder = tmp_path_factory.mktemp("demo")
    command = [*COMMAND, "--model-path", "demo", "--port", "0", "--no-kv-disk"]
    with process(command, folder) as live:
        yield live


def test_session_of_six_turns(demo: Live, tmp_path: Path) -> None:
    """In a session of six wishes each call is right, each result is used, and the cache grows."""
    tools = Tools(tmp_path)
    messages: list[Any] = []
    calls: list[tuple[str, dict[str, Any], str]] = []
    finals: list[str] = []
    cached: list[int] = []
    client = openai.OpenAI(base_url=f"{demo.url}/v1", api_key="local")
    arguments: dict[str, Any] = {"model": "demo", "messages": messages, "tools": tools.specs}
    for wish in WISHES:
        messages.append({"role": "user", "content": wish})
        for _ in range(3):
            with client.chat.completions.stream(
                **arguments, stream_options={"include_usage": True}
            ) as stream:
                answer = stream.get_final_completion()
            assert answer.usage
            assert answer.usage.prompt_tokens_details
            cached.append(answer.usage.prompt_tokens_details.cached_tokens or 0)
            message = answer.choices[0].message
            messages.append(message.model_dump(exclude_none=True))
            for call in message.tool_calls or ():
                given = call.function.arguments
                result = tools.call(call.function.name, given)
                calls.append((call.function.name, json.loads(given), result))
                messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
            if not message.tool_calls:
                finals.append(message.content or "")
                break
    client.close()

    assert calls == EXPECTED
    assert len(finals) == len(WISHES)
    for final, (_, _, result) in zip(finals, EXPECTED, strict=False):
        assert result in final
    assert cached[0] == 0
    assert cached == sorted(set(cached))


def ask(demo: Live, folder: Path, text: str, **fields: Any) -> dict[str, Any]:
    """Return the message that answers a wish."""
    folder.mkdir()
    body = {"messages": [{"role": "user", "content": text}], "tools": Tools(folder).specs}
    answer = demo.post("/v1/chat/completions", {**body, "max_tokens": 200, **fields}).json()
    message: dict[str, Any] = answer["choices"][0]["message"]
    return message


def made(message: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the names and arguments of a message's calls."""
    functions = [call["function"] for call in message.get("tool_calls", ())]
    return [(one["name"], json.loads(one["arguments"])) for one in functions]


def test_tool_choice(demo: Live, tmp_path: Path) -> None:
    """Where it would chat, a call comes if one is demanded; and none comes if none may."""
    named = {"type": "function", "function": {"name": "add_numbers"}}
    schemas = {tool["function"]["name"]: tool["function"] for tool in Tools(tmp_path).specs}

    assert made(ask(demo, tmp_path / "a", "hello")) == []
    ((name, arguments),) = made(ask(demo, tmp_path / "b", "hello", tool_choice="required"))
    assert set(arguments) == set(schemas[name]["parameters"]["required"])
    ((name, arguments),) = made(ask(demo, tmp_path / "c", "thanks", tool_choice=named))
    assert (name, {type(value) for value in arguments.values()}) == ("add_numbers", {int})
    assert made(ask(demo, tmp_path / "d", WISHES[0], tool_choice="none")) == []


def test_words_for_numbers(demo: Live, tmp_path: Path) -> None:
    """A prompt that says "three" still gives integers where the schema wants them."""
    ((name, arguments),) = made(ask(demo, tmp_path / "a", "add three and 4"))

    assert name == "add_numbers"
    assert {type(value) for value in arguments.values()} == {int}


def test_json_schema(demo: Live, tmp_path: Path) -> None:
    """An answer is the JSON of its schema, though the model knows nothing of JSON."""
    fields = {"ok": {"type": "boolean"}, "count": {"type": "integer"}}
    schema = {
        "type": "object",
        "properties": fields,
        "required": ["ok", "count"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    told = json.loads(ask(demo, tmp_path / "a", "hello", tools=[], response_format=form)["content"])

    assert {name: type(value) for name, value in told.items()} == {"ok": bool, "count": int}


def test_once() -> None:
    """`demo --once` shows the calls, their results and the cached share, and ends."""
    result = subprocess.run(
        [*COMMAND, "demo", "--once"], capture_output=True, text=True, timeout=120, check=False
    )

    assert result.returncode == 0, result.stderr
    assert "tool call  write_file" in result.stdout
    assert "result     milk and bread" in result.stdout
    assert "prompt tokens were cached" in result.stdout
    assert "\033[" not in result.stdout


def test_unknown_option() -> None:
    """`demo` names an option that it does not know."""
    result = subprocess.run(
        [*COMMAND, "demo", "--twice"], capture_output=True, text=True, timeout=60, check=False
    )

    assert result.returncode == 2
    assert "--twice" in result.stderr
