"""What clients send to `/v1/responses` beside its items, and the request that is read from it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_tools_server.dialects.responses import Origin
from mlx_tools_server.errors import BadRequest
from mlx_tools_server.messages import Sampling, ToolChoice, ToolSpec
from mlx_tools_server.wire import to_json

from .bodies_responses import (
    DEFAULTS,
    HI,
    USER,
    custom,
    freeform,
    function,
    namespace,
    read,
    refused,
)

PLAIN = freeform("The whole input of the tool, as plain text.")
LARK = freeform(
    "The whole input of the tool, as plain text. It has this form, as a lark grammar:\nstart: /.+/"
)
GRAMMAR = {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"}


OFFERS: dict[str, tuple[Any, list[tuple[ToolSpec, Origin]]]] = {
    "null": (None, []),
    "none": ([], []),
    "a name only": ([function()], [(ToolSpec("run"), Origin("run"))]),
    "all of a function": (
        [function(description="d", parameters={"type": "object"}, strict=True)],
        [(ToolSpec("run", "d", {"type": "object"}, strict=True), Origin("run"))],
    ),
    "nulls": (
        [function(description=None, parameters=None, strict=None)],
        [(ToolSpec("run"), Origin("run"))],
    ),
    "a custom tool": (
        [custom(description="d")],
        [(ToolSpec("patch", "d", PLAIN), Origin("patch", custom=True))],
    ),
    "a custom tool of any text": (
        [custom(format={"type": "text"})],
        [(ToolSpec("patch", "", PLAIN), Origin("patch", custom=True))],
    ),
    "a custom tool with a grammar": (
        [custom(format=GRAMMAR)],
        [(ToolSpec("patch", "", LARK), Origin("patch", custom=True))],
    ),
    "tools in a namespace": (
        [namespace("crm", function(), custom())],
        [
            (ToolSpec("crm__run"), Origin("run", "crm")),
            (ToolSpec("crm__patch", "", PLAIN), Origin("patch", "crm", custom=True)),
        ],
    ),
    "a namespace whose name ends as names are joined": (
        [namespace("mcp__crm__", function())],
        [(ToolSpec("mcp__crm__run"), Origin("run", "mcp__crm__"))],
    ),
    "the namespace of all functions": (
        [namespace("functions", function())], [(ToolSpec("run"), Origin("run", "functions"))]
    ),
    "an empty namespace": ([namespace()], []),
    "OpenAI's own tools": (
        [{"type": "web_search", "external_web_access": False}, {"type": "web_search_preview"},
         {"type": "file_search"}, {"type": "code_interpreter"}, {"type": "image_generation"},
         {"type": "mcp", "server_label": "m"}, {"type": "computer"}, {"type": "local_shell"},
         function()],
        [(ToolSpec("run"), Origin("run"))],
    ),
    "the same name twice": (
        [function(), function(description="d")], [(ToolSpec("run", "d"), Origin("run"))]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OFFERS)
def test_tools(name: str) -> None:
    """Tools on offer are read as functions, with what their calls need to go back."""
    tools, expected = OFFERS[name]

    request = read(tools=tools)

    assert request.chat.tools == tuple(tool for tool, _ in expected)
    assert request.origins == {tool.name: origin for tool, origin in expected}


def test_tools_that_come_as_an_item() -> None:
    """Tools may stand in the input, as Codex sends them for some models."""
    item = {"type": "additional_tools", "role": "developer", "tools": [namespace("a", function())]}

    request = read(input=[item, USER])

    assert request.chat.tools == (ToolSpec("a__run"),)
    assert request.chat.messages == (HI,)


BAD_TOOLS: dict[str, tuple[Any, str]] = {
    "an object": ({}, "tools"),
    "a text": (["run"], "tools[0]"),
    "a kind that is a list": ([{"type": []}], "tools[0].type"),
    "without a name": ([function(None)], "tools[0].name"),
    "with an empty name": ([function("")], "tools[0].name"),
    "with a name that closes a tag": ([custom(name="a>b")], "tools[0].name"),
    "parameters as a list": ([function(parameters=[])], "tools[0].parameters"),
    "a format as a text": ([custom(format="lark")], "tools[0].format"),
    "a namespace without a name": ([namespace(None)], "tools[0].name"),
    "a bad tool in a namespace": (
        [function(), namespace("crm", function("a\nb"))], "tools[1].tools[0].name"
    ),
}  # fmt: skip


def test_bad_tools_of_an_item() -> None:
    """A bad tool that comes as an item is named by its place in the input."""
    item = {"type": "additional_tools", "tools": [{"type": "function", "name": 5}]}
    hello = {"role": "user", "content": "hi"}

    assert refused(input=[hello, item]).param == "input[1].tools[0].name"


@pytest.mark.parametrize("name", BAD_TOOLS)
def test_bad_tools(name: str) -> None:
    """What is no tool is named by its whole path."""
    tools, param = BAD_TOOLS[name]

    assert param == refused(tools=tools).param


CHOICES: dict[str, tuple[Any, ToolChoice]] = {
    "null": (None, ToolChoice()),
    "auto": ("auto", ToolChoice()),
    "none": ("none", ToolChoice("none")),
    "required": ("required", ToolChoice("required")),
    "a function": ({"type": "function", "name": "run"}, ToolChoice("named", "run")),
    "a custom tool": ({"type": "custom", "name": "patch"}, ToolChoice("named", "patch")),
    "a function in a namespace": (
        {"type": "function", "name": "find", "namespace": "crm"}, ToolChoice("named", "crm__find")
    ),
    "some tools, or none of them": (
        {"type": "allowed_tools", "mode": "auto", "tools": []}, ToolChoice()
    ),
    "one of some tools": (
        {"type": "allowed_tools", "mode": "required", "tools": []}, ToolChoice("required")
    ),
    "a tool of OpenAI's": ({"type": "web_search_preview"}, ToolChoice()),
}  # fmt: skip


@pytest.mark.parametrize("name", CHOICES)
def test_tool_choice(name: str) -> None:
    """Every form of a tool choice is read."""
    choice, expected = CHOICES[name]
    tools = [function(), custom(), namespace("crm", function("find"))]

    assert expected == read(tools=tools, tool_choice=choice).chat.tool_choice


BAD_CHOICES: dict[str, tuple[Any, Any, str]] = {
    "a word": ([function()], "maybe", "tool_choice"),
    "a list": ([function()], ["auto"], "tool_choice"),
    "an object without a type": ([function()], {"name": "run"}, "tool_choice.type"),
    "no name": ([function()], {"type": "function"}, "tool_choice.name"),
    "another function": ([function()], {"type": "function", "name": "stop"}, "tool_choice"),
    "required of none": ([], "required", "tools"),
    "required of OpenAI's own": ([{"type": "web_search"}], "required", "tools"),
    "an unknown mode of some tools": (
        [function()], {"type": "allowed_tools", "mode": "maybe"}, "tool_choice"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_CHOICES)
def test_bad_tool_choice(name: str) -> None:
    """A choice that can't be made is refused."""
    tools, choice, param = BAD_CHOICES[name]

    assert param == refused(tools=tools, tool_choice=choice).param


OPTIONS: dict[str, tuple[dict[str, Any], str, Any]] = {
    "model": ({"model": "gpt-9"}, "model", "gpt-9"),
    "no limit": ({}, "max_tokens", None),
    "max_output_tokens": ({"max_output_tokens": 5}, "max_tokens", 5),
    "the limit of another API": ({"max_tokens": 5}, "max_tokens", None),
    "stream": ({"stream": True}, "stream", True),
    "log probabilities are not told": (
        {"top_logprobs": 5, "include": ["message.output_text.logprobs"]}, "top_logprobs", None
    ),
    "sampling": (
        {"temperature": 0.2, "top_p": 0.5}, "sampling", Sampling(temperature=0.2, top_p=0.5)
    ),
    "sampling as the server has it": ({}, "sampling", DEFAULTS),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_options(name: str) -> None:
    """Options are read in every form that they come in."""
    body, field, expected = OPTIONS[name]

    assert expected == getattr(read(**body).chat.options, field)


SUMMARIES: dict[str, tuple[Any, bool]] = {
    "no word of it": (None, False),
    "null": ({"summary": None}, False),
    "none": ({"summary": "none"}, False),
    "auto": ({"summary": "auto"}, True),
    "detailed": ({"summary": "detailed"}, True),
    "under its old name": ({"generate_summary": "concise"}, True),
}


@pytest.mark.parametrize("name", SUMMARIES)
def test_summaries(name: str) -> None:
    """Thoughts are told as summaries where they are asked for."""
    reasoning, expected = SUMMARIES[name]

    assert read(reasoning=reasoning).summaries is expected


def test_stored_unless_refused() -> None:
    """A response is stored, unless the client says no."""
    assert (read().store, read(store=False).store, read(store=None).store) == (True, False, True)


def test_parallel_calls() -> None:
    """One call at a time is what the client may ask for."""
    assert not read(parallel_tool_calls=False).chat.parallel_tool_calls


def test_fields_that_change_nothing() -> None:
    """What means nothing here is ignored, whatever it is."""
    ignored: dict[str, Any] = {
        "include": ["reasoning.encrypted_content"], "client_metadata": {"a": "b"}, "x": 5,
        "service_tier": "auto", "stream_options": {"include_obfuscation": False},
        "safety_identifier": "s", "max_tool_calls": 5, "background": False,
        "context_management": [], "prompt_cache_retention": "24h",
    }  # fmt: skip

    assert read() == read(**ignored)


def test_nulls_everywhere() -> None:
    """A body whose every field is null, but for its input, is the empty request."""
    names = [
        "model", "tools", "tool_choice", "parallel_tool_calls", "temperature", "top_p", "stream",
        "max_output_tokens", "metadata", "previous_response_id", "reasoning", "text", "user",
        "truncation", "instructions", "store", "include", "prompt_cache_key", "background",
        "conversation", "prompt", "top_logprobs", "stream_options", "chat_template_kwargs",
    ]  # fmt: skip

    assert read() == read(**dict.fromkeys(names))


SCHEMA = {"type": "json_schema", "name": "n", "schema": {"type": "object"}}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "background": ({"background": True}, "background"),
    "a conversation": ({"conversation": "conv_1"}, "conversation"),
    "a conversation as an object": ({"conversation": {"id": "conv_1"}}, "conversation"),
    "a stored prompt": ({"prompt": {"id": "pmpt_1"}}, "prompt"),
    "no tokens to say": ({"max_output_tokens": 0}, "max_output_tokens"),
    "a limit as a word": ({"max_output_tokens": "5"}, "max_output_tokens"),
    "too hot": ({"temperature": 101}, "temperature"),
    "instructions as a list": ({"instructions": []}, "instructions"),
    "the last response as a number": ({"previous_response_id": 5}, "previous_response_id"),
    "store as a word": ({"store": "no"}, "store"),
    "metadata as a text": ({"metadata": "m"}, "metadata"),
    "reasoning as a word": ({"reasoning": "low"}, "reasoning"),
    "effort as a number": ({"reasoning": {"effort": 5}}, "reasoning.effort"),
    "summary as a flag": ({"reasoning": {"summary": True}}, "reasoning.summary"),
    "text as a word": ({"text": "json"}, "text"),
    "a format as a word": ({"text": {"format": "json"}}, "text.format"),
    "a format of no type": ({"text": {"format": {}}}, "text.format.type"),
    "an unknown format": ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
    "no schema": ({"text": {"format": {**SCHEMA, "schema": None}}}, "text.format.schema"),
    "truncation as a flag": ({"truncation": True}, "truncation"),
    "a user as a number": ({"user": 5}, "user"),
    "a cache key as a number": ({"prompt_cache_key": 5}, "prompt_cache_key"),
    "parallel calls as a word": ({"parallel_tool_calls": "no"}, "parallel_tool_calls"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_field(name: str) -> None:
    """A field that can't be understood or done is named."""
    body, param = BAD[name]

    assert param == refused(**body).param


ECHO: dict[str, Any] = {
    "instructions": "s", "max_output_tokens": 5, "metadata": {"a": "b"}, "temperature": 0.2,
    "parallel_tool_calls": False, "prompt_cache_key": "k", "store": False, "top_p": 0.5,
    "reasoning": {"effort": "low", "summary": "auto"}, "text": {"format": SCHEMA},
    "tool_choice": {"type": "function", "name": "run"}, "tools": [function()],
    "truncation": "auto", "user": "u",
}  # fmt: skip


def test_echo() -> None:
    """The response repeats what was asked for."""
    told = read(**ECHO).echo

    assert told == {**ECHO, "background": False, "previous_response_id": None}


def test_echo_of_what_was_left_open() -> None:
    """The response says what holds where the request left it open."""
    told = read().echo

    assert (told["tool_choice"], told["tools"], told["temperature"]) == ("auto", (), 0.7)
    assert told["text"] == {"format": {"type": "text"}}


ANY: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
    | st.sampled_from(["user", "assistant", "message", "function_call", "reasoning", "auto",
                       "function_call_output", "item_reference", "custom_tool_call", "namespace",
                       "function", "custom", "local_shell_call", "additional_tools", "resp_1"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(
        st.sampled_from(["role", "content", "type", "text", "name", "id", "call_id", "arguments",
                         "output", "input", "summary", "tools", "parameters", "format", "action",
                         "namespace", "effort", "mode"]),
        inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
NAMES = st.sampled_from(
    ["tools", "tool_choice", "text", "reasoning", "metadata", "store", "instructions", "model",
     "previous_response_id", "max_output_tokens", "temperature", "chat_template_kwargs", "prompt",
     "truncation", "user", "background"]
)  # fmt: skip


@given(st.dictionaries(NAMES, ANY, max_size=4), st.lists(ANY, max_size=3) | ANY)
def test_any_body(body: dict[str, Any], items: Any) -> None:
    """A body is read, or refused with a message that can be sent; nothing else happens."""
    message = ""
    try:
        read({"resp_1": [USER]}, **{"input": items, **body})
    except BadRequest as error:
        message = to_json(error.message)

    assert len(message) < 400
