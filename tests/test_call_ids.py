"""Ids of calls in prompts: in the form of the family, whatever the client knows them by."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlx_tools_server.messages import Exact, Message
from mlx_tools_server.templates import ChatTemplate

from .prompts import calls, joined, result, user

WRITES_IDS = """
{%- for message in messages %}
    {{- "<a>" if message.role == "assistant" else "; " }}
    {{- message.content }}
    {%- for call in message.tool_calls or [] %}
        {{- call.function.name ~ "=" ~ call.id ~ " " }}
    {%- endfor %}
    {{- " of " ~ message.tool_call_id if message.role == "tool" }}
{%- endfor %}
{{- "<a>" if add_generation_prompt }}"""
KIMI, MISTRAL = "functions.{name}:{index}", "{index:09}"


def prompt(messages: list[Message], form: str) -> str:
    template = ChatTemplate(
        WRITES_IDS, "a test", variables={}, control_tokens={"<a>"}, call_id=form
    )
    pieces = template.render(messages, [])
    return joined([replace(piece, text=str(piece.ids or piece.text)) for piece in pieces])


@pytest.mark.parametrize(
    ("form", "first", "second", "third"),
    [
        ("", "call_0", "call_1", "call_0"),
        (KIMI, "functions.f:0", "functions.g:1", "functions.f:2"),
        (MISTRAL, "000000000", "000000001", "000000002"),
    ],
)
def test_ids(form: str, first: str, second: str, third: str) -> None:
    """Calls and their results have ids in the family's form, counted over the conversation."""
    messages = [
        user("u"),
        calls(("f", {}), ("g", {})),
        result("2", "call_1"),
        result("1"),
        calls(("f", {})),
        result("3"),
        result("4", "gone"),
    ]
    assert prompt(messages, form) == (
        f"; u<a>f={first} g={second} ; 2 of {second}; 1 of {first}<a>f={third} ; 3 of {third}"
        "; 4 of gone<a>"
    )
    assert [call.id for call in messages[1].tool_calls] == ["call_0", "call_1"]


def test_a_replayed_answer_counts() -> None:
    """The result of a call that is replayed as its tokens has the id by its place."""
    messages = [
        user("u"),
        replace(calls(("f", {})), exact=Exact((7,))),
        result("1"),
        calls(("f", {})),
        result("2"),
    ]
    assert prompt(messages, KIMI) == (
        "; u<a>(7,); 1 of functions.f:0<a>f=functions.f:1 ; 2 of functions.f:1<a>"
    )


def test_names_that_spell_control_tokens() -> None:
    """A name in an id is the client's text, and never a control token."""
    messages = [user("u"), calls(("<a>", {})), result("1")]
    template = ChatTemplate(
        WRITES_IDS, "a test", variables={}, control_tokens={"<a>"}, call_id=KIMI
    )
    literal = [piece.text for piece in template.render(messages, []) if piece.literal]
    assert literal == ["<a>"] * 3
