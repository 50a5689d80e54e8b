"""JSON Schemas that are wrong, cyclic, huge or made to explode."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from random import Random
from typing import Any

_PATTERNS = (
    "(a+)+$", "^(a|a)*b", "a{1000000}", "(((((a{9}){9}){9}){9}){9})", "(", "[", "\\", "(?=a)",
    "\\1",    "(?<n>a)\\k<n>", "[^\\s\\S]", "\\p{L}+", "^$", "", "\\d{3}-\\d{4}", ".*.*.*.*.*x",
    "x" * 2000,    "[\\u0000-\\uffff]*", "(?i)abc", "\\b", "^(?!x)", "é🙂", "</parameter>",
    "<tool_call>", "\n",
    "(a|b)*a(a|b){300}", "[z-a]", "*", "(?P<x>", "\\u{10ffff}", "$^",
)  # fmt: skip
_NAMES = (
    "a", "b", "", " ", "x" * 500, "<a>", "a b", "é", "\n", "</parameter>", "parameter=b", "$ref",
    "__proto__", "type", "properties", '"', "\\", "<|im_end|>", "0", "\0",
)  # fmt: skip
_TYPES: tuple[Any, ...] = (
    "string", "integer", "number", "boolean", "null", "object", "array", "str", "uint8", "file", 5,
    None, [], ["string", "null"], ["integer", "string"], ["string", 5], ["object", "array"], {},
)  # fmt: skip
_REFERENCES = (
    "#", "#/$defs/a", "#/$defs/b", "#/properties/a", "#/$defs/none", "http://127.0.0.1:1/x", "",
    "#/$defs/" + "a/" * 300, "file:///etc/passwd", "#a", "#/%24defs/a", "#/allOf/99999999999",
)  # fmt: skip
_HUGE = (-1, 0, 1, 5, 300, 10**6, 2**31, 2**63, 10**30, 1.5, "5", None)


def _one(rng: Random, values: Sequence[Any]) -> Any:
    # What is changed later must not be changed here.
    return copy.deepcopy(rng.choice(values))


def any_schema(rng: Random) -> Any:
    """Return the parameters of a tool."""
    if rng.random() < 0.05:
        return rng.choice((None, True, [], "x", 5, {}, {"type": "string"}, {"type": "array"}))
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {rng.choice(_NAMES): _node(rng, 0) for _ in range(rng.randrange(4))},
        "$defs": {"a": _node(rng, 1), "b": _node(rng, 1)},
    }
    if rng.random() < 0.3:
        schema["required"] = rng.choices((*_NAMES, 5, None), k=rng.randrange(4))
    if rng.random() < 0.3:
        schema["additionalProperties"] = rng.choice((True, False, {}, _node(rng, 1)))
    if rng.random() < 0.2:
        schema[rng.choice(("allOf", "anyOf", "oneOf"))] = [_node(rng, 1) for _ in range(3)]
    if rng.random() < 0.05:
        schema.update(_exploding(rng))
    return schema


def _node(rng: Random, depth: int) -> Any:
    match rng.randrange(13 if depth < 4 else 7):
        case 0 | 1 | 2:
            return {"type": _one(rng, _TYPES)}
        case 3:
            return {"type": "string", "pattern": rng.choice(_PATTERNS)}
        case 4:
            return {"$ref": rng.choice(_REFERENCES)}
        case 5:
            return {rng.choice(("enum", "const")): _one(rng, _MEMBERS)}
        case 6:
            return rng.choice((True, False, {}, None, [], 5, "string", {"not": {}}))
        case 7:
            kinds = ("minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum",
                     "multipleOf", "exclusiveMinimum", "minProperties")  # fmt: skip
            limits = {rng.choice(kinds): rng.choice(_HUGE) for _ in range(3)}
            return {"type": _one(rng, _TYPES[:7]), **limits}
        case 8:
            return {"type": "array", "items": _node(rng, depth + 1), "uniqueItems": True}
        case 9:
            prefix = [_node(rng, depth + 1) for _ in range(rng.randrange(3))]
            return {"type": "array", "prefixItems": prefix, "items": rng.random() < 0.5}
        case 10:
            word = rng.choice(("allOf", "anyOf", "oneOf"))
            return {word: [_node(rng, depth + 1) for _ in range(rng.randrange(4))]}
        case 11:
            forms = ("date-time", "uuid", "email", "regex", "uri", "nonsense", 5)
            return {"type": "string", "format": rng.choice(forms), "default": _one(rng, _MEMBERS)}
        case _:
            names = rng.sample(_NAMES, rng.randrange(4))
            return {
                "type": "object",
                "properties": {name: _node(rng, depth + 1) for name in names},
                "required": names[:1],
                "patternProperties": {rng.choice(_PATTERNS): _node(rng, depth + 1)},
                "additionalProperties": rng.choice((True, False, {"$ref": "#"})),
            }


_MEMBERS: tuple[Any, ...] = (
    [], ["a", "b"], ["a", 1, None, True, 1.5, {"a": [1]}], "a", 5, None, {"a": {"b": []}},
    [f"word{i}" for i in range(3000)], ["<tool_call>", "</parameter>", "\n", ""], [10**300],
    ["x" * 50_000], [["x"] * 50] * 20,
)  # fmt: skip


def _exploding(rng: Random) -> dict[str, Any]:
    """Return a part of a schema that means far more than it says."""
    match rng.randrange(4):
        case 0:
            word = rng.choice(("anyOf", "allOf", "oneOf"))
            nodes = {f"d{i}": {word: [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(40)}
            return {"$defs": nodes, "properties": {"a": {"$ref": "#/$defs/d0"}}}
        case 1:
            many = [
                [{"type": "object", "properties": {f"p{i}_{j}": {}}, "required": [f"p{i}_{j}"]}
                 for j in range(4)] for i in range(8)
            ]  # fmt: skip
            return {"properties": {"a": {"allOf": [{"anyOf": each} for each in many]}}}
        case 2:
            node: Any = {"type": "string"}
            for _ in range(rng.choice((10, 40, 80))):
                node = {"type": "object", "properties": {"a": node}, "required": ["a"]}
            return {"properties": {"a": node}}
        case _:
            properties = {f"p{i}": {"type": "string", "pattern": f"a{{{i}}}"} for i in range(400)}
            return {"properties": properties, "required": list(properties)}
