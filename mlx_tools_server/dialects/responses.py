"""OpenAI responses, `/v1/responses`: what clients send.

Rules of this file:
- The items of one answer (thoughts, texts, calls) become one message again, as chat templates and
  the token-exact history need it.
- Tools of kinds that a model can't call as functions are turned into functions: a `custom` tool
  has one parameter, `input`; one in a namespace carries that in its name. Their calls go back as
  the client knows them. OpenAI's own tools don't run here and are left out.
- A response that was stored can be gone on from, and each of its items be referred to, by the id
  that `responses_answer` gave it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, TypeAlias

from ..errors import BadRequest
from ..jsontext import dumps
from ..messages import ChatRequest, Message, Role, Sampling, ToolCall, ToolChoice, ToolSpec
from ..wire import Fields, read_max_tokens, read_options
from .base import (
    Arguments,
    check_tools,
    read_format,
    read_texts,
    read_tool_name,
    system_text,
)
from .wishes import read_thinking

Item: TypeAlias = Mapping[str, Any]
# Gives the items of an earlier response, and of all before it; None if they are unknown.
Recall: TypeAlias = Callable[[str], Sequence[Item] | None]

ROLES: Mapping[str, Role] = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "developer": "system",
}
# Calls of OpenAI's own tools that the client ran itself, and where their arguments stand.
CLIENT_RUN: Mapping[str, str] = {"local_shell_call": "action", "apply_patch_call": "operation"}
CALLS = frozenset(("function_call", "custom_tool_call", *CLIENT_RUN))
RESULTS = frozenset(f"{call}_output" for call in CALLS)
# Earlier responses that one request may refer to item by item; the last has all items before it.
MAX_RECALLED = 100
# The most characters of `metadata`, written as JSON; responses repeat it in three events.
MAX_METADATA = 16_384
# Where errors say that the items of an earlier response stand.
_EARLIER = repeat("previous_response_id")
UNSUPPORTED: Mapping[str, str] = {
    "background": "background is not supported: this server answers while the client waits.",
    "conversation": "conversation is not supported. Send the items, or previous_response_id.",
    "prompt": "prompt is not supported: no templates are stored here. Send instructions and input.",
}


@dataclass(frozen=True, slots=True)
class Origin:
    """What a client calls one of its tools, and how it wants calls of it."""

    name: str
    namespace: str = ""
    custom: bool = False


@dataclass(frozen=True, slots=True)
class ResponsesRequest:
    """A conversation to continue, and what its response needs beside.

    `items` is the input of this request alone, its references resolved; `parent` the id of the
    response that it goes on from. `origins` has the tools by the names that the model knows.
    `summaries` says that thoughts are wanted as summaries. `echo` is what the response repeats.
    """

    chat: ChatRequest
    items: tuple[Item, ...]
    parent: str | None
    store: bool
    summaries: bool
    origins: Mapping[str, Origin]
    echo: Mapping[str, Any]


def parse(body: Fields, defaults: Sampling, recall: Recall) -> ResponsesRequest:
    """Return the request that a body asks for; raises BadRequest if it can't be understood."""
    for name, reason in UNSUPPORTED.items():
        if body.raw(name) is not None and body.raw(name) is not False:
            raise BadRequest(reason, param=name)
    parent = body.name("previous_response_id", None)
    earlier = _earlier(parent, recall)
    items = _items(body, earlier, recall)
    listed = [*body.objects("tools", ()), *_late_tools(map(Fields, earlier, _EARLIER))]
    listed += _late_tools(Fields(item, f"input[{index}]") for index, item in enumerate(items))
    tools = {tool.name: (tool, origin) for tool, origin in _tools(listed)}
    check_tools(tools)
    options = read_options(
        body, defaults, max_tokens=read_max_tokens(body, "max_output_tokens"), top_logprobs=None
    )
    thinking, template_kwargs = read_thinking(body)
    chat = ChatRequest(
        messages=_messages(body, earlier, items),
        tools=tuple(tool for tool, _ in tools.values()),
        tool_choice=_tool_choice(body, tools),
        parallel_tool_calls=body.flag("parallel_tool_calls", True),
        output_format=read_format(body.object("text", {}), "format"),
        thinking=thinking,
        template_kwargs=template_kwargs,
        options=options,
    )
    reasoning = body.object("reasoning", {})
    summary = reasoning.text("summary", None) or reasoning.text("generate_summary", None)
    return ResponsesRequest(
        chat=chat,
        items=tuple(items),
        parent=parent,
        store=body.flag("store", True),
        summaries=summary not in (None, "none"),
        origins={name: origin for name, (_, origin) in tools.items()},
        echo=_echo(body, chat),
    )


def _earlier(parent: str | None, recall: Recall) -> Sequence[Item]:
    if parent is None:
        return ()
    items = recall(parent)
    if items is None:
        error = BadRequest(
            f"Previous response with id '{parent[:80]}' not found.", param="previous_response_id"
        )
        error.code = "previous_response_not_found"
        raise error
    return items


def _items(body: Fields, earlier: Sequence[Item], recall: Recall) -> list[Item]:
    """Return the input as items, each reference replaced by what it refers to."""
    given = body.raw("input")
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": given}]
    fields = body.objects("input", ())
    items: list[Item] = list(given or ())
    references = _References(_by_id((*earlier, *items)), recall)
    # The last first: the response that it is of has all items before it too.
    for index in range(len(fields) - 1, -1, -1):
        if _kind(fields[index]) == "item_reference":
            items[index] = references.item(fields[index]) or items[index]
    return items


def _by_id(items: Iterable[Item]) -> dict[str, Item]:
    """Return the items that references can mean, by their ids."""
    kinds = ((item.get("type") or item.get("role"), item.get("id"), item) for item in items)
    return {
        name: item
        for kind, name, item in kinds
        if isinstance(name, str) and kind and kind != "item_reference"
    }


def _kind(item: Fields) -> str:
    """Return the type of an item; messages and references may come without."""
    kind: str | None = item.text("type", None)
    if kind is None and item.raw("role") is not None:
        return "message"
    if kind is None and item.raw("id") is not None:
        return "item_reference"
    return kind if kind is not None else str(item.text("type"))


class _References:
    """Finds what the references of one request mean, each item once: else few bytes mean much."""

    def __init__(self, known: dict[str, Item], recall: Recall) -> None:
        self._known = known
        self._recall = recall
        self._recalled: set[str] = set()
        self._used: set[str] = set()

    def item(self, reference: Fields) -> Item | None:
        """Return the item that a reference means; None for a thought that is forgotten."""
        name = reference.name("id")
        if name in self._used:
            raise BadRequest(
                f"Item with id {name[:80]!r} is referred to twice. Refer to each item once.",
                param=reference.at("id"),
            )
        self._used.add(name)
        if name not in self._known:
            # Some clients refer to each item of a stored response instead of going on from it.
            self._learn(_answer_id(name), reference)
        if name not in self._known and not name.startswith("rs_"):
            raise BadRequest(
                f"Item with id {name[:80]!r} not found. Send the item itself, and `store: false` "
                "so that clients don't refer to what this server may have forgotten.",
                param=reference.at("id"),
            )
        return self._known.get(name)

    def _learn(self, answer_id: str, reference: Fields) -> None:
        if answer_id in self._recalled:
            return
        if len(self._recalled) == MAX_RECALLED:
            raise BadRequest(
                f"The input refers to items of more than {MAX_RECALLED} responses. Send the items, "
                "or previous_response_id.",
                param=reference.at("id"),
            )
        self._recalled.add(answer_id)
        found = _by_id(self._recall(answer_id) or ())
        self._known |= {name: item for name, item in found.items() if name not in self._known}


def item_id(prefix: str, answer_id: str, index: int) -> str:
    """Return the id of an item of an answer; the answer's own id can be read from it."""
    return f"{prefix}_{answer_id.removeprefix('resp_')}_{index}"


def _answer_id(item_id: str) -> str:
    return f"resp_{item_id.partition('_')[2].rpartition('_')[0]}"


def _messages(body: Fields, earlier: Sequence[Item], items: Sequence[Item]) -> tuple[Message, ...]:
    reader = _Reader()
    for fields in map(Fields, earlier, _EARLIER):
        reader.read(fields)
    for index, item in enumerate(items):
        reader.read(Fields(item, f"input[{index}]"))
    reader.end_answer()
    if not reader.messages:
        raise BadRequest("input must not be empty.", param="input")
    instructions = system_text(body.text("instructions", ""))
    first = (Message("system", instructions),) if instructions else ()
    return (*first, *reader.messages)


class _Reader:
    """Reads items into messages.

    A call that comes twice, and a second result of a call, are left out: some clients repeat
    each call of an answer with no arguments and an error for its result.
    """

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._thoughts: list[str] = []
        self._texts: list[str] = []
        self._calls: list[ToolCall] = []
        self._last = ""
        self._arguments = Arguments()
        self._made: set[str] = set()
        self._answered: set[str] = set()

    def read(self, item: Fields) -> None:
        kind = _kind(item)
        if kind == "message":
            self._message(item)
        elif kind == "reasoning":
            self._thought(item)
        elif kind in CALLS:
            self._call(item, kind)
        elif kind in RESULTS:
            self._result(item)

    def end_answer(self) -> None:
        """End the message that the items so far belong to, if they are those of an answer."""
        if self._last:
            content, thought = "".join(self._texts), "".join(self._thoughts)
            self.messages.append(Message("assistant", content, thought, tuple(self._calls)))
            self._thoughts, self._texts, self._calls, self._last = [], [], [], ""

    def _message(self, item: Fields) -> None:
        role = ROLES.get(item.text("role"))
        if role is None:
            raise item.wrong("role", f"one of {', '.join(ROLES)}")
        content = read_texts(item, "content", system_text if role == "system" else str)
        if role == "assistant":
            self._texts.append(content)
            self._last = "message"
            return
        self.end_answer()
        self.messages.append(Message(role, content))
        if role == "user":  # some servers give the same ids to calls again in each turn
            self._made.clear()

    def _thought(self, item: Fields) -> None:
        summary = "\n\n".join(part.text("text") for part in item.objects("summary", ()))
        if thought := read_texts(item, "content") or summary:
            self._thoughts.append(thought)
            self._last = "reasoning"

    def _call(self, item: Fields, kind: str) -> None:
        call_id = _call_id(item)
        if call_id in self._made:
            return
        if call_id:
            self._made.add(call_id)
            self._answered.discard(call_id)
        if kind in CLIENT_RUN:
            call = ToolCall(call_id, kind.removesuffix("_call"), item.mapping(CLIENT_RUN[kind]))
        else:
            name = _joined(item.text("namespace", ""), item.text("name"))
            custom = kind == "custom_tool_call"
            arguments = {"input": item.text("input", "")} if custom else self._arguments.read(item)
            call = ToolCall(call_id, name, arguments)
        self._calls.append(call)
        self._last = "call"

    def _result(self, item: Fields) -> None:
        call_id = _call_id(item)
        if call_id in self._answered:
            return
        if call_id:
            self._answered.add(call_id)
        self.end_answer()
        output = read_texts(item, "output", is_result=True)
        self.messages.append(Message("tool", output, tool_call_id=call_id))


def _call_id(item: Fields) -> str:
    call_id: str = item.text("call_id", "") or item.text("id", "")
    return call_id


def _late_tools(items: Iterable[Fields]) -> Iterator[Fields]:
    """Yield the tools that come as an item, as Codex sends them for some models."""
    for item in items:
        if item.raw("type") == "additional_tools":
            yield from item.objects("tools", ())


def _tools(listed: Iterable[Fields], namespace: str = "") -> Iterator[tuple[ToolSpec, Origin]]:
    for fields in listed:
        kind = fields.text("type", "function")
        if kind == "namespace":
            yield from _tools(fields.objects("tools", ()), read_tool_name(fields))
        elif kind in ("function", "custom"):
            name, custom = read_tool_name(fields), kind == "custom"
            parameters = _freeform(fields) if custom else fields.mapping("parameters")
            spec = ToolSpec(
                _joined(namespace, name),
                fields.text("description", ""),
                parameters,
                strict=fields.flag("strict", False),
            )
            yield spec, Origin(name, namespace, custom)


def _joined(namespace: str, name: str) -> str:
    """Return a tool's name for the model; `functions` is OpenAI's word for no namespace."""
    if namespace in ("", "functions"):
        return name
    return f"{namespace.removesuffix('__')}__{name}"


def _freeform(tool: Fields) -> dict[str, Any]:
    """Return the parameters of a tool that takes any text, whose form its grammar tells."""
    description = "The whole input of the tool, as plain text."
    grammar = tool.object("format", {})
    if grammar.text("type", "text") == "grammar":
        syntax, definition = grammar.text("syntax", ""), grammar.text("definition", "")
        description = f"{description} It has this form, as a {syntax} grammar:\n{definition}"
    return {
        "type": "object",
        "properties": {"input": {"type": "string", "description": description}},
        "required": ["input"],
        "additionalProperties": False,
    }


def _tool_choice(body: Fields, names: Collection[str]) -> ToolChoice:
    mode = "auto" if body.raw("tool_choice") is None else body.raw("tool_choice")
    if isinstance(mode, Mapping):
        choice = body.object("tool_choice")
        kind = choice.text("type")
        if kind in ("function", "custom"):
            name = _joined(choice.text("namespace", ""), choice.text("name"))
            if name not in names:
                raise BadRequest(
                    f"tool_choice names {name[:80]!r}, which is not among the tools.",
                    param="tool_choice",
                )
            return ToolChoice("named", name)
        # All else means OpenAI's own tools, none of which is on offer here.
        mode = choice.text("mode", "auto") if kind == "allowed_tools" else "auto"
    match mode:
        case "auto":
            return ToolChoice()
        case "none":
            return ToolChoice("none")
        case "required":
            if not names:
                raise BadRequest(
                    "tool_choice is 'required', but there are no tools.", param="tools"
                )
            return ToolChoice("required")
        case _:
            raise body.wrong("tool_choice", "'auto', 'none', 'required' or one of the tools")


def _echo(body: Fields, chat: ChatRequest) -> dict[str, Any]:
    """Return the fields of a request that its response repeats."""
    text: dict[str, Any] = {"format": {"type": "text"}, **body.mapping("text")}
    return {
        "background": False,
        "instructions": body.text("instructions", None),
        "max_output_tokens": chat.options.max_tokens,
        "metadata": _metadata(body),
        "parallel_tool_calls": chat.parallel_tool_calls,
        "previous_response_id": body.name("previous_response_id", None),
        "prompt_cache_key": body.name("prompt_cache_key", None),
        "reasoning": {"effort": None, "summary": None, **body.mapping("reasoning")},
        "store": body.flag("store", True),
        "temperature": chat.options.sampling.temperature,
        "text": text,
        "tool_choice": body.raw("tool_choice") or "auto",
        "tools": body.items("tools", ()),
        "top_p": chat.options.sampling.top_p,
        "truncation": body.name("truncation", "disabled"),
        "user": body.name("user", None),
    }


def _metadata(body: Fields) -> Mapping[str, Any]:
    metadata = body.mapping("metadata")
    if len(dumps(metadata)) > MAX_METADATA:
        raise body.wrong("metadata", f"an object of {MAX_METADATA} characters as JSON at most")
    return metadata
