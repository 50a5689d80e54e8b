"""What clients send to `/v1/messages` beside a conversation, and the request that is read."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_tools_server.dialects.messages import parse_count
from mlx_tools_server.errors import BadRequest
from mlx_tools_server.messages import Message, Sampling, ThinkingWish, ToolChoice, ToolSpec
from mlx_tools_server.wire import Fields, to_json

from .bodies_messages import (
    BILLING,
    DEFAULTS,
    LISTED,
    PLACEHOLDER,
    SCHEMA,
    USER,
    read,
    refused,
    text,
    user,
)

TOOLS: dict[str, tuple[Any, tuple[ToolSpec, ...]]] = {
    "null": (None, ()),
    "none": ([], ()),
    "a name only": ([{"name": "run"}], (ToolSpec("run"),)),
    "all of it": (
        [{"name": "run", "description": "d", "input_schema": SCHEMA, "type": "custom",
          "strict": True, "cache_control": {"type": "ephemeral"}, "eager_input_streaming": True}],
        (ToolSpec("run", "d", SCHEMA, strict=True),),
    ),
    "nulls": (
        [{"name": "run", "description": None, "input_schema": None, "type": None,
          "defer_loading": None}],
        (ToolSpec("run"),),
    ),
    "a deferred one": (
        [{"name": "run", "defer_loading": True}], (ToolSpec("run", deferred=True),)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TOOLS)
def test_tools(name: str) -> None:
    """Tools on offer are read, with whatever they leave open."""
    tools, expected = TOOLS[name]

    assert expected == read(tools=tools).tools


BAD_TOOLS: dict[str, tuple[Any, str]] = {
    "an object": ({}, "tools"),
    "a text": (["run"], "tools[0]"),
    "Anthropic's search": (
        [{"name": "run"}, {"type": "web_search_20250305", "name": "web_search"}],
        "tools[1].type",
    ),
    "Anthropic's shell": ([{"type": "bash_20250124", "name": "bash"}], "tools[0].type"),
    "Anthropic's browser": ([{"type": "browser_toolset_20260801"}], "tools[0].type"),
    "without a name": ([{"input_schema": {}}], "tools[0].name"),
    "with an empty name": ([{"name": ""}], "tools[0].name"),
    "with a name that closes a tag": ([{"name": "a>b"}], "tools[0].name"),
    "with a name too long": ([{"name": "a" * 257}], "tools[0].name"),
    "a schema as a list": ([{"name": "run", "input_schema": []}], "tools[0].input_schema"),
    "deferred by a word": ([{"name": "run", "defer_loading": "yes"}], "tools[0].defer_loading"),
}


@pytest.mark.parametrize("name", BAD_TOOLS)
def test_bad_tools(name: str) -> None:
    """What is no tool of the client is named by its whole path."""
    tools, param = BAD_TOOLS[name]

    assert param == refused(tools=tools).param


CHOICES: dict[str, tuple[Any, ToolChoice, bool]] = {
    "null": (None, ToolChoice(), True),
    "auto": ({"type": "auto"}, ToolChoice(), True),
    "any": ({"type": "any"}, ToolChoice("required"), True),
    "none": ({"type": "none"}, ToolChoice("none"), True),
    "a tool": ({"type": "tool", "name": "run"}, ToolChoice("named", "run"), True),
    "one call at a time": (
        {"type": "auto", "disable_parallel_tool_use": True}, ToolChoice(), False
    ),
    "many calls": ({"type": "any", "disable_parallel_tool_use": False},
                   ToolChoice("required"), True),
}  # fmt: skip


@pytest.mark.parametrize("name", CHOICES)
def test_tool_choice(name: str) -> None:
    """Every form of a tool choice is read, and whether calls may be many."""
    choice, expected, parallel = CHOICES[name]

    request = read(tools=[{"name": "run"}], tool_choice=choice)

    assert (expected, parallel) == (request.tool_choice, request.parallel_tool_calls)


BAD_CHOICES: dict[str, tuple[Any, Any, str]] = {
    "a word": ([{"name": "run"}], "auto", "tool_choice"),
    "an empty object": ([{"name": "run"}], {}, "tool_choice.type"),
    "another kind": ([{"name": "run"}], {"type": "required"}, "tool_choice.type"),
    "no name": ([{"name": "run"}], {"type": "tool"}, "tool_choice.name"),
    "another tool": ([{"name": "run"}], {"type": "tool", "name": "stop"}, "tool_choice.name"),
    "any of none": ([], {"type": "any"}, "tools"),
    "parallel by a word": (
        [], {"type": "auto", "disable_parallel_tool_use": "no"},
        "tool_choice.disable_parallel_tool_use",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_CHOICES)
def test_bad_tool_choice(name: str) -> None:
    """A choice that can't be made is refused."""
    tools, choice, param = BAD_CHOICES[name]

    assert param == refused(tools=tools, tool_choice=choice).param


OPTIONS: dict[str, tuple[dict[str, Any], str, Any]] = {
    "any model": ({"model": "claude-opus-5-5"}, "model", "claude-opus-5-5"),
    "max_tokens": ({"max_tokens": 5}, "max_tokens", 5),
    "more tokens than any context has": ({"max_tokens": 128000}, "max_tokens", 128000),
    "stop sequences": ({"stop_sequences": ["x", "", "y"]}, "stop", ("x", "y")),
    "no stop sequences": ({"stop_sequences": None}, "stop", ()),
    "stream": ({"stream": True}, "stream", True),
    "no stream": ({"stream": None}, "stream", False),
    "sampling": (
        {"temperature": 1, "top_p": 0.9, "top_k": 40},
        "sampling",
        Sampling(temperature=1, top_p=0.9, top_k=40),
    ),
    "the server's own sampling": ({}, "sampling", DEFAULTS),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options(name: str) -> None:
    """Options are read in every form that they come in."""
    body, field, expected = OPTIONS[name]

    assert expected == getattr(read(**body).options, field)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no limit": ({"max_tokens": None}, "max_tokens"),
    "no tokens": ({"max_tokens": 0}, "max_tokens"),
    "less than no tokens": ({"max_tokens": -1}, "max_tokens"),
    "tokens as a word": ({"max_tokens": "9"}, "max_tokens"),
    "a model as a number": ({"model": 5}, "model"),
    "stream as a word": ({"stream": "true"}, "stream"),
    "a stop sequence as a number": ({"stop_sequences": [5]}, "stop_sequences"),
    "a temperature as a word": ({"temperature": "hot"}, "temperature"),
    "thinking as a flag": ({"thinking": True}, "thinking"),
    "thinking of type 5": ({"thinking": {"type": 5}}, "thinking.type"),
    "effort as a number": ({"output_config": {"effort": 5}}, "output_config.effort"),
    "a shape without a type": ({"output_config": {"format": {}}}, "output_config.format.type"),
    "a shape of another type": (
        {"output_config": {"format": {"type": "regex"}}}, "output_config.format.type"
    ),
    "a shape without a schema": (
        {"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_field(name: str) -> None:
    """A field that can't be understood or done is named."""
    body, param = BAD[name]

    assert param == refused(**body).param


def test_nulls_everywhere() -> None:
    """A body whose every field is null, but for the required ones, is the empty request."""
    names = [
        "model", "system", "tools", "tool_choice", "temperature", "top_p", "top_k", "stream",
        "stop_sequences", "thinking", "output_config", "metadata", "container", "service_tier",
        "context_management", "mcp_servers", "betas", "cache_control", "speed",
    ]  # fmt: skip

    assert read() == read(**dict.fromkeys(names))


def test_a_request_of_claude_code() -> None:
    """A whole request of Claude Code is read, whatever else it says."""
    request = read(
        model="claude-sonnet-5-5",
        system=[text(BILLING), text("You are Claude Code."), text("Be brief.", cache_control={})],
        messages=[
            user(text("count the words", cache_control={"type": "ephemeral"})),
            {"role": "system", "content": "# Environment"},
        ],
        tools=[*LISTED, PLACEHOLDER],
        max_tokens=128000,
        stream=True,
        metadata={"user_id": '{"session_id": "1"}'},
        thinking={"type": "adaptive", "display": "summarized"},
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        output_config={"effort": "high"},
    )

    assert request.messages == (
        Message("system", "You are Claude Code.\n\nBe brief."),
        Message("user", "count the words"),
        Message("system", "# Environment"),
    )
    assert [tool.name for tool in request.listed_tools] == ["Bash", "Read", "ToolSearch"]
    assert request.thinking == ThinkingWish(effort="high")


def test_count() -> None:
    """To count tokens no limit is needed; the conversation is read in the same way."""
    body = {"system": "s", "messages": [USER], "tools": LISTED, "thinking": {"type": "disabled"}}

    counted, answered = parse_count(Fields(body)), read(**body)

    assert counted.messages == answered.messages
    assert counted.tools == answered.tools
    assert counted.thinking == answered.thinking


def test_count_of_nothing() -> None:
    """There must be a message to count the tokens of."""
    with pytest.raises(BadRequest) as caught:
        parse_count(Fields({"messages": []}))

    assert caught.value.param == "messages"


ANY: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
    | st.sampled_from(["user", "assistant", "system", "text", "tool_use", "tool_result", "thinking",
                       "document", "tool_reference", "content", "run", "x" * 500]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(
        st.sampled_from(["role", "content", "type", "text", "input", "name", "id", "source", "data",
                         "tool_name", "is_error", "effort", "format", "schema", "defer_loading"]),
        inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
NAMES = st.sampled_from(
    ["messages", "system", "tools", "tool_choice", "stop_sequences", "thinking", "output_config",
     "max_tokens", "temperature", "model", "stream"]
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
