"""What the grammars of calls share: their form, their limits, and which parameters a call may have.

Rules of this file:
- No form shows here: what a call, its parameters and the end of a text look like is told by the
  methods that a form's own class has.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...grammar.answers import Thought
from ...grammar.lark import Note, Rules, literal
from ...grammar.nodes import UNENSURED
from ...grammar.values import RawValues
from ...messages import ToolSpec
from ...schema import Kinds, Parameters, ValueType

# A rule's parameter has this many bits; parameters beyond them come in the schema's order.
BITS = 64
# A chain of rules is as deep as it is long, and llguidance recurses. What is beyond is left out.
MAX_PARAMETERS = 250

# What a schema may say of an object that no grammar of tags ensures.
_UNENSURED = UNENSURED | {
    "oneOf", "anyOf", "patternProperties", "minProperties", "maxProperties",
}  # fmt: skip
_NAME = "/[A-Za-z_][A-Za-z0-9_.\\-]{0,63}/"


@dataclass(frozen=True, slots=True)
class CallGrammar:
    """Grammars of calls, and what of the schemas they don't ensure.

    `whole` is a whole answer that calls, or says what may be said instead. `wrapped` and `bare` are
    the rest of one call from where its name begins, with and without a wrapper around it: the call
    is over, or no longer told by the grammar, as soon as they accept.
    """

    whole: str
    wrapped: str
    bare: str
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What the grammars of calls are to allow.

    Without `parallel` one call is all. Values of tools in `strict` hold no tags of the form, so
    that nothing but whole calls of their schema can come. `answer` is the schema of the JSON that
    may be said instead. `loose` ones ensure names and types only: for schemas whose own can't be
    compiled.
    """

    thought: Thought | None = None
    parallel: bool = True
    strict: Collection[str] = ()
    answer: Mapping[str, Any] | None = None
    loose: bool = False


def names_of(known: Parameters) -> list[str]:
    """Return the names of a tool's parameters, those that are required first."""
    names = dict.fromkeys([*known.declared, *sorted(known.required)])
    return sorted(names, key=lambda name: name not in known.required)


@dataclass(frozen=True, slots=True)
class Way:
    """One way to write a parameter; behind that of a text it may turn out that it goes on."""

    rule: str
    is_text: bool


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter, the ways to write it, and how it looks where the grammar lets go in it."""

    required: bool
    ways: Sequence[Way]
    freed: str = ""

    def choices(self, rule: str, then: str = "", unless: str = "", *, sealed: bool) -> list[str]:
        """Return the ways to write it and to go on with a rule, `then` of its parameter."""
        ways = [f"{way.rule} {rule}{'_text' * way.is_text}{then}{unless}" for way in self.ways]
        return ways + [f"{self.freed}{unless}"] * bool(self.freed and not sealed)


class TaggedCalls(ABC):
    """Writes the rules of calls that have a tag for each parameter.

    In a `sealed` tool's call nothing is let go.
    """

    def __init__(self, rules: Rules, values: RawValues) -> None:
        self._rules = rules
        self._values = values
        self._count = 0

    @property
    def notes(self) -> list[Note]:
        """What the rules don't ensure."""
        return self._values.notes

    @staticmethod
    @abstractmethod
    def can_stand(name: str) -> bool:
        """Return whether a tag can hold this name."""

    @abstractmethod
    def _call(self, name: str, arguments: str, *, may_be_empty: bool) -> Sequence[str]:
        """Return the ways to write a call from its name on, with the rule of its arguments."""

    @abstractmethod
    def _key(self, name: str, kinds: Kinds | None, *, terminal: bool = False) -> str:
        """Return the expression before a parameter's value; a name may be that of a terminal."""

    @abstractmethod
    def _behind_text(self, back: str, end: str | None, *, sealed: bool) -> Sequence[str]:
        """Return what stands behind a text: the way back, or what lets go.

        `end` is the condition under which the call may end there; None if it may not.
        """

    def _freed(self, key: str, ways: Sequence[Way]) -> str:
        """Return how a parameter with this key looks where the grammar lets go in its text."""
        return ""

    def function(self, tool: ToolSpec, *, sealed: bool) -> str:
        """Return the expression of a tool's name, its arguments and the end of its call."""
        known = Parameters(tool.parameters)
        parameters = list(self._parameters(tool, known))
        extra = self._extra(tool, known)
        self._count += 1
        rule = f"p{self._count}"
        order = self._any_order if 0 < len(parameters) <= BITS else self._in_order
        arguments = order(rule, parameters, extra, sealed=sealed)
        empty = not any(parameter.required for parameter in parameters)
        return self._rules.name(
            "fn", " | ".join(self._call(tool.name, arguments, may_be_empty=empty))
        )

    def _parameters(self, tool: ToolSpec, known: Parameters) -> Iterator[Parameter]:
        """Yield the parameters, those that are required first."""
        unensured = sorted(_UNENSURED & tool.parameters.keys())
        self.notes.extend(Note(word, tool.name) for word in unensured)
        names = names_of(known)
        if len(names) > MAX_PARAMETERS:
            self.notes.append(Note("properties", tool.name))
        for name in names[:MAX_PARAMETERS]:
            required = name in known.required
            where = f"{tool.name}.{name}"
            node = known.declared.get(name, True)
            if not self.can_stand(name) or (node is False and not required):
                if required:
                    self.notes.append(Note("required", where))
                continue
            kind = known.type_of(name)
            yield self._parameter(self._key(name, kind.kinds), node, kind, tool, where, required)

    def _extra(self, tool: ToolSpec, known: Parameters) -> Sequence[Parameter]:
        """Return how parameters are written that are not declared, if the schema wants them."""
        node = tool.parameters.get("additionalProperties")
        if node is None and "type" in tool.parameters and "properties" not in tool.parameters:
            node = True
        if node is not True and not isinstance(node, Mapping):
            return ()
        taken = " | ".join(literal(name) for name in known.declared)
        name = self._rules.name("NAME", f"{_NAME} & ~({taken})" if taken else _NAME)
        kind = known.type_of("")
        key = self._key(name, kind.kinds, terminal=True)
        return [self._parameter(key, node, kind, tool, f"{tool.name}.*", False)]

    def _parameter(
        self, key: str, node: Any, kind: ValueType, tool: ToolSpec, where: str, required: bool
    ) -> Parameter:
        values = self._values.of(node, tool.parameters, kind, where)
        ways = [Way(f"{key} {value.rule}", value.text) for value in values]
        return Parameter(required, ways, self._freed(key, ways))

    def _any_order(
        self,
        rule: str,
        parameters: Sequence[Parameter],
        extra: Sequence[Parameter],
        *,
        sealed: bool,
    ) -> str:
        """Write a rule whose bits are the parameters so far; return how it begins."""
        required = sum(parameter.required for parameter in parameters)
        whole = f" %if is_ones([0:{required}])" if required else ""
        choices = [f"end{whole}"]
        for i, parameter in enumerate(parameters):
            then, unless = f"::set_bit({i})", f" %if bit_clear({i})"
            choices += parameter.choices(rule, then, unless, sealed=sealed)
        for parameter in extra:
            choices += parameter.choices(rule, "::_", sealed=sealed)
        self._rules.define(rule, choices, parameter=True)
        behind = self._behind_text(f"{rule}::_", whole, sealed=sealed)
        self._rules.define(f"{rule}_text", behind, parameter=True)
        return f"{rule}::0x0"

    def _in_order(
        self,
        rule: str,
        parameters: Sequence[Parameter],
        extra: Sequence[Parameter],
        *,
        sealed: bool,
    ) -> str:
        """Write a chain of rules, one a parameter; return the first."""
        for i in reversed(range(len(parameters) + 1)):
            now, then = f"{rule}_{i}", f"{rule}_{i + 1}"
            here, choices = extra, ["end"]
            if i < len(parameters):
                here = [parameters[i]]
                choices = [] if parameters[i].required else [then]
            else:
                then = now
            for parameter in here:
                choices += parameter.choices(then, sealed=sealed)
            self._rules.define(now, choices)
            end = None if any(parameter.required for parameter in parameters[i:]) else ""
            self._rules.define(f"{now}_text", self._behind_text(now, end, sealed=sealed))
        return f"{rule}_0"
