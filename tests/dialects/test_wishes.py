"""How much clients want to be thought, in each form that they have for it."""

from __future__ import annotations

from typing import Any

import pytest

from mlx_tools_server.errors import BadRequest
from mlx_tools_server.messages import ThinkingWish as Wish

from .reading import read_request

MESSAGES = [{"role": "user", "content": "hi"}]
BODIES: dict[str, dict[str, Any]] = {
    "chat": {"messages": MESSAGES},
    "messages": {"messages": MESSAGES, "max_tokens": 9},
    "responses": {"input": "hi"},
}


def wish(dialect: str, **fields: Any) -> Wish:
    """Return what a body with these fields wishes."""
    return read_request(dialect, {**BODIES[dialect], **fields}).thinking


def kwargs(**variables: Any) -> dict[str, Any]:
    """Return what is sent for the chat template."""
    return {"chat_template_kwargs": variables}


# What both of OpenAI's dialects read.
OPENAI: dict[str, tuple[dict[str, Any], Wish]] = {
    "nothing": ({}, Wish()),
    "nulls": (
        {
            "reasoning_effort": None, "reasoning": None, "thinking": None, "enable_thinking": None,
            "thinking_budget": None, "chat_template_kwargs": None,
        },
        Wish(),
    ),
    "nulls within": (
        {
            "reasoning": {"effort": None, "enabled": None, "max_tokens": None},
            "thinking": {"type": None, "budget_tokens": None},
            **kwargs(enable_thinking=None, thinking=None, thinking_budget=None),
        },
        Wish(),
    ),
    "an effort": ({"reasoning_effort": "xhigh"}, Wish(True, "xhigh")),
    "an effort in capitals": ({"reasoning_effort": "High"}, Wish(True, "high")),
    "an effort of tomorrow": ({"reasoning_effort": "ultra"}, Wish()),
    "the least effort": ({"reasoning_effort": "minimal"}, Wish(effort="minimal")),
    "no effort": ({"reasoning_effort": "none"}, Wish(False)),
    "the newer place of an effort": (
        {"reasoning_effort": "low", "reasoning": {"effort": "max"}}, Wish(True, "max")
    ),
    "reasoning on": ({"reasoning": {"enabled": True}}, Wish(True)),
    "reasoning off": ({"reasoning": {"enabled": False, "effort": "high"}}, Wish(False, "high")),
    "a limit of reasoning": ({"reasoning": {"max_tokens": 500}}, Wish(True, budget=500)),
    "a limit and no reasoning": (
        {"reasoning": {"max_tokens": 500, "enabled": False}}, Wish(False, budget=500)
    ),
    "thinking enabled": ({"thinking": {"type": "enabled"}}, Wish(True)),
    "thinking disabled": ({"thinking": {"type": "disabled"}}, Wish(False)),
    "a switch": ({"enable_thinking": False}, Wish(False)),
    "a switch over an effort": (
        {"reasoning_effort": "high", "enable_thinking": False}, Wish(False, "high")
    ),
    "a budget": ({"thinking_budget": 99}, Wish(budget=99)),
    "a budget without end": ({"thinking_budget": -1}, Wish()),
    "a budget of nothing": ({"thinking_budget": 0}, Wish(False)),
    "a switch for the template": (kwargs(enable_thinking=False), Wish(False)),
    "its other name": (kwargs(thinking=True), Wish(True)),
    "both names": (kwargs(thinking=True, enable_thinking=False), Wish(False)),
    "a budget for the template": (kwargs(thinking_budget=7), Wish(budget=7)),
    "an effort for the template": (kwargs(reasoning_effort="low"), Wish(True, "low")),
    "what is sent for the template counts": (
        {"reasoning_effort": "none", **kwargs(enable_thinking=True)}, Wish(True)
    ),
    "all that is sent for the template counts": (
        {"thinking_budget": 9, "enable_thinking": True, "reasoning_effort": "low",
         **kwargs(thinking_budget=5, enable_thinking=False, reasoning_effort="high")},
        Wish(True, "high", 5),
    ),
}  # fmt: skip
# What Anthropic's reads; there an effort says how much, not whether.
ANTHROPIC: dict[str, tuple[dict[str, Any], Wish]] = {
    "nothing": ({}, Wish()),
    "nulls": ({"thinking": None, "output_config": None}, Wish()),
    "nulls within": ({"output_config": {"effort": None}, "thinking": {"type": None}}, Wish()),
    "thinking": (
        {"thinking": {"type": "enabled", "budget_tokens": 1024}}, Wish(True, budget=1024)
    ),
    "no thinking": ({"thinking": {"type": "disabled"}}, Wish(False)),
    "left to the model": ({"thinking": {"type": "adaptive", "display": "omitted"}}, Wish()),
    "of another kind": ({"thinking": {"type": "between_tools"}}, Wish()),
    "an effort": ({"output_config": {"effort": "max"}}, Wish(effort="max")),
    "the least effort": ({"output_config": {"effort": "minimal"}}, Wish(effort="minimal")),
    "no effort": ({"output_config": {"effort": "none"}}, Wish(False)),
    "an effort of tomorrow": ({"output_config": {"effort": "ultra"}}, Wish()),
    "an effort and no thinking": (
        {"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}},
        Wish(False, "high"),
    ),
    "fields of others": ({"reasoning_effort": 5, "enable_thinking": "x", **kwargs(a=1)}, Wish()),
}  # fmt: skip
ALL = (
    *(("chat", name, *case) for name, case in OPENAI.items()),
    *(("responses", name, *case) for name, case in OPENAI.items()),
    *(("messages", name, *case) for name, case in ANTHROPIC.items()),
)


@pytest.mark.parametrize(
    ("dialect", "fields", "expected"),
    [pytest.param(dialect, *case, id=f"{dialect} {name}") for dialect, name, *case in ALL],
)
def test_wishes(dialect: str, fields: dict[str, Any], expected: Wish) -> None:
    """What a client wishes is read the same, whatever form it has."""
    assert wish(dialect, **fields) == expected


BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "an effort as a number": ("chat", {"reasoning_effort": 5}, "reasoning_effort"),
    "reasoning as a word": ("chat", {"reasoning": "high"}, "reasoning"),
    "reasoning on as a word": ("chat", {"reasoning": {"enabled": "yes"}}, "reasoning.enabled"),
    "a limit as a word": ("chat", {"reasoning": {"max_tokens": "9"}}, "reasoning.max_tokens"),
    "thinking as a word": ("chat", {"thinking": "enabled"}, "thinking"),
    "a switch as a word": ("responses", {"enable_thinking": "false"}, "enable_thinking"),
    "a budget below -1": ("responses", {"thinking_budget": -2}, "thinking_budget"),
    "a budget of a half": ("chat", {"thinking_budget": 0.5}, "thinking_budget"),
    "a template's switch as a word": (
        "chat", kwargs(enable_thinking="false"), "chat_template_kwargs.enable_thinking"
    ),
    "a template's switch as an object": (
        "chat", kwargs(thinking={"type": "disabled"}), "chat_template_kwargs.thinking"
    ),
    "a template's budget as a word": (
        "chat", kwargs(thinking_budget="9"), "chat_template_kwargs.thinking_budget"
    ),
    "too much for the template": ("chat", kwargs(a="x" * 70_000), "chat_template_kwargs"),
    "a budget of Anthropic's as a word": (
        "messages", {"thinking": {"type": "enabled", "budget_tokens": "9"}},
        "thinking.budget_tokens",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_wishes(name: str) -> None:
    """A field that can't be understood is named."""
    dialect, fields, param = BAD[name]

    with pytest.raises(BadRequest) as caught:
        wish(dialect, **fields)

    assert caught.value.param == param


def test_rest_for_the_template() -> None:
    """What is no wish goes to the chat template as it is, and so does an effort of its own."""
    sent = {
        "enable_thinking": True, "thinking": True, "thinking_budget": 5, "clear_thinking": False,
        "reasoning_effort": "no_think", "date": "today", "nothing": None,
    }  # fmt: skip
    for dialect in ("chat", "responses"):
        request = read_request(dialect, {**BODIES[dialect], **kwargs(**sent)})

        assert request.thinking == Wish(True, budget=5)
        assert request.template_kwargs == {
            "clear_thinking": False, "reasoning_effort": "no_think", "date": "today",
        }  # fmt: skip
