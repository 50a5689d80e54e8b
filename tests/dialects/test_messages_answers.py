"""What clients of `/v1/messages` read: whatever is said, stream and whole agree, and both are read.

The bytes themselves are in `golden/messages/`.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import anthropic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_tools_server.dialects.messages import count_body, error_body, parse
from mlx_tools_server.errors import (
    BadRequest,
    ContextOverflow,
    Forbidden,
    GenerationFailed,
    LengthRequired,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    RequestError,
    RequestTimeout,
    TooLarge,
    Unauthorized,
)
from mlx_tools_server.events import Event, Failed, Finished, PartDelta, Started, Usage, fold
from mlx_tools_server.messages import Message, Sampling, ToolCall
from mlx_tools_server.wire import Fields, to_json

from .judges_messages import add_up, events_of, judge_stream, judge_whole, read_by_sdk, sdk
from .recordings import RECORDINGS, Recording, chat, end, part
from .test_laws import generations

ASKED: dict[str, Any] = {
    "model": "qwen",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "hi"}],
}
ANSWERS = generations().map(lambda recording: dataclasses.replace(recording, dialect="messages"))


def has_whole_characters(recording: Recording) -> bool:
    """Return whether no argument holds half an emoji, which the official client can't read."""
    calls = [json.loads(call.text or "{}") for call in fold(recording.events).calls]
    said = json.dumps(calls, ensure_ascii=False)
    return said == said.encode("utf-8", "replace").decode("utf-8")


READABLE = ANSWERS.filter(has_whole_characters)


def recorded(*events: Event) -> Recording:
    """Return the recording of these events."""
    return dataclasses.replace(chat(*events), dialect="messages")


def streamed(recording: Recording) -> dict[str, Any]:
    """Return the message that an answer's stream tells."""
    return add_up(events_of(recording.files["sse"]))


def whole(recording: Recording) -> dict[str, Any]:
    """Return the body of a whole answer."""
    body: dict[str, Any] = json.loads(recording.files["json"])
    return body


@settings(max_examples=300)
@given(ANSWERS)
def test_stream_and_whole_agree(recording: Recording) -> None:
    """The events add up to the whole body, which leaves out a cut call."""
    told = streamed(recording)

    told["content"] = [block for block in told["content"] if "partial_json" not in block]

    assert told == whole(recording)


@settings(max_examples=200)
@given(READABLE)
def test_official_client(recording: Recording) -> None:
    """Anthropic's own types and client take every stream and every body."""
    judge_stream(recording.files["sse"])
    judge_whole(whole(recording))


@settings(max_examples=100)
@given(ANSWERS)
def test_dialects_agree(recording: Recording) -> None:
    """The same generation has the same text, calls and tokens as in OpenAI's form."""
    ours = whole(recording)
    theirs = whole(dataclasses.replace(recording, dialect="chat"))
    message, usage = theirs["choices"][0]["message"], theirs["usage"]

    text = "".join(block.get("text", "") for block in ours["content"])
    calls = [
        (block["id"], block["name"], block["input"])
        for block in ours["content"]
        if block["type"] == "tool_use"
    ]

    assert text == (message["content"] or "")
    assert calls == [
        (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))
        for call in message.get("tool_calls", ())
    ]
    assert ours["usage"]["output_tokens"] == usage["completion_tokens"]


@settings(max_examples=200)
@given(ANSWERS)
def test_an_answer_comes_back_as_it_was(recording: Recording) -> None:
    """An answer that a client sends back is read as the message that the model said."""
    answer = fold(recording.events)
    calls = tuple(ToolCall(call.id, call.name, json.loads(call.text or "{}"))
                  for call in answer.calls)  # fmt: skip
    said = Message("assistant", answer.joined("text"), answer.joined("reasoning"), calls)

    body = {"max_tokens": 9, "messages": [whole(recording)]}

    assert (said,) == parse(Fields(body), Sampling()).messages


@settings(max_examples=100)
@given(READABLE, st.data())
def test_a_stream_never_just_ends(recording: Recording, data: st.DataObject) -> None:
    """Wherever a generation fails, its stream ends with the error, and no block stays open."""
    ends = [at for at, event in enumerate(recording.events) if not isinstance(event, PartDelta)]
    end = data.draw(st.sampled_from(ends))
    broken = dataclasses.replace(
        recording, events=(*recording.events[:end], Failed("broken", 503, "overloaded"))
    )

    *_, last = events_of(broken.files["sse"])

    assert last["error"] == {"type": "overloaded_error", "message": "broken"}
    assert last == whole(broken)
    judge_stream(broken.files["sse"])


def test_a_call_streams_piece_by_piece() -> None:
    """Each piece of a call's arguments is an event of its own, as soon as it is there."""
    pieces = [f'{{"text": "{"a" * 5}', *["b"] * 498, '"}']

    events = events_of(recorded(*part("tool_call", *pieces, name="run"), end()).files["sse"])

    assert pieces == [event["delta"]["partial_json"] for event in events
                      if event["type"] == "content_block_delta"]  # fmt: skip


USAGES: dict[str, tuple[Usage, tuple[int, int, int, int]]] = {
    "nothing cached": (Usage(20, 9), (20, 0, 9, 0)),
    "most of it cached": (Usage(20, 9, 16), (4, 16, 9, 0)),
    "all of it cached": (Usage(20, 9, 20), (0, 20, 9, 0)),
    "with a thought": (Usage(20, 9, 0, 3), (20, 0, 9, 3)),
}


@pytest.mark.parametrize("name", USAGES)
def test_usage(name: str) -> None:
    """Each token of the prompt is counted once: as cached or not."""
    usage, (prompt, cached, answer, thought) = USAGES[name]

    events = (Started(20), *part("text", "a"), Finished("stop", usage))
    recording = dataclasses.replace(recorded(), events=events)

    assert whole(recording)["usage"] == {
        "input_tokens": prompt,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": answer,
        "output_tokens_details": {"thinking_tokens": thought},
    }
    assert streamed(recording)["usage"] == whole(recording)["usage"]


def test_usage_at_the_start() -> None:
    """A stream says at its start already what of the prompt seems to be cached."""
    start, *_ = events_of(recorded(end()).files["sse"])

    usage = start["message"]["usage"]

    assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (4, 16)


STOPS: dict[str, tuple[Finished, tuple[str, str | None]]] = {
    "the model's own end": (Finished("stop", Usage()), ("end_turn", None)),
    "a stop string": (Finished("stop", Usage(), stop="END"), ("stop_sequence", "END")),
    "the limit": (Finished("length", Usage()), ("max_tokens", None)),
    "a call": (Finished("tool_calls", Usage()), ("tool_use", None)),
    "a stop string behind a call": (
        Finished("tool_calls", Usage(), stop="END"),
        ("tool_use", None),
    ),
}


@pytest.mark.parametrize("name", STOPS)
def test_stop_reason(name: str) -> None:
    """A client is told why the answer ended, and by which of its stop strings."""
    finished, expected = STOPS[name]

    recording = recorded(*part("text", "a"), finished)

    for message in (streamed(recording), whole(recording)):
        assert expected == (message["stop_reason"], message["stop_sequence"])


def signature(*pieces: str) -> str:
    """Return the signature of a thought that comes in these pieces."""
    (block,) = streamed(recorded(*part("reasoning", *pieces), end()))["content"]
    return str(block["signature"])


def test_signature_of_a_thought() -> None:
    """A thought has one signature, however it is cut, and no other thought has it."""
    assert signature("Hmm.") == signature("H", "", "mm.")
    assert signature("Hmm.") != signature("Hmm!")


@pytest.mark.parametrize("arguments", ["[1]", "ls -la", '{"a": NaN}', '{"a": 1'])
def test_arguments_that_are_no_object(arguments: str) -> None:
    """What a foreign parser takes for arguments is kept as text, if it is no object."""
    recording = recorded(*part("tool_call", arguments, name="run", id="c1"), end("tool_calls"))

    (block,) = whole(recording)["content"]

    assert block["input"] == {"arguments": arguments}
    judge_whole(whole(recording))


def test_pings_disturb_no_client() -> None:
    """Pings may stand between any two events."""
    recording = RECORDINGS["messages/text_then_two_calls"]
    stream = recording.files["sse"]

    pinged = stream.replace(b"\n\n", b"\n\n" + recording.encoder.keepalive())

    assert read_by_sdk(pinged) == read_by_sdk(stream)


def test_whole_answers_and_counts_through_the_official_client() -> None:
    """The official client reads whole answers and counts of tokens."""
    body = RECORDINGS["messages/text_then_two_calls"].files["json"]
    with sdk(200, body) as client:
        message = client.messages.create(**ASKED)
    with sdk(200, to_json(count_body(7)).encode()) as client:
        counted = client.messages.count_tokens(model="qwen", messages=ASKED["messages"])

    assert message.to_dict() == json.loads(body)
    assert counted.input_tokens == 7


def with_status(status: int) -> RequestError:
    """Return an error with this status."""
    error = RequestError("m")
    error.status = status
    return error


ERRORS: dict[str, tuple[RequestError, str, type[anthropic.APIStatusError]]] = {
    "a bad request": (BadRequest("m"), "invalid_request_error", anthropic.BadRequestError),
    "no key": (Unauthorized("m"), "authentication_error", anthropic.AuthenticationError),
    "a foreign page": (Forbidden("m"), "permission_error", anthropic.PermissionDeniedError),
    "no such route": (NotFound("m"), "not_found_error", anthropic.NotFoundError),
    "another method": (MethodNotAllowed("m"), "invalid_request_error", anthropic.APIStatusError),
    "a slow client": (RequestTimeout("m"), "invalid_request_error", anthropic.APIStatusError),
    "no length": (LengthRequired("m"), "invalid_request_error", anthropic.APIStatusError),
    "a large body": (TooLarge("m"), "request_too_large", anthropic.RequestTooLargeError),
    "too many requests": (with_status(429), "rate_limit_error", anthropic.RateLimitError),
    "a failure": (GenerationFailed("m"), "api_error", anthropic.InternalServerError),
    "a full server": (Overloaded("m"), "overloaded_error", anthropic.InternalServerError),
    "a full server, Anthropic's way": (
        with_status(529), "overloaded_error", anthropic.InternalServerError
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    """An error has Anthropic's type, and the official client raises its own exception for it."""
    error, kind, raised = ERRORS[name]

    body = error_body(error)
    with pytest.raises(raised) as caught, sdk(error.status, to_json(body).encode()) as client:
        client.messages.create(**ASKED)

    assert body == {"type": "error", "error": {"type": kind, "message": "m"}}
    assert caught.value.body == body


def test_a_prompt_that_is_too_long() -> None:
    """The words are Anthropic's own, by which Claude Code knows that it must compact."""
    body = error_body(ContextOverflow(205000, 200000))

    assert body["error"] == {
        "type": "invalid_request_error",
        "message": "prompt is too long: 205000 tokens > 200000 maximum",
    }
