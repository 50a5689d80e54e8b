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

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...grammar.answers import Thought, framed, thought_rule
from ...grammar.lark import Note, Rules, literal
from ...grammar.nodes import Engine, Patient
from ...messages import ToolSpec
from ...schema import KINDS, Kinds, Parameters
from ..tape import MAX_NAME
from .call_grammar import (
    BITS,
    MAX_PARAMETERS,
    TAGS_UNENSURED,
    CallGrammar,
    extra_name,
    extra_node,
    names_of,
)
from .marked_text import MarkedValues
from .marks import Marks, Tag


def calls(
    tools: Sequence[ToolSpec],
    engine: Engine,
    *,
    marks: Marks,
    thought: Thought | None = None,
    name: str = "",
    parallel: bool = True,
    strict: Collection[str] = (),
    answer: Mapping[str, Any] | None = None,
    loose: bool = False,
) -> CallGrammar | None:
    """Return the grammars of calls of these tools; None if no tool has a name that can be written.

    `answer` is the schema of the JSON that may be said instead of calls.
    """
    offered = [tool for tool in tools if name in ("", tool.name) and _can_stand(tool.name)]
    if not offered:
        return None
    rules = Rules()
    patient = Patient(engine, patience=not loose)
    builder = _Calls(rules, patient, marks)
    functions = [builder.function(tool, sealed=tool.name in strict) for tool in offered]
    rules.define("fn", functions)
    spelled = engine.controls.spelled
    call = f"{spelled(marks.call.before)} fn"
    again = f"{builder.next(marks.call.before)} fn"
    rules.define(
        "call", [f"{spelled(opener)} {again}" for opener in marks.section_openers] or [call]
    )
    start, more = framed("call", rules, patient, thought=None, answer=answer)
    start = " ".join([*builder.leads(), start])
    if thought is not None:
        start = f"{thought_rule(thought, rules, engine.controls)} {start}"
    behind = [builder.next(closer) for closer in marks.section_closers] or ['""']
    behind += [again] if parallel else []
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


def _can_stand(name: str) -> bool:
    """Return whether a tag can hold this name."""
    return (
        name == name.strip() and 0 < len(name) < MAX_NAME // 2 and not set("<>{\n\r\"'`&") & {*name}
    )


@dataclass(frozen=True, slots=True)
class _Way:
    """One way to write a parameter; behind that of a text it may turn out that it goes on."""

    rule: str
    is_text: bool


@dataclass(frozen=True, slots=True)
class _Parameter:
    """One parameter, the ways to write it, and how its tag and a text that is let go look."""

    required: bool
    ways: Sequence[_Way]
    freed: str


class _Calls:
    """Writes the rules of calls; each function's rule begins with its name."""

    def __init__(self, rules: Rules, engine: Engine, marks: Marks) -> None:
        self._rules = rules
        self._values = MarkedValues(rules, engine, marks)
        self._marks = marks
        self._spelled = engine.controls.spelled
        self.next = self._values.next
        self._count = 0

    @property
    def notes(self) -> list[Note]:
        """What the rules don't ensure."""
        return self._values.notes

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
        spelled = self._values.next(marker, spelled=True)
        found = self._values.next(marker)
        return found if found == spelled else f"({found} | {spelled})"

    def function(self, tool: ToolSpec, *, sealed: bool) -> str:
        """Return the expression of a tool's name, its arguments and the end of its call."""
        known = Parameters(tool.parameters)
        parameters = list(self._parameters(tool, known))
        extra = self._extra(tool, known)
        self._count += 1
        rule = f"p{self._count}"
        if 0 < len(parameters) <= BITS:
            body = self._any_order(rule, parameters, extra, sealed=sealed)
        else:
            body = self._in_order(rule, parameters, extra, sealed=sealed)
        tag = self._tag(self._marks.call, literal(tool.name), ["/[1-9][0-9]{0,2}/"])
        return self._rules.name("fn", f"{tag} {body}")

    def _tag(self, tag: Tag, name: str, extra: Sequence[str]) -> str:
        """Return the expression of a tag from its name on, and what its `extra` may say."""
        if not tag.attribute:
            return f"{name} {self._spelled(tag.end)}" if tag.end else name
        opened = literal(f'" {tag.extra}="')
        more = f" {opened} ({' | '.join(extra)})" if tag.extra else ""
        end = self._spelled(f'"{tag.end}')
        return f"{name}{more} {end}"

    def _key(self, name: str, kinds: Kinds | None) -> str:
        """Return the expression of all that stands before a parameter's value."""
        marks = self._marks
        tag = self._tag(marks.key, name, _said(marks.key.extra, kinds))
        value = f" {self.next(marks.value)}" if marks.value else ""
        return f"{self.next(marks.key.before)} {tag}{value}"

    def _parameters(self, tool: ToolSpec, known: Parameters) -> Iterable[_Parameter]:
        """Return the parameters, those that are required first."""
        self._values.notes += [
            Note(word, tool.name) for word in sorted(TAGS_UNENSURED & tool.parameters.keys())
        ]
        names = names_of(known)
        if len(names) > MAX_PARAMETERS:
            self._values.notes.append(Note("properties", tool.name))
        for name in names[:MAX_PARAMETERS]:
            required = name in known.required
            where = f"{tool.name}.{name}"
            node = known.declared.get(name, True)
            if not _can_stand(name) or (node is False and not required):
                if required:
                    self._values.notes.append(Note("required", where))
                continue
            yield self._parameter(node, tool, known, literal(name), where, required=required)

    def _parameter(
        self,
        node: Any,
        tool: ToolSpec,
        known: Parameters,
        name: str,
        where: str,
        *,
        required: bool,
    ) -> _Parameter:
        kind = known.type_of("" if where.endswith(".*") else where.removeprefix(f"{tool.name}."))
        values = self._values.of(node, tool.parameters, kind, where)
        key = self._key(name, kind.kinds)
        ways = [_Way(f"{key} {value.rule}", value.text) for value in values]
        quoting = self._values.quoting() if any(value.text for value in values) else ""
        return _Parameter(required, ways, f"{key} {quoting}" if quoting else "")

    def _extra(self, tool: ToolSpec, known: Parameters) -> Sequence[_Parameter]:
        """Return how parameters are written that are not declared, if the schema wants them."""
        node = extra_node(tool)
        if node is None:
            return ()
        name = extra_name(known, self._rules)
        where = f"{tool.name}.*"
        return [self._parameter(node, tool, known, name, where, required=False)]

    def _any_order(
        self,
        rule: str,
        parameters: Sequence[_Parameter],
        extra: Sequence[_Parameter],
        *,
        sealed: bool,
    ) -> str:
        """Write a rule whose bits are the parameters so far; return how it begins."""
        required = sum(parameter.required for parameter in parameters)
        whole = f" %if is_ones([0:{required}])" if required else ""
        choices = [f"end{whole}"]
        for i, parameter in enumerate(parameters):
            unless = f" %if bit_clear({i})"
            for way in parameter.ways:
                then = f"{rule}_text" if way.is_text else rule
                choices.append(f"{way.rule} {then}::set_bit({i}){unless}")
            if parameter.freed and not sealed:
                choices.append(f"{parameter.freed}{unless}")
        for parameter in extra:
            choices += [f"{w.rule} {rule}{'_text' * w.is_text}::_" for w in parameter.ways]
            choices += [f"{parameter.freed}"] if parameter.freed and not sealed else []
        self._rules.define(rule, choices, parameter=True)
        behind = [f"{rule}::_"] if sealed else [f"{rule}::_", self._values.free()]
        self._rules.define(f"{rule}_text", behind, parameter=True)
        return f"{rule}::0x0"

    def _in_order(
        self,
        rule: str,
        parameters: Sequence[_Parameter],
        extra: Sequence[_Parameter],
        *,
        sealed: bool,
    ) -> str:
        """Write a chain of rules, one a parameter; return the first."""
        for i in reversed(range(len(parameters) + 1)):
            now, then = f"{rule}_{i}", f"{rule}_{i + 1}"
            here, choices = list(extra), ["end"]
            if i < len(parameters):
                here = [parameters[i]]
                choices = [] if parameters[i].required else [then]
            else:
                then = now
            for parameter in here:
                ways = parameter.ways
                choices += [f"{way.rule} {then}{'_text' * way.is_text}" for way in ways]
                choices += [f"{parameter.freed}"] if parameter.freed and not sealed else []
            self._rules.define(now, choices)
            self._rules.define(f"{now}_text", [now] if sealed else [now, self._values.free()])
        return f"{rule}_0"


def _said(attribute: str, kinds: Kinds | None) -> list[str]:
    """Return what a tag may say of a value of these types."""
    kinds = KINDS if kinds is None else kinds
    if attribute == "string":
        words = {"true" if kind == "string" else "false" for kind in kinds}
    else:
        words = {"number" if kind == "integer" else kind for kind in kinds}
    return [literal(word) for word in sorted(words)]
