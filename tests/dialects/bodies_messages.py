"""What clients send to `/v1/messages`, piece by piece, and how a test reads it."""

from __future__ import annotations

from typing import Any

import pytest

from mlx_tools_server.dialects.messages import parse
from mlx_tools_server.errors import BadRequest
from mlx_tools_server.messages import ChatRequest, Sampling
from mlx_tools_server.wire import Fields

DEFAULTS = Sampling(temperature=0.7)
USER = {"role": "user", "content": "hi"}
REQUIRED = {"messages": [USER], "max_tokens": 9}
BILLING = "x-anthropic-billing-header: cc_version=2.1.330.64a; cc_entrypoint=sdk-cli;"
SCHEMA = {"type": "object", "properties": {"cmd": {"type": "string"}}}
LISTED = [{"name": "Bash"}, {"name": "Read"}, {"name": "ToolSearch"}]
PLACEHOLDER = {"name": "DeferredToolPlaceholder", "defer_loading": True}


def read(**fields: Any) -> ChatRequest:
    """Read a body that has these fields beside the required ones."""
    return parse(Fields({**REQUIRED, **fields}), DEFAULTS)


def refused(**fields: Any) -> BadRequest:
    """Return the error that a body with these fields gets."""
    with pytest.raises(BadRequest) as caught:
        read(**fields)
    return caught.value


def text(said: Any = "a", **fields: Any) -> dict[str, Any]:
    """Return a block of text."""
    return {"type": "text", "text": said, **fields}


def user(*blocks: Any) -> dict[str, Any]:
    """Return a message of the user that has these blocks."""
    return {"role": "user", "content": list(blocks)}


def answer(*blocks: Any) -> dict[str, Any]:
    """Return a message of the assistant that has these blocks."""
    return {"role": "assistant", "content": list(blocks)}


def thought(said: str) -> dict[str, Any]:
    """Return a block with a thought."""
    return {"type": "thinking", "thinking": said, "signature": "abc"}


def call(number: int = 1, **arguments: Any) -> dict[str, Any]:
    """Return a block that calls a tool."""
    return {"type": "tool_use", "id": f"c{number}", "name": "run", "input": arguments}


def result(*content: Any, **fields: Any) -> dict[str, Any]:
    """Return a block with the result of a call; `content` is a text, or blocks."""
    said = content[0] if content and isinstance(content[0], str) else list(content)
    return {"type": "tool_result", "tool_use_id": "c1", "content": said, **fields}


def reference(name: str) -> dict[str, Any]:
    """Return a block that refers to a tool."""
    return {"type": "tool_reference", "tool_name": name}


def document(source: Any, **fields: Any) -> dict[str, Any]:
    """Return a block with a document."""
    return {"type": "document", "source": source, **fields}
