"""OpenAI chat completions, `/v1/chat/completions`.

Rules of this file:
- The role comes once. A call's first delta has index, id, type, name and empty arguments; then
  come fragments of its arguments only; a call without arguments says `{}`. Strict clients drop
  or hang on anything else.
- The usage chunk comes only if it was asked for; then all other chunks carry `usage: null`.
- After an error there is still `[DONE]`; a stream never just ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import BadRequest
from ..events import (
    Answer,
    Event,
    Failed,
    Finished,
    Part,
    PartDelta,
    PartEnded,
    PartKind,
    PartStarted,
    Progress,
    Sampled,
    Started,
    TokenLogprob,
)
from ..messages import (
    ChatRequest,
    Message,
    Role,
    Sampling,
    ToolCall,
    ToolChoice,
    ToolSpec,
)
from ..wire import Fields, read_max_tokens, read_options, sse
from .base import (
    DONE,
    KEEPALIVE,
    Arguments,
    check_tools,
    ended,
    failed,
    finite,
    openai_error,
    openai_usage,
    read_format,
    read_texts,
    read_tool_name,
    system_text,
)
from .wishes import read_thinking

ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}


# What clients send.


def parse(body: Fields, defaults: Sampling) -> ChatRequest:
    """Return the request that a body asks for; raises BadRequest if it can't be understood."""
    if body.raw("chat_template") is not None:
        raise BadRequest(
            "chat_template can't be set by a request. Start the server with --chat-template.",
            param="chat_template",
        )
    if body.integer("n", 1, 1) != 1:
        raise BadRequest("n must be 1: this server gives one answer a request.", param="n")
    arguments = Arguments()
    messages = tuple(_message(fields, arguments) for fields in body.objects("messages"))
    if not messages:
        raise BadRequest("messages must not be empty.", param="messages")
    tools = tuple(map(_tool, body.objects("tools", ())))
    check_tools(tools)
    thinking, template_kwargs = read_thinking(body)
    return ChatRequest(
        messages=messages,
        tools=tools,
        tool_choice=_tool_choice(body, tools),
        parallel_tool_calls=body.flag("parallel_tool_calls", True),
        output_format=read_format(body, "response_format"),
        thinking=thinking,
        template_kwargs=template_kwargs,
        options=read_options(
            body,
            defaults,
            max_tokens=_max_tokens(body),
            top_logprobs=_top_logprobs(body),
        ),
    )


def _max_tokens(body: Fields) -> int | None:
    read_max_tokens(body, "max_tokens")  # it must be right even where the newer name counts
    return read_max_tokens(body, "max_completion_tokens", "max_tokens")


def _top_logprobs(body: Fields) -> int | None:
    top = body.integer("top_logprobs", 0, 0, 20)
    return int(top) if body.flag("logprobs", False) else None


def _tool(fields: Fields) -> ToolSpec:
    if fields.text("type", "function") != "function":
        raise fields.wrong("type", "'function', the only kind of tool on this route")
    function = fields.object("function")
    return ToolSpec(
        read_tool_name(function),
        function.text("description", ""),
        function.mapping("parameters"),
        strict=function.flag("strict", False),
    )


def _tool_choice(body: Fields, tools: Sequence[ToolSpec]) -> ToolChoice:
    choice = body.raw("tool_choice")
    if choice is None or choice == "auto":
        return ToolChoice()
    if choice == "none":
        return ToolChoice("none")
    if choice == "required":
        if not tools:
            raise BadRequest("tool_choice is 'required', but there are no tools.", param="tools")
        return ToolChoice("required")
    if isinstance(choice, Mapping) and choice.get("type") == "function":
        name = body.object("tool_choice").object("function").text("name")
        if name not in {tool.name for tool in tools}:
            raise BadRequest(
                f"tool_choice names {name[:80]!r}, which is not among the tools.",
                param="tool_choice",
            )
        return ToolChoice("named", name)
    raise body.wrong("tool_choice", "'auto', 'none', 'required' or a function of the tools")


def _message(fields: Fields, arguments: Arguments) -> Message:
    role = ROLES.get(fields.text("role"))
    if role is None:
        raise fields.wrong("role", f"one of {', '.join(ROLES)}")
    reasoning = ""
    if role == "assistant":
        reasoning = fields.text("reasoning_content", "") or fields.text("reasoning", "")
    return Message(
        role,
        read_texts(
            fields,
            "content",
            system_text if role == "system" else str,
            is_result=role == "tool",
        ),
        reasoning,
        tuple(_tool_calls(fields, arguments)) if role == "assistant" else (),
        fields.text("tool_call_id", "") if role == "tool" else "",
        fields.text("name", "") or "",
    )


def _tool_calls(fields: Fields, arguments: Arguments) -> list[ToolCall]:
    functions = [
        (call.object("function"), call.text("id", "")) for call in fields.objects("tool_calls", ())
    ]
    if fields.raw("function_call") is not None:  # the form before tools
        functions.append((fields.object("function_call"), ""))
    return [
        ToolCall(call_id, function.text("name"), arguments.read(function))
        for function, call_id in functions
    ]


# What clients read.


class ChatEncoder:
    """Writes one answer as `chat.completion.chunk`s, or as one `chat.completion`."""

    def __init__(
        self, request: ChatRequest, *, answer_id: str, created: int, fingerprint: str
    ) -> None:
        self._include_usage = request.options.include_usage
        self._wants_logprobs = request.options.top_logprobs is not None
        self._head = {
            "id": answer_id,
            "created": created,
            "model": request.options.model,
            "system_fingerprint": fingerprint,
        }
        self._kind: PartKind = "text"
        self._calls = 0
        self._fragments = False
        self._logprobs: list[TokenLogprob] = []

    def encode(self, event: Event) -> Sequence[bytes]:
        """Return the chunks that tell this event."""
        match event:
            case Started():
                return [self._chunk({"role": "assistant", "content": ""})]
            case PartStarted():
                return self._started(event)
            case PartDelta(text):
                return [self._chunk(self._delta(text))] if text else []
            case PartEnded(complete):
                # A whole call without arguments still needs an object.
                if self._kind == "tool_call" and complete and not self._fragments:
                    return [self._chunk(self._delta("{}"))]
                return []
            case Sampled(token):
                self._logprobs.append(token)
                return []
            case Finished():
                return self._finished(event)
            case Failed():
                return [sse(openai_error(failed(event))), DONE]
            case Progress():
                return []

    def keepalive(self) -> bytes:
        """Return a comment, which clients skip."""
        return KEEPALIVE

    def whole(self, answer: Answer) -> dict[str, Any]:
        """Return the whole answer as one body."""
        reason, usage = ended(answer)
        calls = [_whole_call(call) for call in answer.calls]
        text = answer.joined("text")
        content = None if calls and not text else text
        message: dict[str, Any] = {"role": "assistant", "content": content}
        if reasoning := answer.joined("reasoning"):
            message["reasoning_content"] = reasoning
        if calls:
            message["tool_calls"] = calls
        choice = {
            "index": 0,
            "message": message,
            "logprobs": _logprobs(answer.logprobs) if self._wants_logprobs else None,
            "finish_reason": reason,
        }
        return {
            **self._head,
            "object": "chat.completion",
            "choices": [choice],
            "usage": openai_usage(usage),
        }

    def _started(self, event: PartStarted) -> Sequence[bytes]:
        self._kind = event.kind
        if event.kind != "tool_call":
            return []
        self._calls += 1
        self._fragments = False
        call = {
            "index": self._calls - 1,
            "id": event.id,
            "type": "function",
            "function": {"name": event.name, "arguments": ""},
        }
        return [self._chunk({"tool_calls": [call]})]

    def _delta(self, text: str) -> dict[str, Any]:
        if self._kind == "text":
            return {"content": text}
        if self._kind == "reasoning":
            return {"reasoning_content": text}
        self._fragments = True
        return {"tool_calls": [{"index": self._calls - 1, "function": {"arguments": text}}]}

    def _finished(self, event: Finished) -> Sequence[bytes]:
        chunks = [self._chunk({}, event.reason)]
        if self._include_usage:
            usage = {"choices": [], "usage": openai_usage(event.usage)}
            chunks.append(sse({**self._head, "object": "chat.completion.chunk", **usage}))
        return [*chunks, DONE]

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        if self._logprobs:
            choice["logprobs"] = _logprobs(self._logprobs)
            self._logprobs = []
        usage = {"usage": None} if self._include_usage else {}
        return sse({**self._head, "object": "chat.completion.chunk", "choices": [choice], **usage})


def _whole_call(call: Part) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.text or "{}"}
    return {"id": call.id, "type": "function", "function": function}


def _logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    content = [
        {
            **_logprob(token.text, token.logprob),
            "top_logprobs": [_logprob(text, logprob) for text, logprob in token.top],
        }
        for token in tokens
    ]
    return {"content": content, "refusal": None}


def _logprob(text: str, logprob: float) -> dict[str, Any]:
    octets = list(text.encode("utf-8", "replace"))
    return {"token": text, "logprob": finite(logprob), "bytes": octets}
