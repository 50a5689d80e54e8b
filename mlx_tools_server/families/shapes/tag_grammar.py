"""The tag call as a grammar: what a call of the tools on offer looks like, token by token.

Rules of this file:
- A call names a tool on offer and gives it each declared parameter at most once, in any order, and
  all that are required; a value follows its schema (`grammar.values`).
- A line of a text that begins with a tag of the form may be a quotation or a slip: only what
  follows tells. There the grammar lets go, and the rest is read by the parser's own rules. Values
  of a strict tool have no such lines, nor may a call seem to end that lacks a parameter.
- The same rule for where a value ends stands in `tag_value`, for the parser.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...grammar.answers import framed
from ...grammar.lark import Rules, literal
from ...grammar.nodes import Engine, Patient
from ...grammar.values import Framing, RawValues
from ...messages import ToolSpec
from ...schema import Kinds
from ..tape import MAX_NAME
from .call_grammar import CallGrammar, CallOptions, TaggedCalls
from .tag_value import (
    BEHIND,
    CLOSE,
    CLOSERS,
    END_FUNCTION,
    END_PARAMETER,
    FUNCTION,
    OPEN,
    OPENERS,
    PARAMETER,
    TAGS,
)

_FRAMING = Framing(END_PARAMETER, BEHIND, TAGS, CLOSE)


def calls(tools: Sequence[ToolSpec], engine: Engine, options: CallOptions) -> CallGrammar | None:
    """Return the grammars of calls of these tools; None if none has a name that can stand."""
    offered = [tool for tool in tools if _Calls.can_stand(tool.name)]
    if not offered:
        return None
    rules = Rules()
    patient = Patient(engine, patience=not options.loose)
    builder = _Calls(rules, patient)
    functions = [builder.function(tool, sealed=tool.name in options.strict) for tool in offered]
    rules.define("fn", functions)
    wrapper = [engine.controls.token(OPEN), literal(f"\n{FUNCTION}"), "fn"]
    rules.define("call", [" ".join(wrapper)])
    start, more = framed("call", rules, patient, thought=options.thought, answer=options.answer)
    again = '"" | "\\n" call' if options.parallel else '""'
    # Models spell it out now and then; which way they go is theirs.
    closer = f"({engine.controls.token(CLOSE)} | {literal(CLOSE)})"

    def text(begin: str, end: str) -> str:
        return rules.text(begin, {"end": end, "more": again})

    end = literal(f"{END_FUNCTION}\n")
    return CallGrammar(
        whole=text(start, f"{end} {closer} more"),
        wrapped=text("fn", f"{end} {closer}"),
        bare=text("fn", f"{literal(END_FUNCTION)} | {end}"),
        notes=tuple(dict.fromkeys([*builder.notes, *more])),
    )


class _Calls(TaggedCalls):
    """Writes the rules of calls; each function's rule stands behind `<function=`."""

    def __init__(self, rules: Rules, engine: Engine) -> None:
        super().__init__(rules, RawValues(rules, engine, _FRAMING))
        self._controls = engine.controls

    @staticmethod
    def can_stand(name: str) -> bool:
        """Return whether a tag can hold this name."""
        quoted = len(name) > 2 and name[0] == name[-1] and name[0] in "\"'"
        return (
            name == name.strip()
            and 0 < len(name) < MAX_NAME
            and not quoted
            and not set("<>\n") & {*name}
        )

    def _call(self, name: str, arguments: str, *, may_be_empty: bool) -> list[str]:
        ways = [literal(name + ">\n") + " " + arguments]
        if may_be_empty:
            # Two more spellings of a call without arguments.
            ways += [f"{literal(name + tail)} end" for tail in (">", ">\n\n")]
        return ways

    def _key(self, name: str, kinds: Kinds | None, *, terminal: bool = False) -> str:
        if terminal:
            return f'{literal(PARAMETER)} {name} ">\\n"'
        return literal(f"{PARAMETER}{name}>\n")

    def _behind_text(self, back: str, end: str | None, *, sealed: bool) -> list[str]:
        behind = [f"{_CLOSER} {back}"]
        if not sealed:
            behind.append(self._free(OPENERS))
            if end is not None:
                behind.append(self._free(CLOSERS) + end)
        return behind

    def _free(self, tags: Sequence[str]) -> str:
        """Return the rule of one of these tags and anything behind it."""
        controls = self._controls
        choices = [literal(tag) for tag in tags] + [tag for tag in tags if tag in controls.ids]
        return self._rules.name("free", f"({' | '.join(choices)}) {controls.anything}")


_CLOSER = literal(f"{END_PARAMETER}\n")
