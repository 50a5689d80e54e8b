"""What the tests of templates and of sentinels share: messages, tools, and pieces in words."""

from __future__ import annotations

from functools import cache
from typing import Any

from mlx_tools_server.messages import Message, ToolCall, ToolSpec
from mlx_tools_server.sentinels import Piece
from mlx_tools_server.templates import (
    ChatTemplate,
    read_ours,
)

OURS = ("qwen3_coder", "qwen3_5")
MARKS = [
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
]
SIGNS = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|object_ref_start|>", "<|repo_name|>"]
CONTROLS = frozenset([*MARKS, *SIGNS])

READ = ToolSpec(
    "read_file",
    "Reads a file and returns its text.\n",
    {
        "type": "object",
        "properties": {
            "path": {"type": "string", "description": "Where the file is"},
            "lines": {
                "type": ["array", "null"],
                "description": "First and last line",
                "items": {"type": "integer"},
                "default": None,
            },
            "numbered": {"type": "boolean", "default": False},
        },
        "required": ["path"],
        "additionalProperties": False,
    },
)
NOW = ToolSpec("now")


@cache
def ours(name: str, **variables: Any) -> ChatTemplate:
    return ChatTemplate(read_ours(name), name, variables=variables, control_tokens=CONTROLS)


def trivial(source: str, controls: frozenset[str] = CONTROLS, **variables: Any) -> ChatTemplate:
    return ChatTemplate(source, "a test", variables=variables, control_tokens=controls)


def joined(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def plain(pieces: list[Piece]) -> str:
    """Return what is encoded with control tokens, with a gap for each literal piece."""
    return "".join("\0" if piece.literal else piece.text for piece in pieces)


def literals(pieces: list[Piece]) -> list[str]:
    return [piece.text for piece in pieces if piece.literal]


def system(text: str) -> Message:
    return Message("system", text)


def user(text: str) -> Message:
    return Message("user", text)


def calls(*made: tuple[str, dict[str, Any]], content: str = "", reasoning: str = "") -> Message:
    made_calls = tuple(ToolCall(f"call_{n}", name, args) for n, (name, args) in enumerate(made))
    return Message("assistant", content, reasoning=reasoning, tool_calls=made_calls)


def result(text: str, id_: str = "call_0") -> Message:
    return Message("tool", text, tool_call_id=id_)
