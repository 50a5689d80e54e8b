"""What a client makes of an answer: strict readers of streams, and the official types.

Rules of this file:
- A reader adds up a stream as the strictest clients do, and fails where one of them would.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk


def chunks_of(stream: bytes) -> list[dict[str, Any]]:
    """Return the data of a whole stream, whose last event says that it is done."""
    *events, done, rest = stream.decode("utf-8").split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in events]


def judge_chat_stream(stream: bytes) -> None:
    """Fail unless the official types take the whole stream of a conversation."""
    judge_chat(chunks_of(stream))


def judge_text_stream(stream: bytes) -> None:
    """Fail unless the official types take the whole stream of a raw prompt."""
    judge_text(chunks_of(stream))


def judge_chat(chunks: Iterable[dict[str, Any]]) -> None:
    """Fail unless the official types take all chunks."""
    for chunk in chunks:
        if "error" not in chunk:
            ChatCompletionChunk.model_validate(chunk, strict=True)


def judge_text(chunks: Iterable[dict[str, Any]]) -> None:
    """Fail unless the official types take all chunks; theirs know no null as a reason."""
    for chunk in chunks:
        if "error" not in chunk:
            choices = [{**c, "finish_reason": c["finish_reason"] or "stop"}
                       for c in chunk["choices"]]  # fmt: skip
            Completion.model_validate({**chunk, "choices": choices}, strict=True)


def judge_whole(body: dict[str, Any]) -> None:
    """Fail unless the official types take the whole body."""
    if "error" not in body:
        judge = ChatCompletion if body["object"] == "chat.completion" else Completion
        judge.model_validate(body, strict=True)


def add_up_chat(chunks: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the choice that the chunks of a conversation tell."""
    message: dict[str, Any] = {"role": None, "content": "", "reasoning_content": ""}
    calls: list[dict[str, Any]] = []
    tokens: list[Any] = []
    reason = None
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        assert reason is None
        delta = choice["delta"]
        assert message["role"] is None or "role" not in delta
        message["role"] = delta.get("role", message["role"])
        for name in ("content", "reasoning_content"):
            message[name] += delta.get(name, "")
        for call in delta.get("tool_calls", ()):
            _add_call(calls, call)
        tokens += (choice["logprobs"] or {}).get("content", ())
        reason = choice["finish_reason"]
    return {"message": message, "calls": calls, "logprobs": tokens, "finish_reason": reason}


def _add_call(calls: list[dict[str, Any]], delta: dict[str, Any]) -> None:
    if "id" in delta:
        assert delta["index"] == len(calls)
        assert delta["type"] == "function"
        assert delta["function"]["arguments"] == ""
        calls.append({"id": delta["id"], "type": "function", "function": {**delta["function"]}})
    else:
        assert set(delta) == {"index", "function"}
        assert set(delta["function"]) == {"arguments"}
        assert delta["index"] == len(calls) - 1
        assert delta["function"]["arguments"]
        calls[-1]["function"]["arguments"] += delta["function"]["arguments"]


def add_up_text(chunks: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the choice that the chunks of a raw prompt tell."""
    text, reason = "", None
    logprobs: dict[str, list[Any]] = {}
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        assert reason is None
        text += choice["text"]
        reason = choice["finish_reason"]
        for name, values in (choice["logprobs"] or {}).items():
            logprobs.setdefault(name, []).extend(values)
    return {"index": 0, "text": text, "logprobs": logprobs or None, "finish_reason": reason}
