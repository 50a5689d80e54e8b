"""How much a client wants to be thought, in every form that clients have for it.

Rules of this file:
- Of several sources the most particular counts: what is sent for the chat template, then the
  switches, then the efforts.
- In OpenAI's dialects an effort asks for thoughts. In Anthropic's it stands beside the switch, and
  Claude Code always sends one: there it says how much, not whether.
- An effort that the usual scale does not have says nothing; the next client may have a new one.
"""

from __future__ import annotations

from typing import Any

from ..messages import ThinkingWish
from ..thinking import SCALE
from ..wire import MAX_TOKENS, Fields, read_template_kwargs

# Other types, such as `adaptive`, leave it to the model.
TYPES = {"enabled": True, "disabled": False}


def read_thinking(body: Fields) -> tuple[ThinkingWish, dict[str, Any]]:
    """Return what a body of OpenAI's dialects wishes, and what else it says to the template."""
    kwargs = read_template_kwargs(body)
    reasoning = body.object("reasoning", {})
    wish = _merged(
        _effort(body.name("reasoning_effort", None)),
        _effort(reasoning.name("effort", None)),
        _reasoning(reasoning),
        _thinking(body),
        _switches(body, "enable_thinking"),
        _switches(Fields(kwargs, "chat_template_kwargs"), "thinking", "enable_thinking"),
        _effort_of_template(kwargs),
    )
    read = ("thinking", "enable_thinking", "thinking_budget")
    beside = {name: value for name, value in kwargs.items() if name not in read}
    return wish, {name: value for name, value in beside.items() if value is not None}


def read_messages_thinking(body: Fields) -> ThinkingWish:
    """Return what a body of Anthropic's dialect wishes."""
    effort = _effort(body.object("output_config", {}).name("effort", None))
    if effort.on:
        effort = ThinkingWish(effort=effort.effort)
    return _merged(effort, _thinking(body))


def _merged(*wishes: ThinkingWish) -> ThinkingWish:
    """Return one wish; where several say something, the last of them counts."""
    on, effort, budget = None, None, None
    for wish in wishes:
        on = on if wish.on is None else wish.on
        effort = effort if wish.effort is None else wish.effort
        budget = budget if wish.budget is None else wish.budget
    return ThinkingWish(on, effort, budget)


def _effort(word: str | None) -> ThinkingWish:
    word = (word or "").lower()
    if word not in SCALE:
        return ThinkingWish()
    if word == "minimal":  # where a template knows no efforts, that means off
        return ThinkingWish(effort=word)
    return ThinkingWish(False) if word == "none" else ThinkingWish(True, word)


def _effort_of_template(kwargs: dict[str, Any]) -> ThinkingWish:
    """Take the effort out of what is sent for the template, unless it is a word of its own."""
    word = kwargs.get("reasoning_effort")
    if not isinstance(word, str) or word not in SCALE:
        return ThinkingWish()
    del kwargs["reasoning_effort"]
    return _effort(word)


def _reasoning(fields: Fields) -> ThinkingWish:
    """Read OpenRouter's form: a limit asks for thoughts as well."""
    limit = _limit(fields, "max_tokens")
    asked = ThinkingWish(None if limit.budget is None else True)
    return _merged(asked, limit, _flag(fields, "enabled"))


def _thinking(body: Fields) -> ThinkingWish:
    """Read `thinking`, as Anthropic, DeepSeek and GLM have it."""
    thinking = body.object("thinking", {})
    on = TYPES.get(thinking.text("type", ""))
    return _merged(_limit(thinking, "budget_tokens"), ThinkingWish(on))


def _switches(fields: Fields, *flags: str) -> ThinkingWish:
    """Read switches as Qwen has them, of which the last counts, and its limit."""
    wish = _limit(fields, "thinking_budget")
    for name in flags:
        wish = _merged(wish, _flag(fields, name))
    return wish


def _flag(fields: Fields, name: str) -> ThinkingWish:
    on = fields.flag(name, False)
    return ThinkingWish(None if fields.raw(name) is None else on)


def _limit(fields: Fields, name: str) -> ThinkingWish:
    """Read the most tokens of thought; -1 is no limit, and 0 no thought."""
    tokens = fields.integer(name, None, -1, MAX_TOKENS)
    if tokens is None or tokens < 0:
        return ThinkingWish()
    return ThinkingWish(budget=tokens) if tokens else ThinkingWish(False)
