"""Bodies of `/v1/responses` and what is read of them, for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from mlx_tools_server.dialects.responses import Item, ResponsesRequest, parse
from mlx_tools_server.errors import BadRequest
from mlx_tools_server.messages import Message, Sampling
from mlx_tools_server.wire import Fields

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
