"""The server's own description: sound by itself, and true of the routes and the answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from mlx_tools_server.dialects import chat, completions, messages, responses
from mlx_tools_server.errors import BadRequest
from mlx_tools_server.messages import Sampling
from mlx_tools_server.openapi import description
from mlx_tools_server.wire import Fields

from .dialects.recordings import RECORDINGS

DOCUMENT = description("1.2.3")
OPERATIONS = [
    (method, path, operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
]
NAMES = [f"{method} {path}" for method, path, _ in OPERATIONS]
ANSWERS = {
    "chat": ("ChatCompletion", "OpenAIError"),
    "completions": ("TextCompletion", "OpenAIError"),
    "messages": ("MessageAnswer", "AnthropicError"),
    "responses": ("Response", "OpenAIError"),
}
REQUESTS: Mapping[str, Callable[[Fields], object]] = {
    "ChatRequest": lambda body: chat.parse(body, Sampling()),
    "TextRequest": lambda body: completions.parse(body, Sampling()),
    "MessagesRequest": lambda body: messages.parse(body, Sampling()),
    "CountRequest": messages.parse_count,
    "ResponsesRequest": lambda body: responses.parse(body, Sampling(), lambda _: None),
}


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of a document."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, dict | list):
            yield from nodes(inner)


def closed(value: Any) -> Any:
    """Return a schema under which objects may have no field that it does not name."""
    if isinstance(value, list):
        return [closed(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    rest = {"additionalProperties": False} if "required" in value else {}
    return {**{name: closed(inner) for name, inner in value.items()}, **rest}


def judge(name: str, *, is_closed: bool = False) -> Draft202012Validator:
    """Return the validator of a named schema."""
    components = DOCUMENT["components"]
    components = closed(components) if is_closed else components
    schema = {"$ref": f"#/components/schemas/{name}", "components": components}
    return Draft202012Validator(schema)


def test_head() -> None:
    """The document says its form and the server's version."""
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert DOCUMENT["info"]["version"] == "1.2.3"
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT


def test_references() -> None:
    """Every reference leads to a component, and every component is referred to."""
    used = {node["$ref"] for node in nodes(DOCUMENT) if "$ref" in node}
    made = {
        f"#/components/{kind}/{name}"
        for kind, components in DOCUMENT["components"].items()
        for name in components
        if kind != "securitySchemes"
    }

    assert used <= made
    # Some errors are those of routes that one of the dialects does not have.
    assert {name for name in made - used if "/responses/" not in name} == set()


@pytest.mark.parametrize("name", DOCUMENT["components"]["schemas"])
def test_schema(name: str) -> None:
    """Every schema is a valid JSON Schema."""
    Draft202012Validator.check_schema(DOCUMENT["components"]["schemas"][name])


def test_names() -> None:
    """No two operations have one name."""
    names = [operation["operationId"] for _, _, operation in OPERATIONS]

    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=NAMES)
def test_operation(method: str, path: str, operation: dict[str, Any]) -> None:
    """An operation has its path's parameters, a body if it is a POST, and says all its errors."""
    shared = DOCUMENT["components"]["parameters"]
    parameters = [shared[node["$ref"].rpartition("/")[2]] for node in operation["parameters"]]
    in_path = {p["name"] for p in parameters if p["in"] == "path"}
    usual = {"200", "400", "401", "403", "404", "405", "408", "414", "431", "503"}

    assert in_path == set(re.findall(r"{(\w+)}", path))
    assert ("requestBody" in operation) == (method == "post")
    assert usual <= set(operation["responses"])
    assert method != "post" or {"411", "413", "415"} <= set(operation["responses"])


@pytest.mark.mlx
def test_routes() -> None:
    """Every route of the server is described, and nothing else is."""
    from mlx_tools_server.handler import DEBUG, ROUTES

    described = set()
    for method, path, _ in OPERATIONS:
        place = path.replace("{model}", "a/b").replace("{id}", "a").removeprefix("/v1").rstrip("/")
        found = [
            route
            for route in ROUTES
            if route[0] == method.upper() and re.fullmatch(route[1], place)
        ]
        assert found, f"{method} {path} is no route"
        described.update(found)

    assert set(ROUTES) == described
    assert DOCUMENT["components"]["parameters"]["debug"]["name"] == DEBUG


@pytest.mark.parametrize("name", RECORDINGS)
def test_answer(name: str) -> None:
    """A whole answer fits its schema, which names all of its fields."""
    recording = RECORDINGS[name]
    body = json.loads(recording.files["json"])
    whole, error = ANSWERS[recording.dialect]
    is_error = body.get("type") == "error" or set(body) == {"error"}

    judge(error if is_error else whole, is_closed=True).validate(body)


USER = {"role": "user", "content": "hi"}
TOOL = {"name": "f", "description": None, "strict": False}
ITEMS: list[dict[str, Any]] = [
    {"role": "developer", "content": [{"type": "input_text", "text": "x"}]},
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "x"}]},
    {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
    {"type": "custom_tool_call", "call_id": "b", "name": "g", "namespace": "n", "input": "x"},
    {"type": "local_shell_call", "call_id": "c", "action": {"command": ["ls"]}},
    {"type": "function_call_output", "call_id": "a", "output": [{"type": "input_image"}]},
    {"type": "additional_tools", "tools": [{"type": "web_search"}]},
    {"type": "compaction", "whatever": 1},
    {"id": "rs_1"},
]
BLOCKS: list[dict[str, Any]] = [
    {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}},
    {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "image"}], "is_error": None},
    {"type": "document", "source": {"type": "text", "data": "x"}, "title": None},
    {"type": "document", "source": {"type": "content", "content": [{"text": "x"}]}},
    {"type": "search_result", "title": "t", "source": "s", "content": [{"text": "x"}]},
    {"type": "tool_reference", "tool_name": "f"},
]
TURN = [
    {"type": "thinking", "thinking": "x", "signature": "y"},
    {"type": "redacted_thinking", "data": "z"},
    {"type": "tool_use", "id": "a", "name": "f", "input": {}},
]
SAID = [
    {"role": "system", "content": [{"type": "text", "text": "x"}]},
    USER,
    {
        "role": "assistant",
        "content": None,
        "reasoning_content": "x",
        "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "a", "content": [{"type": "image_url"}]},
]
FORMAT = {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "strict": True}}

WISHES = {
    "reasoning_effort": "xhigh",
    "thinking": {"type": "enabled"},
    "enable_thinking": None,
    "thinking_budget": 0,
    "chat_template_kwargs": {"enable_thinking": False, "thinking": None, "date": "today"},
}
# Bodies, by the schema that they fit and the parser that takes them.
GOOD: dict[str, tuple[str, dict[str, Any]]] = {
    "a conversation": ("ChatRequest", {"messages": SAID, "unknown": 1}),
    "every option": (
        "ChatRequest",
        {
            "messages": [USER],
            "temperature": 0.5,
            "logit_bias": {"5": -100},
            "seed": -1,
            "stop": ["a"],
            "max_tokens": -1,
            "top_logprobs": 20,
            "logprobs": True,
            "response_format": FORMAT,
            **WISHES,
            "reasoning": {"effort": "max", "enabled": True, "max_tokens": -1},
        },
    ),
    "tools": (
        "ChatRequest",
        {
            "messages": [USER],
            "tools": [{"type": "function", "function": TOOL}],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
        },
    ),
    "nulls": ("ChatRequest", {"messages": [USER], "tools": None, "n": None, "stop": None}),
    "a prompt": ("TextRequest", {"prompt": ["x"], "best_of": 1, "suffix": "", "logprobs": 3}),
    "tokens": ("TextRequest", {"prompt": [1, 2]}),
    "blocks": (
        "MessagesRequest",
        {"max_tokens": 1, "messages": [{"role": "user", "content": BLOCKS}]},
    ),
    "a turn": (
        "MessagesRequest",
        {
            "max_tokens": 1,
            "messages": [{"role": "assistant", "content": TURN}],
            "tools": [{"type": "custom", **TOOL, "input_schema": {}}],
            "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
            "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {}}},
        },
    ),
    "thoughts": (
        "MessagesRequest",
        {
            "max_tokens": 1,
            "messages": [USER],
            "thinking": {"type": "adaptive", "budget_tokens": None, "display": "omitted"},
        },
    ),
    "a count": ("CountRequest", {"messages": [USER], "system": [{"type": "text", "text": "x"}]}),
    "items": ("ResponsesRequest", {"input": ITEMS}),
    "tools of all kinds": (
        "ResponsesRequest",
        {
            "input": "hi",
            "tools": [
                {"type": "function", **TOOL},
                {"type": "namespace", "name": "n", "tools": [{"type": "function", **TOOL}]},
                {"type": "custom", **TOOL, "format": {"type": "grammar", "syntax": "lark"}},
                {"type": "web_search"},
            ],
            "tool_choice": {"type": "function", "name": "f", "namespace": "n"},
            "background": False,
            **WISHES,
            "reasoning": {"effort": "ultra", "summary": "auto"},
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_good_request(name: str) -> None:
    """A body that a parser takes fits the schema of its request."""
    schema, body = GOOD[name]

    REQUESTS[schema](Fields(body))
    judge(schema).validate(body)


BAD: dict[str, tuple[str, dict[str, Any]]] = {
    "no messages": ("ChatRequest", {}),
    "a role": ("ChatRequest", {"messages": [{"role": "king"}]}),
    "an image": ("ChatRequest", {"messages": [{**USER, "content": [{"type": "image_url"}]}]}),
    "n": ("ChatRequest", {"messages": [USER], "n": 2}),
    "the older of two limits": (
        "ChatRequest",
        {"messages": [USER], "max_completion_tokens": 5, "max_tokens": "x"},
    ),
    "no tokens": ("ChatRequest", {"messages": [USER], "max_tokens": 0}),
    "a bias": ("ChatRequest", {"messages": [USER], "logit_bias": {"a": 1}}),
    "a template": ("ChatRequest", {"messages": [USER], "chat_template": ""}),
    "reasoning as a word": ("ChatRequest", {"messages": [USER], "reasoning": "high"}),
    "a switch as a word": ("ResponsesRequest", {"input": "x", "enable_thinking": "no"}),
    "a budget as a word": (
        "MessagesRequest",
        {"max_tokens": 1, "messages": [USER], "thinking": {"budget_tokens": "many"}},
    ),
    "a template's switch as a word": (
        "ChatRequest",
        {"messages": [USER], "chat_template_kwargs": {"enable_thinking": "no"}},
    ),
    "a tool's name": ("ChatRequest", {"messages": [USER], "tools": [{"function": {"name": "<"}}]}),
    "two prompts": ("TextRequest", {"prompt": ["x", "y"]}),
    "a suffix": ("TextRequest", {"prompt": "x", "suffix": "y"}),
    "a suffix as a number": ("TextRequest", {"prompt": "x", "suffix": 0}),
    "no limit": ("MessagesRequest", {"messages": [USER]}),
    "a picture": (
        "MessagesRequest",
        {"max_tokens": 1, "messages": [{"role": "user", "content": [{"type": "image"}]}]},
    ),
    "a tool of theirs": (
        "CountRequest",
        {"messages": [USER], "tools": [{"type": "bash_20250124", "name": "bash"}]},
    ),
    "background": ("ResponsesRequest", {"input": "x", "background": True}),
    "a call without a name": ("ResponsesRequest", {"input": [{"type": "function_call"}]}),
    "no kind": ("ResponsesRequest", {"input": [{}]}),
    "no input": ("ResponsesRequest", {}),
    "a prompt as a number": ("ResponsesRequest", {"input": "x", "prompt": 0}),
    "an empty choice": ("ResponsesRequest", {"input": "x", "tool_choice": {}}),
    "a choice of no words": ("ResponsesRequest", {"input": "x", "tool_choice": ""}),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_request(name: str) -> None:
    """A body that a parser refuses does not fit the schema of its request."""
    schema, body = BAD[name]

    with pytest.raises(BadRequest):
        REQUESTS[schema](Fields(body))
    assert not judge(schema).is_valid(body)
