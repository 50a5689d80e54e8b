"""The event alphabet of one generation, and `fold()`, which turns its events into an answer.

Rules of this file:
- A generation is `Started Progress* (PartStarted PartDelta* PartEnded)* (Finished | Failed)`.
  Parts never overlap; `Progress` and `Sampled` may stand anywhere between.
- Events are facts about the generation, free of any dialect. Dialects encode them.
- What only the server's own figures need (`Noticed`) goes no further than a turn.
- The whole (non-streaming) answer is `fold()` of the very same events; there is no second path.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

PartKind: TypeAlias = Literal["text", "reasoning", "tool_call"]
FinishReason: TypeAlias = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True, slots=True)
class Started:
    """The prompt is accepted; `cached_tokens` of its tokens are in the KV cache.

    `computed_again` are those that an earlier request of the conversation computed already.
    `loss` says what else of it was there before, and why it is not any more; `loss_summary` says
    so without a word of the prompt.
    """

    prompt_tokens: int
    cached_tokens: int = 0
    loss: str = ""
    loss_summary: str = ""
    computed_again: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the generation is: `done` of `total` prompt tokens, and the tokens `generated`.

    `waits` says that it has not begun. Also repeated while the model is silent, so that whoever
    writes to a client can keep it awake.
    """

    done: int
    total: int
    generated: int = 0
    waits: bool = False


@dataclass(frozen=True, slots=True)
class PartStarted:
    """A part opens. `name` and `id` are set for tool calls only."""

    kind: PartKind
    name: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True)
class PartDelta:
    """More of the open part: text, or a fragment of a tool call's arguments as JSON text."""

    text: str


@dataclass(frozen=True, slots=True)
class PartEnded:
    """The open part closes. A tool call that was cut short has `complete=False`."""

    complete: bool = True


@dataclass(frozen=True, slots=True)
class Noticed:
    """How the model wrote a call; it may stand anywhere.

    The call that began last was faulty and is `repaired`, or what looked like one became `text`.
    """

    outcome: Literal["repaired", "text"]


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One sampled token with its log probability and its most likely rivals."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Sampled:
    """A token was sampled; sent only when the request asked for log probabilities."""

    token: TokenLogprob


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one generation; `cached_tokens` of the prompt came from the KV cache."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """The generation ended as it should.

    `stop` is the stop string that ended it, if one did. `tokens` are the ids that make up the
    answer, and `closing` the text of the token that ended it, if one did; none if what was
    delivered is not all that these tokens say.
    """

    reason: FinishReason
    usage: Usage
    stop: str = ""
    tokens: tuple[int, ...] = field(default=(), compare=False, repr=False)
    closing: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Failed:
    """The generation broke after it had started; any open part was ended before this event."""

    message: str
    status: int = 500
    code: str | None = None


PartEvent: TypeAlias = PartStarted | PartDelta | PartEnded
Event: TypeAlias = Started | Progress | PartEvent | Sampled | Finished | Failed
# What a parser tells, and the engine.
ParsedEvent: TypeAlias = PartEvent | Noticed
EngineEvent: TypeAlias = Event | Noticed


@dataclass(slots=True)
class Part:
    """One folded part: its whole text, or a tool call's whole arguments as JSON text."""

    kind: PartKind
    text: str = ""
    name: str = ""
    id: str = ""
    complete: bool = True


@dataclass(slots=True)
class Answer:
    """The folded answer of one generation."""

    parts: list[Part] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finished: Finished | None = None
    failed: Failed | None = None

    def joined(self, kind: PartKind) -> str:
        """Return the text of all parts of this kind as one string."""
        return "".join(part.text for part in self.parts if part.kind == kind)

    @property
    def calls(self) -> list[Part]:
        """Tool calls that are whole; a call cut short is never handed on as a call."""
        return [part for part in self.parts if part.kind == "tool_call" and part.complete]


def fold(events: Iterable[EngineEvent]) -> Answer:
    """Return the answer that these events tell, whatever the size of their deltas."""
    answer = Answer()
    pieces: list[str] = []
    for event in events:
        match event:
            case PartStarted(kind, name, id_):
                answer.parts.append(Part(kind, name=name, id=id_))
                pieces = []
            case PartDelta(text):
                pieces.append(text)
            case PartEnded(complete):
                answer.parts[-1].text = "".join(pieces)
                answer.parts[-1].complete = complete
            case Sampled(token):
                answer.logprobs.append(token)
            case Finished():
                answer.finished = event
            case Failed():
                answer.failed = event
            case Started() | Progress() | Noticed():
                pass
    return answer
