"""mlx-lm's own tool parsers, as the format of families that have no shape of ours yet.

Rules of this file:
- What mlx-lm reads must not get lost here, and what it can't read becomes text.
- Its parsers raise whatever they like on bad text; that ends at this boundary.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..jsontext import loads
from ..messages import ToolSpec
from .seams import StateMachine, TokenizerWrapper

_STATES = ("normal", "reasoning", "tool")


class MlxLmFormat:
    """How mlx-lm reads the answers of one model; `opener` is empty if it knows no calls."""

    def __init__(self, tokenizer: TokenizerWrapper) -> None:
        self._tokenizer = tokenizer
        self.name = str(tokenizer.init_kwargs.get("tool_parser_type") or "text")
        self.opener = tokenizer.tool_call_start or ""
        self.closer = tokenizer.tool_call_end or ""

    def splitter(self, *, tools: bool, thought_open: bool) -> MlxLmSplitter:
        """Return a fresh splitter; without `tools`, call markers are text."""
        return MlxLmSplitter(self._tokenizer, tools=tools, thought_open=thought_open)

    def read(self, text: str, tools: Sequence[ToolSpec]) -> Sequence[tuple[str, Mapping[str, Any]]]:
        """Return the calls in the text between two markers.

        Raises:
            ValueError: the text is no call that mlx-lm can read.
        """
        functions = [
            {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
            for tool in tools
        ]
        offered = [{"type": "function", "function": function} for function in functions]
        try:
            found = self._tokenizer.tool_parser(text, offered)
        except Exception as error:  # a foreign parser over a model's text
            raise ValueError(f"{type(error).__name__}: {error}") from error
        return [_call(call) for call in (found if isinstance(found, list) else [found])]


def _call(call: Any) -> tuple[str, Mapping[str, Any]]:
    name = call.get("name") if isinstance(call, dict) else None
    arguments = call.get("arguments", {}) if isinstance(call, dict) else None
    if isinstance(arguments, str):
        arguments = loads(arguments)
    if not isinstance(name, str) or not name or not isinstance(arguments, dict):
        raise ValueError("no name or no arguments")
    try:
        return name, loads(json.dumps(arguments))
    except (TypeError, RecursionError) as error:
        raise ValueError("arguments that are not JSON") from error


class MlxLmSplitter:
    """Cuts one answer as mlx-lm does, dropping what its format calls neither text nor thought."""

    def __init__(self, tokenizer: TokenizerWrapper, *, tools: bool, thought_open: bool) -> None:
        self._machine = StateMachine(tokenizer, tools=tools, thought_open=thought_open)

    def split(self, text: str) -> Sequence[tuple[str, str]]:
        """Return the pieces that are certain by now, each with its state."""
        return [piece for piece in self._machine.split(text) if piece[0] in _STATES]

    def flush(self) -> tuple[str, str]:
        """Return what is held back, with its state."""
        state, text = self._machine.flush()
        return (state, text) if state in _STATES else ("normal", "")
