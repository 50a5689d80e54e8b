"""JSON Schema as far as tool arguments need it: types of parameters, text to value, validity.

Rules of this file:
- A schema comes from a client: it may be wrong, cyclic or huge. Nothing here raises because of it.
- A value that fits none of its types stays the raw string, so that the client's own check says
  what is wrong. Nothing is guessed: no 0, no false, no null that the schema does not allow.
- A string type wins byte for byte; text becomes something else only where no string is allowed,
  or where a union allows it and the text is exactly JSON.
"""

from __future__ import annotations

import ast
import json
import re
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any, TypeAlias
from urllib.parse import unquote

import jsonschema
from jsonschema.validators import extend

from .jsontext import dumps, finite, loads, nests_deeper

Kinds: TypeAlias = frozenset[str]

# Deeper nesting of references and combinators than any hand-written or generated schema has.
MAX_DEPTH = 32

# Deeper values stay text. It keeps every recursion over arguments far from Python's limit.
MAX_NESTING = 100

# Integers of more digits have no decimal form in Python, unless it is told otherwise.
MAX_DIGITS = 4300

# Longer text is read as JSON only: Python's own form takes its reader far more time and memory.
MAX_LITERAL = 100_000

# Seconds of processor time that one validation may take; a usual one takes a thousandth of it.
MAX_SECONDS = 0.4

# Spellings of types seen in tool definitions that were written for other APIs.
ALIASES = {
    "str": "string",
    "text": "string",
    "int": "integer",
    "long": "integer",
    "float": "number",
    "double": "number",
    "bool": "boolean",
    "dict": "object",
    "map": "object",
    "list": "array",
    "tuple": "array",
    "none": "null",
}
KINDS = frozenset({"string", "integer", "number", "boolean", "null", "object", "array"})

_SIZED = re.compile(r"^u?(int|float)\d*$")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")
_JSON_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,4})?")
_NUMBER_START = re.compile(r"-?[0-9.]*([eE][+-]?[0-9]*)?")
_INDEX = re.compile(r"[0-9]{1,9}")
_PYTHON_ESCAPES = "\\'\"abfnrtvxuUN01234567\r\n"
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ValueType:
    """What one parameter may be: its JSON types, None where the schema does not say.

    `words` are strings of an enum or const, which stay strings where other members are not.
    """

    kinds: Kinds | None
    words: frozenset[str] = frozenset()

    @property
    def is_string(self) -> bool:
        """Whether the text is the value, whatever it says."""
        return self.kinds is not None and self.kinds == {"string"}

    def could_differ(self, text: str) -> bool:
        """Return whether a value that starts with `text` may turn out to be no string.

        Once this is False for a prefix it stays False, so the text can be passed on as it comes.
        """
        if self.kinds is None:
            return text.lstrip()[:1] in ("", "{", "[")
        if "string" not in self.kinds:
            return True
        return any(_starts[kind](text) for kind in self.kinds if kind in _starts)

    def convert(self, text: str) -> Any:
        """Return the value that `text` spells, or `text` itself where it spells none."""
        if self.is_string or text in self.words:
            return text
        if self.kinds is None:
            return container(text, {"object", "array"}, text)
        exact = "string" in self.kinds
        for kind, read in _readers.items():
            if kind in self.kinds:
                value = read(text if exact else text.strip(), exact)
                if value is not _NOTHING:
                    return value
        return container(text, self.kinds, text, literal=not exact)


UNTYPED_STRING = ValueType(frozenset({"string"}))

_starts: Mapping[str, Callable[[str], object]] = {
    "null": "null".startswith,
    "boolean": lambda text: "true".startswith(text) or "false".startswith(text),
    "integer": _NUMBER_START.fullmatch,
    "number": _NUMBER_START.fullmatch,
    "object": lambda text: text.lstrip()[:1] in ("", "{"),
    "array": lambda text: text.lstrip()[:1] in ("", "["),
}

_NOTHING = object()


def _null(text: str, exact: bool) -> object:
    return None if text == "null" or (not exact and text.lower() in ("null", "none")) else _NOTHING


def _boolean(text: str, exact: bool) -> object:
    word = text if exact else text.lower()
    return word == "true" if word in ("true", "false") else _NOTHING


def _integer(text: str, exact: bool) -> object:
    # Beside a string, 1e3 is no integer: a hash looks like that.
    if not (_JSON_INTEGER if exact else _NUMBER).fullmatch(text):
        return _NOTHING
    number = Decimal(text)
    whole = number.adjusted() < MAX_DIGITS and number == number.to_integral_value()
    return int(number) if whole else _NOTHING


def _number(text: str, exact: bool) -> object:
    if not (_JSON_NUMBER if exact else _NUMBER).fullmatch(text):
        return _NOTHING
    try:
        return int(text) if _INTEGER.fullmatch(text) else finite(text)
    except ValueError:
        return _NOTHING


# Strictest first: an integer is also a number.
_readers = {"null": _null, "boolean": _boolean, "integer": _integer, "number": _number}


def container(text: str, kinds: Collection[str], default: Any, *, literal: bool = True) -> Any:
    """Return the list or dict that `text` spells as JSON or, with `literal`, as Python does."""
    source = text.strip()
    if source[:1] not in ("{", "["):
        return default
    try:
        value = loads(source)
    except ValueError:
        value = _python_literal(source) if literal and len(source) <= MAX_LITERAL else None
    if nests_deeper(value, MAX_NESTING):
        return default
    kind = "object" if isinstance(value, dict) else "array" if isinstance(value, list) else ""
    return value if kind in kinds else default


def _python_literal(source: str) -> Any:
    # Python warns about escapes that it does not know, and keeps their backslash; so do we.
    source = _ESCAPE.sub(lambda m: m[0] if m[1] in _PYTHON_ESCAPES else f"\\{m[0]}", source)
    try:
        return loads(json.dumps(ast.literal_eval(source)))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


class Parameters:
    """The parameters of one tool: their names, which are required, and each one's type."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._refs = _References(schema)
        self._properties: dict[str, Any] = {}
        self.required: frozenset[str] = frozenset()
        self._additional: Any = None
        for node in _object_nodes(schema, schema, set(), 0):
            properties = node.get("properties")
            if isinstance(properties, Mapping):
                self._properties.update(properties)
            if isinstance(node.get("required"), list):
                self.required |= {name for name in node["required"] if isinstance(name, str)}
            if isinstance(node.get("additionalProperties"), Mapping):
                self._additional = node["additionalProperties"]
        self._types: dict[str, ValueType] = {}

    @property
    def declared(self) -> Mapping[str, Any]:
        """The declared parameters by name, with their schemas."""
        return self._properties

    def type_of(self, name: str) -> ValueType:
        """Return the type of a parameter; one that the schema does not know is a string."""
        if name not in self._types:
            node = self._properties.get(name, self._additional)
            self._types[name] = UNTYPED_STRING if node is None else self._refs.value_type(node)
        return self._types[name]


def _object_nodes(
    node: Any, root: Mapping[str, Any], seen: set[str], depth: int
) -> Iterator[Mapping[str, Any]]:
    """Yield the parts of a schema that describe the object itself, each reference once."""
    if not isinstance(node, Mapping) or depth > MAX_DEPTH:
        return
    reference = node.get("$ref")
    if isinstance(reference, str) and reference not in seen:
        seen.add(reference)
        yield from _object_nodes(_target(reference, root), root, seen, depth + 1)
    for word in ("allOf", "anyOf", "oneOf"):
        for branch in _branches(node, word):
            yield from _object_nodes(branch, root, seen, depth + 1)
    yield node


class _References:
    """Types of schema nodes; each reference of the root is worked out once, cycles included."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._known: dict[str, Kinds | None] = {}

    def value_type(self, node: Any) -> ValueType:
        """Return the type that a node gives."""
        kinds = self._kinds(node, 0)
        if kinds is None or "string" not in kinds:
            return ValueType(kinds)
        enum = node.get("enum")
        members = enum if isinstance(enum, list) else [node.get("const")]
        words = {member for member in members if isinstance(member, str)}
        others = {dumps(member) for member in members if isinstance(member, int | float | None)}
        return ValueType(kinds, frozenset(words - others))

    def _kinds(self, node: Any, depth: int) -> Kinds | None:
        if not isinstance(node, Mapping) or depth > MAX_DEPTH:
            return None
        kinds: Kinds | None = None
        for claim in self._claims(node, depth + 1):
            kinds = _both(kinds, claim)
        if kinds is None:
            if "properties" in node or "additionalProperties" in node:
                kinds = frozenset({"object"})
            elif "items" in node or "prefixItems" in node:
                kinds = frozenset({"array"})
        if kinds is not None and node.get("nullable") is True:
            kinds |= {"null"}
        return kinds

    def _claims(self, node: Mapping[str, Any], depth: int) -> Iterator[Kinds | None]:
        """Yield what each keyword of a node says about its types; all of them hold together."""
        named = _named_kinds(node.get("type"))
        if named is not None:
            yield named
        elif isinstance(node.get("enum"), list):
            yield frozenset(map(kind_of, node["enum"])) or None
        elif "const" in node:
            yield frozenset({kind_of(node["const"])})
        if isinstance(node.get("$ref"), str):
            yield self._referenced(node["$ref"], depth)
        for branch in _branches(node, "allOf"):
            yield self._kinds(branch, depth)
        for word in ("anyOf", "oneOf"):
            branches = [self._kinds(branch, depth) for branch in _branches(node, word)]
            if branches:
                known = [kinds for kinds in branches if kinds is not None]
                yield frozenset().union(*known) if len(known) == len(branches) else None

    def _referenced(self, reference: str, depth: int) -> Kinds | None:
        if reference not in self._known:
            self._known[reference] = None  # what a cycle finds
            self._known[reference] = self._kinds(_target(reference, self._root), depth)
        return self._known[reference]


def _branches(node: Mapping[str, Any], word: str) -> Sequence[Any]:
    branches = node.get(word)
    return branches if isinstance(branches, list) else ()


def _named_kinds(names: Any) -> Kinds | None:
    names = names if isinstance(names, list) else [names]
    words = {name.strip().lower() if isinstance(name, str) else "" for name in names}
    kinds = frozenset(ALIASES.get(word, word) for word in map(_unsized, words))
    return kinds if kinds and kinds <= KINDS else None


def _unsized(word: str) -> str:
    """Return `int` for `uint32`, `float` for `float64`: other languages name sizes too."""
    return _SIZED.sub(r"\1", word)


def kind_of(value: object) -> str:
    """Return the type that a schema has for a value."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def _both(left: Kinds | None, right: Kinds | None) -> Kinds | None:
    if left is None or right is None:
        return right if left is None else left
    common = left & right
    if ("integer" in left and "number" in right) or ("number" in left and "integer" in right):
        common |= {"integer"}
    return common or left


def _target(reference: str, root: Any) -> Any:
    """Return the node that a local reference names; None for any other, nothing is fetched."""
    start, *path = unquote(reference).split("/")
    if start != "#":
        return None
    node = root
    for part in path:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(node, Mapping):
            node = node.get(key)
        elif isinstance(node, list) and _INDEX.fullmatch(key) and int(key) < len(node):
            node = node[int(key)]
        else:
            return None
    return node


# Whether arguments fit. A client's schema must not hold the server: a regular expression, a
# quadratic check or a reference that doubles at every level would take hours. The check only
# informs, so these keywords are left out and the time is limited.
_UNCHECKED = (
    "pattern",
    "patternProperties",
    "uniqueItems",
    "unevaluatedItems",
    "unevaluatedProperties",
    "$dynamicRef",
)
_Check: TypeAlias = Callable[[Any, Any, Any, Any], Iterable[jsonschema.ValidationError] | None]


class _Work(threading.local):
    """The validation that this thread is in: its schema, and when it must end."""

    root: Any = None
    end = 0.0


_work = _Work()


class _TooMuch(Exception):
    """The time is used up."""


def problem(value: Any, schema: Mapping[str, Any]) -> str | None:
    """Return why `value` does not satisfy `schema`, in a line, or None where it does.

    An unusable schema finds no problem: it is the client's, and the call is delivered anyway.
    """
    _work.root, _work.end = schema, time.thread_time() + MAX_SECONDS
    try:
        error = next(iter(_validator_class()(schema).iter_errors(value)), None)
    except Exception:  # noqa: BLE001  a foreign validator over a foreign schema raises at will
        return None
    finally:
        _work.root = None
    if error is None:
        return None
    where = "/".join(str(step) for step in error.absolute_path)
    return f"{where}: {error.message[:200]}" if where else error.message[:200]


@cache
def _validator_class() -> Any:
    base = jsonschema.Draft202012Validator
    own = {"$ref": _check_reference, "additionalProperties": _check_additional}
    checks = {word: _timed(check) for word, check in {**base.VALIDATORS, **own}.items()}
    checks |= dict.fromkeys(_UNCHECKED, lambda *_: None)
    validator = extend(base, checks)  # type: ignore[no-untyped-call]
    validator.evolve = _evolved
    return validator


def _evolved(validator: Any, **changes: Any) -> Any:
    # The original takes another class, without our guards, where a node names a `$schema`.
    return type(validator)(
        **{"schema": validator.schema, "_resolver": validator._resolver, **changes}
    )


def _timed(check: _Check) -> _Check:
    def run(validator: Any, word: Any, value: Any, node: Any) -> Any:
        if time.thread_time() > _work.end:
            raise _TooMuch
        return check(validator, word, value, node)

    return run


def _check_reference(validator: Any, reference: Any, value: Any, _node: Any) -> Any:
    target = _target(reference, _work.root)
    return validator.descend(value, target) if isinstance(target, Mapping | bool) else None


def _check_additional(validator: Any, additional: Any, value: Any, node: Any) -> Any:
    if "patternProperties" in node:  # the original would match them
        return None
    return jsonschema.Draft202012Validator.VALIDATORS["additionalProperties"](
        validator, additional, value, node
    )
