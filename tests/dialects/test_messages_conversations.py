"""Conversations that clients send to `/v1/messages`, and the messages that are read from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_tools_server.messages import Message, ToolCall

from .bodies_messages import (
    BILLING,
    LISTED,
    PLACEHOLDER,
    SCHEMA,
    USER,
    answer,
    call,
    document,
    read,
    reference,
    refused,
    result,
    text,
    thought,
    user,
)


def tool_message(content: str) -> Message:
    """Return the message that a result is read as."""
    return Message("tool", content, tool_call_id="c1")


SYSTEMS: dict[str, tuple[Any, str]] = {
    "a text": ("s", "s"),
    "a block": ([text("s")], "s"),
    "blocks": ([text("s"), text("t", cache_control={"type": "ephemeral"})], "s\n\nt"),
    "an empty block": ([text("s"), text(""), text("t")], "s\n\nt"),
    "Claude Code's billing line": ([text(BILLING), text("s"), text("t")], "s\n\nt"),
    "a billing line in a text": (f"{BILLING}\ns", "s"),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_system(name: str) -> None:
    """Whatever form the system prompt has, it is one message before all others."""
    system, expected = SYSTEMS[name]

    assert (Message("system", expected), Message("user", "hi")) == read(system=system).messages


@pytest.mark.parametrize("system", [None, "", [], [text("")], [text(BILLING)], f"{BILLING}\n"])
def test_no_system(system: Any) -> None:
    """A system prompt that says nothing is no message."""
    assert (Message("user", "hi"),) == read(system=system).messages


MESSAGES: dict[str, tuple[dict[str, Any], tuple[Message, ...]]] = {
    "a text": (USER, (Message("user", "hi"),)),
    "blocks": (user(text("a"), text("b", cache_control={})), (Message("user", "a\n\nb"),)),
    "an empty block": (user(text("a"), text(""), text("b")), (Message("user", "a\n\nb"),)),
    "no blocks": (user(), (Message("user"),)),
    "an empty text": ({"role": "user", "content": ""}, (Message("user"),)),
    "content null": ({"role": "user", "content": None}, (Message("user"),)),
    "blanks stay": (user(text(" a\n")), (Message("user", " a\n"),)),
    "a billing line that the user sent": (user(text(BILLING)), (Message("user", BILLING),)),
    "a block without a type": (user({"text": "a"}), (Message("user", "a"),)),
    "a kind of text that nobody knows": (user(text(type="poem")), (Message("user", "a"),)),
    "a late system message": (
        {"role": "system", "content": "s"}, (Message("system", "s"),)
    ),
    "a late system message in blocks": (
        {"role": "system", "content": [text(BILLING), text("s"), text("t")]},
        (Message("system", "s\n\nt"),),
    ),
    "a document of text": (
        user(document({"type": "text", "media_type": "text/plain", "data": "d"}), text("a")),
        (Message("user", "d\n\na"),),
    ),
    "a document with a title": (
        user(document({"type": "text", "data": "d"}, title="t", context="c")),
        (Message("user", "t\n\nc\n\nd"),),
    ),
    "a document of blocks": (
        user(document({"type": "content", "content": [text("a"), text("b")]})),
        (Message("user", "a\n\nb"),),
    ),
    "a document of blocks as a text": (
        user(document({"type": "content", "content": "a"})), (Message("user", "a"),)
    ),
    "a search result": (
        user({"type": "search_result", "title": "t", "source": "s", "content": [text("a")]}),
        (Message("user", "t\n\ns\n\na"),),
    ),
    "a result": (user(result("ok")), (tool_message("ok"),)),
    "a result in blocks": (user(result(text("a"), text("b"))), (tool_message("a\n\nb"),)),
    "a result without content": (
        user({"type": "tool_result", "tool_use_id": "c1"}), (tool_message(""),)
    ),
    "a result that is null": (user({**result(), "content": None}), (tool_message(""),)),
    "a result without an id": (
        user({"type": "tool_result", "content": "ok"}), (Message("tool", "ok"),)
    ),
    "an error": (user(result("no file", is_error=True)), (tool_message("Error: no file"),)),
    "an error in blocks": (
        user(result(text("no"), text("file"), is_error=True)), (tool_message("Error: no\n\nfile"),)
    ),
    "an error that says nothing": (user(result("", is_error=True)), (tool_message("Error"),)),
    "an error that says so": (
        user(result("Error: no file", is_error=True)), (tool_message("Error: no file"),)
    ),
    "an error that says so in Claude Code's way": (
        user(result("<tool_use_error>No such tool</tool_use_error>", is_error=True)),
        (tool_message("<tool_use_error>No such tool</tool_use_error>"),),
    ),
    "no error": (user(result("ok", is_error=False)), (tool_message("ok"),)),
    "an image": (
        user(result(text("see"), {"type": "image", "source": {}})),
        (tool_message("see\n\n[image: this model reads text only]"),),
    ),
    "results, then text": (
        user(result("1"), {**result("2"), "tool_use_id": "c2"}, text("a"), text("b")),
        (tool_message("1"), Message("tool", "2", tool_call_id="c2"), Message("user", "a\n\nb")),
    ),
    "text, then results, then text": (
        user(text("a"), result("1"), text("b")),
        (Message("user", "a"), tool_message("1"), Message("user", "b")),
    ),
    "a result and an empty text": (user(result("1"), text("")), (tool_message("1"),)),
    "an answer": ({"role": "assistant", "content": "a"}, (Message("assistant", "a"),)),
    "an answer in blocks": (
        answer(text("a"), text("b", citations=None)), (Message("assistant", "ab"),)
    ),
    "an empty answer": (answer(), (Message("assistant"),)),
    "a call": (
        answer(text("a"), call(cmd="ls")),
        (Message("assistant", "a", tool_calls=(ToolCall("c1", "run", {"cmd": "ls"}),)),),
    ),
    "two calls and text between": (
        answer(text("a"), call(), text("b"), call(2)),
        (Message("assistant", "ab",
                 tool_calls=(ToolCall("c1", "run", {}), ToolCall("c2", "run", {}))),),
    ),
    "a call without input": (
        answer({"type": "tool_use", "id": "c1", "name": "run", "input": None}),
        (Message("assistant", tool_calls=(ToolCall("c1", "run", {}),)),),
    ),
    "a thought": (
        answer(thought("r"), text("a")),
        (Message("assistant", "a", "r"),),
    ),
    "thoughts": (
        answer(thought("r"), call(), thought("s")),
        (Message("assistant", "", "rs", (ToolCall("c1", "run", {}),)),),
    ),
    "a thought that can't be read": (
        answer({"type": "redacted_thinking", "data": "xyz"}, text("a")),
        (Message("assistant", "a"),),
    ),
    "fields that nobody knows": ({**USER, "id": 5, "x": []}, (Message("user", "hi"),)),
}  # fmt: skip


@pytest.mark.parametrize("name", MESSAGES)
def test_message(name: str) -> None:
    """Every shape of a message that clients send is read."""
    message, expected = MESSAGES[name]

    assert expected == read(messages=[message]).messages


def test_order_of_messages() -> None:
    """Messages stay in their order, late system messages and an answer at the end too."""
    messages = [USER, {"role": "system", "content": "s"}, USER, answer(text("a"))]

    expected = ["system", "user", "system", "user", "assistant"]

    assert expected == [message.role for message in read(system="s", messages=messages).messages]


FORMS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "a system prompt": lambda content: {"system": content},
    "the user": lambda content: {"messages": [{"role": "user", "content": content}]},
    "an answer": lambda content: {"messages": [{"role": "assistant", "content": content}]},
    "a late system message": lambda content: {"messages": [{"role": "system", "content": content}]},
    "a result": lambda content: {"messages": [user({**result(), "content": content})]},
    "an error": lambda content: {
        "messages": [user({**result(), "content": content, "is_error": True})]
    },
}


@pytest.mark.parametrize("name", FORMS)
@given(said=st.text(max_size=9))
def test_a_text_is_a_block(name: str, said: str) -> None:
    """A text and a block of it are the same, marked for a cache or not."""
    body = FORMS[name]

    assert read(**body(said)) == read(**body([text(said)]))
    assert read(**body(said)) == read(**body([text(said, cache_control={"type": "ephemeral"})]))


BAD_MESSAGES: dict[str, tuple[Any, str]] = {
    "no list": ("hi", "messages"),
    "none": ([], "messages"),
    "null": (None, "messages"),
    "a text": (["hi"], "messages[0]"),
    "no role": ([{"content": "a"}], "messages[0].role"),
    "a role of another API": ([USER, {"role": "tool"}], "messages[1].role"),
    "a role that is a list": ([{"role": []}], "messages[0].role"),
    "content as a number": ([{"role": "user", "content": 5}], "messages[0].content"),
    "content as an object": ([{"role": "user", "content": {}}], "messages[0].content"),
    "a block as a text": ([user("a")], "messages[0].content[0]"),
    "a block without text": ([user({"type": "text"})], "messages[0].content[0].text"),
    "a block with a number": ([user(text(5))], "messages[0].content[0].text"),
    "a block of type 5": ([user(text(type=5))], "messages[0].content[0].type"),
    "an image": ([user(text(), {"type": "image", "source": {}})], "messages[0].content[1].type"),
    "an image in a document": (
        [user(document({"type": "content", "content": [{"type": "image"}]}))],
        "messages[0].content[0].source.content[0].type",
    ),
    "a PDF": (
        [user(document({"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}))],
        "messages[0].content[0].source.type",
    ),
    "a document elsewhere": (
        [user(document({"type": "url", "url": "http://x"}))], "messages[0].content[0].source.type"
    ),
    "a document without a source": ([user(document(None))], "messages[0].content[0].source"),
    "an upload": (
        [user({"type": "container_upload", "file_id": "f"})], "messages[0].content[0].type"
    ),
    "a call of the user": ([user(call())], "messages[0].content[0].type"),
    "a result of the assistant": ([answer(result("ok"))], "messages[0].content[0].type"),
    "a search that Anthropic's servers ran": (
        [answer({**call(), "type": "server_tool_use"})], "messages[0].content[0].type"
    ),
    "a call without a name": (
        [answer({"type": "tool_use", "id": "c1", "input": {}})], "messages[0].content[0].name"
    ),
    "arguments as a text": (
        [answer({**call(), "input": "{}"})], "messages[0].content[0].input"
    ),
    "an id as a number": (
        [user({**result(), "tool_use_id": 5})], "messages[0].content[0].tool_use_id"
    ),
    "is_error as a word": (
        [user(result("a", is_error="no"))], "messages[0].content[0].is_error"
    ),
    "a reference to nothing": (
        [user(result({"type": "tool_reference"}))], "messages[0].content[0].content[0].tool_name"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_MESSAGES)
def test_bad_message(name: str) -> None:
    """What is no message is named by its whole path."""
    messages, param = BAD_MESSAGES[name]

    assert param == refused(messages=messages).param


def test_an_image_is_refused_with_a_remedy() -> None:
    """Who sends an image is told what can be sent."""
    error = refused(messages=[user({"type": "image"})])

    assert error.message.endswith(
        "type is 'image', but this server reads text only. Send the content as text."
    )


@pytest.mark.parametrize("system", [5, {}, ["s"], [{"type": "image"}], [{"type": "text"}]])
def test_bad_system(system: Any) -> None:
    """A system prompt that is no text is refused."""
    param = refused(system=system).param

    assert param is not None
    assert param.startswith("system")


FETCH = {"name": "Fetch", "description": "d", "input_schema": SCHEMA, "defer_loading": True}
ASK = {"name": "Ask", "defer_loading": True}
SEARCH = [USER, answer(call(query="fetch"))]
FETCH_DEFINED = (
    '<tools>\n{"type": "function", "function": {"name": "Fetch", "description": "d", "parameters": '
    '{"type": "object", "properties": {"cmd": {"type": "string"}}}}}\n</tools>'
)
ASK_DEFINED = (
    '<tools>\n{"type": "function", "function": '
    '{"name": "Ask", "description": "", "parameters": {}}}\n</tools>'
)


def referring(tools: list[Any], *results: Any) -> list[str]:
    """Return what results say that refer to tools, of a conversation that offers these."""
    messages = [*SEARCH, *map(user, results)]
    return [message.content for message in read(tools=tools, messages=messages).messages[2:]]


def test_a_deferred_tool_is_defined_where_it_is_first_referred_to() -> None:
    """The first reference to a deferred tool says all about it; later ones name it."""
    said = referring(
        [FETCH, *LISTED, ASK],
        result(reference("Fetch"), text("and"), reference("Fetch")),
        result(reference("Ask"), reference("Fetch")),
    )

    assert said == [f"{FETCH_DEFINED}\n\nand\n\nTool: Fetch", f"{ASK_DEFINED}\n\nTool: Fetch"]


@pytest.mark.parametrize("name", ["Read", "Nothing"])
def test_other_references_name_their_tool(name: str) -> None:
    """A reference to a tool that is listed already, or that nobody knows, names it."""
    assert [f"Tool: {name}"] == referring([*LISTED, FETCH], result(reference(name)))


def test_the_order_of_deferred_tools_is_no_matter() -> None:
    """Definitions stand in the order of the references, and listed tools in their own."""
    one = read(tools=[FETCH, *LISTED, ASK], messages=[*SEARCH, user(result(reference("Ask")))])
    other = read(tools=[ASK, *LISTED, FETCH], messages=[*SEARCH, user(result(reference("Ask")))])

    assert one.messages == other.messages
    assert one.listed_tools == other.listed_tools == read(tools=LISTED).tools


def test_a_search_for_tools_keeps_the_prefix() -> None:
    """Tools that Claude Code inserts after a search change nothing that was said before it."""
    before = read(tools=[*LISTED, PLACEHOLDER], messages=SEARCH)
    found = [*SEARCH, user(result(reference("Fetch")))]
    after = read(tools=[LISTED[0], PLACEHOLDER, FETCH, *LISTED[1:]], messages=found)
    later = read(
        tools=[ASK, LISTED[0], PLACEHOLDER, FETCH, *LISTED[1:]],
        messages=[*found, answer(call(2)), user(result(reference("Ask"), reference("Fetch")))],
    )

    assert before.listed_tools == after.listed_tools == later.listed_tools
    assert before.messages == after.messages[: len(before.messages)]
    assert after.messages == later.messages[: len(after.messages)]
    assert {"Fetch", "Ask"} <= {tool.name for tool in later.callable_tools}


def test_definitions_are_json() -> None:
    """What defines a tool is the tool, as JSON on one line."""
    first, line, last = FETCH_DEFINED.split("\n")

    assert (first, last) == ("<tools>", "</tools>")
    assert json.loads(line)["function"]["parameters"] == SCHEMA
