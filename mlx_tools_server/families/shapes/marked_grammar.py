"""The marked call as a grammar: what a call of the tools on offer looks like, token by token.

Rules of this file:
- A call names a tool on offer and gives it each declared parameter at most once, in any order, and
  all that are required; a value follows its schema (`marked_text`).
- Behind the closer of a text its call must go on or end. Where anything else follows, or a text
  quotes what opens a value, only what follows tells: there the grammar lets go, and the rest is
  read by the parser's own rules. A strict tool has no such texts.
- The same rule for where a value ends stands in `marked_value`, for the parser.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...grammar.answers import framed, thought_rule
from ...grammar.lark import Rules, literal
from ...grammar.nodes import Engine, Patient
from ...messages import ToolSpec
from ...schema import KINDS, Kinds
from ..tape import MAX_NAME
from .call_grammar import CallGrammar, CallOptions, TaggedCalls, Way
from .marked_text import MarkedValues
from .marks import Marks, Tag


def calls(
    tools: Sequence[ToolSpec], engine: Engine, options: CallOptions, *, marks: Marks
) -> CallGrammar | None:
    """Return the grammars of calls of these tools; None if none has a name that can stand."""
    offered = [tool for tool in tools if _Calls.can_stand(tool.name)]
    if not offered:
        return None
    rules = Rules()
    patient = Patient(engine, patience=not options.loose)
    builder = _Calls(rules, patient, marks)
    functions = [builder.function(tool, sealed=tool.name in options.strict) for tool in offered]
    rules.define("fn", functions)
    spelled = engine.controls.spelled
    call = f"{spelled(marks.call.before)} fn"
    again = f"{builder.next(marks.call.before)} fn"
    rules.define(
        "call", [f"{spelled(opener)} {again}" for opener in marks.section_openers] or [call]
    )
    start, more = framed("call", rules, patient, thought=None, answer=options.answer)
    start = " ".join([*builder.leads(), start])
    if options.thought is not None:
        start = f"{thought_rule(options.thought, rules, engine.controls)} {start}"
    behind = [builder.next(closer) for closer in marks.section_closers] or ['""']
    behind += [again] if options.parallel else []
    end = builder.end()
    # What may stand before a name without quotes.
    begun = '"\\n"? fn' if marks.newline and not marks.call.attribute else "fn"
    # The call is over with its closer, whose last token may begin what follows.
    tail = "" if spelled(marks.end_call).endswith(">") else r" /\n{1,2}(<\/?)?|<\/?/?"
    rest = rules.text(begun, {"end": f"{end}{tail}"})
    return CallGrammar(
        whole=rules.text(start, {"end": f"{end} ({' | '.join(behind)})"}),
        wrapped=rest,
        bare=rest,
        notes=tuple(dict.fromkeys([*builder.notes, *more])),
    )


class _Calls(TaggedCalls):
    """Writes the rules of calls; each function's rule begins with its name."""

    def __init__(self, rules: Rules, engine: Engine, marks: Marks) -> None:
        self._marked = MarkedValues(rules, engine, marks)
        super().__init__(rules, self._marked)
        self._marks = marks
        self._spelled = engine.controls.spelled
        self.next = self._marked.next

    @staticmethod
    def can_stand(name: str) -> bool:
        """Return whether a tag can hold this name."""
        fits = name == name.strip() and 0 < len(name) < MAX_NAME // 2
        return fits and not set("<>{\n\r\"'`&") & {*name}

    def leads(self) -> list[str]:
        """Return what may stand right before an answer, part by part."""
        leads = [f"({self._spelled(lead)})?" for lead in self._marks.leads]
        opener, closer = self._marks.header
        if opener:
            leads.append(f"(/ ?{opener}[^<>\\n]{{1,99}}/ {self._spelled(closer)})?")
        return leads

    def end(self) -> str:
        """Return the expression of the end of a call, which models spell out now and then."""
        marker = self._marks.end_call
        spelled = self.next(marker, spelled=True)
        found = self.next(marker)
        return found if found == spelled else f"({found} | {spelled})"

    def _call(self, name: str, arguments: str, *, may_be_empty: bool) -> list[str]:
        tag = self._tag(self._marks.call, literal(name), ["/[1-9][0-9]{0,2}/"])
        return [f"{tag} {arguments}"]

    def _key(self, name: str, kinds: Kinds | None, *, terminal: bool = False) -> str:
        marks = self._marks
        name = name if terminal else literal(name)
        tag = self._tag(marks.key, name, _said(marks.key.extra, kinds))
        value = f" {self.next(marks.value)}" if marks.value else ""
        return f"{self.next(marks.key.before)} {tag}{value}"

    def _tag(self, tag: Tag, name: str, extra: Sequence[str]) -> str:
        """Return the expression of a tag from its name on, and what its `extra` may say."""
        if not tag.attribute:
            return f"{name} {self._spelled(tag.end)}" if tag.end else name
        opened = literal(f'" {tag.extra}="')
        more = f" {opened} ({' | '.join(extra)})" if tag.extra else ""
        end = self._spelled(f'"{tag.end}')
        return f"{name}{more} {end}"

    def _freed(self, key: str, ways: Sequence[Way]) -> str:
        quoting = self._marked.quoting() if any(way.is_text for way in ways) else ""
        return f"{key} {quoting}" if quoting else ""

    def _behind_text(self, back: str, end: str | None, *, sealed: bool) -> list[str]:
        return [back] if sealed else [back, self._marked.free()]


def _said(attribute: str, kinds: Kinds | None) -> list[str]:
    """Return what a tag may say of a value of these types."""
    kinds = KINDS if kinds is None else kinds
    if attribute == "string":
        words = {"true" if kind == "string" else "false" for kind in kinds}
    else:
        words = {"number" if kind == "integer" else kind for kind in kinds}
    return [literal(word) for word in sorted(words)]
