"""The items that clients send to `/v1/responses`, and the conversation that is read from them."""

from __future__ import annotations

from typing import Any

import pytest

from mlx_tools_server.messages import Message, ToolCall

from .bodies_responses import HI, USER, messages, read, refused


def said(text: str, **fields: Any) -> dict[str, Any]:
    """Return an answer's text as it comes back."""
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"type": "message", "role": "assistant", "content": [part], **fields}


def thought(text: str, **fields: Any) -> dict[str, Any]:
    """Return an answer's thought as it comes back."""
    part = {"type": "reasoning_text", "text": text}
    return {"type": "reasoning", "summary": [], "content": [part], **fields}


def summary(*texts: str) -> dict[str, Any]:
    """Return a thought that comes back as its summary."""
    parts = [{"type": "summary_text", "text": text} for text in texts]
    return {"type": "reasoning", "summary": parts, "encrypted_content": "gAAA", "content": None}


def call(call_id: Any = "c1", arguments: Any = '{"a": 1}', **fields: Any) -> dict[str, Any]:
    """Return a call as it comes back."""
    function = {"name": "run", "arguments": arguments, "call_id": call_id}
    return {"type": "function_call", **function, **fields}


def result(call_id: Any = "c1", output: Any = "ok", **fields: Any) -> dict[str, Any]:
    """Return the result of a call."""
    return {"type": "function_call_output", "call_id": call_id, "output": output, **fields}


def made(call_id: str = "c1", name: str = "run", **arguments: Any) -> ToolCall:
    """Return a call of the history."""
    return ToolCall(call_id, name, arguments or {"a": 1})


def answer(content: str = "", reasoning: str = "", *calls: ToolCall) -> Message:
    """Return an answer of the history."""
    return Message("assistant", content, reasoning, calls)


def done(call_id: str = "c1", content: str = "ok") -> Message:
    """Return the result of a call of the history."""
    return Message("tool", content, tool_call_id=call_id)


PARTS = [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]
BILLING = "x-anthropic-billing-header: cc_version=2.1.330.64a;\n"

ITEMS: dict[str, tuple[Any, tuple[Message, ...]]] = {
    "a text": ("hi", (HI,)),
    "a message": ([{"type": "message", **USER}], (HI,)),
    "a message without its type": ([USER], (HI,)),
    "a message whose type is null": ([{**USER, "type": None}], (HI,)),
    "content as parts": ([{"role": "user", "content": PARTS}], (Message("user", "ab"),)),
    "parts of the chat API": (
        [{"role": "user", "content": [{"type": "text", "text": "a"}]}], (Message("user", "a"),)
    ),
    "content null": ([{"role": "assistant", "content": None}], (answer(),)),
    "content absent": ([{"role": "assistant"}], (answer(),)),
    "blanks stay": ([{"role": "user", "content": " a\n"}], (Message("user", " a\n"),)),
    "system": ([{"role": "system", "content": "s"}], (Message("system", "s"),)),
    "developer is system": (
        [{"role": "developer", "content": PARTS}, USER], (Message("system", "ab"), HI)
    ),
    "Claude Code's billing line": (
        [{"role": "system", "content": f"{BILLING}You are Claude."}, USER],
        (Message("system", "You are Claude."), HI),
    ),
    "a billing line that the user sent": (
        [{"role": "user", "content": BILLING}], (Message("user", BILLING),)
    ),
    "an answer": ([USER, said("a", id="msg_1", status="completed")], (HI, answer("a"))),
    "an answer as a text": ([{"role": "assistant", "content": "a"}], (answer("a"),)),
    "a refusal": (
        [{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}],
        (answer("no"),),
    ),
    "a thought, a text and two calls are one answer": (
        [thought("r"), said("a"), call(), call("c2"), result(), result("c2"), said("b")],
        (answer("a", "r", made(), made("c2")), done(), done("c2"), answer("b")),
    ),
    "a text behind a call is of the same answer": (
        [said("a"), call(), said("b"), result()], (answer("ab", "", made()), done())
    ),
    "thoughts between calls": (
        [thought("r"), call(), thought("s"), call("c2")], (answer("", "rs", made(), made("c2")),)
    ),
    "two texts in a row are one answer": (
        [said("a"), said("b"), call()], (answer("ab", "", made()),)
    ),
    "a user's message ends an answer": (
        [said("a"), USER, said("b")], (answer("a"), HI, answer("b"))
    ),
    "a system message ends an answer": (
        [call(), {"role": "system", "content": "s"}, said("b")],
        (answer("", "", made()), Message("system", "s"), answer("b")),
    ),
    "a summary": ([summary("r"), said("a")], (answer("a", "r"),)),
    "a summary of paragraphs": ([summary("r", "s"), said("a")], (answer("a", "r\n\ns"),)),
    "a thought goes before its summary": (
        [{**summary("s"), "content": [{"type": "reasoning_text", "text": "r"}]}, said("a")],
        (answer("a", "r"),),
    ),
    "a thought that can't be read": ([summary(), USER], (HI,)),
    "a thought alone": ([thought("r"), USER], (answer("", "r"), HI)),
    "arguments as an object": ([call(arguments={"a": 1})], (answer("", "", made()),)),
    "arguments as empty text": (
        [call(arguments="")], (answer("", "", ToolCall("c1", "run", {})),)
    ),
    "arguments null": ([call(arguments=None)], (answer("", "", ToolCall("c1", "run", {})),)),
    "arguments that were cut": (
        [call(arguments='{"a": ')], (answer("", "", made(arguments='{"a": ')),)
    ),
    "a result as parts": ([result(output=PARTS)], (done(content="ab"),)),
    "an image as a result": (
        [result(output=[{"type": "input_image"}])],
        (done(content="[input_image: this model reads text only]"),),
    ),
    "a result null": ([result(output=None)], (done(content=""),)),
    "a result of nothing known": ([result("c9"), USER], (done("c9"), HI)),
    "a call twice": (
        [call(), call(arguments="{}"), result(), result(output="no such tool"), said("a")],
        (answer("", "", made()), done(), answer("a")),
    ),
    "a second result behind a message": (
        [call(), result(), USER, result(output="error")], (answer("", "", made()), done(), HI)
    ),
    "ids that each turn gives again": (
        [call(), result(), USER, call(), result()],
        (answer("", "", made()), done(), HI, answer("", "", made()), done()),
    ),
    "calls without ids": (
        [call(None), call(None)], (answer("", "", made(""), made("")),)
    ),
    "a call in a namespace": (
        [call(namespace="crm")], (answer("", "", made(name="crm__run")),)
    ),
    "a call in the namespace of all functions": (
        [call(namespace="functions")], (answer("", "", made()),)
    ),
    "a call of a custom tool": (
        [{"type": "custom_tool_call", "call_id": "c1", "name": "patch", "input": '{"'},
         {"type": "custom_tool_call_output", "call_id": "c1", "output": "ok"}],
        (answer("", "", made(name="patch", input='{"')), done()),
    ),
    "a shell command that the client ran": (
        [{"type": "local_shell_call", "id": "ls_1", "call_id": "c1", "status": "completed",
          "action": {"type": "exec", "command": ["ls"]}},
         {"type": "local_shell_call_output", "call_id": "c1", "output": "ok"}],
        (answer("", "", made(name="local_shell", type="exec", command=["ls"])), done()),
    ),
    "items that nobody here understands": (
        [USER, {"type": "web_search_call", "id": "ws_1", "status": "completed"},
         {"type": "compaction", "encrypted_content": "gAAA"}],
        (HI,),
    ),
    "an item that stands in the same input": (
        [said("a", id="msg_1"), USER, {"type": "item_reference", "id": "msg_1"}],
        (answer("a"), HI, answer("a")),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ITEMS)
def test_items(name: str) -> None:
    """Every shape of an input that clients send is read."""
    items, expected = ITEMS[name]

    assert expected == read(input=items).chat.messages


BAD_ITEMS: dict[str, tuple[Any, str]] = {
    "none": ([], "input"),
    "null": (None, "input"),
    "a number": (5, "input"),
    "an object": ({}, "input"),
    "only what nobody here understands": ([{"type": "web_search_call"}], "input"),
    "a text in the list": (["hi"], "input[0]"),
    "an item of no type": ([USER, {"content": "a"}], "input[1].type"),
    "a type that is a list": ([{"type": []}], "input[0].type"),
    "no role": ([{"type": "message", "content": "a"}], "input[0].role"),
    "an unknown role": ([{"role": "king"}], "input[0].role"),
    "content as a number": ([{"role": "user", "content": 5}], "input[0].content"),
    "a part without text": (
        [{"role": "user", "content": [{"type": "input_text"}]}], "input[0].content[0].text"
    ),
    "an image": (
        [{"role": "user", "content": [PARTS[0], {"type": "input_image", "image_url": "data:"}]}],
        "input[0].content[1].type",
    ),
    "a file": ([{"role": "user", "content": [{"type": "input_file"}]}], "input[0].content[0].type"),
    "a call without a name": ([call(name=None)], "input[0].name"),
    "arguments as a number": ([call(arguments=5)], "input[0].arguments"),
    "an id as a number": ([result(5)], "input[0].call_id"),
    "a summary as a text": ([{"type": "reasoning", "summary": "s"}], "input[0].summary"),
    "a reference to nothing known": (
        [USER, {"type": "item_reference", "id": "msg_1_0"}], "input[1].id"
    ),
    "a reference without its type": ([USER, {"id": "fc_1_0"}], "input[1].id"),
    "a reference to nothing": ([{"type": "item_reference"}], "input[0].id"),
    "a reference to itself": ([{"type": "item_reference", "id": "msg_1"}], "input[0].id"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_ITEMS)
def test_bad_items(name: str) -> None:
    """What is no item is named by its whole path."""
    items, param = BAD_ITEMS[name]

    assert param == refused(input=items).param


def test_instructions() -> None:
    """Instructions stand before all else, as a system message without a vendor's own lines."""
    request = read(instructions=f"{BILLING}s", input=[{"role": "developer", "content": "d"}, USER])

    assert request.chat.messages == (Message("system", "s"), Message("system", "d"), HI)


# What `resp_1` asked and answered.
EARLIER = [USER, thought("r", id="rs_1_0"), said("a", id="msg_1_1"), call(id="fc_1_2")]


def test_going_on_from_a_response() -> None:
    """What was said before stands before the input; only the input itself is this request's own."""
    request = read({"resp_1": EARLIER}, previous_response_id="resp_1", input=[result()])

    assert request.chat.messages == (HI, answer("a", "r", made()), done())
    assert request.items == (result(),)
    assert request.parent == "resp_1"


def test_instructions_are_not_carried_over() -> None:
    """Instructions hold for the one request that has them."""
    request = read(
        {"resp_1": EARLIER}, previous_response_id="resp_1", input=[result()], instructions="s"
    )

    assert request.chat.messages[:2] == (Message("system", "s"), HI)


def test_going_on_from_an_unknown_response() -> None:
    """A response that is not stored is told in OpenAI's words."""
    error = refused(previous_response_id="resp_9")

    assert error.message == "Previous response with id 'resp_9' not found."
    assert (error.status, error.code) == (400, "previous_response_not_found")
    assert error.param == "previous_response_id"


def test_references_to_a_stored_response() -> None:
    """An item of any stored response can be referred to, and is stored as itself."""
    names = ["rs_1_0", "msg_1_1", "fc_1_2"]
    references = [{"type": "item_reference", "id": name} for name in names]

    request = read({"resp_1": EARLIER}, input=[USER, *references, result()])

    assert request.chat.messages == (HI, answer("a", "r", made()), done())
    assert list(request.items) == [*EARLIER, result()]


def test_reference_to_a_forgotten_thought() -> None:
    """A thought that is no longer stored is left out; the conversation stands without it."""
    assert messages(USER, {"type": "item_reference", "id": "rs_9_0"}, said("a")) == (
        HI,
        answer("a"),
    )
