"""Formats that another library reads: split and parsed by a stand-in of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from mlx_tools_server.families import FAMILIES, Family, detect
from mlx_tools_server.messages import ToolSpec

from .reading import RUN, calls_of, outcomes, pieces, read, told


class BracketSplitter:
    """Splits at `[[` and `]]`; thoughts stand in braces."""

    def __init__(self, state: str) -> None:
        self._state = state
        self._held = ""

    def split(self, text: str) -> Sequence[tuple[str, str]]:
        """Return the pieces, holding back a bracket that may be doubled."""
        parts: list[tuple[str, str]] = []
        text, self._held = self._held + text, ""
        if text[-1:] in ("[", "]") and text[-2:] not in ("[[", "]]"):
            text, self._held = text[:-1], text[-1]
        for piece in re.split(r"(\[\[|\]\]|[{}])", text):
            if piece in ("[[", "]]", "{", "}"):
                self._state = {"[[": "tool", "{": "reasoning"}.get(piece, "normal")
            elif piece:
                parts.append((self._state, piece))
        return parts

    def flush(self) -> tuple[str, str]:
        """Return what is held back."""
        return self._state, self._held


class Brackets:
    """Calls as `[[["name", {…}]]]`."""

    name = "brackets"
    opener = "[["
    closer = "]]"

    def splitter(self, *, tools: bool, thought_open: bool) -> BracketSplitter:
        """Return a fresh splitter."""
        return BracketSplitter("reasoning" if thought_open else "normal")

    def read(self, text: str, tools: Sequence[ToolSpec]) -> Sequence[tuple[str, Mapping[str, Any]]]:
        """Read `name=JSON` pairs, one a line."""
        pairs = [line.split("=", 1) for line in text.split("\n")]
        return [(name, json.loads(arguments)) for name, arguments in pairs]


FORM = Family("brackets", form=Brackets())

# Text, content, thought and calls.
TEXTS: dict[str, tuple[str, str, str, list[tuple[str, Any]]]] = {
    "prose": ("Yes [or] no.", "Yes [or] no.", "", []),
    "a call": ("So:\n[[a=1]] and", "So: and", "", [("a", 1)]),
    "two calls in one": ("[[a=1\nb=2]]", "", "", [("a", 1), ("b", 2)]),
    "a call that can't be read": ("x [[a]] y", "x [[a]] y", "", []),
    "a call that the end of the text ends": ("[[a=1", "", "", [("a", 1)]),
    "a call that can't be read at the end": ("[[a", "[[a", "", []),
    "a thought": ("{hm }\nYes.", "\nYes.", "hm", []),
    "a thought that is cut": ("{hm", "", "hm", []),
}


@pytest.mark.parametrize("size", [1, 2, 0])
@pytest.mark.parametrize("name", TEXTS)
def test_foreign_format(name: str, size: int) -> None:
    """Calls of a foreign format are read whole, and what is none stays text."""
    text, content, thought, calls = TEXTS[name]

    answer = read(FORM.parser([RUN]), pieces(text, size))

    assert calls == calls_of(answer)
    assert content == answer.joined("text")
    assert thought == answer.joined("reasoning")


OUTCOMES = {
    "prose": ("Yes [or] no.", []),
    "two calls in one": ("[[a=1\nb=2]]", ["ok", "ok"]),
    "a call without its closer": ("[[a=1", ["repaired"]),
    "a call that can't be read": ("x [[a]] y [[a=1]]", ["ok", "text"]),
}


@pytest.mark.parametrize("size", [1, 2, 0])
@pytest.mark.parametrize("name", OUTCOMES)
def test_outcomes(name: str, size: int) -> None:
    """A foreign call without its closer is repaired; one that can't be read is text."""
    text, expected = OUTCOMES[name]

    assert expected == outcomes(told(FORM.parser([RUN]), pieces(text, size)))


def test_cut_call_is_text() -> None:
    """A foreign call that was cut is not handed on as a call."""
    answer = read(FORM.parser([RUN]), ["[[a=1"], cut=True)

    assert not answer.calls
    assert answer.joined("text") == "[[a=1"


def test_first_call_only() -> None:
    """With one call wanted, the answer ends behind the first."""
    parser = FORM.parser([RUN], first_call_only=True)

    answer = read(parser, ["[[a=1\nb=2]]", " and [[c=3]]", "!"])

    assert parser.stopped
    assert calls_of(answer) == [("a", 1)]
    assert not answer.joined("text")


def test_stop_string_that_did_not_come() -> None:
    """The beginning of a stop string before a call is text after all."""
    answer = read(FORM.parser([RUN], stop=("END",)), ["an EN[[a=1]]"])

    assert answer.joined("text") == "an EN"
    assert calls_of(answer) == [("a", 1)]


TEMPLATES = {
    "calls and thoughts": ("{{ '<tool_call>\\n<function=' }} <think>", None, "qwen3_5"),
    "calls": ("<tool_call>\n<function=x>", None, "qwen3_coder"),
    "a foreign format": ("[[", Brackets(), "mlx-lm's brackets"),
    "nothing that is known": ("x", None, "plain text"),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_detect(name: str) -> None:
    """The family of a model shows in its chat template, and the reason can be told."""
    template, form, expected = TEMPLATES[name]

    family, reason = detect(template, form)

    assert expected == family.name
    assert reason


def test_detect_without_calls() -> None:
    """A foreign format without an opener is plain text that still knows its thoughts."""
    form = Brackets()
    form.opener = ""

    family, reason = detect("x", form)

    assert family.form is form
    assert "no tool calls" in reason
    assert family not in FAMILIES
