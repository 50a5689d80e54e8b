"""What a client asks for, after its dialect has been read and before a model family writes it.

Rules of this file:
- No dialect and no model family shows here; every dialect reads into these types.
- All values are validated and normalised: content is text, arguments are parsed, roles are four.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool on offer; `parameters` is a JSON Schema of type object, or empty.

    A `deferred` tool can be called like any other, but its definition stands in the message that
    first refers to it, not before the conversation, whose beginning must not change. Calls of a
    `strict` tool must have its very schema; where that can't be promised, the request is refused.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    deferred: bool = False
    strict: bool = False


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that an assistant message of the history made."""

    id: str
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Exact:
    """An answer as it was generated: its token ids, without the one that ended it.

    `opening` is what the prompt wrote between the header of the turn and the ids, `closing` the
    text of the token that ended them, if one did. `thought` says that the ids begin in a thought.
    """

    ids: tuple[int, ...]
    opening: str = ""
    closing: str = ""
    thought: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the conversation; `tool_call_id` is set for role `tool` only.

    `exact` is set for an answer of ours that came back unchanged.
    """

    role: Role
    content: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    name: str = ""
    exact: Exact | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether the model may, must not or must call a tool; `name` is set for `named`."""

    mode: Literal["auto", "none", "required", "named"] = "auto"
    name: str = ""


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """The JSON that an answer must be, calls aside: of this schema, or any object without one.

    With `strict`, a schema that can't be promised is refused.
    """

    schema: Mapping[str, Any] | None = None
    strict: bool = False


@dataclass(frozen=True, slots=True)
class ThinkingWish:
    """How much is to be thought; None leaves it to the model.

    `effort` is a word of the usual scale, `budget` the most tokens of thought in an answer.
    """

    on: bool | None = None
    effort: str | None = None
    budget: int | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn. Penalties look back over their `context_size` tokens."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    repetition_penalty: float = 0.0
    repetition_context_size: int = 20
    presence_penalty: float = 0.0
    presence_context_size: int = 20
    frequency_penalty: float = 0.0
    frequency_context_size: int = 20
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """What chat and text requests have in common.

    `max_tokens` None means what is left of the context. `top_logprobs` None means no log
    probabilities are wanted, 0 means those of the sampled tokens only. `client` tells who asks, so
    that each gets a fair share; `program` and `route` tell people what asks for what.
    """

    model: str = ""
    client: str = ""
    program: str = ""
    route: str = ""
    sampling: Sampling = Sampling()
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None
    stream: bool = False
    include_usage: bool = False


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A conversation to continue."""

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    parallel_tool_calls: bool = True
    output_format: OutputFormat | None = None
    thinking: ThinkingWish = ThinkingWish()
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Options = Options()

    @property
    def callable_tools(self) -> tuple[ToolSpec, ...]:
        """The tools that this request lets the model call."""
        return () if self.tool_choice.mode == "none" else self.tools

    @property
    def listed_tools(self) -> tuple[ToolSpec, ...]:
        """The tools that are defined before the conversation."""
        return tuple(tool for tool in self.tools if not tool.deferred)


@dataclass(frozen=True, slots=True)
class TextRequest:
    """A raw prompt to continue, as text (its control tokens count) or as token ids."""

    prompt: str | tuple[int, ...]
    echo: bool = False
    options: Options = Options()
