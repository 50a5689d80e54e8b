"""Answers that are JSON by a schema, and thoughts before an answer.

Rules of this file:
- The JSON begins with its first character and ends with its last; white space in it is bounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .lark import Controls, Note, Rules, escaped, literal
from .nodes import Engine, Patient, fitting

# What `json_object` asks for.
ANY_OBJECT: Mapping[str, Any] = {"type": "object"}


@dataclass(frozen=True, slots=True)
class AnswerGrammar:
    """The grammar of a whole answer, and what of its schema it does not ensure."""

    whole: str
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class Thought:
    """How thoughts are marked; `opened` ones begin in the prompt, others may come or not."""

    open: str
    close: str
    opened: bool = False


def json_answer(
    schema: Mapping[str, Any],
    engine: Engine,
    *,
    thought: Thought | None = None,
    loose: bool = False,
) -> AnswerGrammar:
    """Return the grammar of a JSON answer, behind a thought if the model thinks.

    A `loose` one ensures types only, and costs next to nothing.
    """
    rules = Rules()
    rule, notes = json_rule(schema, rules, Patient(engine, patience=not loose))
    before = thought_rule(thought, rules, engine.controls) if thought else ""
    return AnswerGrammar(rules.text(f"{before} {rule}"), tuple(dict.fromkeys(notes)))


def json_rule(schema: Mapping[str, Any], rules: Rules, engine: Engine) -> tuple[str, list[Note]]:
    """Return the rule of the JSON values of a schema, as strict as the engine can be."""
    text, notes = fitting(schema, schema, None, engine, "response_format")
    return rules.name("answer", text), notes


def framed(
    start: str,
    rules: Rules,
    engine: Engine,
    *,
    thought: Thought | None,
    answer: Mapping[str, Any] | None,
) -> tuple[str, list[Note]]:
    """Return `start` with a thought before it, and JSON of a schema that may be said instead."""
    notes: list[Note] = []
    if answer is not None:
        rule, notes = json_rule(answer, rules, engine)
        start = f"({start} | {rule})"
    if thought is not None:
        start = f"{thought_rule(thought, rules, engine.controls)} {start}"
    return start, notes


def thought_rule(thought: Thought, rules: Rules, controls: Controls) -> str:
    """Return the expression of what stands before an answer, up to the end of its thought."""
    start, close = _opener(thought.open, controls), controls.spelled(thought.close)
    if not close.startswith('"'):  # but with a control token
        body = f"/(?s:.*)/ {close}"
    else:
        rules.define(f"thought[suffix={literal(thought.close)}]", ["/(?s:.*)/"])
        body = "thought"
    if thought.opened:
        return f"({start})? {body} /\\n{{0,2}}/"
    return f"({start} {body} /\\n{{0,2}}/)?"


def _opener(text: str, controls: Controls) -> str:
    """Return the expression of what opens a thought; words may follow the prompt with a space.

    They are one lexeme, which may be one of another rule as well.
    """
    end = min((text.find(token) for token in controls.ids if token in text), default=len(text))
    words, rest = text[:end], controls.spelled(text[end:])
    return f"/ ?{escaped(words)}/ {rest}" if words else rest
