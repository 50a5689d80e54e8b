"""What Anthropic's clients make of an answer: a strict reader, and the official SDK itself.

Rules of this file:
- The reader adds up a stream as the strictest client does, and fails where one of them would.
- The SDK reads the very bytes, as if its server had sent them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic.types import ErrorResponse, Message, RawMessageStreamEvent
from pydantic import TypeAdapter

EVENTS: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
# Where the deltas of a block add up, by the kind of block.
DELTAS = {
    "text": {"text_delta": "text"},
    "thinking": {"thinking_delta": "thinking", "signature_delta": "signature"},
    "tool_use": {"input_json_delta": "partial_json"},
}
EMPTY = {"text": "", "thinking": "", "signature": "", "input": {}}


def events_of(stream: bytes) -> list[dict[str, Any]]:
    """Return the data of a whole stream, each under a name that is its type."""
    *events, rest = stream.decode("utf-8").split("\n\n")
    assert rest == ""
    return [_data_of(event) for event in events]


def _data_of(event: str) -> dict[str, Any]:
    name, data = event.split("\n")
    read: dict[str, Any] = json.loads(data.removeprefix("data: "))
    assert name == f"event: {read['type']}"
    return read


def add_up(events: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the message that the events tell; blocks of cut calls have no `input`."""
    start, *others = events
    assert start["type"] == "message_start"
    message: dict[str, Any] = {**start["message"], "content": []}
    assert (start["message"]["content"], message["stop_reason"]) == ([], None)
    is_open = is_over = False
    for event in others:
        assert not is_over
        block = message["content"][-1] if message["content"] else {}
        match event["type"]:
            case "content_block_start":
                assert not is_open
                assert event["index"] == len(message["content"])
                message["content"].append(_opened(event["content_block"]))
                is_open = True
            case "content_block_delta":
                assert is_open
                assert event["index"] == len(message["content"]) - 1
                _add(block, event["delta"])
            case "content_block_stop":
                assert is_open
                assert event == {"type": "content_block_stop", "index": len(message["content"]) - 1}
                _close(block)
                is_open = False
            case "message_delta":
                assert not is_open
                assert message["stop_reason"] is None
                message |= event["delta"]
                message["usage"] = event["usage"]
            case "message_stop":
                assert message["stop_reason"]
                is_over = True
            case other:
                raise AssertionError(other)
    assert is_over
    return message


def _opened(block: dict[str, Any]) -> dict[str, Any]:
    assert all(block[name] == EMPTY[name] for name in block.keys() & EMPTY.keys())
    return {**block, "partial_json": ""} if block["type"] == "tool_use" else {**block}


def _add(block: dict[str, Any], delta: dict[str, Any]) -> None:
    name = DELTAS[block["type"]][delta["type"]]
    assert set(delta) == {"type", name}
    assert delta[name]
    # A thought is signed once, when it is whole.
    assert not block.get("signature")
    block[name] += delta[name]


def _close(block: dict[str, Any]) -> None:
    assert block["type"] != "thinking" or block["signature"]
    if block["type"] == "tool_use":
        del block["input"]
        try:
            block["input"] = json.loads(block["partial_json"])
        except ValueError:
            return
        del block["partial_json"]


@contextmanager
def sdk(status: int, content: bytes) -> Iterator[anthropic.Anthropic]:
    """Return the official client of a server that always answers like this."""
    kind = "text/event-stream" if content.startswith(b"event: ") else "application/json"

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, headers={"content-type": kind}, content=content)

    transport = httpx2.MockTransport(answer)
    with (
        httpx2.Client(transport=transport) as http,
        anthropic.Anthropic(api_key="any", max_retries=0, http_client=http) as client,
    ):
        yield client


def read_by_sdk(stream: bytes) -> dict[str, Any]:
    """Return the message that the official client adds up; raises what it raises."""
    with (
        sdk(200, stream) as client,
        client.messages.stream(
            model="qwen", max_tokens=9, messages=[{"role": "user", "content": "hi"}]
        ) as events,
    ):
        message: Message = events.get_final_message()
        return message.to_dict(exclude_unset=True)


def judge_stream(stream: bytes) -> None:
    """Fail unless the official types take every event, and the official client the whole stream."""
    *events, last = events_of(stream)
    if last["type"] == "error":
        judge_whole(last)
        with pytest.raises(anthropic.APIStatusError) as caught:
            read_by_sdk(stream)
        assert caught.value.body == last
    else:
        told, expected = read_by_sdk(stream), add_up([*events, last])
        contents = zip(told.pop("content"), expected.pop("content"), strict=True)
        assert all(block == wanted for block, wanted in contents if "partial_json" not in wanted)
        assert {name: told[name] for name in expected} == expected
        events.append(last)
    for event in events:
        EVENTS.validate_python(event, strict=True)


def judge_whole(body: dict[str, Any]) -> None:
    """Fail unless the official types take the whole body."""
    if body["type"] == "error":
        ErrorResponse.model_validate(body, strict=True)
    else:
        Message.model_validate(body, strict=True)
