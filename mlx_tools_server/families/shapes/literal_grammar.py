"""The literal call as a grammar: a name on offer, and arguments by its schema.

Rules of this file:
- What is written around name and arguments is the form's, token by token; arguments are JSON,
  Python's keywords with JSON values, or an object of Gemma's: each argument at most once, in any
  order there, and all that are required.
- A grammar takes over where a name begins, and lets go behind the call: text is never touched.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ...grammar.answers import framed
from ...grammar.lark import Note, Rules, literal
from ...grammar.nodes import Engine, Patient, fitting, json_value
from ...jsontext import dumps
from ...messages import ToolSpec
from ...schema import KINDS, Kinds, Parameters
from .call_grammar import BITS, CallGrammar, CallOptions, names_of
from .literal_form import Form

# Python's words beside those of JSON, by type.
_WORDS: Mapping[str, tuple[str, ...]] = {"boolean": ("True", "False"), "null": ("None",)}
_STRING = r"/([^'\\\x00-\x1f]|\\[\\'\"nrt])*/"
# Control tokens end it.
_TEXT = "/(?s:.*)/"
# What a node may say that leaves all strings free.
_ANY_STRING = frozenset({"type", "description", "title", "default", "examples", "nullable"})
_TEXTUAL = frozenset({"pattern", "format", "minLength", "maxLength", "const"})
_NESTED = frozenset({"properties", "items", "required", "minItems", "maxItems", "enum", "const"})
_UNENSURED = frozenset({"patternProperties", "minProperties", "maxProperties"})


def calls(
    tools: Sequence[ToolSpec], engine: Engine, options: CallOptions, *, form: Form
) -> CallGrammar | None:
    """Return the grammars of calls of these tools; None if there is none to call.

    Each call is whole here, so that tools in `strict` are as all others.
    """
    if not tools:
        return None
    rules = Rules()
    controls = engine.controls
    quote = next(iter(form.notation.raw), "")
    if quote and quote not in controls.ids:
        return None  # then nothing tells where a string ends
    name_of = form.notation.bare_name
    writer = _Arguments(
        rules, Patient(engine, patience=not options.loose), controls.token(quote), name_of
    )
    write = {"Python": writer.keywords, "Gemma": writer.members}.get(
        form.notation.name, writer.object
    )
    before, between, behind = map(controls.spelled, form.parts)
    functions = [
        f"{literal(tool.name)} {between} {rules.name('arguments', write(tool))}" for tool in tools
    ]
    rules.define("fn", [f"({' | '.join(functions)}) {behind}"])
    opener, closer = map(controls.spelled, form.section)
    again = controls.spelled(form.between)
    if options.answer is not None and not form.opened:  # a bare call and JSON begin alike
        opener = f"{controls.spelled(form.openers[0])} {opener}"
    start = f"{opener} {before} fn"
    if options.parallel:
        start += f" ({again} {before} fn)*"
    if options.thought is not None:
        start = f"({again})? {start}"
    start, more = framed(
        f"{start} {closer}", rules, writer.engine, thought=options.thought, answer=options.answer
    )
    notes = tuple(dict.fromkeys([*writer.notes, *more]))
    whole, one = rules.text(start), rules.text("fn")
    return CallGrammar(whole=whole, wrapped=one, bare=one, notes=notes)


# Returns the ways to write a value of a node, its schema's root, its types and its place.
_Value: TypeAlias = Callable[[Any, Mapping[str, Any], Kinds | None, str], list[str]]


@dataclass(frozen=True, slots=True)
class _Argument:
    """One argument behind its name, and whether it must come."""

    text: str
    required: bool


def _strings(node: Any, kinds: Kinds | None, quote: str, text: str) -> list[str]:
    """Return strings in these quotes, as far as a node allows any or names some."""
    if not kinds or "string" not in kinds or not isinstance(node, Mapping):
        return []
    mark = literal(quote) if len(quote) == 1 else quote
    if node.keys() <= _ANY_STRING:
        return [f"{mark} {text} {mark}"]
    words = node.get("enum")
    plain = words if isinstance(words, list) else []
    return [
        f"{mark} {literal(word)} {mark}"
        for word in plain
        if isinstance(word, str) and not set(word) & set("'\\\n<")
    ]


class _Arguments:
    """Writes the arguments of a tool; `notes` grow with what of its schema they don't ensure.

    `name` is the regular expression of names without quotes.
    """

    def __init__(self, rules: Rules, engine: Patient, quote: str, name: str) -> None:
        self.engine = engine
        self._quote = quote
        self._name = name
        self._has_any = False
        self.notes: list[Note] = []
        self._rules = rules
        self._count = 0

    def object(self, tool: ToolSpec) -> str:
        """Return the expression of arguments that are one JSON object."""
        # Names that the tool does not know would be refused by whoever runs it.
        closed = {"additionalProperties": False} if tool.parameters.get("properties") else {}
        schema = {"type": "object", **closed, **tool.parameters}
        return self._json(schema, schema, frozenset({"object"}), tool.name)

    def keywords(self, tool: ToolSpec) -> str:
        """Return the expression of arguments that are Python's keywords."""
        return self._named(tool, "()", ", ", "=", self._python)

    def members(self, tool: ToolSpec) -> str:
        """Return the expression of arguments that are an object of Gemma's."""
        return self._named(tool, "{}", ",", ":", self._gemma)

    def _named(self, tool: ToolSpec, brackets: str, comma: str, assign: str, value: _Value) -> str:
        """Return the expression of named arguments, whose bits are those that came."""
        self._count += 1
        first, then = f"k{self._count}", f"k{self._count}_more"
        known = Parameters(tool.parameters)
        named = list(self._arguments(tool, known, assign, value))
        if not named:
            return literal(brackets)
        required = sum(argument.required for argument in named)
        end = literal(brackets[1])
        whole = f" %if is_ones([0:{required}])" if required else ""
        ways = [f"{argument.text} {then}::set_bit({i})" for i, argument in enumerate(named)]
        later = [f"{literal(comma)} {way} %if bit_clear({i})" for i, way in enumerate(ways)]
        self._rules.define(then, [f"{end}{whole}", *later], parameter=True)
        self._rules.define(first, [*([] if required else [end]), *ways], parameter=True)
        return f"{literal(brackets[0])} {first}::0x0"

    def _arguments(
        self, tool: ToolSpec, known: Parameters, assign: str, value: _Value
    ) -> Iterator[_Argument]:
        self.notes += [
            Note(word, tool.name) for word in sorted(_UNENSURED & tool.parameters.keys())
        ]
        for i, name in enumerate(names_of(known)):
            required = name in known.required
            if i >= BITS or not re.fullmatch(self._name, name):
                self.notes.append(Note("required" if required else "properties", tool.name))
                continue
            kinds = known.type_of(name).kinds if name in known.declared else None
            node = known.declared.get(name, True)
            ways = value(node, tool.parameters, kinds, f"{tool.name}.{name}")
            rule = self._rules.name("value", " | ".join(ways))
            yield _Argument(f"{literal(name + assign)} {rule}", required)

    def _python(
        self, node: Any, root: Mapping[str, Any], kinds: Kinds | None, where: str
    ) -> list[str]:
        """Return the ways to write a value: as JSON, and as Python has it."""
        told = KINDS if kinds is None else kinds
        words = [dumps(word) for kind in sorted(told) for word in _WORDS.get(kind, ())]
        single = _strings(node, told, "'", _STRING)
        return [self._json(node, root, kinds, where), *words, *single]

    def _gemma(
        self, node: Any, root: Mapping[str, Any], kinds: Kinds | None, where: str
    ) -> list[str]:
        """Return the ways to write a value; of what stands in others only the form is ensured."""
        if kinds is None:
            return [self._any_gemma()]
        plain = kinds & {"integer", "number", "boolean", "null"}
        ways = [self._json(node, root, plain, where)] if plain else []
        if "string" in kinds:
            strings = _strings(node, kinds, self._quote, _TEXT)
            ways += strings or [f"{self._quote} {_TEXT} {self._quote}"]
            if not strings:
                self.notes += [Note(word, where) for word in sorted(_TEXTUAL & set(node))]
        if kinds & {"object", "array"}:
            self.notes += [Note(word, where) for word in sorted(_NESTED & set(node))]
            ways += [self._any_gemma()]
        return ways

    def _any_gemma(self) -> str:
        """Return the rule of any value of Gemma's."""
        if not self._has_any:
            self._has_any = True
            plain = json_value({"type": ["number", "boolean", "null"]})
            text = f"{self._quote} {_TEXT} {self._quote}"
            self._rules.define("any", [text, plain, "any_object", "any_list"])
            self._rules.define("any_pair", [f'/{self._name}/ ":" any'])
            self._rules.define("any_object", ['"{" (any_pair ("," any_pair)*)? "}"'])
            self._rules.define("any_list", ['"[" (any ("," any)*)? "]"'])
        return "any"

    def _json(self, node: Any, root: Mapping[str, Any], kinds: Any, where: str) -> str:
        text, left = fitting(node, root, kinds, self.engine, where)
        self.notes += left
        return text
