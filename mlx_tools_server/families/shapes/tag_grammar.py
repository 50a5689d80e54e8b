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

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...grammar.answers import Thought, framed
from ...grammar.lark import Note, Rules, literal
from ...grammar.nodes import Engine, Patient
from ...grammar.values import Framing, RawValues
from ...messages import ToolSpec
from ...schema import Parameters
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


def calls(
    tools: Sequence[ToolSpec],
    engine: Engine,
    *,
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
    builder = _Calls(rules, patient)
    functions = [builder.function(tool, sealed=tool.name in strict) for tool in offered]
    rules.define("fn", functions)
    wrapper = [engine.controls.token(OPEN), literal(f"\n{FUNCTION}"), "fn"]
    rules.define("call", [" ".join(wrapper)])
    start, more = framed("call", rules, patient, thought=thought, answer=answer)
    again = '"" | "\\n" call' if parallel else '""'
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


def _can_stand(name: str) -> bool:
    """Return whether a tag can hold this name."""
    quoted = len(name) > 2 and name[0] == name[-1] and name[0] in "\"'"
    return (
        name == name.strip()
        and 0 < len(name) < MAX_NAME
        and not quoted
        and not set("<>\n") & {*name}
    )


@dataclass(frozen=True, slots=True)
class _Way:
    """One way to write a parameter: its tag and its value, a text without its closer."""

    rule: str
    is_text: bool


@dataclass(frozen=True, slots=True)
class _Parameter:
    """One parameter, and the ways to write it."""

    required: bool
    ways: Sequence[_Way]


class _Calls:
    """Writes the rules of calls; each function's rule stands behind `<function=`."""

    def __init__(self, rules: Rules, engine: Engine) -> None:
        self._rules = rules
        self._raw = RawValues(rules, engine, _FRAMING)
        self._engine = engine
        self._count = 0

    @property
    def notes(self) -> list[Note]:
        """What the rules don't ensure."""
        return self._raw.notes

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
        choices = [literal(tool.name + ">\n") + " " + body]
        if not any(parameter.required for parameter in parameters):
            # Two more spellings of a call without arguments.
            choices += [f"{literal(tool.name + tail)} end" for tail in (">", ">\n\n")]
        return self._rules.name("fn", " | ".join(choices))

    def _parameters(self, tool: ToolSpec, known: Parameters) -> Iterable[_Parameter]:
        """Return the parameters, those that are required first."""
        self._raw.notes += [
            Note(word, tool.name) for word in sorted(TAGS_UNENSURED & tool.parameters.keys())
        ]
        names = names_of(known)
        if len(names) > MAX_PARAMETERS:
            self._raw.notes.append(Note("properties", tool.name))
        for name in names[:MAX_PARAMETERS]:
            required = name in known.required
            where = f"{tool.name}.{name}"
            node = known.declared.get(name, True)
            if not _can_stand(name) or (node is False and not required):
                if required:
                    self._raw.notes.append(Note("required", where))
                continue
            kind = known.type_of(name)
            values = self._raw.of(node, tool.parameters, kind, where)
            tag = literal(f"{PARAMETER}{name}>\n")
            yield _Parameter(required, [_Way(f"{tag} {v.rule}", v.text) for v in values])

    def _extra(self, tool: ToolSpec, known: Parameters) -> Sequence[_Way]:
        """Return how parameters are written that are not declared, if the schema wants them."""
        node = extra_node(tool)
        if node is None:
            return ()
        name = extra_name(known, self._rules)
        kind = known.type_of("")
        values = self._raw.of(node, tool.parameters, kind, f"{tool.name}.*")
        tag = f'{literal(PARAMETER)} {name} ">\\n"'
        return [_Way(f"{tag} {value.rule}", value.text) for value in values]

    def _any_order(
        self, rule: str, parameters: Sequence[_Parameter], extra: Sequence[_Way], *, sealed: bool
    ) -> str:
        """Write a rule whose bits are the parameters so far; return how it begins."""
        required = sum(parameter.required for parameter in parameters)
        whole = f" %if is_ones([0:{required}])" if required else ""
        choices = [f"end{whole}"]
        for i, parameter in enumerate(parameters):
            for way in parameter.ways:
                then = f"{rule}_text" if way.is_text else rule
                choices.append(f"{way.rule} {then}::set_bit({i}) %if bit_clear({i})")
        choices += [f"{way.rule} {rule}{'_text' * way.is_text}::_" for way in extra]
        self._rules.define(rule, choices, parameter=True)
        behind = [f"{_CLOSER} {rule}::_"]
        if not sealed:
            behind += [self._free(OPENERS), self._free(CLOSERS) + whole]
        self._rules.define(f"{rule}_text", behind, parameter=True)
        return f"{rule}::0x0"

    def _in_order(
        self, rule: str, parameters: Sequence[_Parameter], extra: Sequence[_Way], *, sealed: bool
    ) -> str:
        """Write a chain of rules, one a parameter; return the first."""
        for i in reversed(range(len(parameters) + 1)):
            now, then = f"{rule}_{i}", f"{rule}_{i + 1}"
            ways, choices = extra, ["end"]
            if i < len(parameters):
                ways, choices = parameters[i].ways, [] if parameters[i].required else [then]
            else:
                then = now
            choices += [f"{way.rule} {then}{'_text' * way.is_text}" for way in ways]
            self._rules.define(now, choices)
            behind = [f"{_CLOSER} {now}"]
            if not sealed:
                whole = not any(parameter.required for parameter in parameters[i:])
                behind += [self._free(OPENERS), *[self._free(CLOSERS)] * whole]
            self._rules.define(f"{now}_text", behind)
        return f"{rule}_0"

    def _free(self, tags: Sequence[str]) -> str:
        """Return the rule of one of these tags and anything behind it."""
        controls = self._engine.controls
        choices = [literal(tag) for tag in tags] + [tag for tag in tags if tag in controls.ids]
        return self._rules.name("free", f"({' | '.join(choices)}) {controls.anything}")


_CLOSER = literal(f"{END_PARAMETER}\n")
