"""How templates are told how much to think, by the switches that each of them has."""

from __future__ import annotations

from typing import Any

import pytest

from mlx_tools_server.errors import BadRequest
from mlx_tools_server.messages import ThinkingWish as Wish
from mlx_tools_server.templates import ChatTemplate

from .prompts import joined, ours, system, user

MESSAGES = "{% for m in messages %}{{ m.content }}{% endfor %}"
# What each kind of template writes behind the question, by what it reads.
TEMPLATES = {
    "no switch": "<think>",
    "a flag that is on": "{% if enable_thinking is false %}off{% else %}on{% endif %}",
    "a flag that is off": "{{ 'on' if thinking | default(false) else 'off' }}",
    "a flag that can't be off": (
        "{% if not (enable_thinking | default(true)) %}{{ raise_exception('no') }}{% endif %}on"
    ),
    "an effort that is written": (
        "{% if reasoning_effort is not defined %}{% set reasoning_effort = 'medium' %}{% endif %}"
        "{{ 'effort ' + reasoning_effort }}"
    ),
    "an effort that is checked": (
        "{% set it = reasoning_effort | default('none') %}"
        "{% if it not in ['none', 'high'] %}{{ raise_exception('unknown') }}{% endif %}{{ it }}"
    ),
    "an effort that is checked and never none": (
        "{% if reasoning_effort is defined %}{% set it = reasoning_effort %}"
        "{% if it not in ('low', 'medium', 'xhigh') %}{{ raise_exception('unknown') }}{% endif %}"
        "{{ it }}{% endif %}"
    ),
    "an effort of own words": (
        "{% set it = reasoning_effort | default('no_think') %}"
        "{% if it not in ['low', 'high', 'no_think'] %}{{ raise_exception('?') }}{% endif %}"
        "{{ it }}"
    ),
    "an effort that only closes": (
        "<think>{{ '</think>' if reasoning_effort in ['low', 'minimal'] }}"
    ),
    "an effort that is compared": (
        "{{ 'think' if reasoning_effort == 'high' else 'a little' if reasoning_effort == 'low' }}"
    ),
    "a flag and an effort": (
        "{{ 'on' if enable_thinking is not defined or enable_thinking else 'off' }}"
        " {{ reasoning_effort | default('-') }}"
    ),
    "a mode": "{{ {'enabled': 'on', 'disabled': 'off'}.get(thinking_mode, 'adaptive') }}",
    "a mode of other words": "{% if thinking_mode == 'chat' %}off{% else %}on{% endif %}",
    "a mode that is written": (
        "{% set it = thinking_mode | default('on') %}thinking {{ it }}"
        "{{ '<think>' if it == 'on' else '</think>' if it == 'off' }}"
    ),
    "a mode that is a flag": "{% if thinking_mode %}on{% else %}off{% endif %}",
    "a budget": (
        "{% set n = thinking_budget | default(-1) %}{{ 'off' if n == 0 else 'budget %d' % n }}"
    ),
}
ON, OFF = Wish(True), Wish(False)
LOW, HIGH, MAX, MINIMAL = (Wish(True, word) for word in ("low", "high", "max", "minimal"))
# The template, what it says by itself, and what to each of these wishes.
TOLD: list[tuple[str, str, dict[Wish, str]]] = [
    ("no switch", "<think>", {ON: "<think>", OFF: "<think>", HIGH: "<think>"}),
    ("a flag that is on", "on", {ON: "on", OFF: "off", HIGH: "on", Wish(effort="minimal"): "off",
        Wish(effort="none"): "off", MINIMAL: "on", Wish(effort="high"): "on"}),
    ("a flag that is off", "off", {ON: "on", OFF: "off", HIGH: "on", Wish(effort="high"): "off"}),
    ("a flag that can't be off", "on", {ON: "on", OFF: "on"}),
    ("an effort that is written", "effort medium", {ON: "effort medium", OFF: "effort low",
        LOW: "effort low", MAX: "effort high", Wish(effort="minimal"): "effort low"}),
    ("an effort that is checked", "none", {ON: "high", OFF: "none", LOW: "high", MAX: "high",
        Wish(effort="minimal"): "none"}),
    ("an effort that is checked and never none", "", {ON: "", OFF: "low", HIGH: "xhigh",
        MAX: "xhigh", MINIMAL: "low"}),
    ("an effort of own words", "no_think", {ON: "high", OFF: "no_think", LOW: "low", MAX: "high",
        Wish(effort="minimal"): "low"}),
    ("an effort that only closes", "<think>", {ON: "<think>", OFF: "<think></think>",
        HIGH: "<think>", LOW: "<think></think>"}),
    ("an effort that is compared", "", {ON: "think", OFF: "", HIGH: "think", LOW: "a little"}),
    ("a flag and an effort", "on -", {ON: "on -", OFF: "off -", HIGH: "on high",
        Wish(False, "high"): "off -"}),
    ("a mode", "adaptive", {ON: "on", OFF: "off", HIGH: "on"}),
    ("a mode of other words", "on", {ON: "on", OFF: "off"}),
    ("a mode that is written", "thinking on<think>", {ON: "thinking on<think>",
        OFF: "thinking off</think>"}),
    ("a mode that is a flag", "off", {ON: "on", OFF: "off"}),
    ("a budget", "budget -1", {ON: "budget -1", OFF: "off", Wish(budget=9): "budget 9",
        Wish(False, budget=9): "off"}),
]  # fmt: skip


def template(source: str, **options: Any) -> ChatTemplate:
    """Return a template that writes the question and then this."""
    options = {"variables": {}, "control_tokens": (), **options}
    return ChatTemplate(MESSAGES + source, "a test", **options)


def said(made: ChatTemplate, wish: Wish, **variables: Any) -> str:
    """Return what a template writes behind the question."""
    return joined(made.render([user("?")], [], variables, thinking=wish)).removeprefix("?")


@pytest.mark.parametrize(("name", "alone", "wishes"), TOLD, ids=[name for name, *_ in TOLD])
def test_switches(name: str, alone: str, wishes: dict[Wish, str]) -> None:
    """A wish reaches a template by the names and words that it has."""
    made = template(TEMPLATES[name])

    assert said(made, Wish()) == alone
    assert {wish: said(made, wish) for wish in wishes} == wishes


@pytest.mark.parametrize(
    ("name", "off", "on", "much"),
    [
        ("a flag that is on", "off", "on", "off"),
        ("a flag that can't be off", "on", "on", "on"),
        ("an effort that is written", "effort low", "effort medium", "effort low"),
        ("a mode", "off", "on", "off"),
        ("no switch", "<think>", "<think>", "<think>"),
    ],
)
def test_off_by_default(name: str, off: str, on: str, much: str) -> None:
    """With --reasoning off only who asks for thoughts gets them."""
    made = template(TEMPLATES[name], thinks=False)

    assert [said(made, wish) for wish in (Wish(), ON, Wish(effort="high"))] == [off, on, much]


def test_off_over_the_operators_arguments() -> None:
    """--reasoning off goes before what the model's tokenizer or --chat-template-args switch on."""
    made = template(
        TEMPLATES["a flag that is on"], variables={"enable_thinking": True}, thinks=False
    )

    assert said(made, Wish()) == "off"


@pytest.mark.parametrize(("wish", "ending"), [
    (Wish(), "<think>\n"),
    (ON, "<think>\n"),
    (Wish(effort="minimal"), "<think>\n\n</think>\n\n"),
    (OFF, "<think>\n\n</think>\n\n"),
])  # fmt: skip
def test_qwen(wish: Wish, ending: str) -> None:
    """Qwen3.5's template, as it comes with this server, has its thought opened or closed."""
    text = joined(ours("qwen3_5").render([user("u")], [], thinking=wish))

    assert text.endswith("<|im_start|>assistant\n" + ending)


@pytest.mark.parametrize("name", ["preserve_thinking", "clear_thinking", "drop_thinking"])
def test_kept_thoughts(name: str) -> None:
    """With --history-thinking preserve a template that can keeps the thoughts of earlier turns."""
    source = f"{{% if {name} | default('-') != '-' %}}{{{{ {name} }}}}{{% endif %}}"

    assert said(template(source), Wish()) == ""
    assert said(template(source, keep_thoughts=True), Wish()) == str(name == "preserve_thinking")


def test_template_that_refuses_a_question() -> None:
    """A template that can't be asked about its switches is told of a wish all the same."""
    source = (
        "{% if messages[0].role != 'system' %}{{ raise_exception('system first') }}{% endif %}"
        "{{ enable_thinking }} {{ reasoning_effort }}"
    )
    made = template(source)
    pieces = made.render([system("s"), user("?")], [], thinking=LOW)

    assert joined(pieces) == "s?True low"


# --- What a client may say to a template ------------------------------------------------------


READS = "{{ date }}{{ enable_thinking }}{% set own = 1 %}{% for x in things %}{{ x }}{% endfor %}"
SPEAKER = {"variables": {"house": "style", "bos_token": "<s>"}}


@pytest.mark.parametrize(
    "variables",
    [
        {"date": "today"},
        {"things": [1]},
        {"house": "other"},
        {"enable_thinking": False, "thinking": True, "reasoning_effort": "low"},
        {"thinking_mode": "on", "thinking_budget": 5, "preserve_thinking": True},
        {"clear_thinking": False},
    ],
)
def test_known_variables(variables: dict[str, Any]) -> None:
    """What a template reads, what its operator has set and any switch of thought may be sent."""
    assert said(template(READS, **SPEAKER), Wish(), **variables) is not None


@pytest.mark.parametrize("name", ["own", "x", "loop", "unknown", "range_", "", "bos_tokens"])
def test_unknown_variables(name: str) -> None:
    """What a template does not read is refused by its name, with what it does read."""
    with pytest.raises(BadRequest) as caught:
        said(template(READS, **SPEAKER), Wish(), **{name: 1})

    assert caught.value.param == f"chat_template_kwargs.{name}"
    reads = "date, enable_thinking, house, things"
    assert name == "bos_tokens" or f"; it reads {reads}. " in caught.value.message


def test_many_variables() -> None:
    """A refusal stays short, however much a template reads."""
    source = "".join(f"{{{{ variable_{number} }}}}" for number in range(500))
    with pytest.raises(BadRequest) as caught:
        said(template(source), Wish(), unknown=1)

    assert len(caught.value.message) < 600


def test_own_word_goes_first() -> None:
    """A value that is sent for the very template goes before what a wish becomes."""
    made = template(TEMPLATES["an effort that is compared"])

    assert said(made, HIGH, reasoning_effort="low") == "a little"
