"""The readers of requests: whatever is sent becomes a request in range, or an error with a name."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_tools_server.dialects import base, chat, completions, messages, responses
from mlx_tools_server.errors import BadRequest, RequestError
from mlx_tools_server.jsontext import count_values, whole_characters
from mlx_tools_server.messages import ChatRequest, Options, Sampling, TextRequest, ToolCall
from mlx_tools_server.schema import MAX_LITERAL, container
from mlx_tools_server.thinking import SCALE
from mlx_tools_server.wire import MAX_ITEMS, MAX_NAME, MAX_TOKENS, MAX_VALUES, Fields, parse_json

from .bodies import PATHS, good_body, mutated, written

STORED = [{"type": "message", "role": "user", "content": "hi", "id": "msg_0_0"}]
PARSERS: dict[str, Callable[[Fields], Any]] = {
    "chat": lambda body: chat.parse(body, Sampling()),
    "completions": lambda body: completions.parse(body, Sampling()),
    "messages": lambda body: messages.parse(body, Sampling()),
    "count": messages.parse_count,
    "responses": lambda body: responses.parse(body, Sampling(), {"resp_0": STORED}.get).chat,
}
# The least and the greatest that the engine takes.
RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0, 100),
    "top_p": (0, 1),
    "top_k": (0, 1 << 31),
    "min_p": (0, 1),
    "xtc_probability": (0, 1),
    "xtc_threshold": (0, 0.5),
    "repetition_penalty": (0, 100),
    "repetition_context_size": (0, 1 << 31),
    "presence_penalty": (-100, 100),
    "presence_context_size": (0, 1 << 31),
    "frequency_penalty": (-100, 100),
    "frequency_context_size": (0, 1 << 31),
}
WHOLE = {name for name in RANGES if name.endswith(("_k", "_size"))}


def check(raw: bytes, dialect: str) -> Any:
    """Read a body; fail unless it is a request in range, or an error that names what is wrong."""
    try:
        request = PARSERS[dialect](parse_json(raw))
    except RequestError as error:
        check_error(error)
        return error
    check_options(request.options)
    if isinstance(request, TextRequest):
        check_prompt(request)
    else:
        check_conversation(request)
    return request


def check_error(error: RequestError) -> None:
    """Fail unless it is the client's fault, and says in short what is wrong."""
    assert 400 <= error.status < 500
    assert 10 < len(error.message) < 600, error.message
    assert error.param is None or 0 < len(error.param) < 200
    error.message.encode()


def check_options(options: Options) -> None:
    """Fail unless each setting is of its type and in its range."""
    assert isinstance(options.model, str)
    assert len(options.model) <= MAX_NAME
    assert options.max_tokens is None or 1 <= options.max_tokens <= MAX_TOKENS
    assert type(options.max_tokens) in (int, type(None))
    assert options.top_logprobs is None or 0 <= options.top_logprobs <= 20
    assert type(options.stream) is type(options.include_usage) is bool
    assert len(options.stop) <= 16
    assert all(0 < len(word) <= 256 for word in options.stop)
    sampling = options.sampling
    assert {field.name for field in fields(Sampling)} == RANGES.keys() | {"logit_bias", "seed"}
    for name, (low, high) in RANGES.items():
        value = getattr(sampling, name)
        assert type(value) is (int if name in WHOLE else float)
        assert math.isfinite(value)
        assert low <= value <= high
    assert sampling.seed is None or 0 <= sampling.seed < 1 << 64
    for token, bias in sampling.logit_bias.items():
        assert type(token) is int
        assert 0 <= token < 1 << 31
        assert -10_000 <= bias <= 10_000


def check_prompt(request: TextRequest) -> None:
    """Fail unless the prompt is a text or token ids."""
    if isinstance(request.prompt, str):
        request.prompt.encode()
    else:
        assert all(type(token) is int and 0 <= token < 1 << 31 for token in request.prompt)
        assert not request.echo
    assert type(request.echo) is bool


def check_conversation(request: ChatRequest) -> None:
    """Fail unless the messages, the tools and the choice among them are what they must be."""
    assert request.messages
    assert len(request.messages) <= 3 * MAX_ITEMS
    for message in request.messages:
        assert message.role in ("system", "user", "assistant", "tool")
        for text in (message.content, message.reasoning, message.tool_call_id, message.name):
            text.encode()
        assert message.role == "assistant" or not (message.tool_calls or message.reasoning)
        for call in message.tool_calls:
            (call.id + call.name).encode()
            assert isinstance(call.arguments, Mapping)
    names = {tool.name for tool in request.tools}
    for tool in request.tools:
        assert 0 < len(tool.name) <= 514
        assert isinstance(tool.description, str)
        assert isinstance(tool.parameters, Mapping)
        assert type(tool.strict) is type(tool.deferred) is bool
    mode, name = request.tool_choice.mode, request.tool_choice.name
    assert mode in ("auto", "none", "required", "named")
    assert (name in names) if mode == "named" else not name
    assert type(request.parallel_tool_calls) is bool
    assert all(isinstance(name, str) for name in request.template_kwargs)
    wish = request.thinking
    assert type(wish.on) in (bool, type(None))
    assert wish.effort is None or wish.effort in SCALE
    assert wish.budget is None or 1 <= wish.budget <= MAX_TOKENS
    assert type(wish.budget) in (int, type(None))
    form = request.output_format
    assert form is None or form.schema is None or isinstance(form.schema, Mapping)
    assert form is None or type(form.strict) is bool


@pytest.mark.parametrize("dialect", PATHS)
def test_good_bodies(dialect: str) -> None:
    """A body that uses every field is read."""
    assert not isinstance(check(json.dumps(good_body(dialect)).encode(), dialect), RequestError)


@pytest.mark.parametrize("dialect", PATHS)
@settings(max_examples=25)
@given(st.integers(0, 1 << 40))
def test_mutated_bodies(dialect: str, seed: int) -> None:
    """A body with something wrong in it is read in range, or refused."""
    rng = Random(seed)
    check(written(rng, mutated(rng, good_body(dialect), dialect)), dialect)


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)


@pytest.mark.parametrize("dialect", PATHS)
@settings(max_examples=60)
@given(st.data())
def test_any_value_anywhere(dialect: str, data: st.DataObject) -> None:
    """Any JSON value in place of any field, or of the whole body, is read in range or refused."""
    body = good_body(dialect)
    name = data.draw(st.sampled_from(["", *body]))
    value = data.draw(VALUES)
    sent = body | {name: value} if name else value
    check(json.dumps(sent).encode(errors="surrogatepass"), dialect)


@settings(max_examples=100)
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes(raw: bytes) -> None:
    """Bytes that are no body are refused."""
    check(raw, "chat")


# What is settled about single fields.

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a model's name of a megabyte": ({"model": "m" * 10**6}, "model"),
    "an effort of a megabyte": ({"reasoning_effort": "x" * 10**6}, "reasoning_effort"),
    "a bias under a key with a space": ({"logit_bias": {" 5": 1}}, "logit_bias"),
    "a bias under a key with a sign": ({"logit_bias": {"+5": 1}}, "logit_bias"),
    "a bias under a key with a line": ({"logit_bias": {"1_0": 1}}, "logit_bias"),
    "a bias under a key with a zero": ({"logit_bias": {"05": 1}}, "logit_bias"),
    "a bias under digits of another script": ({"logit_bias": {"५": 1}}, "logit_bias"),
    "a bias under a key with a newline": ({"logit_bias": {"5\n": 1}}, "logit_bias"),
    "two answers": ({"n": 2}, "n"),
    "true answers": ({"n": True}, "n"),
    "a limit as text": ({"max_tokens": "5"}, "max_tokens"),
    "a limit of a half": ({"max_tokens": 1.5}, "max_tokens"),
    "a million stop strings": ({"stop": ["a"] * 10**5}, "stop"),
    "more messages than can be": ({"messages": [{}] * (MAX_ITEMS + 1)}, "messages"),
    "more tools than can be": (
        {"tools": [{"function": {"name": f"t{i}"}} for i in range(3000)]}, "tools"),
    "a template variable with a long name": (
        {"chat_template_kwargs": {"x" * 100 + "_token": 1}}, "chat_template_kwargs"),
    "more template variables than can be": (
        {"chat_template_kwargs": {f"x{i}": 1 for i in range(101)}}, "chat_template_kwargs"),
    "an unknown tool of a megabyte as the choice": (
        {"tool_choice": {"type": "function", "function": {"name": "x" * 10**6}}}, "tool_choice"),
    "an object of many fields for a text": ({"model": {f"{i}": i for i in range(10**5)}}, "model"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    """What is out of range is refused by its name, and repeated in short."""
    fields, param = REFUSED[name]

    error = check(json.dumps(CHAT | fields).encode(), "chat")

    assert isinstance(error, BadRequest)
    assert error.param == param
    assert len(error.message) < 250


@pytest.mark.parametrize("tokens", [[-1], [1 << 31], [10**30]])
def test_tokens_of_no_model(tokens: list[int]) -> None:
    """Token ids of a raw prompt are numbers that a token can have."""
    error = check(json.dumps({"prompt": tokens}).encode(), "completions")

    assert (error.status, error.param) == (400, "prompt")


@pytest.mark.parametrize("metadata", [{"a": "x" * 20_000}, {f"{i}": "" for i in range(5000)}])
def test_metadata_that_would_be_repeated(metadata: dict[str, Any]) -> None:
    """A response repeats its metadata in several events, so it is short."""
    error = check(json.dumps({"input": "hi", "metadata": metadata}).encode(), "responses")

    assert (error.status, error.param) == (400, "metadata")


def test_a_key_that_comes_twice() -> None:
    """Of a key that comes twice the last value counts; the first is not checked, nor used."""
    raw = b'{"messages": 5, "n": 2, "messages": [{"role": "x", "role": "user"}], "n": 1}'

    request = check(raw, "chat")

    assert [message.role for message in request.messages] == ["user"]


def test_a_bad_key_behind_a_good_one() -> None:
    """A value that would be refused is refused where it comes last."""
    error = check(b'{"n": 1, "messages": [{"role": "user"}], "n": 2}', "chat")

    assert error.param == "n"


# Bodies that are small to send and large to hold.

MANY: dict[str, bytes] = {
    "lists": b"[]," * (MAX_VALUES // 2) + b"[],1",
    "objects": b"{}," * (MAX_VALUES // 2) + b"{},1",
    "numbers": b"1," * MAX_VALUES + b"1",
    "strings": b'"",' * MAX_VALUES + b'""',
    "deep lists": (b"[" * 90 + b"]" * 90 + b",") * (MAX_VALUES // 90) + b"1",
    "lists behind an escaped quote": rb'"\"[",' + b"[]," * (MAX_VALUES // 2) + b"[]",
    "lists behind backslashes": rb'"\\",' + b"[]," * (MAX_VALUES // 2) + b"[]",
    "strings without commas": b'""' * (2 * MAX_VALUES + 2) + b"," * MAX_VALUES + b"[]",
}


@pytest.mark.parametrize("name", MANY)
def test_more_values_than_are_read(name: str) -> None:
    """A body of very many values is refused before they are made."""
    error = check(b'{"x": [' + MANY[name] + b"]}", "chat")

    assert error.status == 413
    assert "values" in error.message


@pytest.mark.parametrize("text", [",[{" * MAX_VALUES, r"\"," * MAX_VALUES, '\\",[' * MAX_VALUES])
def test_text_is_one_value(text: str) -> None:
    """Commas, brackets and quotes within a string are text, however many."""
    body = {"messages": [{"role": "user", "content": text}]}

    assert check(json.dumps(body).encode(), "chat").messages[0].content == text


@settings(max_examples=100)
@given(VALUES)
def test_values_are_counted(value: Any) -> None:
    """The count of values is that of commas and openers outside of strings."""

    def expected(node: Any) -> int:
        members = list(node.values() if isinstance(node, dict) else node)
        inner = sum(expected(member) for member in members if isinstance(member, dict | list))
        return 1 + max(0, len(members) - 1) + inner

    text = json.dumps([value]).encode()
    count = expected([value])

    assert count_values(text, 10**6) == count
    assert count_values(text, count - 1) == count


@settings(max_examples=100)
@given(st.text(st.sampled_from('\\ud83d\\ude00abn"\ud83d\ude00'), max_size=30))
def test_halves_of_characters(text: str) -> None:
    """Half a character is U+FFFD in the text as it would be in the value that it spells."""
    try:
        value = json.loads(f'"{text}"')
    except ValueError:
        return
    pairs = value.encode("utf-16-le", "surrogatepass")

    if not any("\ud800" <= one <= "\udfff" for one in text):
        assert json.loads(f'"{whole_characters(text)}"') == pairs.decode("utf-16-le", "replace")


def test_arguments_of_many_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments are JSON in a string; beyond what a body may hold they stay text."""
    monkeypatch.setattr(base, "MAX_VALUES", 5000)
    lists = '{"a": [' + "[]," * 1000 + "[]]}"

    assert [list(call.arguments) == ["a"] for call in calls_of(lists)] == [True] * 2 + [False] * 4
    assert {"arguments": lists} == calls_of(lists)[-1].arguments


def test_arguments_of_many_values_in_pythons_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quotes of another kind hide no values."""
    monkeypatch.setattr(base, "MAX_VALUES", 5000)
    lists = "{'\"': [" + "[]," * 1000 + "[]]}"

    assert [list(call.arguments) == ['"'] for call in calls_of(lists)] == [True] * 2 + [False] * 4


def test_long_literals() -> None:
    """Python's own form of an object is read up to a length, JSON of any."""
    text = "x" * MAX_LITERAL

    assert container("{'a': 'x'}", ("object",), None) == {"a": "x"}
    assert container(f"{{'a': '{text}'}}", ("object",), None) is None
    assert container(f'{{"a": "{text}"}}', ("object",), None) == {"a": text}


def calls_of(arguments: str) -> tuple[ToolCall, ...]:
    """Return what is read of six calls with these arguments."""
    call = {"function": {"name": "run", "arguments": arguments}}
    body = {"messages": [{"role": "assistant", "tool_calls": [call] * 6}]}
    made: tuple[ToolCall, ...] = check(json.dumps(body).encode(), "chat").messages[0].tool_calls
    return made


# References: few bytes that may mean many.


def test_references_to_one_item() -> None:
    """An item is referred to once: else a small body would hold a large conversation."""
    item = {"type": "message", "role": "user", "id": "a", "content": "x"}
    error = check(json.dumps({"input": [item, {"id": "a"}, {"id": "a"}]}).encode(), "responses")

    assert (error.status, error.param) == (400, "input[1].id")
    assert "twice" in error.message


def test_references_to_many_responses() -> None:
    """A request refers to items of some responses, not of all that are stored."""
    asked: list[str] = []

    def recall(answer_id: str) -> list[dict[str, Any]]:
        asked.append(answer_id)
        return []

    items = [{"type": "item_reference", "id": f"rs_{n}_0"} for n in range(200)]

    with pytest.raises(BadRequest, match="more than 100 responses"):
        responses.parse(Fields({"input": items}), Sampling(), recall)
    assert len(asked) == 100


def test_references_to_one_response() -> None:
    """All items of a response are found by asking for it once, its last item first."""
    asked: list[str] = []

    def recall(answer_id: str) -> list[dict[str, Any]]:
        asked.append(answer_id)
        return [{**STORED[0], "id": f"msg_{n}_0", "content": f"{n}"} for n in range(50)]

    items = [{"type": "item_reference", "id": f"msg_{n}_0"} for n in range(50)]
    request = responses.parse(Fields({"input": items}), Sampling(), recall)

    assert asked == ["resp_49"]
    assert [message.content for message in request.chat.messages] == [f"{n}" for n in range(50)]
