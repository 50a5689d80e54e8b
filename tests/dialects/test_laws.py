"""What holds for every answer: stream and whole agree, and clients can read both."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_tools_server.events import (
    Event,
    Failed,
    Finished,
    FinishReason,
    Progress,
    Sampled,
    TokenLogprob,
    Usage,
)

from .judges import add_up_chat, add_up_text, chunks_of, judge_chat, judge_text, judge_whole
from .recordings import Recording, chat, part, text

TEXT = st.text(st.characters() | st.sampled_from('\u2028\x85\n"\\{}'), max_size=6)
DELTAS = st.lists(TEXT, max_size=4)
FLOATS = st.floats(max_value=0, allow_nan=False)
TOKENS = st.builds(
    TokenLogprob, TEXT, FLOATS, st.lists(st.tuples(TEXT, FLOATS), max_size=2).map(tuple)
)
USAGES = st.builds(Usage, *[st.integers(0, 99)] * 4)


@st.composite
def arguments(draw: st.DrawFn) -> list[str]:
    """Return the arguments of a whole call in pieces, some of them empty."""
    whole = json.dumps(draw(st.dictionaries(TEXT, TEXT | st.integers(), max_size=2)))
    places = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=4)))
    return [whole[a:b] for a, b in zip([0, *places], [*places, len(whole)], strict=True)]


@st.composite
def generations(draw: st.DrawFn, *, texts_only: bool = False) -> Recording:
    """Return a well-formed generation, with a request of any options."""
    options = {
        "include_usage": draw(st.booleans()),
        "top_logprobs": draw(st.sampled_from([None, 0, 2])),
    }
    between: st.SearchStrategy[Event] = st.just(Progress(20, 20))
    if options["top_logprobs"] is not None:
        between |= TOKENS.map(Sampled)
    events: list[Event] = []
    kinds = ["text"] if texts_only else ["text", "reasoning", "call", "call", "empty call"]
    calls = 0
    for kind in draw(st.lists(st.sampled_from(kinds), max_size=5)):
        if kind in ("text", "reasoning"):
            events += part(kind, *draw(DELTAS))  # type: ignore[arg-type]
        else:
            calls += 1
            pieces = draw(arguments()) if kind == "call" else []
            events += part("tool_call", *pieces, name=draw(TEXT), id=f"call_{calls}")
    for place in sorted(draw(st.lists(st.integers(0, len(events)), max_size=6)), reverse=True):
        events.insert(place, draw(between))
    reason: FinishReason = "tool_calls" if calls else "stop"
    if not texts_only and draw(st.booleans()):
        events += part("tool_call", '{"a', complete=False, name="cut", id="call_cut")
        reason = "length"
    events.append(Finished(reason, draw(USAGES)))
    if texts_only:
        return text(*events, echo=draw(st.booleans()), prompt=draw(TEXT), **options)
    return chat(*events, **options)


def body_of(recording: Recording) -> dict[str, Any]:
    """Return the whole body of an answer."""
    body: dict[str, Any] = json.loads(recording.files["json"])
    return body


@settings(max_examples=400)
@given(generations())
def test_chat_stream_and_whole_agree(recording: Recording) -> None:
    """The chunks of a conversation add up to its whole body, which leaves out a cut call."""
    whole = body_of(recording)["choices"][0]

    told = add_up_chat(chunks_of(recording.files["sse"]))
    calls = [call for call in told["calls"] if call["id"] != "call_cut"]

    assert told["message"] == {
        "role": "assistant",
        "content": whole["message"]["content"] or "",
        "reasoning_content": whole["message"].get("reasoning_content", ""),
    }
    assert calls == whole["message"].get("tool_calls", [])
    assert told["logprobs"] == (whole["logprobs"] or {}).get("content", [])
    assert told["finish_reason"] == whole["finish_reason"]


@settings(max_examples=300)
@given(generations(texts_only=True))
def test_text_stream_and_whole_agree(recording: Recording) -> None:
    """The chunks of a raw prompt add up to its whole body."""
    whole = body_of(recording)["choices"][0]

    assert whole == add_up_text(chunks_of(recording.files["sse"]))


@settings(max_examples=300)
@given(generations() | generations(texts_only=True))
def test_official_types(recording: Recording) -> None:
    """OpenAI's own types take every chunk and every body."""
    chunks = chunks_of(recording.files["sse"])

    (judge_text if body_of(recording)["object"] == "text_completion" else judge_chat)(chunks)
    judge_whole(body_of(recording))


@settings(max_examples=200)
@given(generations() | generations(texts_only=True))
def test_usage(recording: Recording) -> None:
    """Usage comes in one last chunk of its own, the same as in the body, only if asked for."""
    chunks = chunks_of(recording.files["sse"])

    if recording.request.options.include_usage:
        *others, last = chunks
        assert last["choices"] == []
        assert last["usage"] == body_of(recording)["usage"]
        assert all(chunk["usage"] is None and chunk["choices"] for chunk in others)
    else:
        assert not any("usage" in chunk for chunk in chunks)


@settings(max_examples=200)
@given(generations(), st.data())
def test_a_stream_never_just_ends(recording: Recording, data: st.DataObject) -> None:
    """Wherever a generation fails, its stream ends with the error and `[DONE]`."""
    whole_parts = [
        at for at, event in enumerate(recording.events) if type(event).__name__ != "PartDelta"
    ]
    end = data.draw(st.sampled_from(whole_parts))
    broken = dataclasses.replace(
        recording, events=(*recording.events[:end], Failed("broken", 503, "overloaded"))
    )

    *_, last = chunks_of(broken.files["sse"])

    assert last["error"]["message"] == "broken"
    assert last["error"]["code"] == "overloaded"
    assert last == body_of(broken)
