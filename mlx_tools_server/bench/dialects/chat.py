"""OpenAI chat completions.

Rules of this file:
- Servers differ in what they leave out: the index of a call, its id in later pieces, the usage's
  own chunk. Whatever can be meant by one thing only is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ..conversation import Call, Conversation, Said
from .base import Delta, Dialect, Reader, bearer, count, message_of


def write(conversation: Conversation, model: str, max_tokens: int) -> dict[str, Any]:
    """Return the body of a request."""
    messages = [{"role": "system", "content": conversation.system}] if conversation.system else []
    tools = [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters,
            },
        }
        for tool in conversation.tools
    ]
    return {
        "model": model,
        "messages": [*messages, *map(message, conversation.messages)],
        **({"tools": tools} if tools else {}),
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def message(said: Said) -> dict[str, Any]:
    if said.role == "tool":
        return {"role": "tool", "tool_call_id": said.call_id, "content": said.text}
    made: dict[str, Any] = {"role": said.role, "content": said.text}
    if said.calls:
        made["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {
                    "name": call.name,
                    "arguments": call.arguments if call.is_valid else "{}",
                },
            }
            for call in said.calls
        ]
    return made


class ChatReader(Reader):
    """Reads `chat.completion.chunk`s."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: dict[int, Call] = {}

    def _event(self, event: Mapping[str, Any]) -> Iterator[Delta]:
        if event.get("error") or event.get("object") == "error":
            self.heard.error = message_of(event.get("error") or event)
            return
        self._usage(event)
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or choice.get("message") or {}
            yield from self._thought(delta.get("reasoning_content") or delta.get("reasoning"))
            yield from self._text(delta.get("content"))
            for piece in delta.get("tool_calls") or ():
                yield from self._piece(piece)
            self.heard.finish = choice.get("finish_reason") or self.heard.finish

    def _piece(self, piece: Mapping[str, Any]) -> Iterator[Delta]:
        function = piece.get("function") or {}
        name, index = function.get("name"), piece.get("index")
        if index is None:  # whole calls may have none
            index = len(self._calls) - (not name)
        known = self._calls.get(index)
        if known is None or (name and piece.get("id") not in (None, known.id)):
            yield from self._call(piece.get("id"), name)
            known = self._calls[index] = self.heard.calls[-1]
        arguments = function.get("arguments")
        if isinstance(arguments, Mapping):  # not as the API has it, but without a doubt
            arguments = json.dumps(arguments)
        yield from self._arguments(known, arguments)

    def _usage(self, event: Mapping[str, Any]) -> None:
        usage, heard = event.get("usage") or {}, self.heard
        told = count(usage.get("prompt_tokens"))
        heard.prompt = heard.prompt if told is None else told
        told = count(usage.get("completion_tokens"))
        heard.completion = heard.completion if told is None else told
        details = usage.get("prompt_tokens_details") or {}
        told = count(details.get("cached_tokens", usage.get("prompt_cache_hit_tokens")))
        if told is None:  # llama.cpp
            told = count((event.get("timings") or {}).get("cache_n"))
        heard.cached = heard.cached if told is None else told


DIALECT = Dialect("chat", "/v1/chat/completions", "OPENAI_API_KEY", bearer, write, ChatReader)
