"""The shared parser cases, through the real server: each streamed and whole."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ..cases import CASES, Case
from .live import Live

pytestmark = pytest.mark.mlx


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
def test_case(case: Case, live: Live, thinker: Live) -> None:
    """A client gets what the table says, and the same whether it streams or not."""
    server = thinker if case.options.get("thinking") else live
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
