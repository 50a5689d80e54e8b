"""The shared parser cases, through the real server: each streamed and whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from ..cases import CASES, Case
from .live import Live, serve

pytestmark = pytest.mark.mlx


@pytest.fixture(scope="module")
def free(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Return a server whose model may write its calls as badly as it likes."""
    with serve(tmp_path_factory.mktemp("free"), "--constrain", "off") as server:
        yield server


@pytest.fixture(scope="module")
def free_thinker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Return the same for a model that thinks."""
    folder, flags = tmp_path_factory.mktemp("free_thinker"), ("--constrain", "off")
    with serve(folder, *flags, template="qwen3_5", thinking=True, hybrid=True) as server:
        yield server


def fields(case: Case, server: Live) -> dict[str, Any]:
    """Return the request fields that a case needs beside its script."""
    result: dict[str, Any] = {"tools": case.tools}
    for option in ("parallel_tool_calls", "tool_choice"):
        if option in case.options:
            result[option] = case.options[option]
    if case.options.get("thinking") == "model":
        result["chat_template_kwargs"] = {"enable_thinking": False}
    if case.engine_finish == "length":
        # As many tokens as the text has: the answer is cut where the text ends.
        usage = server.chat(case.model_output, tools=case.tools)["usage"]
        result["max_tokens"] = usage["completion_tokens"]
    return result


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.id}-{case.level}")
def test_case(case: Case, free: Live, free_thinker: Live) -> None:
    """A client gets what the table says, and the same whether it streams or not."""
    server = free_thinker if case.options.get("thinking") else free
    request = fields(case, server)

    whole = server.chat(case.model_output, **request)["choices"][0]
    heard = server.stream(case.model_output, **request)

    message = whole["message"]
    calls = [
        {
            "name": call["function"]["name"],
            "arguments": json.loads(call["function"]["arguments"]),
        }
        for call in message.get("tool_calls", ())
    ]
    assert case.expected_calls == calls
    assert case.expected_content == (message["content"] or "")
    assert case.expected_reasoning == message.get("reasoning_content", "")
    assert case.expected_finish == whole["finish_reason"]

    streamed = heard.calls[: len(calls)]
    assert case.expected_calls == [
        {"name": call["name"], "arguments": json.loads(call["text"])} for call in streamed
    ]
    assert case.expected_content == heard.content
    assert case.expected_reasoning == heard.reasoning
    assert case.expected_finish == heard.finish
    assert heard.done
    for cut in heard.calls[len(calls) :]:
        assert case.partial_call["name"] == cut["name"]
        with pytest.raises(ValueError):  # noqa: PT011  JSON's own error
            json.loads(cut["text"])


# In these a lone closer stands before a line that begins with `</`, where a grammar ends the value
# (docs/decisions/005).
ENDED = ("t03", "t10")
TAGS = [case for case in CASES if case.category == "tags_in_values" and case.id not in ENDED]


@pytest.mark.parametrize("case", TAGS, ids=lambda case: f"{case.id}-{case.level}")
def test_tags_in_constrained_values(case: Case, live: Live) -> None:
    """Tags in a value come through under a grammar as they do without one."""
    told = live.chat(case.model_output, tools=case.tools, max_tokens=600)["choices"][0]

    calls = [
        {"name": call["function"]["name"], "arguments": json.loads(call["function"]["arguments"])}
        for call in told["message"].get("tool_calls", ())
    ]
    assert case.expected_calls == calls
    assert case.expected_content == (told["message"]["content"] or "")
