"""Which chat template is used, and how a conversation becomes the text of a prompt.

Rules of this file:
- A template is foreign code: it runs in a sandbox, sees plain JSON values only, and whatever it
  raises becomes a `BadRequest` that says what the template said.
- What a client sent is data. Control-token text in it is hidden behind sentinels while the
  template runs, and comes back as literal pieces, which are encoded as plain text.
- Control tokens that the template itself writes are never literal; nothing a client sends, whole
  or in parts that the template joins, becomes one.
- Every pass over a text is linear in its length.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from itertools import takewhile
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from .errors import BadRequest, StartupError
from .messages import Message, ToolCall, ToolSpec
from .sentinels import Controls, Hidden, Piece, Turns, Unfit

_HERE = Path(__file__).resolve().parent
# The wheel carries the folder inside the package; an editable install has it beside the package.
_OURS = (_HERE / "chat_templates", _HERE.parent / "chat_templates")

# All that a template's own code can raise; what is left out is a fault of the machine or of ours.
_FAULTS = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)

# Text that no template writes, to see where it writes what an answer says.
_PROBE = "\ue100"

_NOTHING: Mapping[str, Any] = MappingProxyType({})

# Names that the server sets, or that change what rendering means, in any of the usual servers.
_RESERVED = re.compile(
    "add_generation_prompt|chat_template|continue_final_message|dict|documents|max_length|messages"
    "|namespace|padding|raise_exception|range|return_assistant_tokens_mask|return_dict"
    r"|return_tensors|strftime_now|tokenize|tools|truncation|\w+_token"
)
_THOUGHT = re.compile(r"\s*<think>(.*?)</think>\n*", re.DOTALL)


def read_ours(name: str) -> str:
    """Return the text of the chat template of ours that has this name."""
    files = {path.stem: path for folder in reversed(_OURS) for path in folder.glob("*.jinja")}
    if name not in files:
        known = ", ".join(sorted(files)) or "none; the installation is broken"
        raise StartupError(f"There is no chat template named {name!r}", f"Ours are: {known}.")
    return files[name].read_text(encoding="utf-8")


def replacement(source: str, published: Sequence[str], name: str) -> str | None:
    """Return our template `name` if the source is a published one that fails; else None."""
    return read_ours(name) if any(words in source for words in published) else None


def control_tokens(
    template_source: str, added: Iterable[tuple[str, bool]], extra: Iterable[str] = ()
) -> frozenset[str]:
    """Return which of the added tokens (content, is_special) steer this model.

    These are all special ones, and the others that the template or a marker in `extra` mentions.
    """
    mentions = "\0".join([template_source, *extra])
    steers = (text for text, special in added if special or text in mentions)
    return frozenset(text for text in steers if text.strip())


def opens_thought(rendered: str, open_tag: str, close_tag: str) -> bool:
    """Return whether the prompt ends inside a thought that it has just opened."""
    start = rendered.rfind(open_tag) if open_tag else -1
    is_open = start >= max(0, rendered.rfind(close_tag))
    return is_open and not rendered[start + len(open_tag) :].strip()


class ChatTemplate:
    """A compiled chat template, with the control tokens of the model that it writes for."""

    def __init__(
        self,
        source: str,
        origin: str,
        *,
        variables: Mapping[str, Any],
        control_tokens: Collection[str],
        keep_thoughts: bool = False,
    ) -> None:
        self.origin = origin
        self._variables = dict(variables)
        self._controls = Controls(control_tokens)
        self._reads_thoughts = "<think>" in control_tokens
        self._template = _compile(source, origin)
        self._turns = Turns()
        self._turns = Turns(self._header(), keep_thoughts)
        if keep_thoughts and "preserve_thinking" in source:
            self._variables["preserve_thinking"] = True

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        kwargs: Mapping[str, Any] = _NOTHING,
        *,
        add_generation_prompt: bool = True,
    ) -> list[Piece]:
        """Return the prompt of this conversation; `kwargs` are the client's template variables."""
        _refuse_reserved(kwargs)
        if self._reads_thoughts:
            messages = [_with_thought_apart(message) for message in messages]
        once = partial(self._once, tools=tools, kwargs=kwargs, prompt=add_generation_prompt)
        try:
            return once(messages)
        except _Refused as refusal:
            plainer = _plainer(messages)
            if plainer == list(messages):
                raise self._bad_request(refusal) from refusal
        try:
            return once(plainer)
        except _Refused as refusal:
            raise self._bad_request(refusal) from refusal

    def _once(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec],
        kwargs: Mapping[str, Any],
        prompt: bool,
    ) -> list[Piece]:
        """Render these very messages; those that can't be replayed, as their text."""
        hidden = Hidden(self._controls)
        try:
            rendered = self._template.render(
                {
                    **self._variables,
                    **{name: hidden.hide(value) for name, value in kwargs.items()},
                    "messages": _message_dicts(messages, hidden),
                    "tools": [_tool_dict(tool, hidden) for tool in tools] or None,
                    "add_generation_prompt": prompt,
                }
            )
            return hidden.pieces(rendered, self._turns)
        except Unfit as unfit:
            again = [
                replace(message, exact=None) if number in unfit.numbers else message
                for number, message in enumerate(messages)
            ]
            return self._once(again, tools=tools, kwargs=kwargs, prompt=prompt)
        except _FAULTS as fault:
            if any(message.exact for message in messages):
                plain = [replace(message, exact=None) for message in messages]
                return self._once(plain, tools=tools, kwargs=kwargs, prompt=prompt)
            said = "".join(piece.text for piece in hidden.pieces(str(fault)))
            raise _Refused(said.rstrip(".") or type(fault).__name__) from fault

    def opening(self, pieces: Sequence[Piece]) -> str | None:
        """Return what a prompt says behind the header of the turn that it opens.

        None if it opens none, or if this template's answers can't be told from its other turns.
        """
        text = pieces[-1].text if pieces else ""
        _, found, opening = text.rpartition(self._turns.header or "\0")
        return opening if found else None

    def _header(self) -> str:
        """Return what opens an answer's turn in prompt and history alike; "" if nothing does."""
        question, answer = Message("user", "x"), Message("assistant", _PROBE)
        once = partial(self._once, tools=(), kwargs=_NOTHING)
        try:
            prompts = [
                "".join(piece.text for piece in once(messages, prompt=prompt))
                for messages, prompt in (
                    ([question], False),
                    ([question], True),
                    ([question, answer, question], False),
                )
            ]
        except _Refused:
            return ""
        asked, opened, told = prompts
        if _PROBE not in told or not (opened.startswith(asked) and told.startswith(asked)):
            return ""
        said = told[len(asked) : told.index(_PROBE)]
        pairs = zip(opened[len(asked) :], said, strict=False)
        return "".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    def _bad_request(self, refusal: _Refused) -> BadRequest:
        problem = f"The chat template ({self.origin}) can't render this conversation: {refusal}"
        remedy = "Send messages that it takes, or start the server with another --chat-template"
        return BadRequest(f"{problem}. {remedy}.", param="messages")


class _Refused(Exception):
    """The template raised; the message is what it said."""


def plain_dicts(
    messages: Sequence[Message], tools: Sequence[ToolSpec]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]] | None]:
    """Return messages and tools as code outside of our templates takes them, nothing hidden."""
    hidden = Hidden(Controls(()))
    return _message_dicts(messages, hidden), [_tool_dict(tool, hidden) for tool in tools] or None


def _message_dicts(messages: Sequence[Message], hidden: Hidden) -> list[dict[str, Any]]:
    """Return the messages as templates know them, with client text hidden."""
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    dicts: list[dict[str, Any]] = []
    for number, message in enumerate(messages):
        entry: dict[str, Any] = {"role": message.role}
        if message.exact is not None:
            entry |= hidden.hold(number, message.exact)
            dicts.append(entry)
            continue
        entry["content"] = hidden.hide(message.content)
        if message.reasoning:
            entry["reasoning_content"] = hidden.hide(message.reasoning)
        if message.tool_calls:
            entry["tool_calls"] = [_call_dict(call, hidden) for call in message.tool_calls]
        name = message.name
        if message.role == "tool":
            entry["tool_call_id"] = hidden.hide(message.tool_call_id)
            name = name or names.get(message.tool_call_id, "")
        if name:
            entry["name"] = hidden.hide_name(name)
        dicts.append(entry)
    return dicts


def _call_dict(call: ToolCall, hidden: Hidden) -> dict[str, Any]:
    function = {"name": hidden.hide_name(call.name), "arguments": hidden.hide(call.arguments)}
    return {"type": "function", "id": hidden.hide(call.id), "function": function}


def _tool_dict(tool: ToolSpec, hidden: Hidden) -> dict[str, Any]:
    schema = dict(tool.parameters)
    if "type" not in schema:
        schema = {"type": "object", **schema}
    schema.setdefault("properties", {})
    return {
        "type": "function",
        "function": {
            "name": hidden.hide_name(tool.name),
            "description": hidden.hide(tool.description),
            "parameters": hidden.hide(schema),
        },
    }


def _with_thought_apart(message: Message) -> Message:
    """Take the thought out of the content of an answer, where many clients leave it."""
    if message.role != "assistant" or message.reasoning:
        return message
    match = _THOUGHT.match(message.content)
    if match is None:
        return message
    return replace(message, content=message.content[match.end() :], reasoning=match[1].strip("\n"))


def _plainer(messages: Sequence[Message]) -> list[Message]:
    """Rewrite shapes that some templates refuse: one system message, and first, then a user."""
    leading = list(takewhile(lambda message: message.role == "system", messages))
    rest = [_as_reminder(message) for message in messages[len(leading) :]]
    if all(message.role != "user" for message in messages):
        rest.insert(0, Message("user"))
    if leading:
        rest.insert(0, Message("system", "\n\n".join(message.content for message in leading)))
    return rest


def _as_reminder(message: Message) -> Message:
    if message.role != "system":
        return message
    return Message("user", f"<system-reminder>\n{message.content}\n</system-reminder>")


def _refuse_reserved(kwargs: Mapping[str, Any]) -> None:
    for name in kwargs:
        if _RESERVED.fullmatch(name):
            field = f"chat_template_kwargs.{name}"
            raise BadRequest(
                f"{field} is set by the server and can't be sent. Leave it out.", param=field
            )


class _Generation(jinja2.ext.Extension):
    """Accepts `{% generation %}`, with which training marks answers, and renders its body."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _compile(source: str, origin: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, _Generation]
    )
    environment.filters["tojson"] = _tojson
    environment.globals.update(raise_exception=_raise_exception, strftime_now=_strftime_now)
    try:
        return environment.from_string(source)
    except (jinja2.TemplateError, RecursionError) as fault:
        line = f", line {fault.lineno}" if isinstance(fault, jinja2.TemplateSyntaxError) else ""
        raise StartupError(
            f"The chat template ({origin}{line}) does not compile: {fault}",
            "Repair it, or name another one with --chat-template.",
        ) from fault


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes for HTML, which no model was trained on.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(format: str) -> str:  # noqa: A002  (templates may name it)
    return datetime.now().astimezone().strftime(format)
