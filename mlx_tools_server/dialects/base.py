"""What a dialect is, and the forms that several of them use.

Rules of this file:
- An encoder serves one answer: `encode(event)` for a stream, `whole(answer)` for the folded one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence, Sized
from typing import Any, Protocol

from ..errors import BadRequest, RequestError
from ..events import Answer, Event, Failed, FinishReason, Usage
from ..jsontext import count_values
from ..messages import OutputFormat
from ..schema import container
from ..wire import MAX_VALUES, Fields, sse

DONE = b"data: [DONE]\n\n"
KEEPALIVE = b": keepalive\n\n"

# More tools than any client offers; each of them becomes a part of a grammar.
MAX_TOOLS = 2048
# Claude Code's line differs from session to session and stands before all else in the prompt.
_BILLING = re.compile(r"^x-anthropic-billing-header:.*\n?", re.MULTILINE | re.IGNORECASE)


def system_text(text: str) -> str:
    """Return a system text without the lines that only a vendor's own servers read."""
    return _BILLING.sub("", text)


def read_tool_name(tool: Fields) -> str:
    """Return the name of a tool on offer: one that can stand in any family's calls."""
    name: str = tool.text("name")
    if not name or len(name) > 256 or set(name) & set("<>\r\n"):
        raise tool.wrong("name", "a name of 1 to 256 characters without < > or line breaks")
    return name


class NotText(BadRequest):
    """A part of a message whose `type` can't be read as text; `note` can stand in its place."""

    def __init__(self, fields: Fields, kind: str) -> None:
        super().__init__(
            f"{fields.at('type')} is {kind[:40]!r}, but this server reads text only. "
            "Send the content as text.",
            param=fields.at("type"),
        )
        self.note = f"[{kind[:40]}: this model reads text only]"


def named_sse(data: Mapping[str, Any]) -> bytes:
    """Return one server-sent event that has the `type` of its data as its name."""
    return f"event: {data['type']}\n".encode() + sse(data)


# Parts that are no text. Other unknown kinds are read by their text.
MEDIA = frozenset(
    ("image_url", "input_image", "image", "input_audio", "input_file", "file", "video_url")
)


def read_texts(
    fields: Fields, name: str, cleaned: Callable[[str], str] = str, *, is_result: bool = False
) -> str:
    """Return a field that is a text or a list of text parts as one text; empty if absent.

    What is no text is refused, but noted in the result of a tool: it stays in the conversation,
    so that a refusal would end the session for good.
    """
    value = fields.raw(name)
    if value is None or isinstance(value, str):
        return cleaned(value or "")
    texts = []
    for part in fields.objects(name):
        kind = part.text("type", "text")
        if kind in MEDIA:
            media = NotText(part, kind)
            if not is_result:
                raise media
            texts.append(media.note)
            continue
        texts.append(cleaned(part.text("refusal" if kind == "refusal" else "text")))
    return "".join(texts)


class Arguments:
    """Reads the arguments of a conversation's calls, which are JSON in a string of the JSON.

    All of them together hold as many values as a body may; what is beyond that stays text.
    """

    def __init__(self) -> None:
        self._left = MAX_VALUES

    def read(self, fields: Fields) -> Mapping[str, Any]:
        """Return the arguments of a call of the history."""
        arguments = fields.raw("arguments")
        if isinstance(arguments, str):
            # A client may replay a call that was cut; refusing it would end the session for good.
            parsed = self._parsed(arguments) if arguments.strip() else {}
            return {"arguments": arguments} if parsed is None else parsed
        if not isinstance(arguments, Mapping | None):
            raise fields.wrong("arguments", "a string of JSON")
        return arguments or {}

    def _parsed(self, text: str) -> Mapping[str, Any] | None:
        values = count_values(text.encode(errors="replace"), self._left)
        parsed = self._spent(values, text, literal=False)
        # In Python's form other strings may hide commas, so all of them count.
        return parsed or self._spent(sum(map(text.count, ",[{")), text, literal=True)

    def _spent(self, values: int, text: str, *, literal: bool) -> Mapping[str, Any] | None:
        if values > self._left:
            return None
        self._left -= values
        parsed: Mapping[str, Any] | None = container(text, ("object",), None, literal=literal)
        return parsed


def check_tools(tools: Sized) -> None:
    """Raise BadRequest if these are more tools than can be offered."""
    if len(tools) > MAX_TOOLS:
        raise BadRequest(
            f"There are {len(tools)} tools; {MAX_TOOLS} may be. Offer the model fewer.",
            param="tools",
        )


def read_format(body: Fields, name: str) -> OutputFormat | None:
    """Return the format that an answer must have; None if it may be any text."""
    if body.raw(name) is None:
        return None
    form = body.object(name)
    match form.text("type"):
        case "text":
            return None
        case "json_object":
            return OutputFormat()
        case "json_schema":
            # One of OpenAI's two dialects has its fields a level deeper.
            form = form if form.raw("json_schema") is None else form.object("json_schema")
            form.object("schema")
            return OutputFormat(form.mapping("schema"), form.flag("strict", False))
        case _:
            raise form.wrong("type", "'text', 'json_object' or 'json_schema'")


class Encoder(Protocol):
    """Writes one answer in a dialect."""

    def encode(self, event: Event) -> Sequence[bytes]:
        """Return the server-sent events that tell this event."""

    def whole(self, answer: Answer) -> dict[str, Any]:
        """Return the body of the whole answer."""

    def keepalive(self) -> bytes:
        """Return what to send when there is nothing to say."""


def openai_error(error: RequestError) -> dict[str, Any]:
    """Return OpenAI's error envelope."""
    return {
        "error": {
            "message": error.message,
            "type": error.kind,
            "param": error.param,
            "code": error.code,
        }
    }


def openai_usage(usage: Usage) -> dict[str, Any]:
    """Return OpenAI's token counts."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def finite(logprob: float) -> float:
    """Return a log probability as JSON can say it: an impossible token has OpenAI's -9999."""
    return max(-9999.0, logprob)


def ended(answer: Answer) -> tuple[FinishReason, Usage]:
    """Return why the answer ended, and its token counts."""
    finished = answer.finished
    return (finished.reason, finished.usage) if finished else ("stop", Usage())


def failed(event: Failed) -> RequestError:
    """Return the error that a failed generation tells its client."""
    error = RequestError(event.message)
    error.status, error.code = event.status, event.code
    return error
