"""What clients of `/v1/responses` read: stream and whole agree, and what is stored comes back.

The bytes themselves are in `golden/responses/`.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_tools_server.dialects.base import openai_error
from mlx_tools_server.dialects.responses import Item, parse
from mlx_tools_server.dialects.responses_answer import ResponsesEncoder
from mlx_tools_server.errors import BadRequest, ContextOverflow, Overloaded, RequestError
from mlx_tools_server.events import Event, Failed, Started, fold
from mlx_tools_server.messages import Message, Sampling, ToolCall
from mlx_tools_server.stored import Stored
from mlx_tools_server.wire import Fields, to_json

from .judges_responses import Reader, events_of, judge_response, judge_response_stream, sdk
from .recordings import (
    BROKEN,
    FIXED,
    PATCH,
    READ,
    RECORDINGS,
    RUN,
    Recording,
    end,
    part,
    response,
    response_request,
)
from .test_laws import TEXT, generations

REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "reasoning": st.just({"summary": "auto"}),
        "instructions": TEXT,
        "metadata": st.dictionaries(TEXT, TEXT, max_size=2),
        "tools": st.just([PATCH]),
    },
)


@st.composite
def answers(draw: st.DrawFn) -> Recording:
    """Return a well-formed generation, with a request of any options."""
    request = response_request(**draw(REQUESTS))
    return dataclasses.replace(draw(generations()), request=request, dialect="responses")


def streamed(recording: Recording) -> Reader:
    """Return what an answer's stream tells."""
    return Reader(events_of(recording.files["sse"]))


def whole(recording: Recording) -> dict[str, Any]:
    """Return the body of a whole answer."""
    body: dict[str, Any] = json.loads(recording.files["json"])
    return body


@settings(max_examples=300)
@given(answers())
def test_stream_and_whole_agree(recording: Recording) -> None:
    """The items add up to the output of the last event, which is the whole body."""
    told = streamed(recording)

    assert told.items == told.ended["output"]
    assert told.ended == whole(recording)


@settings(max_examples=200)
@given(answers())
def test_the_response_keeps_what_it_repeats(recording: Recording) -> None:
    """From its first event to its last a response changes only in what it says and how it ends."""
    told = streamed(recording)
    changing = {"status", "output", "usage", "incomplete_details"}

    assert {**told.begun, **{name: told.ended[name] for name in changing}} == told.ended
    assert [told.begun[name] for name in sorted(changing)] == [None, [], "in_progress", None]


@settings(max_examples=150)
@given(answers())
def test_official_client(recording: Recording) -> None:
    """OpenAI's own types and client take every stream and every body."""
    judge_response_stream(recording.files["sse"])
    judge_response(whole(recording))


@settings(max_examples=200)
@given(answers())
def test_a_cut_call_is_never_done(recording: Recording) -> None:
    """A call that was cut opens, and stands in no output: a client would run it."""
    told = streamed(recording)
    cut = [item["call_id"] for item in told.cut]

    assert cut in ([], ["call_cut"])
    assert "call_cut" not in [item.get("call_id") for item in told.ended["output"]]
    assert told.ended["status"] == ("incomplete" if cut else "completed")


@settings(max_examples=200)
@given(answers(), st.data())
def test_a_stream_never_just_ends(recording: Recording, data: st.DataObject) -> None:
    """Wherever a generation fails, its stream ends with `response.failed` and what was said."""
    whole_parts = [
        at for at, event in enumerate(recording.events) if type(event).__name__ != "PartDelta"
    ]
    size = data.draw(st.sampled_from(whole_parts[1:]))
    events = (*recording.events[:size], Failed("broken", 503, "overloaded"))

    told = streamed(dataclasses.replace(recording, events=events))

    assert told.ended["status"] == "failed"
    assert told.ended["error"] == {"code": "server_error", "message": "broken"}
    assert told.ended["output"] == told.items


@pytest.mark.parametrize("name", [name for name in RECORDINGS if name.startswith("responses/")])
def test_signs_of_life_disturb_no_client(name: str) -> None:
    """What is sent in silence may stand between any two events."""
    recording, encoder = RECORDINGS[name], RECORDINGS[name].encoder
    *events, last = recording.events

    pieces = [piece for event in events for piece in (*encoder.encode(event), encoder.keepalive())]
    stream = b"".join([*pieces, *encoder.encode(last)])

    judge_response_stream(stream)
    assert Reader(events_of(stream)).items == streamed(recording).items


def test_a_long_argument_leaves_in_pieces() -> None:
    """Each piece of an argument is told at once, for functions and for custom tools."""
    pieces = ['{"input": "', *(f"{number} " for number in range(500)), '"}']

    for fields in ({}, {"tools": [PATCH]}):
        recording = response(
            *part("tool_call", *pieces, name="patch", id="call_1"), end("tool_calls"), **fields
        )

        assert streamed(recording).pieces >= 500


@pytest.mark.parametrize("name", [name for name in RECORDINGS if name.startswith("responses/")])
def test_items_have_ids_of_their_own(name: str) -> None:
    """No two items of an answer have one id."""
    told = streamed(RECORDINGS[name])

    ids = [item["id"] for item in (*told.items, *told.cut)]

    assert len(ids) == len(set(ids))


def input_of(*pieces: str) -> str:
    """Return the input of a custom tool that these pieces of its arguments tell."""
    recording = response(
        *part("tool_call", *pieces, name="patch", id="call_1"), end("tool_calls"), tools=[PATCH]
    )
    (item,) = streamed(recording).items
    text: str = item["input"]
    return text


INPUTS: dict[str, tuple[str, str]] = {
    "a text": ('{"input": "a"}', "a"),
    "an empty text": ('{"input": ""}', ""),
    "no arguments": ("", ""),
    "an empty object": ("{}", ""),
    "blanks around": (' {\n"input" :\t"a" } ', "a"),
    "escapes": (r'{"input": "\"\\\n\/\u00e9"}', '"\\\n/é'),
    "a character as two escapes": (r'{"input": "\ud83d\ude00"}', "😀"),
    "half a character": (r'{"input": "\ud83d."}', "\ud83d."),
    "half a character at the end": (r'{"input": "\ud83d"}', "\ud83d"),
    "a backslash before what looks like an escape": (r'{"input": "\\ud83d"}', r"\ud83d"),
    "a raw newline": ('{"input": "a\nb"}', "a\nb"),
    "an object inside the text": (r'{"input": "{\"input\": \"a\"}"}', '{"input": "a"}'),
    "more than the input": ('{"input": "a", "b": 1}', "a"),
    "another parameter": ('{"patch": "a"}', '{"patch": "a"}'),
    "another parameter that is no text": ('{"patch": 1}', '{"patch": 1}'),
    "another parameter of a long name": (f'{{"{"a" * 99}": 1}}', f'{{"{"a" * 99}": 1}}'),
    "an input that is no text": ('{"input": [1]}', '{"input": [1]}'),
    "no JSON": ("*** Begin Patch\n", "*** Begin Patch\n"),
}


@pytest.mark.parametrize("name", INPUTS)
def test_custom_input(name: str) -> None:
    """The text that the arguments hold is told; what holds none is told as it is."""
    arguments, expected = INPUTS[name]

    assert expected == input_of(arguments)


@pytest.mark.parametrize("name", INPUTS)
def test_custom_input_in_pieces(name: str) -> None:
    """However the arguments are cut, they tell the same input."""
    arguments, expected = INPUTS[name]

    assert expected == input_of(*arguments)
    assert {expected} == {
        input_of(arguments[:at], arguments[at:]) for at in range(len(arguments) + 1)
    }


@given(st.text(st.characters() | st.sampled_from('"\\\ud83d\ude00')), st.booleans(), st.data())
def test_any_custom_input(text: str, plain: bool, data: st.DataObject) -> None:
    """Whatever a custom tool is told, in whatever escapes and pieces, arrives as it was."""
    arguments = json.dumps({"input": text}, ensure_ascii=plain)
    places = sorted(data.draw(st.lists(st.integers(0, len(arguments)), max_size=5)))

    told = input_of(
        *(arguments[a:b] for a, b in zip([0, *places], [*places, len(arguments)], strict=True))
    )

    assert told == json.loads(json.dumps(text))


# What is stored.


def answered(
    stored: Stored, answer_id: str, *events: Event, stream: bool = True, **fields: Any
) -> dict[str, Any]:
    """Answer a body with these events, and return the response."""
    body = Fields({"input": "hi", **fields})
    request = parse(body, Sampling(), stored.recall)
    encoder = ResponsesEncoder(
        request, **{**FIXED, "answer_id": answer_id}, remember=stored.remember
    )
    if not stream:
        return encoder.whole(fold((Started(20), *events)))
    told = b"".join(data for event in (Started(20), *events) for data in encoder.encode(event))
    return Reader(events_of(told)).ended


def messages(stored: Stored, **fields: Any) -> tuple[Message, ...]:
    """Return the messages of a request that these responses come before."""
    return parse(Fields(fields), Sampling(), stored.recall).chat.messages


SAID = (*part("reasoning", "Hm."), *part("text", "Wait."), *RUN, *READ, end("tool_calls"))
OUTPUTS: list[Item] = [
    {"type": "function_call_output", "call_id": f"call_{number}", "output": "ok"}
    for number in (1, 2)
]
CONVERSATION = (
    Message("user", "hi"),
    Message(
        "assistant",
        "Wait.",
        "Hm.",
        (
            ToolCall("call_1", "run_cmd", {"cmd": "ls -la"}),
            ToolCall("call_2", "read", {"path": 'a "b".txt', "line": 3}),
        ),
    ),
    Message("tool", "ok", tool_call_id="call_1"),
    Message("tool", "ok", tool_call_id="call_2"),
)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("reasoning", [{}, {"summary": "auto"}])
def test_what_was_answered_can_be_gone_on_from(stream: bool, reasoning: dict[str, Any]) -> None:
    """A stored answer is one message again, whichever way the client brings it back."""
    stored = Stored()
    body = answered(stored, "resp_1", *SAID, stream=stream, reasoning=reasoning)
    hi = {"role": "user", "content": "hi"}
    references = [{"type": "item_reference", "id": item["id"]} for item in body["output"]]

    by_id = messages(stored, previous_response_id="resp_1", input=OUTPUTS)
    by_items = messages(stored, input=[hi, *body["output"], *OUTPUTS])
    by_references = messages(stored, input=[hi, *references, *OUTPUTS])

    assert by_id == by_items == by_references == CONVERSATION


def test_a_long_conversation() -> None:
    """Each response adds its own items to those that came before."""
    stored = Stored()
    answered(stored, "resp_1", *SAID)
    answered(stored, "resp_2", *part("text", "Done."), end(),
             previous_response_id="resp_1", input=OUTPUTS)  # fmt: skip

    later = messages(stored, previous_response_id="resp_2", input="and?")

    assert later == (*CONVERSATION, Message("assistant", "Done."), Message("user", "and?"))


def test_custom_calls_come_back() -> None:
    """A call of a custom tool and its result are the call of a function in the history."""
    stored = Stored()
    call = part("tool_call", '{"input": "a\\n"}', name="patch", id="call_1")
    answered(stored, "resp_1", *call, end("tool_calls"), tools=[PATCH])
    output = {"type": "custom_tool_call_output", "call_id": "call_1", "output": "ok"}

    *_, asked, result = messages(stored, previous_response_id="resp_1", input=[output])

    assert asked.tool_calls == (ToolCall("call_1", "patch", {"input": "a\n"}),)
    assert result.content == "ok"


def test_what_is_stored() -> None:
    """A response is stored as it was told, once it has ended, if the client lets it be."""
    stored = Stored()

    body = answered(stored, "resp_1", *part("text", "It"), end("length"))
    answered(stored, "resp_2", *part("text", "It"), end(), store=False)
    answered(stored, "resp_3", *part("text", "It"), BROKEN)

    assert stored.get("resp_1") == body
    assert stored.get("resp_2") is None
    assert stored.get("resp_3") is None


def test_stored_before_the_end_is_told() -> None:
    """A client that has read the end can go on from it at once."""
    seen: list[str] = []
    request = response_request()
    encoder = ResponsesEncoder(
        request, **FIXED, remember=lambda answer_id, *_: seen.append(answer_id)
    )

    for event in (Started(20), *part("text", "It")):
        encoder.encode(event)
        assert not seen
    encoder.encode(end())

    assert seen == ["id-1"]


ERRORS: dict[str, tuple[RequestError, type[openai.APIStatusError]]] = {
    "a bad field": (BadRequest("no", param="input"), openai.BadRequestError),
    "too long a prompt": (ContextOverflow(9, 5), openai.BadRequestError),
    "a full server": (Overloaded("later"), openai.InternalServerError),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_before_the_stream(name: str) -> None:
    """OpenAI's own client raises the exception that belongs to an error."""
    error, expected = ERRORS[name]

    with (
        sdk(error.status, to_json(openai_error(error)).encode()) as client,
        pytest.raises(expected) as caught,
    ):
        client.responses.create(model="qwen", input="hi", stream=True)

    assert (caught.value.code, caught.value.param) == (error.code, error.param)
