"""The readers of streams: what real servers send, and what they leave out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from mlx_tools_server.bench.dialects import DIALECTS, Delta, Heard
from mlx_tools_server.bench.dialects.base import CUT


def heard(dialect: str, lines: Sequence[str]) -> tuple[Heard, list[Delta]]:
    """Read these lines as a stream."""
    reader = DIALECTS[dialect].reader()
    deltas = [delta for line in lines for delta in reader.feed(line)]
    return reader.heard, deltas + reader.close()


def data(*events: dict[str, Any] | str) -> list[str]:
    """Return the lines of events."""
    texts = (event if isinstance(event, str) else json.dumps(event) for event in events)
    return [line for text in texts for line in (f"data: {text}", "")]


def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def piece(name: str | None, arguments: Any, **more: Any) -> dict[str, Any]:
    return {"tool_calls": [{"function": {"name": name, "arguments": arguments}, **more}]}


USAGE = {"prompt_tokens": 9, "completion_tokens": 3}
CACHED = {**USAGE, "prompt_tokens_details": {"cached_tokens": 5}}
STOP = chunk({}, "stop")

# Lines; text, thought, calls (name, arguments), (prompt, cached, completion), finish, error.
Case = tuple[list[str], str, str, list[tuple[str, str]], tuple[Any, Any, Any], str | None, Any]
NO_COUNTS = (None, None, None)
CHAT: dict[str, Case] = {
    "text": (
        data(chunk({"role": "assistant", "content": ""}), chunk({"content": "Hi"}), STOP, "[DONE]"),
        *("Hi", "", [], NO_COUNTS, "stop", None),
    ),
    "usage in a chunk of its own": (
        data(chunk({"content": "a"}), STOP, {"choices": [], "usage": CACHED}, "[DONE]"),
        *("a", "", [], (9, 5, 3), "stop", None),
    ),
    "usage in each chunk, or null": (
        data({**chunk({"content": "a"}), "usage": None}, {**STOP, "usage": USAGE}),
        *("a", "", [], (9, None, 3), "stop", None),
    ),
    "llama.cpp's timings": (
        data({**STOP, "usage": USAGE, "timings": {"cache_n": 7, "prompt_n": 2}}),
        *("", "", [], (9, 7, 3), "stop", None),
    ),
    "thoughts under either name": (
        data(chunk({"reasoning_content": "h"}), chunk({"reasoning": "m"}), STOP),
        *("", "hm", [], NO_COUNTS, "stop", None),
    ),
    "a call in pieces": (
        data(
            chunk(piece("f", "", index=0, id="c", type="function")),
            chunk(piece(None, '{"a":', index=0)),
            chunk(piece(None, " 1}", index=0)),
            chunk({}, "tool_calls"),
        ),
        *("", "", [("f", '{"a": 1}')], NO_COUNTS, "tool_calls", None),
    ),
    "whole calls, one id in each piece": (
        data(
            chunk(piece("f", '{"a"', index=0, id="c")),
            chunk(piece("f", ": 1}", index=0, id="c")),
            chunk(piece("g", "{}", index=1, id="d")),
            chunk({}, "tool_calls"),
        ),
        *("", "", [("f", '{"a": 1}'), ("g", "{}")], NO_COUNTS, "tool_calls", None),
    ),
    "whole calls without an index": (
        data(chunk(piece("f", "{}")), chunk(piece("g", {"a": 1})), chunk({}, "tool_calls")),
        *("", "", [("f", "{}"), ("g", '{"a": 1}')], NO_COUNTS, "tool_calls", None),
    ),
    "comments, event lines, no space": (
        [": ping", "", "event: message", "data:" + json.dumps(chunk({"content": "a"})), "",
         *data(STOP)],
        *("a", "", [], NO_COUNTS, "stop", None),
    ),
    "no [DONE] and no blank line at the end": (
        data(chunk({"content": "a"}), STOP)[:-1],
        *("a", "", [], NO_COUNTS, "stop", None),
    ),
    "no end": (
        data(chunk({"content": "a"})),
        *("a", "", [], NO_COUNTS, None, CUT),
    ),
    "nothing at all": ([], *("", "", [], NO_COUNTS, None, CUT)),
    "an error in the middle": (
        data(chunk({"content": "a"}), {"error": {"message": "no memory", "code": 500}}),
        *("a", "", [], NO_COUNTS, None, "no memory"),
    ),
    "an error that is a string": (
        data({"error": "no memory"}),
        *("", "", [], NO_COUNTS, None, "no memory"),
    ),
    "an error as an object": (
        data({"object": "error", "message": "bad"}),
        *("", "", [], NO_COUNTS, None, "bad"),
    ),
    "a body that is no stream": (
        [json.dumps({"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]})],
        *("a", "", [], NO_COUNTS, "stop", None),
    ),
}  # fmt: skip


def start(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": 0, "content_block": {"type": kind, **fields}}


def more(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": kind, **fields}}


def message_start(**usage: int) -> dict[str, Any]:
    return {"type": "message_start", "message": {"usage": usage}}


BLOCK_STOP = {"type": "content_block_stop", "index": 0}
MESSAGE_STOP = {"type": "message_stop"}


def message_delta(reason: str, **usage: int) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}


MESSAGES: dict[str, Case] = {
    "text with what was cached": (
        data(
            message_start(input_tokens=4, cache_read_input_tokens=5, output_tokens=0),
            {"type": "ping"},
            start("text", text=""),
            more("text_delta", text="Hi"),
            BLOCK_STOP,
            message_delta("end_turn", output_tokens=3),
            MESSAGE_STOP,
        ),
        *("Hi", "", [], (9, 5, 3), "end_turn", None),
    ),
    "zeros at the end, no cache told": (
        data(message_start(input_tokens=9), message_delta("end_turn", input_tokens=0)),
        *("", "", [], (9, None, None), "end_turn", None),
    ),
    "a thought": (
        data(
            start("thinking", thinking=""),
            more("thinking_delta", thinking="hm"),
            more("signature_delta", signature="s"),
            BLOCK_STOP,
            message_delta("end_turn"),
            MESSAGE_STOP,
        ),
        *("", "hm", [], NO_COUNTS, "end_turn", None),
    ),
    "a call in pieces": (
        data(
            start("tool_use", id="t", name="f", input={}),
            more("input_json_delta", partial_json='{"a":'),
            more("input_json_delta", partial_json="1}"),
            BLOCK_STOP,
            message_delta("tool_use", output_tokens=1),
            MESSAGE_STOP,
        ),
        *("", "", [("f", '{"a":1}')], (None, None, 1), "tool_use", None),
    ),
    "a call without arguments, and a whole one": (
        data(
            start("tool_use", id="t", name="f", input={}),
            BLOCK_STOP,
            {**start("tool_use", id="u", name="g", input={"a": 1}), "index": 1},
            message_delta("tool_use"),
        ),
        *("", "", [("f", "{}"), ("g", '{"a": 1}')], NO_COUNTS, "tool_use", None),
    ),
    "an error in the middle": (
        data(
            start("text", text="a"),
            {"type": "error", "error": {"type": "overloaded_error", "message": "later"}},
        ),
        *("a", "", [], NO_COUNTS, None, "later"),
    ),
    "no end": (data(message_start(input_tokens=1)), *("", "", [], (1, None, None), None, CUT)),
    "a delta of no block": (
        data(more("input_json_delta", partial_json="1"), MESSAGE_STOP),
        *("", "", [], NO_COUNTS, None, "can't be understood"),
    ),
}


def added(kind: str, **fields: Any) -> dict[str, Any]:
    item = {"type": kind, **fields}
    return {"type": "response.output_item.added", "output_index": 0, "item": item}


def ended(status: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{status}", "response": {"status": status, **fields}}


RESPONSES: dict[str, Case] = {
    "text": (
        data(
            {"type": "response.created", "response": {"status": "in_progress"}},
            added("message"),
            {"type": "response.output_text.delta", "delta": "Hi"},
            {"type": "response.output_text.done", "text": "Hi"},
            ended(
                "completed",
                usage={
                    "input_tokens": 9,
                    "output_tokens": 3,
                    "input_tokens_details": {"cached_tokens": 5},
                },
            ),
        ),
        *("Hi", "", [], (9, 5, 3), "completed", None),
    ),
    "a call in pieces": (
        data(
            added("function_call", call_id="c", name="f", arguments=""),
            {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": "{"},
            {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": "}"},
            {"type": "response.function_call_arguments.done", "output_index": 0, "arguments": "{}"},
            ended("completed"),
        ),
        *("", "", [("f", "{}")], NO_COUNTS, "completed", None),
    ),
    "a call that is whole at its end": (
        data(
            added("function_call", call_id="c", name="f", arguments=""),
            {
                **added("function_call", call_id="c", name="f", arguments="{}"),
                "type": "response.output_item.done",
            },
            ended("completed", usage=None),
        ),
        *("", "", [("f", "{}")], NO_COUNTS, "completed", None),
    ),
    "a thought, and a limit": (
        data(
            {"type": "response.reasoning_text.delta", "delta": "h"},
            {"type": "response.reasoning_summary_text.delta", "delta": "m"},
            ended("incomplete", incomplete_details={"reason": "max_output_tokens"}),
        ),
        *("", "hm", [], NO_COUNTS, "max_output_tokens", None),
    ),
    "a failure": (
        data(ended("failed", error={"code": "server_error", "message": "no memory"})),
        *("", "", [], NO_COUNTS, "failed", "no memory"),
    ),
    "an error event": (
        data({"type": "error", "message": "later"}),
        *("", "", [], NO_COUNTS, None, "later"),
    ),
    "no end": (data(added("message")), *("", "", [], NO_COUNTS, None, CUT)),
}

ALL = [
    pytest.param(dialect, *case, id=f"{dialect}: {name}")
    for dialect, cases in (("chat", CHAT), ("messages", MESSAGES), ("responses", RESPONSES))
    for name, case in cases.items()
]


@pytest.mark.parametrize(
    ("dialect", "lines", "text", "thought", "calls", "counts", "finish", "error"), ALL
)
def test_streams(
    dialect: str,
    lines: list[str],
    text: str,
    thought: str,
    calls: list[tuple[str, str]],
    counts: tuple[Any, Any, Any],
    finish: str | None,
    error: str | None,
) -> None:
    """A stream adds up to what its server meant, and what it does not tell is not known."""
    found, deltas = heard(dialect, lines)

    assert (found.text, found.thought) == (text, thought)
    assert [(call.name, call.arguments) for call in found.calls] == calls
    assert (found.prompt, found.cached, found.completion) == counts
    assert found.finish == finish
    assert bool(found.error) == bool(error)
    assert (error or "") in (found.error or "")
    assert "".join(delta.text for delta in deltas if delta.kind == "text") == text
    assert [delta.text for delta in deltas if delta.kind == "call"] == [name for name, _ in calls]


GARBAGE = ["data: {", "data: 3", "data: null", 'data: {"choices": [3]}', 'data: {"choices": 1}']


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("line", GARBAGE)
def test_garbage(dialect: str, line: str) -> None:
    """What is no event of any server is an error of the answer, and raises nothing."""
    found, _ = heard(dialect, [line, ""])

    assert found.error


@pytest.mark.parametrize("dialect", DIALECTS)
def test_data_in_several_lines(dialect: str) -> None:
    """The lines of one event are one text."""
    found, _ = heard(
        dialect, ["event: error", 'data: {"type": "error",', 'data: "error": "x"}', ""]
    )

    assert found.error == "x"
