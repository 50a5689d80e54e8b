"""A node of a client's JSON Schema, made ready for llguidance, which reads JSON values by it.

Rules of this file:
- What comes out stands alone, whatever the node refers to, and is bounded in size and depth.
- Keywords of no standard, annotations and spellings of other APIs are gone.
- What llguidance can't ensure is left out and noted; the ladder of `fitting` ends with the types.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Protocol
from urllib.parse import unquote

from ..jsontext import nests_deeper
from ..schema import MAX_DEPTH, Kinds, Parameters
from .lark import Controls, Note
from .patterns import FORMATS, MAX_PATTERN

# Nodes of one schema that are read, and how deep they may lie in each other with all references
# followed: llguidance recurses, and a chain of some hundred would overflow the stack.
MAX_NODES = 1_500
MAX_LEVELS = 250

# What the steps of `multipleOf` in one schema may multiply to: llguidance makes a state for each
# remainder, and those of steps that hold together multiply.
MAX_REMAINDERS = 10_000

# For all schemas of one grammar: seconds of processor time for checking, and characters.
MAX_SECONDS = 0.4
MAX_CHARACTERS = 400_000

# One line or one space: models that may write any white space write it without end.
OPTIONS = {
    "whitespace_pattern": "( |\\n[ \\t]{0,32})",
    "json_allow_general_unicode_escapes": True,
}

_ENSURED = frozenset().union(
    ("type", "enum", "const", "anyOf", "oneOf", "allOf", "minLength", "maxLength", "pattern"),
    ("format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    ("items", "prefixItems", "minItems", "maxItems", "properties", "required"),
    ("additionalProperties", "patternProperties", "minProperties", "maxProperties"),
)
UNENSURED = frozenset().union(
    ("not", "if", "then", "else", "dependentRequired", "dependentSchemas", "dependencies"),
    ("uniqueItems", "contains", "minContains", "maxContains", "propertyNames"),
    ("unevaluatedItems", "unevaluatedProperties", "$dynamicRef"),
)
_NODES = ("items", "additionalProperties")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_MAPS = ("properties", "patternProperties")
# What a root says of its own object, which is not asked for here.
_OF_OBJECTS = ("$ref", "allOf", "anyOf", "oneOf", "required")
_TEXTUAL = ("pattern", "format", "patternProperties")


class Engine(Protocol):
    """What a builder must know of the engine that will run its grammars."""

    controls: Controls

    def prepare(self) -> None:
        """Do what is done once, so that no check is charged with it."""

    def check(self, text: str) -> str:
        """Return what is wrong with a grammar, "" if nothing is."""


class Patient:
    """An engine that checks for a limited time only; without patience it accepts nothing."""

    def __init__(self, engine: Engine, *, patience: bool = True) -> None:
        if patience:
            engine.prepare()
        self.controls = engine.controls
        self._engine = engine
        self._seconds = MAX_SECONDS if patience else 0.0
        self._characters = MAX_CHARACTERS

    def prepare(self) -> None:
        """Do nothing: it is done."""

    def check(self, text: str) -> str:
        """Return what is wrong with a grammar, "" if nothing is."""
        if self._seconds <= 0 or len(text) > self._characters:
            return "there is too much to check"
        # Of the processor, since other threads' work must not make a grammar looser.
        began = time.thread_time()
        wrong = self._engine.check(text)
        self._seconds -= time.thread_time() - began
        if not wrong:
            self._characters -= len(text)
        return wrong


class _TooLarge(Exception):
    """The schema has more nodes, or deeper ones, than are read."""


class Prepared:
    """Copies nodes of one schema; `keywords` are those that were met, `left` those left out."""

    def __init__(self, root: Any, dropped: tuple[str, ...] = ()) -> None:
        self._root = root
        self._dropped = dropped
        self._names: dict[str, str] = {}
        self._waiting: list[str] = []
        self._count = 0
        self._levels = 0
        self._deepest = 0
        self._remainders = 1
        self.keywords: set[str] = set()
        self.left: set[str] = set()

    def whole(self, node: Any) -> Any:
        """Return the node with all that it refers to, raising _TooLarge if that is too much."""
        copied = self._part(node)
        definitions: dict[str, Any] = {}
        while self._waiting:
            reference = self._waiting.pop()
            definitions[self._names[reference]] = self._part(target(reference, self._root))
        if not definitions or not isinstance(copied, dict):
            return copied
        return {**copied, "$defs": definitions}

    def _part(self, node: Any) -> Any:
        """Return one node that stands by itself; their depths add up, as references do."""
        self._deepest = 0
        copied = self._copy(node, 0)
        self._levels += self._deepest + 1
        if self._levels > MAX_LEVELS:
            raise _TooLarge
        return copied

    def _copy(self, node: Any, depth: int) -> Any:
        self._count += 1
        self._deepest = max(self._deepest, depth)
        if self._count > MAX_NODES or depth > MAX_DEPTH:
            raise _TooLarge
        if not isinstance(node, Mapping):
            return node if isinstance(node, bool) else True
        copied: dict[str, Any] = {}
        for word, value in node.items():
            if word in _ENSURED and word not in self._dropped:
                self._keyword(copied, word, value, depth)
            elif word in UNENSURED and value is not False:
                self.left.add(word)
        reference = node.get("$ref")
        if isinstance(reference, str):
            self._refer(copied, reference)
        if node.get("nullable") is True:
            return {"anyOf": [copied, {"type": "null"}]}
        return copied

    def _refer(self, copied: dict[str, Any], reference: str) -> None:
        if not reference.startswith("#"):
            self.left.add("$ref")
            return
        self.keywords.add("$ref")
        if reference not in self._names:
            self._names[reference] = f"d{len(self._names)}"
            self._waiting.append(reference)
        copied["$ref"] = f"#/$defs/{self._names[reference]}"

    def _keyword(self, copied: dict[str, Any], word: str, value: Any, depth: int) -> None:
        self.keywords.add(word)
        if word in _NODES:
            if isinstance(value, Mapping | bool):
                copied[word] = self._copy(value, depth + 1)
            elif isinstance(value, list):  # how older drafts spell tuples
                copied["prefixItems"] = [self._copy(item, depth + 1) for item in value]
        elif word in _LISTS:
            if isinstance(value, list) and value:
                copied[word] = [self._copy(item, depth + 1) for item in value]
        elif word in _MAPS:
            if isinstance(value, Mapping):
                copied[word] = {
                    name: self._copy(item, depth + 1)
                    for name, item in value.items()
                    if isinstance(name, str)
                }
        else:
            self._plain(copied, word, value)

    def _plain(self, copied: dict[str, Any], word: str, value: Any) -> None:
        match word:
            case "type":
                if (kinds := kinds_of({"type": value}, {})) is not None:
                    copied["type"] = sorted(kinds) if len(kinds) > 1 else next(iter(kinds))
            case "const" | "enum":
                self._members(copied, word, value)
            case "required":
                if isinstance(value, list):
                    copied[word] = value
            case "pattern":
                if isinstance(value, str) and len(value) <= MAX_PATTERN:
                    copied["pattern"] = value
                else:
                    self.left.add("pattern")
            case "format":
                if isinstance(value, str) and value in FORMATS:
                    copied["format"] = value
            case _:
                self._number(copied, word, value)

    def _members(self, copied: dict[str, Any], word: str, value: Any) -> None:
        if nests_deeper(value, MAX_DEPTH):
            raise _TooLarge
        if word == "const" or (isinstance(value, list) and value):
            self._count += len(value) // 20 if isinstance(value, list) else 0
            copied[word] = value

    def _number(self, copied: dict[str, Any], word: str, value: Any) -> None:
        # `true` is how an older draft said that the limit itself is left out.
        if value is True and word in ("exclusiveMinimum", "exclusiveMaximum"):
            self.left.add(word)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            if word == "multipleOf" and not self._may_step(value):
                self.left.add(word)
            else:
                copied[word] = value

    def _may_step(self, step: float) -> bool:
        _, digits, exponent = Decimal(repr(step)).normalize().as_tuple()
        if len(digits) > 5 or not isinstance(exponent, int) or exponent > 5:
            return False
        remainders = int("".join(map(str, digits))) * 10 ** max(0, exponent)
        if self._remainders * remainders > MAX_REMAINDERS:
            return False
        self._remainders *= max(1, remainders)
        return True


def target(reference: str, root: Any) -> Any:
    """Return what a local reference names; True, which allows anything, where it names nothing."""
    start, *path = unquote(reference).split("/")
    node: Any = root if start == "#" else True
    for part in path:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(node, Mapping):
            node = node.get(key, True)
        elif isinstance(node, list) and key.isascii() and key.isdigit() and len(key) < 9:
            node = node[int(key)] if int(key) < len(node) else True
        else:
            return True
    return node


def kinds_of(node: Any, root: Mapping[str, Any]) -> Kinds | None:
    """Return the JSON types that a node allows, as the parser sees them."""
    around = {word: value for word, value in root.items() if word not in _OF_OBJECTS}
    return Parameters({**around, "properties": {"x": node}}).type_of("x").kinds


def fitting(
    node: Any, root: Mapping[str, Any], kinds: Kinds | None, engine: Engine, where: str
) -> tuple[str, list[Note]]:
    """Return the grammar's expression for JSON values of a node, as strict as it can be.

    `kinds` are the types that are wanted of it, None for any.
    """
    notes: list[Note] = []
    for text, left in _ladder(node, root, kinds):
        notes = [Note(word, where) for word in sorted(left)]
        if not engine.check(f"%llguidance {{}}\nstart: {text}\n"):
            return text, notes
    return text, notes


def _ladder(
    node: Any, root: Mapping[str, Any], kinds: Kinds | None
) -> Iterator[tuple[str, set[str]]]:
    """Yield expressions, each less strict than the one before, and what each leaves out."""
    met: set[str] = {"type"}
    types = None if kinds is None else sorted(kinds)
    for dropped, options in (((), {}), ((), {"lenient": True}), (_TEXTUAL, {"lenient": True})):
        prepared = Prepared(root, dropped)
        try:
            whole = prepared.whole(node)
        except (_TooLarge, RecursionError):
            met |= prepared.keywords
            continue
        met |= prepared.keywords | prepared.left
        left = set(prepared.left) | (met & set(dropped))
        if options:
            left |= met & {"oneOf"}
        yield json_value(_limited(whole, types), options), left
    yield json_value({} if types is None else {"type": types}), met - {"type"}


def _limited(whole: Any, types: list[str] | None) -> Any:
    """Return a schema that allows of these types only."""
    if types is None or whole is False:
        return whole
    if not isinstance(whole, dict) or not whole:
        return {"type": types}
    named = whole.get("type")
    if named in (types, types[0]) if len(types) == 1 else named == types:
        return whole
    if "$defs" in whole or len(whole) > 1 or "type" not in whole:
        definitions = {"$defs": whole.pop("$defs")} if "$defs" in whole else {}
        return {"allOf": [whole, {"type": types}], **definitions}
    return {"type": types}


def json_value(schema: Any, options: Mapping[str, Any] | None = None) -> str:
    """Return the grammar's expression for the JSON values of a schema that stands alone."""
    schema = schema if isinstance(schema, Mapping) else {} if schema else {"not": {}}
    return f"%json {json.dumps({'x-guidance': {**OPTIONS, **(options or {})}, **schema})}"
