"""What an answer of Hermes calls may look like."""

from __future__ import annotations

from typing import Any

import pytest

from mlx_tools_server.families import FAMILIES
from mlx_tools_server.grammar.answers import ANY_OBJECT
from mlx_tools_server.messages import ToolSpec

from .worlds import small, tool

FAMILY = next(family for family in FAMILIES if family.name == "hermes")
READ = tool("Read", "path", path={"type": "string"}, limit={"type": "integer"})
PING = ToolSpec("ping")


def made(inner: str) -> str:
    """Return a call with this between its markers."""
    return f"<tool_call>\n{inner}\n</tool_call>"


WHOLE = made('{"name": "Read", "arguments": {"path": "a", "limit": 3}}')
PINGED = made('{"name": "ping", "arguments": {}}')
# Answers, and whether they may come.
ANSWERS: dict[str, tuple[str, bool]] = {
    "a call": (WHOLE, True),
    "two calls": (f"{WHOLE}\n{PINGED}", True),
    "a wrong type": (made('{"name": "Read", "arguments": {"path": "a", "limit": "3"}}'), False),
    "a required one left out": (made('{"name": "Read", "arguments": {"limit": 3}}'), False),
    "an unknown parameter": (made('{"name": "Read", "arguments": {"path": "a", "b": 1}}'), False),
    "an unknown tool": (made('{"name": "Write", "arguments": {}}'), False),
    "text": ("Hello", False),
    "text before a call": (f"Hello\n{PINGED}", False),
    "nothing": ("", False),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers(name: str) -> None:
    """An answer that must call is calls of tools on offer by their schemas, and no more."""
    text, expected = ANSWERS[name]

    assert accepts(text) is expected


def test_options() -> None:
    """One tool, one call, or JSON in place of calls, where the request says so."""
    assert not accepts(PINGED, name="Read")
    assert not accepts(f"{WHOLE}\n{PINGED}", parallel=False)
    assert accepts('{"a": 1}', answer=ANY_OBJECT)
    assert FAMILY.grammar((), small().grammars) is None


def accepts(text: str, **options: Any) -> bool:
    """Return whether an answer may be exactly this text."""
    grammar = FAMILY.grammar((READ, PING), small().grammars, **options)
    assert grammar is not None
    return small().accepts(grammar.whole, text)
