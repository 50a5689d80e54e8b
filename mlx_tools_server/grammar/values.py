"""Values that stand raw between two tags, each on lines of its own: a parameter's schema → rules.

Rules of this file:
- It follows `schema.ValueType`, by which the parser turns such text into a value: what a rule
  accepts is converted to a value that the schema allows.
- A text is any lines but those that begin with a tag of the form. A closer alone on its line does
  not end it either, unless what follows begins like the rest of a call.
- Words of an `enum` stand as they are, other values as JSON.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..jsontext import dumps
from ..schema import Kinds, ValueType
from .lark import Note, Rules, line_without, literal
from .nodes import UNENSURED, Engine, fitting, kinds_of, target
from .patterns import FORMATS, searching

# A longer list is none that a model chooses from, as many words or as many characters.
MAX_WORDS = 20_000
MAX_SPELLED = 400_000

# Above this, counting characters costs more than the limit is worth.
MAX_COUNTED = 20_000

# Branches of a union, references and nested unions that are followed.
MAX_BRANCHES = 64

# A number must be finite: 200 digits and an exponent of two are.
_NUMBER = r"/-?(0|[1-9][0-9]{0,99})(\.[0-9]{1,99})?([eE][+\-]?[0-9]{1,2})?/"
_SIMPLE = {
    "integer": "/-?(0|[1-9][0-9]*)/",
    "number": _NUMBER,
    "boolean": '"true" | "false" | "True" | "False"',
    "null": '"null" | "None"',
}
_COMBINED = ("$ref", "allOf", "anyOf", "oneOf")
_SPOKEN = frozenset({"pattern", "format", "minLength", "maxLength"})
_UNRESTRICTING = _SPOKEN.union(
    ("type", "title", "description", "default", "examples", "example", "deprecated", "readOnly"),
    ("writeOnly", "nullable", "$comment", "$schema", "$id", "$defs", "definitions", *_COMBINED),
)
_BLANK = (" ", "\t", "\r")
_GUARDS = {
    "array": tuple(f"[{c}" for c in '"[{-]tfn \t\r0123456789'),
    "object": tuple(f"{{{c}" for c in '"} \t\r'),
    "integer": tuple("-0123456789"),
    "number": tuple("-0123456789"),
}


@dataclass(frozen=True, slots=True)
class Framing:
    """The tags around a value: the closer on a line of its own, and what begins behind it.

    `tags` may begin no line of a text; one of them in `control` may be a control token.
    """

    closer: str
    behind: tuple[str, ...]
    tags: tuple[str, ...]
    control: str

    @property
    def beginnings(self) -> tuple[str, ...]:
        """The texts that begin no line of a value."""
        return (self.closer, *self.tags)

    @property
    def end(self) -> str:
        """The expression behind a value that is no text."""
        return literal(f"\n{self.closer}\n")


@dataclass(frozen=True, slots=True)
class Expression:
    """One way to write a value; a `text` lacks its closer yet."""

    rule: str
    text: bool = False


class RawValues:
    """Writes the rules of values into `rules`; `notes` grow with what they don't ensure."""

    def __init__(self, rules: Rules, engine: Engine, framing: Framing) -> None:
        self.notes: list[Note] = []
        self._rules = rules
        self._engine = engine
        self._framing = framing
        self._quotable = engine.controls.quotable

    def of(
        self, node: Any, root: Mapping[str, Any], kind: ValueType, where: str
    ) -> Sequence[Expression]:
        """Return the ways to write a value of this node."""
        return list(dict.fromkeys(_Value(self, node, root, kind, where).expressions()))

    # Texts.

    def lines(self, *, filled: bool = False) -> str:
        """Return the rule of a text of any lines; a `filled` one is not empty."""
        if not filled:
            return self._rules.name("lines", f"{self._piece()}*")
        first = line_without(self._framing.beginnings, never=("",))
        first = " | ".join([self._rules.name("FILLED", first), *self._marked(), self._resumed()])
        first = self._rules.name("first", f'{first} | "\\n" {self._piece()}')
        return self._rules.name("lines", f"{first} {self._piece()}*")

    def guarded_lines(self, kinds: Kinds) -> str:
        """Return the rule of a text that can't be read as a value of these types."""
        guards = {guard for kind in kinds for guard in _GUARDS.get(kind, ())}
        beginnings = (*self._framing.beginnings, *_BLANK, *sorted(guards))
        first = self._rules.name("FIRST", line_without(beginnings, never=("", "[", "{")))
        return self._rules.name("lines", f'({first} {self._piece()}* | "\\n")?')

    def _piece(self) -> str:
        line = self._rules.name("LINE", line_without(self._framing.beginnings))
        return self._rules.name("piece", " | ".join([line, *self._marked(), self._resumed()]))

    def _marked(self) -> list[str]:
        """Return the rule of a line with control tokens in it."""
        if not self._quotable:
            return []
        start = self._rules.name("START", line_without(self._framing.beginnings, newline=False))
        controls = self._engine.controls
        first = [f"{start} {self._quotable}", controls.without(self._framing.control).quotable]
        part = self._rules.name("PART", r"/[^\n]+/")
        rest = self._rules.name("REST", r"/[^\n]*\n/")
        body = f"({' | '.join(filter(None, first))}) ({part}? {self._quotable})* {rest}"
        return [self._rules.name("marked", body)]

    def _resumed(self) -> str:
        """Return the rule of a closer that is text, since the line behind it is."""
        beginnings = (*self._framing.beginnings, *self._framing.behind)
        line = self._rules.name("RESUMED", line_without(tuple(dict.fromkeys(beginnings))))
        closer = literal(self._framing.closer + "\n")
        return self._rules.name("resumed", f"{closer} {line}")

    # Everything else holds its own end.

    def words(self, words: Sequence[str]) -> Expression:
        """Return the rule of one of these texts."""
        choices = " | ".join(literal(word) for word in words)
        return Expression(self._rules.name("WORDS", f"({choices}) {self._framing.end}"))

    def matching(self, regexes: Sequence[str]) -> Expression | None:
        """Return the rule of a text that all these match; None if that is too much."""
        line = line_without(self._framing.beginnings, newline=False)[1:-1]
        parts = [f"/{regex}/" for regex in regexes] + [f"/({line})?(\\n({line})?)*/"]
        if self._engine.check(f"%llguidance {{}}\nstart: T\nT: {' & '.join(parts)}\n"):
            return None
        names = [self._rules.name("MATCH", part) for part in parts]
        return Expression(self._rules.name("TEXT", f"({' & '.join(names)}) {self._framing.end}"))

    def simple(self, kinds: Kinds) -> Expression:
        """Return the rule of values of types that need no JSON schema."""
        choices = " | ".join(_SIMPLE[kind] for kind in sorted(kinds))
        return Expression(self._rules.name("SIMPLE", f"({choices}) {self._framing.end}"))

    def json(
        self, node: Any, root: Mapping[str, Any], kinds: Kinds | None, where: str
    ) -> Expression:
        """Return the rule of JSON values of a node, as strict as the engine can be."""
        text, notes = fitting(node, root, kinds, self._engine, where)
        self.notes += notes
        return Expression(f"{self._rules.name('json', text)} {self._framing.end}")

    def may_hold(self, text: str) -> bool:
        """Return whether no line of a text begins with a tag."""
        return not any(line.startswith(self._framing.beginnings) for line in text.split("\n"))


class _Value:
    """One parameter's value."""

    def __init__(
        self, raw: RawValues, node: Any, root: Mapping[str, Any], kind: ValueType, where: str
    ) -> None:
        self._raw = raw
        self._node = node
        self._root = root
        self._kind = kind
        self._where = where

    def expressions(self) -> Iterator[Expression]:
        kinds = self._kind.kinds
        if kinds is None:
            branches = list(_branches(self._node, self._root))
            if all("enum" in branch or "const" in branch for branch in branches):
                yield from self._textual()
            else:
                yield Expression(self._raw.lines(), text=True)
        elif "string" in kinds:
            yield from self._textual()
        else:
            yield from self._typed(self._node, kinds)

    def _note(self, *keywords: str) -> None:
        self._raw.notes += [Note(keyword, self._where) for keyword in keywords]

    # Values that are no strings.

    def _typed(self, node: Any, kinds: Kinds) -> Iterator[Expression]:
        branches = list(_branches(node, self._root))
        if branches and all("enum" in branch or "const" in branch for branch in branches):
            members = [member for branch in branches for member in _members(branch)]
            words = self._words([m for m in members if not isinstance(m, str)])
            if words:
                yield self._raw.words(words)
                return
        if kinds <= _SIMPLE.keys() and not any(_restricts(branch) for branch in branches):
            yield self._raw.simple(kinds)
            return
        yield self._raw.json(node, self._root, kinds, self._where)
        if "null" in kinds:
            yield self._raw.words(["None"])

    def _words(self, members: Sequence[Any]) -> list[str]:
        """Return the spellings of these values that the parser turns back into them."""
        if len(members) > MAX_WORDS:
            return []
        words: dict[str, None] = {}
        for member in members:
            spellings = [member if isinstance(member, str) else dumps(member)]
            if isinstance(member, bool) or member is None:
                spellings.append(str(member))
            for text in spellings:
                value = self._kind.convert(text)
                if type(value) is type(member) and value == member and self._raw.may_hold(text):
                    words[text] = None
        return list(words) if sum(map(len, words)) <= MAX_SPELLED else []

    # Values that may be strings.

    def _textual(self) -> Iterator[Expression]:
        branches = list(_branches(self._node, self._root))
        strings = [b for b in branches if "string" in (kinds_of(b, self._root) or {"string"})]
        kinds = (self._kind.kinds or frozenset()) - {"string"}
        # What stands in an `enum` beside its strings is written as its words are.
        others = [b for b in branches if (kinds_of(b, self._root) or kinds) & kinds]
        others = [b for b in others if not ("enum" in b or "const" in b)]
        kinds &= frozenset().union(*(kinds_of(b, self._root) or () for b in others))
        for branch in strings:
            self._note(*sorted(UNENSURED & branch.keys()))
        found = [self._constrained(branch) for branch in strings]
        if all(found):
            yield from (expression for expressions in found for expression in expressions)
            if kinds:
                yield from self._typed(self._node, kinds)
            return
        if any(map(_restricts, others)) and kinds and self._kind.kinds is not None:
            yield Expression(self._raw.guarded_lines(kinds), text=True)
            yield from self._typed(self._node, kinds)
            return
        free = [b for b, expressions in zip(strings, found, strict=True) if not expressions]
        filled = all(_count(branch, "minLength") == 1 for branch in free)
        yield Expression(self._raw.lines(filled=filled), text=True)

    def _constrained(self, branch: Mapping[str, Any]) -> list[Expression]:
        """Return how to write the strings of a branch; none if they may be any text."""
        if "enum" in branch or "const" in branch:
            words = self._words(_members(branch))
            if words:
                return [self._raw.words(words)]
            self._note("enum" if "enum" in branch else "const")
            return []
        regexes = [*self._patterns(branch), *self._lengths(branch)]
        if not regexes:
            return []
        expression = self._raw.matching(regexes)
        if expression is None:
            self._note(*sorted(_SPOKEN & branch.keys()))
            return []
        return [expression]

    def _patterns(self, branch: Mapping[str, Any]) -> Iterator[str]:
        pattern = branch.get("pattern")
        if isinstance(pattern, str):
            regex = searching(pattern)
            if regex is None:
                self._note("pattern")
            else:
                yield regex
        form = branch.get("format")
        if isinstance(form, str) and form in FORMATS:
            yield f"({FORMATS[form]})"
        elif isinstance(form, str):
            self._note("format")

    def _lengths(self, branch: Mapping[str, Any]) -> Iterator[str]:
        least, most = _count(branch, "minLength") or 0, _count(branch, "maxLength")
        if least == 1 and most is None and not branch.keys() & {"pattern", "format"}:
            return  # said by the lines themselves
        for word in ("minLength", "maxLength"):
            if (_count(branch, word) or 0) > MAX_COUNTED:
                self._note(word)
        most = None if most is not None and most > MAX_COUNTED else most
        least = 0 if least > MAX_COUNTED else least
        if least or most is not None:
            yield f"(?s:.{{{least},{'' if most is None else most}}})"


def _count(branch: Mapping[str, Any], word: str) -> int | None:
    number = branch.get(word)
    if isinstance(number, bool) or not isinstance(number, int | float) or number < 0:
        return None
    return int(number)


def _members(branch: Mapping[str, Any]) -> list[Any]:
    enum = branch.get("enum")
    if not isinstance(enum, list):
        return [branch["const"]] if "const" in branch else []
    return [m for m in enum if "const" not in branch or m == branch["const"]]


def _restricts(branch: Mapping[str, Any]) -> bool:
    """Return whether a branch says more than its type of values that are no strings."""
    return bool({word for word in branch if not word.startswith("x-")} - _UNRESTRICTING)


def _branches(node: Any, root: Any) -> list[Mapping[str, Any]]:
    """Return the alternatives of a node, references followed, each with the keywords around it."""
    found: list[Mapping[str, Any]] = []
    waiting: list[tuple[Any, Mapping[str, Any]]] = [(node, {})]
    for _ in range(MAX_BRANCHES):
        if not waiting:
            return found
        node, outer = waiting.pop(0)
        if not isinstance(node, Mapping):
            found.append(outer)
            continue
        merged = {**outer, **{w: v for w, v in node.items() if w not in _COMBINED}}
        inner = [(word, node[word]) for word in _COMBINED if node.get(word)]
        inner = [
            (w, parts) for w, parts in inner if isinstance(parts, str if w == "$ref" else list)
        ]
        if not inner:
            found.append(merged)
            continue
        word, parts = inner[0]
        rest = dict(inner[1:])
        if word == "$ref":
            parts = [target(parts, root)]
        elif word == "allOf":
            rest |= {"allOf": parts[1:]} if len(parts) > 1 else {}
            parts = parts[:1]
        waiting += [(_with(part, rest), merged) for part in parts]
    return [{}]  # a union of this size says nothing that a grammar could


def _with(node: Any, more: Mapping[str, Any]) -> Any:
    return {**node, **more} if isinstance(node, Mapping) else more
