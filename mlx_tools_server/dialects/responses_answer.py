"""OpenAI responses, `/v1/responses`: what clients read.

Rules of this file:
- Each item is told from its beginning to its end before the next begins. The last event is
  `response.completed`, `.incomplete` or `.failed`; there is no `[DONE]`.
- A call that was cut is never done and not in the output: clients run a call as soon as it is
  done, and nothing in the input of a custom tool would tell them that some of it is missing.
- A thought is written as the summary if the request asks for one, else as reasoning text.
- The item of a text ends when it is known whether the answer went on behind it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ..events import (
    Answer,
    Event,
    Failed,
    Finished,
    FinishReason,
    Part,
    PartDelta,
    PartEnded,
    PartStarted,
    Progress,
    Sampled,
    Started,
    Usage,
)
from .base import ended, named_sse
from .responses import Item, Origin, ResponsesRequest, item_id

# Keeps a response: its id, that of the one before it, its own items (input, then output), its body.
Remember: TypeAlias = Callable[[str, str | None, Sequence[Item], Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class _Form:
    """How a kind of part is written: the item that holds its text, and the events that tell it.

    `holder` is the item's field that holds the text; for texts and thoughts, in one part like
    `part`. `event` and `part_event` begin the names of events. `fixed` stands in the item,
    `told` beside the text in an event.
    """

    item: str
    prefix: str
    holder: str
    event: str
    part_event: str = ""
    part: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    told: Mapping[str, Any] = field(default_factory=dict)


_MESSAGE = _Form(
    "message",
    "msg",
    "content",
    "output_text",
    "content_part",
    part={"type": "output_text", "annotations": [], "logprobs": []},
    fixed={"role": "assistant"},
    told={"logprobs": []},
)
_THOUGHT = _Form(
    "reasoning",
    "rs",
    "content",
    "reasoning_text",
    "content_part",
    part={"type": "reasoning_text"},
    fixed={"summary": []},
)
_SUMMARY = _Form(
    "reasoning",
    "rs",
    "summary",
    "reasoning_summary_text",
    "reasoning_summary_part",
    part={"type": "summary_text"},
)
_FUNCTION = _Form("function_call", "fc", "arguments", "function_call_arguments")
_CUSTOM = _Form("custom_tool_call", "ctc", "input", "custom_tool_call_input")


class ResponsesEncoder:
    """Writes one answer as the events of a response, or as one `response`.

    OpenAI's response has no place for a fingerprint. `remember` is called once, before the end
    is written, if the request wants the response stored; a failed one is not.
    """

    def __init__(
        self,
        request: ResponsesRequest,
        *,
        answer_id: str,
        created: int,
        fingerprint: str,
        remember: Remember,
    ) -> None:
        self._request = request
        self._id = answer_id
        self._created = created
        self._remember = remember
        self._events = 0
        self._items = 0
        self._output: list[dict[str, Any]] = []
        self._part = PartStarted("text")
        self._item: _Item | None = None

    def encode(self, event: Event) -> Sequence[bytes]:
        """Return the events that tell this event."""
        match event:
            case Started():
                body = self._body("in_progress")
                names = ("created", "in_progress")
                return [self._event(f"response.{name}", response=body) for name in names]
            case PartStarted():
                events = self._end_text("completed")
                self._part = event
                return [*events, *self._begin()[1]] if event.kind == "tool_call" else events
            case PartDelta(text):
                return self._told(text) if text else []
            case PartEnded(complete):
                return self._end_call(complete) if self._part.kind == "tool_call" else []
            case Finished(reason, usage):
                events = self._end_text(_status(reason))
                body = self._end(self._output, reason, usage)
                return [*events, self._event(f"response.{body['status']}", response=body)]
            case Failed(message):
                events = self._end_text("incomplete")
                # The codes are a closed list, and this one makes clients try again.
                error = {"code": "server_error", "message": message}
                body = self._body("failed", self._output, error=error)
                return [*events, self._event("response.failed", response=body)]
            case Progress() | Sampled():
                return []

    def keepalive(self) -> bytes:
        """Return an event that tells nothing new: Codex doesn't count comments as signs of life."""
        return self._event("response.in_progress", response=self._body("in_progress", self._output))

    def whole(self, answer: Answer) -> dict[str, Any]:
        """Return the whole answer as one body."""
        reason, usage = ended(answer)
        output = []
        for part in answer.parts:
            if part.kind == "tool_call" or part.text:
                item = self._next_item(part)
                item.add(part.text)
                item.close()
                is_last_text = part is answer.parts[-1] and part.kind != "tool_call"
                if part.complete:
                    output.append(item.body(_status(reason) if is_last_text else "completed"))
        return self._end(output, reason, usage)

    def _end(self, output: Sequence[Item], reason: FinishReason, usage: Usage) -> dict[str, Any]:
        details = {"reason": "max_output_tokens"} if reason == "length" else None
        body = self._body(_status(reason), output, incomplete_details=details, usage=_usage(usage))
        if self._request.store:
            items = [*self._request.items, *output]
            self._remember(self._id, self._request.parent, items, body)
        return body

    def _body(self, status: str, output: Sequence[Item] = (), **ending: Any) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "model": self._request.chat.options.model,
            "output": list(output),
            **self._request.echo,
            "usage": None,
            **ending,
        }

    # Items.

    def _next_item(self, part: PartStarted | Part) -> _Item:
        origin = self._request.origins.get(part.name, Origin(part.name))
        if part.kind == "tool_call":
            form = _CUSTOM if origin.custom else _FUNCTION
        elif part.kind == "reasoning":
            form = _SUMMARY if self._request.summaries else _THOUGHT
        else:
            form = _MESSAGE
        self._items += 1
        index = self._items - 1
        return _Item(form, index, item_id(form.prefix, self._id, index), origin, part.id)

    def _begin(self) -> tuple[_Item, list[bytes]]:
        self._item = item = self._next_item(self._part)
        added = item.body("in_progress")
        events = [self._event("response.output_item.added", output_index=item.index, item=added)]
        if item.form.part:
            events.append(self._part_event("added", item, ""))
        return item, events

    def _told(self, text: str) -> list[bytes]:
        """Return the events of more text, and before its first that of its item."""
        item, events = (self._item, []) if self._item else self._begin()
        delta = item.add(text)
        return [*events, self._text_event("delta", item, delta=delta)] if delta else events

    def _end_text(self, status: str) -> list[bytes]:
        item, self._item = self._item, None
        if item is None or not item.form.part:
            return []
        return [
            self._text_event("done", item, text=item.text),
            self._part_event("done", item, item.text),
            self._done(item, status),
        ]

    def _end_call(self, complete: bool) -> list[bytes]:
        item, self._item = self._item, None
        if item is None or not complete:
            return []
        rest = item.close()
        return [
            *([self._text_event("delta", item, delta=rest)] if rest else []),
            self._text_event("done", item, **item.names, **{item.form.holder: item.text}),
            self._done(item, "completed"),
        ]

    # Events.

    def _text_event(self, step: str, item: _Item, /, **fields: Any) -> bytes:
        name = f"response.{item.form.event}.{step}"
        return self._event(name, **item.place, **fields, **item.form.told)

    def _part_event(self, step: str, item: _Item, text: str) -> bytes:
        name = f"response.{item.form.part_event}.{step}"
        return self._event(name, **item.place, part=item.part(text))

    def _done(self, item: _Item, status: str) -> bytes:
        body = item.body(status)
        self._output.append(body)
        return self._event("response.output_item.done", output_index=item.index, item=body)

    def _event(self, name: str, /, **fields: Any) -> bytes:
        self._events += 1
        return named_sse({"type": name, "sequence_number": self._events - 1, **fields})


class _Item:
    """An item of the output while it is written; `text` is what its client has been told."""

    def __init__(self, form: _Form, index: int, id_: str, origin: Origin, call_id: str) -> None:
        self.form = form
        self.index = index
        self.place: dict[str, Any] = {"item_id": id_, "output_index": index}
        self.names: dict[str, str] = {}
        self._head: dict[str, Any] = {"id": id_, "type": form.item}
        self._input = _FreeformInput() if form is _CUSTOM else None
        self._pieces: list[str] = []
        if form.part:
            self.place[f"{form.holder}_index"] = 0
        else:
            self.names["name"] = origin.name
            if origin.namespace:
                self.names["namespace"] = origin.namespace
            self._head |= {"call_id": call_id, **self.names}

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def add(self, text: str) -> str:
        """Take more of the part's text; return what that tells the client."""
        return self._say(self._input.feed(text) if self._input else text)

    def close(self) -> str:
        """Take the end of the part; return what that still tells the client."""
        if self._input:
            return self._say(self._input.close())
        missing = self.form is _FUNCTION and not self._pieces
        return self._say("{}" if missing else "")

    def part(self, text: str) -> dict[str, Any]:
        """Return the one part that holds this text."""
        return {**self.form.part, "text": text}

    def body(self, status: str) -> dict[str, Any]:
        """Return the item as it stands."""
        text: Any = self.text
        if self.form.part:
            text = [self.part(text)] if text else []
        return {**self._head, "status": status, **self.form.fixed, self.form.holder: text}

    def _say(self, text: str) -> str:
        if text:
            self._pieces.append(text)
        return text


class _FreeformInput:
    """Reads `{"input": "..."}` piece by piece into the text that it holds.

    Arguments of another form (the model's mistake) are the text themselves, but for no arguments.
    """

    _OPENING = re.compile(r'\s*\{\s*"input"\s*:\s*"')
    _UNITS = re.compile(r'(?:[^"\\]|\\u[0-9a-fA-F]{4}|\\[^u])+')

    def __init__(self) -> None:
        self._waiting = ""
        self._half = ""
        self._state: Literal["opening", "text", "plain", "ended"] = "opening"

    def feed(self, fragment: str) -> str:
        """Read more of the arguments; return what is certain of the text."""
        self._waiting += fragment
        if self._state == "opening":
            if opening := self._OPENING.match(self._waiting):
                self._state = "text"
                self._waiting = self._waiting[opening.end() :]
            elif self._waiting.count('"') > 2 or len(self._waiting) > 64:
                self._state = "plain"
        if self._state == "text":
            return self._decoded()
        return self._take() if self._state == "plain" else ""

    def close(self) -> str:
        """Return what is left of the text at the end of the arguments."""
        if self._state == "opening" and not self._waiting.strip("{} \t\r\n"):
            return ""
        rest = "" if self._state == "ended" else self._take()
        half, self._half = self._half, ""
        return half + rest

    def _take(self) -> str:
        text, self._waiting = self._waiting, ""
        return text

    def _decoded(self) -> str:
        units = self._UNITS.match(self._waiting)
        end = units.end() if units else 0
        text: str = self._half + json.loads(f'"{self._waiting[:end]}"', strict=False)
        self._waiting = self._waiting[end:]
        if self._waiting.startswith('"'):
            self._state = "ended"
        # Half of a character that is written as two escapes waits for the other.
        split = len(text) - ("\ud800" <= text[-1:] <= "\udbff")
        text, self._half = text[:split], text[split:]
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _status(reason: FinishReason) -> str:
    return "incomplete" if reason == "length" else "completed"


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
