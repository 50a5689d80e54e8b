"""What the golden files record: events of one generation, and the request that they answer.

Rules of this file:
- A recording's name is the name of its two files under `golden/<dialect>/`: `.sse` is the stream,
  `.json` the whole body.
- After a wanted change: `python -m tests.dialects.regenerate`, then read the difference.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_tools_server.dialects.base import Encoder, failed, openai_error
from mlx_tools_server.dialects.chat import ChatEncoder
from mlx_tools_server.dialects.completions import TextEncoder
from mlx_tools_server.events import (
    Event,
    Failed,
    Finished,
    FinishReason,
    PartDelta,
    PartEnded,
    PartKind,
    PartStarted,
    Progress,
    Sampled,
    Started,
    TokenLogprob,
    Usage,
    fold,
)
from mlx_tools_server.messages import ChatRequest, Message, Options, TextRequest
from mlx_tools_server.wire import to_json

GOLDEN = Path(__file__).parent / "golden"
FIXED: dict[str, Any] = {"answer_id": "id-1", "created": 1767225600, "fingerprint": "fp-1"}
USAGE = Usage(prompt_tokens=20, completion_tokens=9, cached_tokens=16, reasoning_tokens=3)


@dataclass(frozen=True)
class Recording:
    """One generation and the request that it answers."""

    request: ChatRequest | TextRequest
    events: tuple[Event, ...]

    @property
    def encoder(self) -> Encoder:
        """A fresh encoder of the dialect that the request came in."""
        if isinstance(self.request, ChatRequest):
            return ChatEncoder(self.request, **FIXED)
        return TextEncoder(self.request, **FIXED)

    @property
    def files(self) -> dict[str, bytes]:
        """The content of the golden files by their endings."""
        encoder = self.encoder
        stream = b"".join(data for event in self.events for data in encoder.encode(event))
        answer = fold(self.events)
        body = openai_error(failed(answer.failed)) if answer.failed else self.encoder.whole(answer)
        return {"sse": stream, "json": f"{to_json(body)}\n".encode()}


def chat(*events: Event, **options: Any) -> Recording:
    """Return the recording of a conversation."""
    request = ChatRequest((Message("user", "hi"),), options=Options(model="qwen", **options))
    return Recording(request, (Started(20), Progress(0, 20), *events))


def text(*events: Event, prompt: str = "Once", echo: bool = False, **options: Any) -> Recording:
    """Return the recording of a raw prompt."""
    request = TextRequest(prompt, echo=echo, options=Options(model="qwen", **options))
    return Recording(request, (Started(20), Progress(0, 20), *events))


def part(kind: PartKind, *deltas: str, complete: bool = True, **names: str) -> list[Event]:
    """Return the events of a part."""
    return [PartStarted(kind, **names), *map(PartDelta, deltas), PartEnded(complete)]


def sampled(*tokens: tuple[str, float], rival: str = "") -> Iterable[Event]:
    """Return the tokens behind a delta, each with an impossible rival if one is named."""
    top = ((rival, float("-inf")),) if rival else ()
    return [Sampled(TokenLogprob(token, logprob, top)) for token, logprob in tokens]


def end(reason: FinishReason = "stop") -> Finished:
    """Return the end of a generation."""
    return Finished(reason, USAGE)


RUN = part("tool_call", '{"cmd": "', "ls -la", '"}', name="run_cmd", id="call_1")
READ = part("tool_call", '{"path": "', 'a "b".txt'.replace('"', '\\"'), '", "line": 3}',
            name="read", id="call_2")  # fmt: skip
BROKEN = Failed("The model failed on this request: out of memory.", 500, "generation_failed")

CHAT = {
    "text": chat(*part("text", "Hello", " there."), end()),
    "nothing": chat(end()),
    "awkward_characters": chat(*part("text", "a\u2028b\x85c\nd", "é字😀", "\ud83d"), end()),
    "reasoning_then_text": chat(*part("reasoning", "Hm", "m."), *part("text", "Yes."), end()),
    "reasoning_cut": chat(*part("reasoning", "Hm"), end("length")),
    "text_then_two_calls": chat(*part("text", "I will look."), *RUN, *READ, end("tool_calls")),
    "call_then_text": chat(*RUN, *part("text", "Done."), end("tool_calls")),
    "call_without_arguments": chat(*part("tool_call", name="ping", id="call_1"),
                                   end("tool_calls")),
    "call_cut": chat(*RUN, *part("tool_call", '{"path": "a', complete=False, name="read",
                                 id="call_2"), end("length")),
    "failure_at_once": chat(BROKEN),
    "failure_in_text": chat(*part("text", "Hel"), BROKEN),
    "failure_in_call": chat(*part("tool_call", '{"cmd": "l', complete=False, name="run_cmd",
                                  id="call_1"), BROKEN),
    "usage": chat(*part("text", "Hello."), end(), include_usage=True),
    "logprobs": chat(*sampled(("Hel", -0.5), ("lo", -0.25), rival="Ho"), *part("text", "Hello"),
                     *sampled(("<tool_call>", -1.0), rival="."), *RUN,
                     *sampled(("</tool_call>", 0.0), rival="!"), end("tool_calls"), top_logprobs=1),
    "logprobs_without_rivals": chat(*sampled(("é", -0.5)), *part("text", "é"), end(),
                                    top_logprobs=0),
}  # fmt: skip

COMPLETIONS = {
    "text": text(*part("text", " upon", " a time"), end()),
    "nothing": text(end()),
    "cut": text(*part("text", " upon"), end("length")),
    "echo": text(*part("text", " upon"), end(), echo=True),
    "usage": text(*part("text", " upon"), end(), include_usage=True),
    "logprobs": text(*sampled((" upon", -0.5), rival=" more"), *part("text", " upon"),
                     *sampled((" a", -0.25), (" time", -0.125), rival="!"),
                     *part("text", " a time"), end(), top_logprobs=1),
    "echo_with_logprobs": text(*sampled((" upon", -0.5)), *part("text", " upon"), end(),
                               echo=True, top_logprobs=0),
    "failure": text(*part("text", " up"), BROKEN),
}  # fmt: skip

RECORDINGS = {
    **{f"chat/{name}": recording for name, recording in CHAT.items()},
    **{f"completions/{name}": recording for name, recording in COMPLETIONS.items()},
}
