"""What clients send to `/v1/chat/completions`, and the request that is read from it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_tools_server.dialects.chat import parse
from mlx_tools_server.errors import BadRequest
from mlx_tools_server.messages import ChatRequest, Message, Sampling, ToolCall, ToolChoice, ToolSpec
from mlx_tools_server.wire import Fields, to_json

DEFAULTS = Sampling(temperature=0.7)
USER = {"role": "user", "content": "hi"}


def read(**fields: Any) -> ChatRequest:
    """Read a body that has these fields beside a message."""
    return parse(Fields({"messages": [USER], **fields}), DEFAULTS)


def refused(**fields: Any) -> BadRequest:
    """Return the error that a body with these fields gets."""
    with pytest.raises(BadRequest) as caught:
        read(**fields)
    return caught.value


def tool(name: Any = "run", **fields: Any) -> dict[str, Any]:
    """Return a tool on offer."""
    return {"type": "function", "function": {"name": name, **fields}}


def called(arguments: Any, **fields: Any) -> dict[str, Any]:
    """Return an assistant message that made a call."""
    function = {"name": "run", "arguments": arguments}
    return {"role": "assistant", "tool_calls": [{"id": "c1", "function": function}], **fields}


def call(**arguments: Any) -> Message:
    """Return the message that made a call of these arguments."""
    return Message("assistant", tool_calls=(ToolCall("c1", "run", arguments),))


PARTS = [{"type": "text", "text": "a"}, {"type": "text", "text": "b", "cache_control": {}}]

MESSAGES: dict[str, tuple[dict[str, Any], Message]] = {
    "system": ({"role": "system", "content": "s"}, Message("system", "s")),
    "Claude Code's billing line": (
        {
            "role": "system",
            "content": [
                {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.330.64a;"},
                {"type": "text", "text": "You are Claude."},
            ],
        },
        Message("system", "You are Claude."),
    ),
    "a billing line in a text": (
        {"role": "system", "content": "x-anthropic-billing-header: cch=1;\nYou are\n\nClaude."},
        Message("system", "You are\n\nClaude."),
    ),
    "a billing line that the user sent": (
        {"role": "user", "content": "x-anthropic-billing-header: 1"},
        Message("user", "x-anthropic-billing-header: 1"),
    ),
    "developer is system": ({"role": "developer", "content": "s"}, Message("system", "s")),
    "user": (USER, Message("user", "hi")),
    "user with a name": ({**USER, "name": "bo"}, Message("user", "hi", name="bo")),
    "content as parts": ({"role": "user", "content": PARTS}, Message("user", "ab")),
    "content as no parts": ({"role": "user", "content": []}, Message("user")),
    "content null": ({"role": "assistant", "content": None}, Message("assistant")),
    "content absent": ({"role": "assistant"}, Message("assistant")),
    "a part without a type": ({"role": "user", "content": [{"text": "a"}]}, Message("user", "a")),
    "a part of the Responses API": (
        {"role": "user", "content": [{"type": "input_text", "text": "a"}]}, Message("user", "a")
    ),
    "a refusal": (
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        Message("assistant", "no"),
    ),
    "blanks stay": ({"role": "user", "content": " a\n"}, Message("user", " a\n")),
    "a thought": (
        {"role": "assistant", "content": "a", "reasoning_content": "r"},
        Message("assistant", "a", "r"),
    ),
    "a thought under its other name": (
        {"role": "assistant", "content": "a", "reasoning": "r"}, Message("assistant", "a", "r")
    ),
    "a thought of nobody is left out": ({**USER, "reasoning_content": "r"}, Message("user", "hi")),
    "a result": (
        {"role": "tool", "tool_call_id": "c1", "content": "ok"},
        Message("tool", "ok", tool_call_id="c1"),
    ),
    "a result as parts": (
        {"role": "tool", "tool_call_id": "c1", "content": PARTS},
        Message("tool", "ab", tool_call_id="c1"),
    ),
    "an image as a result": (
        {"role": "tool", "content": [PARTS[0], {"type": "image_url"}]},
        Message("tool", "a[image_url: this model reads text only]"),
    ),
    "a result without an id": ({"role": "tool", "content": "ok"}, Message("tool", "ok")),
    "a result of the form before tools": (
        {"role": "function", "name": "run", "content": "ok"}, Message("tool", "ok", name="run")
    ),
    "arguments as text": (called('{"cmd": "ls"}'), call(cmd="ls")),
    "arguments as an object": (called({"cmd": "ls"}), call(cmd="ls")),
    "arguments as empty text": (called(""), call()),
    "arguments as blanks": (called(" \n"), call()),
    "arguments null": (called(None), call()),
    "arguments in Python's spelling": (called("{'all': True}"), call(all=True)),
    "arguments that were cut": (called('{"cmd": "l'), call(arguments='{"cmd": "l')),
    "arguments as a list": (called("[1]"), call(arguments="[1]")),
    "arguments as a word": (called("ls"), call(arguments="ls")),
    "arguments with NaN": (called('{"a": NaN}'), call(arguments='{"a": NaN}')),
    "arguments with a raw newline": (called('{"a": "b\nc"}'), call(a="b\nc")),
    "a call beside null content": (called("{}", content=None), call()),
    "a call of the form before tools": (
        {"role": "assistant", "function_call": {"name": "run", "arguments": '{"cmd": "ls"}'}},
        Message("assistant", tool_calls=(ToolCall("", "run", {"cmd": "ls"}),)),
    ),
    "calls null": ({"role": "assistant", "content": "a", "tool_calls": None,
                    "function_call": None}, Message("assistant", "a")),
    "no calls": ({"role": "assistant", "content": "a", "tool_calls": []},
                 Message("assistant", "a")),
    "calls of a user are left out": ({**USER, "tool_calls": [5]}, Message("user", "hi")),
    "nulls everywhere": (
        {"role": "assistant", "content": None, "name": None, "tool_calls": None, "refusal": None,
         "reasoning_content": None, "reasoning": None, "audio": None, "tool_call_id": None},
        Message("assistant"),
    ),
    "fields that nobody knows": ({**USER, "cache_control": 5, "x": []}, Message("user", "hi")),
}  # fmt: skip


@pytest.mark.parametrize("name", MESSAGES)
def test_message(name: str) -> None:
    """Every shape of a message that clients send is read."""
    message, expected = MESSAGES[name]

    assert (expected,) == read(messages=[message]).messages


def test_order_of_messages() -> None:
    """Messages stay in their order, late system messages too."""
    messages = [USER, {"role": "assistant", "content": "a"}, {"role": "system", "content": "s"}]

    expected = ["user", "assistant", "system"]

    assert expected == [message.role for message in read(messages=messages).messages]


BAD_MESSAGES: dict[str, tuple[Any, str]] = {
    "no list": ("hi", "messages"),
    "none": ([], "messages"),
    "null": (None, "messages"),
    "a text": (["hi"], "messages[0]"),
    "no role": ([{"content": "a"}], "messages[0].role"),
    "an unknown role": ([USER, {"role": "king"}], "messages[1].role"),
    "a role that is a list": ([{"role": []}], "messages[0].role"),
    "content as a number": ([{"role": "user", "content": 5}], "messages[0].content"),
    "content as an object": ([{"role": "user", "content": {}}], "messages[0].content"),
    "a part as a text": ([{"role": "user", "content": ["a"]}], "messages[0].content[0]"),
    "a part without text": (
        [{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"
    ),
    "an image": (
        [{"role": "user", "content": [PARTS[0], {"type": "image_url"}]}],
        "messages[0].content[1].type",
    ),
    "calls as an object": ([{"role": "assistant", "tool_calls": {}}], "messages[0].tool_calls"),
    "a call without a function": (
        [{"role": "assistant", "tool_calls": [{"id": "c"}]}], "messages[0].tool_calls[0].function"
    ),
    "a call without a name": (
        [{"role": "assistant", "tool_calls": [{"function": {}}]}],
        "messages[0].tool_calls[0].function.name",
    ),
    "arguments as a number": (
        [called(5)], "messages[0].tool_calls[0].function.arguments"
    ),
    "an id as a number": (
        [{"role": "tool", "tool_call_id": 5}], "messages[0].tool_call_id"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_MESSAGES)
def test_bad_message(name: str) -> None:
    """What is no message is named by its whole path."""
    messages, param = BAD_MESSAGES[name]

    assert param == refused(messages=messages).param


TOOLS: dict[str, tuple[Any, tuple[ToolSpec, ...]]] = {
    "null": (None, ()),
    "none": ([], ()),
    "a name only": ([tool()], (ToolSpec("run"),)),
    "all of it": (
        [tool(description="d", parameters={"type": "object"}, strict=True)],
        (ToolSpec("run", "d", {"type": "object"}, strict=True),),
    ),
    "nulls": ([tool(description=None, parameters=None, strict=None)], (ToolSpec("run"),)),
    "without its type": ([{"function": {"name": "run"}}], (ToolSpec("run"),)),
    "a name of dots and blanks": ([tool("mcp.a b-c/d")], (ToolSpec("mcp.a b-c/d"),)),
}


@pytest.mark.parametrize("name", TOOLS)
def test_tools(name: str) -> None:
    """Tools on offer are read, with whatever they leave open."""
    tools, expected = TOOLS[name]

    assert expected == read(tools=tools).tools


BAD_TOOLS: dict[str, tuple[Any, str]] = {
    "an object": ({}, "tools"),
    "a text": (["run"], "tools[0]"),
    "of another kind": ([{"type": "web_search"}], "tools[0].type"),
    "without a function": ([{"type": "function"}], "tools[0].function"),
    "without a name": ([tool(None)], "tools[0].function.name"),
    "with an empty name": ([tool("")], "tools[0].function.name"),
    "with a name that closes a tag": ([tool("a>b")], "tools[0].function.name"),
    "with a name of two lines": ([tool("a\nb")], "tools[0].function.name"),
    "with a name too long": ([tool("a" * 257)], "tools[0].function.name"),
    "parameters as a list": ([tool(parameters=[])], "tools[0].function.parameters"),
    "description as a list": ([tool(description=[])], "tools[0].function.description"),
}


@pytest.mark.parametrize("name", BAD_TOOLS)
def test_bad_tools(name: str) -> None:
    """What is no tool is named by its whole path."""
    tools, param = BAD_TOOLS[name]

    assert param == refused(tools=tools).param


NAMED = {"type": "function", "function": {"name": "run"}}
CHOICES: dict[str, tuple[Any, ToolChoice]] = {
    "null": (None, ToolChoice()),
    "auto": ("auto", ToolChoice()),
    "none": ("none", ToolChoice("none")),
    "required": ("required", ToolChoice("required")),
    "a function": (NAMED, ToolChoice("named", "run")),
}


@pytest.mark.parametrize("name", CHOICES)
def test_tool_choice(name: str) -> None:
    """Every form of a tool choice is read."""
    choice, expected = CHOICES[name]

    assert expected == read(tools=[tool()], tool_choice=choice).tool_choice


BAD_CHOICES: dict[str, tuple[Any, Any, str]] = {
    "a word": ([tool()], "maybe", "tool_choice"),
    "a list": ([tool()], ["auto"], "tool_choice"),
    "an empty object": ([tool()], {}, "tool_choice"),
    "another kind": ([tool()], {"type": "allowed_tools"}, "tool_choice"),
    "no function": ([tool()], {"type": "function"}, "tool_choice.function"),
    "another function": ([tool("stop")], NAMED, "tool_choice"),
    "required of none": ([], "required", "tools"),
    "a function of none": (None, NAMED, "tool_choice"),
}


@pytest.mark.parametrize("name", BAD_CHOICES)
def test_bad_tool_choice(name: str) -> None:
    """A choice that can't be made is refused."""
    tools, choice, param = BAD_CHOICES[name]

    assert param == refused(tools=tools, tool_choice=choice).param


def test_none_hides_no_tool() -> None:
    """With tool_choice none the tools stay in the prompt, but none may be called."""
    request = read(tools=[tool()], tool_choice="none")

    assert (len(request.tools), len(request.callable_tools)) == (1, 0)


OPTIONS: dict[str, tuple[dict[str, Any], str, Any]] = {
    "model": ({"model": "gpt-9"}, "model", "gpt-9"),
    "no limit": ({}, "max_tokens", None),
    "max_tokens": ({"max_tokens": 5}, "max_tokens", 5),
    "max_completion_tokens": ({"max_completion_tokens": 6, "max_tokens": 5}, "max_tokens", 6),
    "max_completion_tokens null": (
        {"max_completion_tokens": None, "max_tokens": 5}, "max_tokens", 5
    ),
    "as many tokens as there are": ({"max_tokens": -1}, "max_tokens", None),
    "stop": ({"stop": "x"}, "stop", ("x",)),
    "stops": ({"stop": ["x", "", "y"]}, "stop", ("x", "y")),
    "no log probabilities": ({"logprobs": False, "top_logprobs": 5}, "top_logprobs", None),
    "log probabilities": ({"logprobs": True}, "top_logprobs", 0),
    "log probabilities of rivals": ({"logprobs": True, "top_logprobs": 20}, "top_logprobs", 20),
    "top_logprobs alone": ({"top_logprobs": 5}, "top_logprobs", None),
    "stream": ({"stream": True}, "stream", True),
    "usage": ({"stream_options": {"include_usage": True}}, "include_usage", True),
    "stream options null": ({"stream_options": None}, "include_usage", False),
    "usage null": ({"stream_options": {"include_usage": None}}, "include_usage", False),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_options(name: str) -> None:
    """Options are read in every form that they come in."""
    body, field, expected = OPTIONS[name]

    assert expected == getattr(read(**body).options, field)


def test_sampling() -> None:
    """Sampling settings are read, over the server's own."""
    assert read(top_p=0.5).options.sampling == Sampling(temperature=0.7, top_p=0.5)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "two answers": ({"n": 2}, "n"),
    "a template": ({"chat_template": "x"}, "chat_template"),
    "no tokens": ({"max_tokens": 0}, "max_tokens"),
    "less than no tokens": ({"max_completion_tokens": -2}, "max_completion_tokens"),
    "log probabilities as a number": ({"logprobs": 5}, "logprobs"),
    "too many rivals": ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    "parallel calls as a word": ({"parallel_tool_calls": "no"}, "parallel_tool_calls"),
    "a model as a number": ({"model": 5}, "model"),
    "stream as a word": ({"stream": "true"}, "stream"),
    "stream options as a list": ({"stream_options": []}, "stream_options"),
    "template arguments as a list": ({"chat_template_kwargs": []}, "chat_template_kwargs"),
    "effort as a number": ({"reasoning_effort": 5}, "reasoning_effort"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_field(name: str) -> None:
    """A field that can't be understood or done is named."""
    body, param = BAD[name]

    assert param == refused(**body).param


def test_nulls_everywhere() -> None:
    """A body whose every field is null, but for its messages, is the empty request."""
    names = [
        "model", "tools", "tool_choice", "parallel_tool_calls", "temperature", "top_p", "n", "stop",
        "max_tokens", "max_completion_tokens", "logprobs", "top_logprobs", "stream", "seed", "user",
        "stream_options", "logit_bias", "chat_template_kwargs", "reasoning_effort", "chat_template",
        "response_format", "presence_penalty", "frequency_penalty", "functions", "function_call",
    ]  # fmt: skip

    assert read() == read(**dict.fromkeys(names))


ANY: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
    | st.sampled_from(["user", "assistant", "tool", "function", "auto", "text"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(
        st.sampled_from(["role", "content", "type", "text", "tool_calls", "function", "name", "id",
                         "arguments", "function_call", "parameters", "include_usage", "5"]),
        inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
NAMES = st.sampled_from(
    ["messages", "tools", "tool_choice", "stop", "logit_bias", "stream_options", "n", "seed",
     "temperature", "max_tokens", "logprobs", "top_logprobs", "chat_template_kwargs", "model"]
)  # fmt: skip


@given(st.dictionaries(NAMES, ANY, max_size=4), st.lists(ANY, max_size=2))
def test_any_body(body: dict[str, Any], messages: list[Any]) -> None:
    """A body is read, or refused with a message that can be sent; nothing else happens."""
    message = ""
    try:
        read(**{"messages": messages, **body})
    except BadRequest as error:
        message = to_json(error.message)

    assert len(message) < 400
