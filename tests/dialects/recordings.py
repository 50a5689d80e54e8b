"""What the golden files record: events of one generation, and the request that they answer.

Rules of this file:
- A recording's name is the name of its two files under `golden/<dialect>/`: `.sse` is the stream,
  `.json` the whole body.
- Conversations are recorded once, and written in every dialect that holds conversations.
- After a wanted change: `python -m tests.dialects.regenerate`, then read the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlx_tools_server.dialects.base import Encoder, failed, openai_error
from mlx_tools_server.dialects.chat import ChatEncoder
from mlx_tools_server.dialects.completions import TextEncoder
from mlx_tools_server.dialects.messages import MessagesEncoder, error_body
from mlx_tools_server.dialects.responses import ResponsesRequest
from mlx_tools_server.dialects.responses import parse as parse_response
from mlx_tools_server.dialects.responses_answer import ResponsesEncoder
from mlx_tools_server.errors import RequestError
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
from mlx_tools_server.messages import ChatRequest, Message, Options, Sampling, TextRequest
from mlx_tools_server.wire import Fields, to_json

GOLDEN = Path(__file__).parent / "golden"
FIXED: dict[str, Any] = {"answer_id": "id-1", "created": 1767225600, "fingerprint": "fp-1"}
USAGE = Usage(prompt_tokens=20, completion_tokens=9, cached_tokens=16, reasoning_tokens=3)


@dataclass(frozen=True)
class Dialect:
    """What a dialect writes its answers and its errors with."""

    encoder: Callable[..., Encoder]
    error: Callable[[RequestError], dict[str, Any]]


def response_request(**fields: Any) -> ResponsesRequest:
    """Return the request of a body with these fields, after no other."""
    body = {"model": "qwen", "input": "hi", **fields}
    return parse_response(Fields(body), Sampling(temperature=1.0), lambda _: None)


def response_encoder(request: ChatRequest | ResponsesRequest, **fixed: Any) -> Encoder:
    """Return the encoder of a response that nobody keeps."""
    if isinstance(request, ChatRequest):
        request = response_request()
    return ResponsesEncoder(request, **fixed, remember=lambda *_: None)


DIALECTS: Mapping[str, Dialect] = {
    "chat": Dialect(ChatEncoder, openai_error),
    "completions": Dialect(TextEncoder, openai_error),
    "messages": Dialect(MessagesEncoder, error_body),
    "responses": Dialect(response_encoder, openai_error),
}


@dataclass(frozen=True)
class Recording:
    """One generation, the request that it answers, and the dialect that this came in."""

    request: Any
    events: tuple[Event, ...]
    dialect: str = "chat"

    @property
    def encoder(self) -> Encoder:
        """A fresh encoder of the dialect that the request came in."""
        return DIALECTS[self.dialect].encoder(self.request, **FIXED)

    @property
    def files(self) -> dict[str, bytes]:
        """The content of the golden files by their endings."""
        encoder = self.encoder
        stream = b"".join(data for event in self.events for data in encoder.encode(event))
        answer = fold(self.events)
        if answer.failed:
            body = DIALECTS[self.dialect].error(failed(answer.failed))
        else:
            body = self.encoder.whole(answer)
        return {"sse": stream, "json": f"{to_json(body)}\n".encode()}


def chat(*events: Event, **options: Any) -> Recording:
    """Return the recording of a conversation."""
    request = ChatRequest((Message("user", "hi"),), options=Options(model="qwen", **options))
    return Recording(request, (Started(20, 16), Progress(0, 20), *events))


def response(*events: Event, **fields: Any) -> Recording:
    """Return the recording of a response to a body with these fields."""
    return replace(chat(*events), request=response_request(**fields), dialect="responses")


def text(*events: Event, prompt: str = "Once", echo: bool = False, **options: Any) -> Recording:
    """Return the recording of a raw prompt."""
    request = TextRequest(prompt, echo=echo, options=Options(model="qwen", **options))
    return Recording(request, (Started(20, 16), Progress(0, 20), *events), "completions")


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

CONVERSATIONS = {
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
}  # fmt: skip

CHAT = {
    **CONVERSATIONS,
    "usage": chat(*part("text", "Hello."), end(), include_usage=True),
    "logprobs": chat(*sampled(("Hel", -0.5), ("lo", -0.25), rival="Ho"), *part("text", "Hello"),
                     *sampled(("<tool_call>", -1.0), rival="."), *RUN,
                     *sampled(("</tool_call>", 0.0), rival="!"), end("tool_calls"), top_logprobs=1),
    "logprobs_without_rivals": chat(*sampled(("é", -0.5)), *part("text", "é"), end(),
                                    top_logprobs=0),
}  # fmt: skip

MESSAGES = {
    **CONVERSATIONS,
    "stop_string": chat(*part("text", "One"), Finished("stop", USAGE, stop="END")),
    "stop_string_behind_a_call": chat(*RUN, Finished("tool_calls", USAGE, stop="END")),
    "empty_parts": chat(*part("reasoning"), *part("text", ""), *part("text", "Yes."), end()),
    "two_thoughts": chat(*part("reasoning", "Hm."), *RUN, *part("reasoning", "Oh", "."),
                         *part("text", "No."), end("tool_calls")),
    "call_cut_before_its_arguments": chat(*part("tool_call", complete=False, name="run_cmd",
                                                id="call_1"), end("length")),
    "busy": chat(Failed("The server is full.", 503, "overloaded")),
}  # fmt: skip

PATCH: dict[str, Any] = {
    "type": "custom",
    "name": "patch",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"},
}
CRM: dict[str, Any] = {
    "type": "namespace",
    "name": "crm",
    "description": "Customers",
    "tools": [{"type": "function", "name": "find", "parameters": {}, "strict": True}],
}

RESPONSES = {
    **CONVERSATIONS,
    "empty_parts": chat(*part("reasoning"), *part("text", ""), *part("text", "Yes."), end()),
    "text_cut": chat(*part("text", "I will look."), *RUN, *part("text", "It", " is"),
                     end("length")),
    "summary": response(*part("reasoning", "Hm", "m."), *part("text", "Yes."), end(),
                        reasoning={"effort": "low", "summary": "auto"}),
    "summary_cut": response(*part("reasoning", "Hm"), end("length"), reasoning={"summary": "auto"}),
    "custom_call": response(*part("tool_call", '{"inp', 'ut": "a ', '\\"b\\"\\', 'n\\ud83d',
                                  '\\ude00"', "}", name="patch", id="call_1"),
                            end("tool_calls"), tools=[PATCH]),
    "custom_call_cut": response(*part("tool_call", '{"input": "rm -rf /tmp', complete=False,
                                      name="patch", id="call_1"), end("length"), tools=[PATCH]),
    "custom_call_without_input": response(*part("tool_call", name="patch", id="call_1"),
                                          end("tool_calls"), tools=[PATCH]),
    "call_in_a_namespace": response(*part("tool_call", '{"id": ', "5}", name="crm__find",
                                          id="call_1"), end("tool_calls"), tools=[CRM]),
    "echo": response(
        *part("text", "Hello."), end(), instructions="Be brief.", max_output_tokens=99,
        metadata={"a": "b"}, parallel_tool_calls=False, store=False, temperature=0.5, top_p=0.9,
        prompt_cache_key="k", user="u", truncation="auto", reasoning={"effort": "high"},
        text={"format": {"type": "json_object"}, "verbosity": "low"},
        tool_choice={"type": "custom", "name": "patch"}, tools=[CRM, PATCH],
    ),
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
    f"{dialect}/{name}": replace(recording, dialect=dialect)
    for dialect, recordings in {
        "chat": CHAT,
        "completions": COMPLETIONS,
        "messages": MESSAGES,
        "responses": RESPONSES,
    }.items()
    for name, recording in recordings.items()
}
