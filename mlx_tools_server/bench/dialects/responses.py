"""OpenAI responses.

Rules of this file:
- Each request has the whole conversation, and nothing is stored.
- A call's arguments count as they come; what only its end has counts then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..conversation import Call, Conversation, Said
from .base import Delta, Dialect, Reader, bearer, count, message_of

THOUGHTS = ("response.reasoning_text.delta", "response.reasoning_summary_text.delta")
TEXTS = ("response.output_text.delta", "response.refusal.delta")
INPUTS = ("response.function_call_arguments", "response.custom_tool_call_input")
CALLS = ("function_call", "custom_tool_call")


def write(conversation: Conversation, model: str, max_tokens: int) -> dict[str, Any]:
    """Return the body of a request."""
    tools = [
        {
            "type": "function",
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.parameters,
            "strict": False,
        }
        for tool in conversation.tools
    ]
    return {
        "model": model,
        **({"instructions": conversation.system} if conversation.system else {}),
        "input": [item for said in conversation.messages for item in _items(said)],
        **({"tools": tools} if tools else {}),
        "max_output_tokens": max_tokens,
        "temperature": 0,
        "store": False,
        "stream": True,
    }


def _items(said: Said) -> Iterator[dict[str, Any]]:
    if said.role == "tool":
        yield {"type": "function_call_output", "call_id": said.call_id, "output": said.text}
        return
    if said.text:
        kind = "output_text" if said.role == "assistant" else "input_text"
        content = [{"type": kind, "text": said.text}]
        yield {"type": "message", "role": said.role, "content": content}
    for call in said.calls:
        arguments = call.arguments if call.is_valid else "{}"
        yield {
            "type": "function_call",
            "call_id": call.id,
            "name": call.name,
            "arguments": arguments,
        }


class ResponsesReader(Reader):
    """Reads the events of a `response`."""

    def __init__(self) -> None:
        super().__init__()
        self._items: dict[int, Call] = {}

    def _event(self, event: Mapping[str, Any]) -> Iterator[Delta]:
        kind = str(event.get("type") or "")
        name, _, step = kind.rpartition(".")
        if kind in TEXTS:
            yield from self._text(event["delta"])
        elif kind in THOUGHTS:
            yield from self._thought(event["delta"])
        elif name in INPUTS:
            yield from self._input(event, step)
        elif name == "response.output_item":
            yield from self._item(event, step)
        elif kind in ("response.completed", "response.incomplete", "response.failed"):
            self._end(event["response"])
        elif kind == "error" or event.get("error"):
            self.heard.error = message_of(event.get("error") or event)

    def _input(self, event: Mapping[str, Any], step: str) -> Iterator[Delta]:
        call = self._items[event.get("output_index", len(self._items) - 1)]
        if step == "delta":
            yield from self._arguments(call, event["delta"])
        elif not call.arguments:
            yield from self._arguments(call, event.get("arguments") or event.get("input"))

    def _item(self, event: Mapping[str, Any], step: str) -> Iterator[Delta]:
        item, index = event["item"], event.get("output_index", len(self._items))
        if item.get("type") not in CALLS:
            return
        if index not in self._items:
            yield from self._call(item.get("call_id"), item.get("name"))
            self._items[index] = self.heard.calls[-1]
        call = self._items[index]
        if not call.arguments:
            yield from self._arguments(call, item.get("arguments") or item.get("input"))

    def _end(self, response: Mapping[str, Any]) -> None:
        heard, usage = self.heard, response.get("usage") or {}
        heard.prompt = count(usage.get("input_tokens"))
        heard.completion = count(usage.get("output_tokens"))
        heard.cached = count((usage.get("input_tokens_details") or {}).get("cached_tokens"))
        details = response.get("incomplete_details") or {}
        heard.finish = details.get("reason") or response.get("status")
        if response.get("error"):
            heard.error = message_of(response["error"])
        elif response.get("status") == "failed":
            heard.error = "The response failed"


DIALECT = Dialect(
    "responses",
    "/v1/responses",
    "OPENAI_API_KEY",
    bearer,
    write,
    ResponsesReader,
    system="instructions",
)
