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

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from .errors import BadRequest, StartupError
from .jinja import FAULTS, LOOKUPS, compiled
from .messages import Message, ThinkingWish, ToolCall, ToolSpec
from .rewriting import may_be_mute, versions, with_ids, with_thought_apart
from .sentinels import Controls, Hidden, Piece, Seen, Turns, Unfit
from .thinking import KEEP_THOUGHTS, SWITCHES, learn, settled

_HERE = Path(__file__).resolve().parent
# The wheel carries the folder inside the package; an editable install has it beside the package.
_OURS = (_HERE / "chat_templates", _HERE.parent / "chat_templates")

# Text that no template writes, to see where it writes what an answer says.
_PROBE = "\ue100"

# Short conversations, to see how a template writes them.
_ASKED = (Message("user", "x"),)
_CALLED = (
    *_ASKED,
    Message("assistant", tool_calls=(ToolCall("x00000000", "x", {}),)),
    Message("tool", "x", tool_call_id="x00000000"),
)

# Where templates look for the thought of a message; the second only if they do, since it says more.
_THOUGHT_KEYS = ("reasoning_content", "thinking")
_READS_THINKING = re.compile(r"message(\.|\[['\"])thinking\b")

_NOTHING: Mapping[str, Any] = MappingProxyType({})
_NO_WISH = ThinkingWish()

# The most names of variables that an error lists.
MAX_NAMED = 20
# Names that the server sets, or that change what rendering means, in any of the usual servers.
_RESERVED = re.compile(
    "add_generation_prompt|chat_template|continue_final_message|dict|documents|max_length|messages"
    "|namespace|padding|raise_exception|range|return_assistant_tokens_mask|return_dict"
    r"|return_tensors|strftime_now|tokenize|tools|truncation|\w+_tokens?"
)


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


class Rendering(NamedTuple):
    """A prompt, and how many texts of the conversation it lacks, repeats or has elsewhere.

    `version` is the number of the version that was rendered; 0 is the conversation itself.
    `framed` says that an answer could not be replayed where its text alone stands for it.
    """

    pieces: list[Piece]
    lost: int
    version: int = 0
    framed: bool = False

    @property
    def text(self) -> str:
        """What it says, literal pieces and all."""
        return "".join(piece.text for piece in self.pieces)


class ChatTemplate:
    """A compiled chat template, with the control tokens of the model that it writes for.

    Unless it `thinks`, its switches are off where nobody wishes otherwise.
    """

    def __init__(
        self,
        source: str,
        origin: str,
        *,
        variables: Mapping[str, Any],
        control_tokens: Collection[str],
        keep_thoughts: bool = False,
        thinks: bool = True,
        call_id: str = "",
    ) -> None:
        self.origin = origin
        self._variables = dict(variables)
        self._call_id = call_id
        self._controls = Controls(control_tokens)
        self._reads_thoughts = "<think>" in control_tokens
        self._thought_keys = _THOUGHT_KEYS if _READS_THINKING.search(source) else _THOUGHT_KEYS[:1]
        self._template, reads, self._sandbox = compiled(source, origin)
        self._takes = {name for name in (*reads, *variables) if not _RESERVED.fullmatch(name)}
        self._turns = Turns()
        self._no_tools: list[Any] | None = None
        if self._probe(_NOTHING) is None:
            # Templates that are made for tools only go through the list without a look at it.
            self._no_tools = []
        self._switches = learn(reads, self._probe)
        self._thinks = thinks
        self._turns = replace(self._learnt(), keep_thoughts=keep_thoughts)
        # Whether a prompt opens an answer, by who spoke last; some models go on as they are.
        self._opens = {
            said[-1].role: self._probe(_NOTHING, said) != self._probe(_NOTHING, said, prompt=False)
            for said in (_ASKED, _CALLED)
        }
        if keep_thoughts:
            self._variables |= {name: on for name, on in KEEP_THOUGHTS.items() if name in reads}

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        kwargs: Mapping[str, Any] = _NOTHING,
        *,
        thinking: ThinkingWish = _NO_WISH,
        add_generation_prompt: bool = True,
    ) -> list[Piece]:
        """Return the prompt of this conversation; `kwargs` are the client's template variables.

        They go before what the template's switches make of `thinking`.
        """
        check_variables(kwargs, self._takes)
        kwargs = {**self._switches.variables(settled(thinking, self._thinks)), **kwargs}
        return self.rendering(messages, tools, kwargs, prompt=add_generation_prompt).pieces

    def rendering(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        kwargs: Mapping[str, Any] = _NOTHING,
        *,
        prompt: bool = True,
    ) -> Rendering:
        """Return the prompt, and what had to be done to have the template write all of it."""
        if self._reads_thoughts:
            messages = [with_thought_apart(message) for message in messages]
        once = partial(self._once, tools=tools, kwargs=kwargs, prompt=prompt, seen={})
        best: Rendering | None = None
        told: Sequence[Message] = messages
        refusals: list[_Refused] = []
        self._sandbox.allow(LOOKUPS)
        for number, version in enumerate(versions(messages, lambda: bool(refusals))):
            try:
                rendering = once(version)._replace(version=number)
            except _Refused as refusal:
                refusals.append(refusal)
                continue
            if tools and all(message.role != "user" for message in version):
                # Some write the tools into what a user says.
                text = rendering.text
                lacks = any(tool.name not in text for tool in tools)
                rendering = rendering._replace(lost=rendering.lost + lacks)
            if prompt and may_be_mute(version) and self._may_open(version):
                mute = once(version, prompt=False).text == rendering.text
                rendering = rendering._replace(lost=rendering.lost + mute)
            if best is None or rendering.lost < best.lost:
                best, told = rendering, version
            if not best.lost:
                break
        if best is None:
            raise self._bad_request(refusals[0]) from refusals[0]
        if best.lost:
            # A template that cuts texts may have cut a sentinel, of which the rest must not stay.
            self._sandbox.allow(LOOKUPS)
            pieces = once(told, watch=False).pieces
            return best._replace(pieces=pieces)
        return best

    def _once(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec],
        kwargs: Mapping[str, Any],
        prompt: bool,
        seen: Seen | None = None,
        watch: bool = True,
    ) -> Rendering:
        """Render these very messages; those that can't be replayed, as their text."""
        once = partial(
            self._held, tools=tools, kwargs=kwargs, prompt=prompt, seen=seen, watch=watch
        )
        rendering = once(messages)
        calls = any(message.exact and message.tool_calls for message in messages)
        if (
            watch
            and rendering.framed
            and calls
            and not any(piece.ids for piece in rendering.pieces)
        ):
            other = once(messages, span=True)
            return other if other.lost <= rendering.lost else rendering
        return rendering

    def _held(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec],
        kwargs: Mapping[str, Any],
        prompt: bool,
        seen: Seen | None,
        watch: bool,
        span: bool = False,
    ) -> Rendering:
        """Do the same; answers are replayed for their text only, or else for all of their turn."""
        hidden = Hidden(self._controls, watch=watch, span=span, seen=seen)
        once = partial(
            self._held,
            tools=tools,
            kwargs=kwargs,
            prompt=prompt,
            seen=seen,
            watch=watch,
            span=span,
        )
        replayed = {number for number, message in enumerate(messages) if message.exact}
        try:
            rendered = self._template.render(
                {
                    **self._variables,
                    **{name: hidden.hide(value) for name, value in kwargs.items()},
                    "messages": _message_dicts(
                        with_ids(messages, self._call_id), hidden, self._thought_keys
                    ),
                    "tools": [_tool_dict(tool, hidden) for tool in tools] or self._no_tools,
                    "add_generation_prompt": prompt,
                }
            )
            rendering = Rendering(hidden.pieces(rendered, self._turns), hidden.lost())
        except Unfit as unfit:
            rendering = once(_as_text(messages, unfit.numbers))
            return rendering._replace(framed=rendering.framed or unfit.framed)
        except FAULTS as fault:
            if replayed:
                return once(_as_text(messages, replayed))._replace(framed=True)
            said = "".join(piece.text for piece in hidden.pieces(str(fault)))
            raise _Refused(said.rstrip(".") or type(fault).__name__) from fault
        if rendering.lost and replayed:
            # Some templates write results only behind calls that they have seen.
            other = once(_as_text(messages, replayed))
            return min(rendering, other, key=lambda one: one.lost)._replace(framed=True)
        return rendering

    def _may_open(self, messages: Sequence[Message]) -> bool:
        is_result = bool(messages) and messages[-1].role == "tool"
        return self._opens["tool" if is_result else "user"]

    def _probe(
        self,
        variables: Mapping[str, Any],
        messages: Sequence[Message] = _ASKED,
        *,
        prompt: bool = True,
    ) -> str | None:
        """Return the prompt of a short conversation; None if the template refuses it."""
        try:
            return self._once(messages, tools=(), kwargs=variables, prompt=prompt).text
        except _Refused:
            return None

    def opening(self, pieces: Sequence[Piece]) -> str | None:
        """Return what a prompt says behind the header of the turn that it opens.

        None if it opens none, or if this template's answers can't be told from its other turns.
        """
        if self._turns.bare:
            return ""
        text = pieces[-1].text if pieces else ""
        _, found, opening = text.rpartition(self._turns.header or "\0")
        return opening if found else None

    def _learnt(self) -> Turns:
        """Return what opens an answer's turn in prompt and history alike, if anything does."""
        question, answer = Message("user", "x"), Message("assistant", _PROBE)
        once = partial(self._once, tools=(), kwargs=_NOTHING)
        try:
            prompts = [
                once(messages, prompt=prompt).text
                for messages, prompt in (
                    ([question], False),
                    ([question], True),
                    ([question, answer, question], False),
                )
            ]
        except _Refused:
            return Turns()
        asked, opened, told = prompts
        if _PROBE not in told or not (opened.startswith(asked) and told.startswith(asked)):
            return Turns()
        said = told[len(asked) : told.index(_PROBE)]
        pairs = zip(opened[len(asked) :], said, strict=False)
        header = "".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        # What follows an answer must close it, or the next message could be a part of it.
        closed = not asked.endswith(told[told.index(_PROBE) + len(_PROBE) :])
        return Turns(header, bare=closed and not said and opened == asked)

    def _bad_request(self, refusal: _Refused) -> BadRequest:
        problem = f"The chat template ({self.origin}) can't render this conversation: {refusal}"
        remedy = "Send messages that it takes, or start the server with another --chat-template"
        return BadRequest(f"{problem}. {remedy}.", param="messages")


class _Refused(Exception):
    """The template raised; the message is what it said."""


def _as_text(messages: Sequence[Message], numbers: Collection[int]) -> list[Message]:
    """Return the messages with those of these numbers as their text, not as their tokens."""
    return [
        replace(message, exact=None) if number in numbers else message
        for number, message in enumerate(messages)
    ]


def plain_dicts(
    messages: Sequence[Message], tools: Sequence[ToolSpec]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]] | None]:
    """Return messages and tools as code outside of our templates takes them, nothing hidden."""
    hidden = Hidden(Controls(()))
    return _message_dicts(messages, hidden), [_tool_dict(tool, hidden) for tool in tools] or None


def _message_dicts(
    messages: Sequence[Message], hidden: Hidden, thought_keys: Sequence[str] = _THOUGHT_KEYS[:1]
) -> list[dict[str, Any]]:
    """Return the messages as templates know them, with client text hidden."""
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    dicts: list[dict[str, Any]] = []
    for number, message in enumerate(messages):
        entry: dict[str, Any] = {"role": message.role}
        if message.exact is not None:
            entry |= hidden.hold(number, message, thought_keys)
            dicts.append(entry)
            continue
        entry["content"] = hidden.watch(message.content, is_result=message.role == "tool")
        if message.reasoning:
            entry |= dict.fromkeys(thought_keys, hidden.hide(message.reasoning))
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
    function = hidden.watch_call(call.name, call.arguments)
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


def check_variables(names: Iterable[str], taken: Collection[str]) -> None:
    """Raise BadRequest if a client may not set one of these variables of a template.

    Switches of thought may always be set; a template that reads none goes on as it is.
    """
    for name in names:
        field = f"chat_template_kwargs.{name}"
        if _RESERVED.fullmatch(name):
            raise BadRequest(
                f"{field} is set by the server and can't be sent. Leave it out.", param=field
            )
        if name not in taken and name not in SWITCHES:
            known = ", ".join(sorted(taken)[:MAX_NAMED]) or "nothing"
            raise BadRequest(
                f"{field} is nothing that this model's chat template reads; it reads {known}. "
                "Leave it out.",
                param=field,
            )
