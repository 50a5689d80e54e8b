"""Anthropic messages.

Rules of this file:
- A prompt's tokens are those that were read from the cache, written to it, and neither.
- A call without any input has an empty one, as Anthropic's own clients read it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from ..conversation import Call, Conversation, Said
from .base import Delta, Dialect, Reader, count, message_of

VERSION = "2023-06-01"


def headers(key: str | None) -> dict[str, str]:
    """Return the headers of a request."""
    return {"anthropic-version": VERSION, **({"x-api-key": key} if key else {})}


def write(conversation: Conversation, model: str, max_tokens: int) -> dict[str, Any]:
    """Return the body of a request."""
    tools = [
        {"name": tool.name, "description": tool.description, "input_schema": tool.parameters}
        for tool in conversation.tools
    ]
    # Roles take turns: results are part of the user's message.
    turns = groupby(conversation.messages, lambda said: said.role == "assistant")
    messages = [
        {
            "role": "assistant" if is_answer else "user",
            "content": [block for said in group for block in _blocks(said)],
        }
        for is_answer, group in turns
    ]
    return {
        "model": model,
        **({"system": conversation.system} if conversation.system else {}),
        "messages": messages,
        **({"tools": tools} if tools else {}),
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": True,
    }


def _blocks(said: Said) -> Iterator[dict[str, Any]]:
    if said.role == "tool":
        yield {"type": "tool_result", "tool_use_id": said.call_id, "content": said.text}
        return
    if said.thought:
        yield {"type": "thinking", "thinking": said.thought, "signature": said.signature}
    if said.text:
        yield {"type": "text", "text": said.text}
    for call in said.calls:
        yield {"type": "tool_use", "id": call.id, "name": call.name, "input": call.object}


class MessagesReader(Reader):
    """Reads the events of a `message`."""

    def __init__(self) -> None:
        super().__init__()
        self._blocks: dict[int, Call] = {}

    def _event(self, event: Mapping[str, Any]) -> Iterator[Delta]:
        kind, index = event.get("type"), event.get("index", 0)
        if kind == "content_block_start":
            yield from self._begin(index, event["content_block"])
        elif kind == "content_block_delta":
            yield from self._more(index, event["delta"])
        elif kind == "content_block_stop":
            self._end(index)
        elif kind == "message":
            self.heard.error = "The answer is no stream."
        elif event.get("error"):
            self.heard.error = message_of(event["error"])
        else:
            self._about(kind, event)

    def _about(self, kind: Any, event: Mapping[str, Any]) -> None:
        """Take what is said of the message as a whole."""
        if kind == "message_start":
            self._usage(event["message"].get("usage") or {})
        elif kind == "message_delta":
            self._usage(event.get("usage") or {})
            self.heard.finish = event["delta"].get("stop_reason") or self.heard.finish
        elif kind == "message_stop":
            self._ended = True

    def _begin(self, index: int, block: Mapping[str, Any]) -> Iterator[Delta]:
        kind = block.get("type")
        if kind == "tool_use":
            yield from self._call(block.get("id"), block.get("name"))
            self._blocks[index] = self.heard.calls[-1]
            if block.get("input"):
                yield from self._arguments(self._blocks[index], json.dumps(block["input"]))
        elif kind == "text":
            yield from self._text(block.get("text"))
        elif kind == "thinking":
            yield from self._thought(block.get("thinking"))

    def _more(self, index: int, delta: Mapping[str, Any]) -> Iterator[Delta]:
        kind = delta.get("type")
        if kind == "text_delta":
            yield from self._text(delta["text"])
        elif kind == "thinking_delta":
            yield from self._thought(delta["thinking"])
        elif kind == "signature_delta":
            self.heard.signature += delta["signature"]
        elif kind == "input_json_delta":
            yield from self._arguments(self._blocks[index], delta["partial_json"])

    def _end(self, index: int) -> None:
        call = self._blocks.get(index)
        if call is not None and not call.arguments:
            call.arguments = "{}"

    def _usage(self, usage: Mapping[str, Any]) -> None:
        cached = count(usage.get("cache_read_input_tokens"))
        fresh = count(usage.get("input_tokens"))
        if fresh is not None:
            written = count(usage.get("cache_creation_input_tokens")) or 0
            prompt = fresh + written + (cached or 0)
            # The end of a stream may repeat the counts of its beginning, or have zeros for them.
            if prompt or self.heard.prompt is None:
                self.heard.prompt, self.heard.cached = prompt, cached
        told = count(usage.get("output_tokens"))
        self.heard.completion = self.heard.completion if told is None else told


DIALECT = Dialect(
    "messages",
    "/v1/messages",
    "ANTHROPIC_API_KEY",
    headers,
    write,
    MessagesReader,
    system="system",
)
