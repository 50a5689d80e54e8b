"""The JSON that an answer must be, as each dialect asks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mlx_tools_server.dialects import chat, messages, responses
from mlx_tools_server.errors import BadRequest
from mlx_tools_server.messages import ChatRequest, OutputFormat, Sampling
from mlx_tools_server.wire import Fields

SCHEMA = {"type": "object", "properties": {"title": {"type": "string"}}}
SAID: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}]}


def by_chat(form: Any) -> ChatRequest:
    """Ask for a format in a chat completion, which has a schema's fields a level deeper."""
    if isinstance(form, dict) and form.get("type") == "json_schema":
        rest = {key: value for key, value in form.items() if key != "type"}
        form = {"type": "json_schema", "json_schema": {"name": "title", **rest}}
    return chat.parse(Fields({**SAID, "response_format": form}), Sampling())


def by_messages(form: Any) -> ChatRequest:
    """Ask for a format as Anthropic's clients do."""
    body = {**SAID, "max_tokens": 5, "output_config": {"format": form}}
    return messages.parse(Fields(body), Sampling())


def by_responses(form: Any) -> ChatRequest:
    """Ask for a format of a response."""
    body = {"input": "x", "text": {"format": form}}
    return responses.parse(Fields(body), Sampling(), lambda _: None).chat


ASK: dict[str, Callable[[Any], ChatRequest]] = {
    "chat": by_chat,
    "messages": by_messages,
    "responses": by_responses,
}
FORMS: dict[str, tuple[Any, OutputFormat | None]] = {
    "none": (None, None),
    "any text": ({"type": "text"}, None),
    "any object": ({"type": "json_object"}, OutputFormat()),
    "a schema": ({"type": "json_schema", "schema": SCHEMA}, OutputFormat(SCHEMA)),
    "a schema to keep to": (
        {"type": "json_schema", "schema": SCHEMA, "strict": True},
        OutputFormat(SCHEMA, strict=True),
    ),
}


@pytest.mark.parametrize("dialect", ASK)
@pytest.mark.parametrize("name", FORMS)
def test_format(name: str, dialect: str) -> None:
    """One format is read from every dialect."""
    form, expected = FORMS[name]

    assert ASK[dialect](form).output_format == expected


BAD: dict[str, Any] = {
    "a word": "json",
    "no type": {},
    "another type": {"type": "xml"},
    "no schema": {"type": "json_schema"},
    "a schema as a text": {"type": "json_schema", "schema": "object"},
}


@pytest.mark.parametrize("dialect", ASK)
@pytest.mark.parametrize("name", BAD)
def test_bad_format(name: str, dialect: str) -> None:
    """A format that can't be understood is named."""
    with pytest.raises(BadRequest) as caught:
        ASK[dialect](BAD[name])

    assert "format" in (caught.value.param or "")
