"""Anthropic messages, `/v1/messages` and `/v1/messages/count_tokens`.

Rules of this file:
- A string is one block of text; `cache_control` says nothing. Clients change both between requests,
  and the prompt must keep its beginning.
- A deferred tool is defined where the conversation first refers to it, and nowhere before.
- The blocks of an answer stand one behind the other, each closed before the next opens. A block
  opens with its first content: none is empty, and a call that was cut before its arguments is none.
- An error event is the last one; there is no `[DONE]`.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from ..errors import BadRequest, ContextOverflow, RequestError
from ..events import (
    Answer,
    Event,
    Failed,
    Finished,
    Part,
    PartDelta,
    PartEnded,
    PartStarted,
    Progress,
    Sampled,
    Started,
    Usage,
)
from ..jsontext import dumps, loads
from ..messages import ChatRequest, Message, Options, Sampling, ToolCall, ToolChoice, ToolSpec
from ..wire import MAX_TOKENS, Fields, read_sampling, read_stop
from .base import (
    NotText,
    check_tools,
    failed,
    named_sse,
    read_format,
    read_tool_name,
    system_text,
)
from .wishes import read_messages_thinking

STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
PING = b'event: ping\ndata: {"type": "ping"}\n\n'


# What clients send.


def parse(body: Fields, defaults: Sampling) -> ChatRequest:
    """Return the request that a body asks for; raises BadRequest if it can't be understood.

    An assistant message at the end is one of the conversation; the answer does not continue it.
    """
    max_tokens = body.integer("max_tokens", None, 1, MAX_TOKENS)
    if max_tokens is None:
        raise BadRequest(
            "max_tokens is missing; it must be the most tokens that the answer may have.",
            param="max_tokens",
        )
    options = Options(
        model=body.name("model", ""),
        sampling=read_sampling(body, defaults),
        max_tokens=max_tokens,
        stop=read_stop(body, "stop_sequences"),
        stream=body.flag("stream", False),
    )
    return _request(body, options)


def parse_count(body: Fields) -> ChatRequest:
    """Return the conversation whose tokens are to be counted; raises BadRequest likewise."""
    return _request(body, Options(model=body.name("model", "")))


def count_body(tokens: int) -> dict[str, Any]:
    """Return the body that tells how many tokens a conversation has."""
    return {"input_tokens": tokens}


def _request(body: Fields, options: Options) -> ChatRequest:
    tools = tuple(map(_tool, body.objects("tools", ())))
    check_tools(tools)
    conversation = body.objects("messages")
    if not conversation:
        raise BadRequest("messages must not be empty.", param="messages")
    system = _joined(system_text(_text_only(block)) for block in _blocks(body, "system"))
    choice = body.object("tool_choice", {"type": "auto"})
    reader = _Reader(tools)
    messages = [Message("system", system)] if system else []
    for fields in conversation:
        messages += reader.read(fields)
    return ChatRequest(
        messages=tuple(messages),
        tools=tools,
        tool_choice=_tool_choice(choice, tools),
        parallel_tool_calls=not choice.flag("disable_parallel_tool_use", False),
        output_format=read_format(body.object("output_config", {}), "format"),
        thinking=read_messages_thinking(body),
        options=options,
    )


def _tool(fields: Fields) -> ToolSpec:
    kind = fields.text("type", "custom")
    if kind != "custom":
        raise BadRequest(
            f"{fields.at('type')} is {kind[:40]!r}, one of Anthropic's own tools, which this "
            "server does not have. Leave it out, or send a tool with a name and an input_schema.",
            param=fields.at("type"),
        )
    return ToolSpec(
        read_tool_name(fields),
        fields.text("description", ""),
        fields.mapping("input_schema"),
        deferred=fields.flag("defer_loading", False),
        strict=fields.flag("strict", False),
    )


def _tool_choice(choice: Fields, tools: Sequence[ToolSpec]) -> ToolChoice:
    match choice.text("type"):
        case "auto":
            return ToolChoice()
        case "none":
            return ToolChoice("none")
        case "any":
            if not tools:
                raise BadRequest("tool_choice is 'any', but there are no tools.", param="tools")
            return ToolChoice("required")
        case "tool":
            name = choice.text("name")
            if name not in {tool.name for tool in tools}:
                raise choice.wrong("name", "the name of one of the tools")
            return ToolChoice("named", name)
        case _:
            raise choice.wrong("type", "'auto', 'any', 'tool' or 'none'")


class _Reader:
    """Reads the messages of one conversation; knows which deferred tools it has defined so far."""

    def __init__(self, tools: Iterable[ToolSpec]) -> None:
        self._undefined = {tool.name: tool for tool in tools if tool.deferred}

    def read(self, fields: Fields) -> list[Message]:
        """Return what a message of the client says, as one message or as several."""
        match fields.text("role"):
            case "user":
                return self._from_user(fields)
            case "assistant":
                return [self._answer(fields)]
            case "system":
                texts = (system_text(_text_only(block)) for block in _blocks(fields, "content"))
                return [Message("system", _joined(texts))]
            case _:
                raise fields.wrong("role", "one of user, assistant, system")

    def _from_user(self, fields: Fields) -> list[Message]:
        messages: list[Message] = []
        blocks = _blocks(fields, "content")
        for is_result, group in groupby(blocks, lambda block: block.raw("type") == "tool_result"):
            if is_result:
                messages += map(self._result, group)
            elif text := _joined(map(self._text, group)):
                messages.append(Message("user", text))
        return messages or [Message("user")]

    def _result(self, block: Fields) -> Message:
        text = _joined(map(self._seen, _blocks(block, "content")))
        if block.flag("is_error", False) and not _says_error(text):
            text = f"Error: {text}" if text else "Error"
        return Message("tool", text, tool_call_id=block.text("tool_use_id", ""))

    def _answer(self, fields: Fields) -> Message:
        texts: list[str] = []
        thoughts: list[str] = []
        calls: list[ToolCall] = []
        for block in _blocks(fields, "content"):
            match block.raw("type"):
                case "thinking":
                    thoughts.append(block.text("thinking", ""))
                case "redacted_thinking":
                    pass
                case "tool_use":
                    arguments = block.mapping("input")
                    calls.append(ToolCall(block.text("id", ""), block.text("name"), arguments))
                case _:
                    texts.append(self._text(block))
        # An answer is recognised by its text, which the model wrote without a break.
        return Message("assistant", "".join(texts), "".join(thoughts), tuple(calls))

    def _seen(self, block: Fields) -> str:
        """Read a block of a result; what is no text stays in the conversation, so it is noted."""
        try:
            return self._text(block)
        except NotText as media:
            return media.note

    def _text(self, block: Fields) -> str:
        match block.text("type", "text"):
            case "tool_reference":
                return self._definition(block.text("tool_name"))
            case "document":
                parts = (block.text("title", ""), block.text("context", ""), _source(block))
                return _joined(parts)
            case "search_result":
                texts = map(_text_only, _blocks(block, "content"))
                return _joined((block.text("title", ""), block.text("source", ""), *texts))
            case _:
                return _text_only(block)

    def _definition(self, name: str) -> str:
        """Return what a reference to a tool says: at the first one, all of a deferred tool."""
        tool = self._undefined.pop(name, None)
        if tool is None:
            return f"Tool: {name}"
        function = {"name": name, "description": tool.description, "parameters": tool.parameters}
        return f"<tools>\n{dumps({'type': 'function', 'function': function})}\n</tools>"


def _blocks(fields: Fields, name: str) -> list[Fields]:
    content = fields.raw(name)
    if isinstance(content, str):
        return [Fields({"text": content}, fields.at(name))]
    return fields.objects(name, ())


def _text_only(block: Fields) -> str:
    kind = block.text("type", "text")
    if kind != "text" and not isinstance(block.raw("text"), str):
        raise NotText(block, kind)
    return str(block.text("text"))


def _source(document: Fields) -> str:
    source = document.object("source")
    match source.text("type"):
        case "text":
            return str(source.text("data"))
        case "content":
            return _joined(map(_text_only, _blocks(source, "content")))
        case kind:
            raise NotText(source, kind)


def _joined(texts: Iterable[str]) -> str:
    return "\n\n".join(filter(None, texts))


def _says_error(text: str) -> bool:
    return text.lstrip()[:16].lower().startswith(("error", "<tool_use_error>"))


# What clients read.


def error_body(error: RequestError) -> dict[str, Any]:
    """Return Anthropic's error envelope."""
    message = error.message
    if isinstance(error, ContextOverflow):
        # Word for word: it makes Claude Code compact the conversation.
        message = f"prompt is too long: {error.prompt_tokens} tokens > {error.limit} maximum"
    other = "invalid_request_error" if error.status < 500 else "api_error"
    kind = ERROR_TYPES.get(error.status, other)
    return {"type": "error", "error": {"type": kind, "message": message}}


class MessagesEncoder:
    """Writes one answer as the events of a `message`, or as one `message`."""

    def __init__(
        self, request: ChatRequest, *, answer_id: str, created: int, fingerprint: str
    ) -> None:
        self._head = {
            "id": answer_id,
            "type": "message",
            "role": "assistant",
            "model": request.options.model,
        }
        self._part = PartStarted("text")
        self._open = False
        self._blocks = 0
        self._thought = hashlib.sha256()

    def encode(self, event: Event) -> Sequence[bytes]:
        """Return the events that tell this event."""
        match event:
            case Started(prompt_tokens, cached_tokens):
                usage = Usage(prompt_tokens, cached_tokens=cached_tokens)
                message = self._message([], usage, stop_reason=None, stop_sequence=None)
                return [named_sse({"type": "message_start", "message": message})]
            case PartStarted():
                self._part = event
                return []
            case PartDelta(text):
                return self._told(text) if text else []
            case PartEnded(complete):
                return self._ended(complete)
            case Finished():
                end = {"delta": _stop(event), "usage": _usage(event.usage)}
                return [
                    named_sse({"type": "message_delta", **end}),
                    named_sse({"type": "message_stop"}),
                ]
            case Failed():
                return [named_sse(error_body(failed(event)))]
            case Progress() | Sampled():
                return []

    def keepalive(self) -> bytes:
        """Return a ping, which counts as a sign of life."""
        return PING

    def whole(self, answer: Answer) -> dict[str, Any]:
        """Return the whole answer as one body."""
        finished = answer.finished or Finished("stop", Usage())
        content = [
            _whole_block(part)
            for part in answer.parts
            if (part.complete if part.kind == "tool_call" else part.text)
        ]
        return self._message(content, finished.usage, **_stop(finished))

    def _message(
        self, content: Sequence[Mapping[str, Any]], usage: Usage, **stop: str | None
    ) -> dict[str, Any]:
        return {**self._head, "content": content, **stop, "usage": _usage(usage)}

    def _told(self, text: str) -> list[bytes]:
        """Return the events of more content, and before its first that of its block's start."""
        events = [] if self._open else [self._opened()]
        match self._part.kind:
            case "text":
                return [*events, self._delta("text_delta", text=text)]
            case "reasoning":
                self._thought.update(_octets(text))
                return [*events, self._delta("thinking_delta", thinking=text)]
            case "tool_call":
                return [*events, self._delta("input_json_delta", partial_json=text)]

    def _opened(self) -> bytes:
        self._open = True
        self._blocks += 1
        self._thought = hashlib.sha256()
        return self._block_event("content_block_start", content_block=_block(self._part))

    def _ended(self, complete: bool) -> list[bytes]:
        events: list[bytes] = []
        if self._part.kind == "tool_call" and complete and not self._open:
            events = self._told("{}")
        if not self._open:
            return []
        if self._part.kind == "reasoning":
            signature = _signature(self._thought.digest())
            events.append(self._delta("signature_delta", signature=signature))
        self._open = False
        return [*events, self._block_event("content_block_stop")]

    def _delta(self, kind: str, **content: str) -> bytes:
        return self._block_event("content_block_delta", delta={"type": kind, **content})

    def _block_event(self, kind: str, **content: Any) -> bytes:
        return named_sse({"type": kind, "index": self._blocks - 1, **content})


def _block(part: PartStarted | Part) -> dict[str, Any]:
    """Return the block of a part, with nothing in it yet."""
    match part.kind:
        case "text":
            return {"type": "text", "text": ""}
        case "reasoning":
            return {"type": "thinking", "thinking": "", "signature": ""}
        case "tool_call":
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": {}}


def _whole_block(part: Part) -> dict[str, Any]:
    match part.kind:
        case "text":
            content: dict[str, Any] = {"text": part.text}
        case "reasoning":
            digest = hashlib.sha256(_octets(part.text)).digest()
            content = {"thinking": part.text, "signature": _signature(digest)}
        case "tool_call":
            content = {"input": _input(part.text)}
    return {**_block(part), **content}


def _input(text: str) -> dict[str, Any]:
    """Return arguments as an object; what a foreign parser gave that is none, as text in one."""
    try:
        arguments = loads(text or "{}")
    except ValueError:
        arguments = None
    return arguments if isinstance(arguments, dict) else {"arguments": text}


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _signature(digest: bytes) -> str:
    # Clients want one, and send it back; the thought beside it is all that is read.
    return b64encode(digest).decode()


def _stop(finished: Finished) -> dict[str, str | None]:
    if finished.reason == "stop" and finished.stop:
        return {"stop_reason": "stop_sequence", "stop_sequence": finished.stop}
    return {"stop_reason": STOP_REASONS[finished.reason], "stop_sequence": None}


def _usage(usage: Usage) -> dict[str, Any]:
    """Return token counts; what came from the cache is not counted twice."""
    return {
        "input_tokens": max(0, usage.prompt_tokens - usage.cached_tokens),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
    }
