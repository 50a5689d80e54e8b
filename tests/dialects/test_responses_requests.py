"""What clients send to `/v1/responses`, and the request that is read from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_tools_server.dialects.responses import Item, Origin, ResponsesRequest, parse
from mlx_tools_server.errors import BadRequest
from mlx_tools_server.messages import Message, Sampling, ToolCall, ToolChoice, ToolSpec
from mlx_tools_server.wire import Fields, to_json

DEFAULTS = Sampling(temperature=0.7)
USER = {"role": "user", "content": "hi"}
HI = Message("user", "hi")


def read(earlier: Mapping[str, Sequence[Item]] | None = None, **fields: Any) -> ResponsesRequest:
    """Read a body that has these fields beside an input, where these responses are stored."""
    return parse(Fields({"input": "hi", **fields}), DEFAULTS, (earlier or {}).get)


def refused(**fields: Any) -> BadRequest:
    """Return the error that a body with these fields gets."""
    with pytest.raises(BadRequest) as caught:
        read(**fields)
    return caught.value


def messages(*items: Any) -> tuple[Message, ...]:
    """Return the messages that are read from these items."""
    return read(input=items).chat.messages


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
    "two texts in a row are two answers": ([said("a"), said("b")], (answer("a"), answer("b"))),
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


def function(name: Any = "run", **fields: Any) -> dict[str, Any]:
    """Return a function on offer."""
    return {"type": "function", "name": name, **fields}


def custom(**fields: Any) -> dict[str, Any]:
    """Return a custom tool on offer."""
    return {"type": "custom", "name": "patch", **fields}


def namespace(name: Any = "crm", *tools: Any) -> dict[str, Any]:
    """Return a namespace of tools on offer."""
    return {"type": "namespace", "name": name, "description": "n", "tools": list(tools)}


def freeform(description: str) -> dict[str, Any]:
    """Return the parameters that a custom tool gets."""
    return {
        "type": "object",
        "properties": {"input": {"type": "string", "description": description}},
        "required": ["input"],
        "additionalProperties": False,
    }


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
        [(ToolSpec("run", "d", {"type": "object"}), Origin("run"))],
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


KWARGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "none": ({}, {}),
    "nulls": ({"reasoning": {"effort": None, "summary": None}}, {}),
    "minimal": ({"reasoning": {"effort": "minimal"}}, {"reasoning_effort": "low"}),
    "medium": ({"reasoning": {"effort": "medium"}}, {"reasoning_effort": "medium"}),
    "xhigh": ({"reasoning": {"effort": "xhigh"}}, {"reasoning_effort": "high"}),
    "an effort of tomorrow": ({"reasoning": {"effort": "ultra"}}, {"reasoning_effort": "ultra"}),
    "no thoughts": ({"reasoning": {"effort": "none"}}, {"enable_thinking": False}),
    "what is sent for the template goes first": (
        {"reasoning": {"effort": "none"}, "chat_template_kwargs": {"enable_thinking": True}},
        {"enable_thinking": True},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KWARGS)
def test_template_arguments(name: str) -> None:
    """The effort and what is sent for the chat template reach it."""
    body, expected = KWARGS[name]

    assert expected == read(**body).chat.template_kwargs


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
    "a schema without a name": ({"text": {"format": {**SCHEMA, "name": None}}}, "text.format.name"),
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
        read({"resp_1": EARLIER}, **{"input": items, **body})
    except BadRequest as error:
        message = to_json(error.message)

    assert len(message) < 400
