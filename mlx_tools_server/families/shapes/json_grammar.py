"""The Hermes call as a grammar: between two markers an object with a name and its arguments.

Rules of this file:
- The whole answer is calls, or what may be said instead; calls that begin in free text are read by
  a foreign parser only, which tells of none before it is whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...grammar.answers import AnswerGrammar, Thought, framed
from ...grammar.lark import Note, Rules, literal
from ...grammar.nodes import Engine, Patient, fitting
from ...jsontext import dumps
from ...messages import ToolSpec

# A template that marks its calls with these has them as JSON.
OPEN, CLOSE = "<tool_call>", "</tool_call>"


def calls(
    tools: Sequence[ToolSpec],
    engine: Engine,
    *,
    thought: Thought | None = None,
    name: str = "",
    parallel: bool = True,
    answer: Mapping[str, Any] | None = None,
    loose: bool = False,
) -> AnswerGrammar | None:
    """Return the grammar of calls of these tools; None if there is none to call.

    `answer` is the schema of the JSON that may be said instead of calls.
    """
    offered = [tool for tool in tools if name in ("", tool.name)]
    if not offered:
        return None
    rules = Rules()
    patient = Patient(engine, patience=not loose)
    notes: list[Note] = []
    functions = []
    for tool in offered:
        # Names that the tool does not know would be refused by whoever runs it.
        closed = {"additionalProperties": False} if tool.parameters.get("properties") else {}
        schema = {"type": "object", **closed, **tool.parameters}
        value, left = fitting(schema, schema, frozenset({"object"}), patient, tool.name)
        notes += left
        head = literal(f'{{"name": {dumps(tool.name)}, "arguments": ')
        functions.append(f"{head} {rules.name('arguments', value)}")
    rules.define("function", functions)
    opener, closer = (f"({engine.controls.token(tag)} | {literal(tag)})" for tag in (OPEN, CLOSE))
    rules.define("call", [f'{opener} "\\n" function "}}\\n" {closer}'])
    start = 'call ("\\n" call)*' if parallel else "call"
    start, more = framed(start, rules, patient, thought=thought, answer=answer)
    return AnswerGrammar(rules.text(start), tuple(dict.fromkeys([*notes, *more])))
