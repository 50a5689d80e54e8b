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
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any, TypeAlias

import jsonschema
import referencing
from jsonschema.validators import extend

Kinds: TypeAlias = frozenset[str]

# Deeper nesting of references and combinators than any hand-written or generated schema has.
MAX_DEPTH = 32

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

_INTEGER = re.compile(r"[+-]?\d+")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?")
_JSON_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d{1,4})?")
_NUMBER_START = re.compile(r"-?[0-9.]*([eE][+-]?\d*)?")


def dumps(value: object) -> str:
    """Return `value` as JSON text that can be encoded as UTF-8 whatever strings it holds."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate has no UTF-8 form, but an escape
        return json.dumps(value)
    return text


def loads(text: str) -> Any:
    """Return the JSON value of `text`; raw newlines in strings pass, NaN and infinities don't.

    Raises:
        ValueError: the text is not JSON, nests too deeply, or holds a number out of range.
    """
    try:
        return json.loads(text, strict=False, parse_constant=_refuse, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text} is out of range")
    return value


@dataclass(frozen=True, slots=True)
class ValueType:
    """What one parameter may be: its JSON types, None where the schema does not say.

    `literals` are the members of an enum or const; they matter only where some are not strings.
    """

    kinds: Kinds | None
    literals: tuple[Any, ...] = ()

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
        if self.is_string:
            return text
        for literal in self.literals:
            if not isinstance(literal, str) and dumps(literal) == text.strip():
                return literal
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
    try:
        if _JSON_NUMBER.fullmatch(text) or (not exact and _NUMBER.fullmatch(text)):
            if _INTEGER.fullmatch(text):
                return int(text)
            number = Decimal(text)
            if number == number.to_integral_value():
                return int(number)
    except (ValueError, ArithmeticError):
        pass  # more digits than Python converts: the raw text stays
    return _NOTHING


def _number(text: str, exact: bool) -> object:
    if not (_JSON_NUMBER if exact else _NUMBER).fullmatch(text):
        return _NOTHING
    try:
        return int(text) if _INTEGER.fullmatch(text) else _finite(text)
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
        value = _python_literal(source) if literal else None
    kind = "object" if isinstance(value, dict) else "array" if isinstance(value, list) else ""
    return value if kind in kinds else default


def _python_literal(source: str) -> Any:
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
        literals: tuple[Any, ...] = ()
        if isinstance(node, Mapping):
            if isinstance(node.get("enum"), list):
                literals = tuple(node["enum"])
            elif "const" in node:
                literals = (node["const"],)
        return ValueType(self._kinds(node, 0), literals)

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
        if "type" in node:
            yield _named_kinds(node["type"])
        elif isinstance(node.get("enum"), list):
            yield frozenset(map(_kind_of, node["enum"])) or None
        elif "const" in node:
            yield frozenset({_kind_of(node["const"])})
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
    words = {str(name).strip().lower() for name in names}
    kinds = frozenset(ALIASES.get(word, word) for word in words)
    return kinds if kinds and kinds <= KINDS else None


def _kind_of(value: Any) -> str:
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


def _target(reference: str, root: Mapping[str, Any]) -> Any:
    """Return the node that a local reference names; None for any other, nothing is fetched."""
    if not reference.startswith("#"):
        return None
    node: Any = root
    for part in reference[1:].split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(node, Mapping):
            node = node.get(key)
        elif isinstance(node, list) and key.isdigit() and int(key) < len(node):
            node = node[int(key)]
        else:
            return None
    return node


@cache
def _validator_class() -> Any:
    # A client's regular expression or a quadratic uniqueness check could hold the interpreter
    # for minutes; this validation only informs, so those keywords are left out.
    skipped = ("pattern", "patternProperties", "uniqueItems")
    base = jsonschema.Draft202012Validator
    return extend(base, dict.fromkeys(skipped, _no_check))  # type: ignore[no-untyped-call]


def _no_check(*_: object) -> Iterator[jsonschema.ValidationError]:
    return iter(())


def problem(value: Any, schema: Mapping[str, Any]) -> str | None:
    """Return why `value` does not satisfy `schema`, in a line, or None where it does.

    An unusable schema finds no problem: it is the client's, and the call is delivered anyway.
    """
    try:
        # An empty registry of its own: nothing is fetched for a remote reference.
        validator = _validator_class()(schema, registry=referencing.Registry())
        error = next(iter(validator.iter_errors(value)), None)
    except Exception:  # noqa: BLE001  a foreign validator over a foreign schema raises at will
        return None
    if error is None:
        return None
    where = "/".join(str(step) for step in error.absolute_path)
    return f"{where}: {error.message[:200]}" if where else error.message[:200]
