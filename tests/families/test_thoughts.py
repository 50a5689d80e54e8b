"""Thoughts: where they begin and end, and calls in and behind them."""

from __future__ import annotations

import pytest

from .reading import THINKER, TOOLS, calls_of, pieces, read

SPAN = "`<tool_call><function=run_cmd></function></tool_call>`"
CALL = (
    "<tool_call>\n<function=run_cmd>\n<parameter=cmd>\nls\n</parameter>\n</function>\n</tool_call>"
)

# Text, thought, content, and whether there is a call; the prompt has opened the thought.
OPEN = {
    "a thought and an answer": ("Hm.\n</think>\n\nYes.", "Hm.", "Yes.", False),
    "the opener is repeated": ("<think>\nHm.\n</think>\n\nYes.", "Hm.", "Yes.", False),
    "no thought at all": ("\n</think>\n\nYes.", "", "Yes.", False),
    "a thought that never ends": ("Hm, and", "Hm, and", "", False),
    "an empty thought that never ends": ("", "", "", False),
    "a thought with the marker": ("`<tool_call>`\n</think>No.", "`<tool_call>`", "No.", False),
    "a thought that quotes a call": (f"Or {SPAN}?\n</think>\nNo.", f"Or {SPAN}?", "No.", False),
    "a call in a thought": (f"Hm.\n{CALL}", "Hm.", "", True),
    "a thought that ends behind its call": (f"Hm.\n{CALL}\n</think>\nYes.", "Hm.", "\nYes.", True),
    "a thought that goes on behind its call": (
        f"Hm.\n{CALL}\nso\n</think>\n\nYes.",
        "Hm.",
        "\nso\n\n\nYes.",
        True,
    ),
    "a call behind a thought": (f"Hm.\n</think>\n\n{CALL}", "Hm.", "", True),
    "a bare call behind a thought": (
        "Hm.</think><function=run_cmd>\n<parameter=cmd>\nls\n</parameter>\n</function>",
        "Hm.",
        "",
        True,
    ),
    "an answer that names the end": ("Hm.</think>\n\nA </think>.", "Hm.", "A </think>.", False),
}  # fmt: skip

# The same; the prompt has not opened a thought.
CLOSED = {
    "the model opens its thought": ("<think>\nHm.\n</think>\n\nYes.", "Hm.", "Yes.", False),
    "an answer without a thought": ("Yes.", "", "Yes.", False),
    "an end without a beginning": ("\n</think>\n\nYes.", "", "Yes.", False),
    "a thought behind a call": (f"{CALL}\n<think>\nHm.\n</think>\nYes.", "Hm.", "Yes.", True),
    "an answer with the tags": ("A <think> tag </think>.", "", "A <think> tag </think>.", False),
    "a beginning that never comes": ("<thi", "", "<thi", False),
}  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 3, 7, 0])
@pytest.mark.parametrize(
    ("thought_open", "name"), [(True, name) for name in OPEN] + [(False, name) for name in CLOSED]
)
def test_thoughts(thought_open: bool, name: str, size: int) -> None:
    """What the model thinks, says and calls is told apart."""
    text, thought, content, called = (OPEN if thought_open else CLOSED)[name]
    parser = THINKER.parser(TOOLS, thought_open=thought_open)

    answer = read(parser, pieces(text, size))

    assert thought == answer.joined("reasoning")
    assert content == answer.joined("text")
    assert calls_of(answer) == ([("run_cmd", {"cmd": "ls"})] if called else [])


def test_thinking() -> None:
    """A parser tells whether the text so far ends inside a thought."""
    parser = THINKER.parser(TOOLS, thought_open=True)

    assert parser.thinking
    parser.feed("Hm.</think>\n\nYes.")
    assert not parser.thinking


@pytest.mark.parametrize("size", [1, 4, 0])
def test_stop_strings(size: int) -> None:
    """An answer ends before a stop string, and what comes later is ignored."""
    parser = THINKER.parser(TOOLS, stop=("END",))

    answer = read(parser, pieces(f"EN, then END {CALL}", size))

    assert parser.stopped
    assert answer.joined("text") == "EN, then "
    assert not answer.calls
