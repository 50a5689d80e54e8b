"""A request as the server reads it, by the name of its dialect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlx_tools_server.dialects import chat, messages, responses
from mlx_tools_server.messages import ChatRequest, Sampling
from mlx_tools_server.wire import Fields


def read_request(dialect: str, body: Mapping[str, Any]) -> ChatRequest:
    """Return what a body asks for; raises RequestError."""
    fields = Fields(body)
    if dialect == "chat":
        return chat.parse(fields, Sampling())
    if dialect == "messages":
        return messages.parse(fields, Sampling())
    return responses.parse(fields, Sampling(), lambda _: None).chat
