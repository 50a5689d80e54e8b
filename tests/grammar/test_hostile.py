"""Schemas that are made to hurt: each ends soon, and nothing else suffers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from mlx_tools_server.families import FAMILIES
from mlx_tools_server.grammar.matching import GrammarError
from mlx_tools_server.messages import ToolSpec

from .worlds import calls, small

TEXT = {"type": "string"}


def doubling(count: int, word: str) -> dict[str, Any]:
    """Return definitions of which each has the next one twice."""
    names = [f"d{i}" for i in range(count)]
    both = [{"$ref": f"#/$defs/{name}"} for name in names]
    nodes: dict[str, Any] = {
        name: {word: [following] * 2} for name, following in zip(names, both[1:], strict=False)
    }
    return {**nodes, names[-1]: TEXT}


def chain(count: int) -> dict[str, Any]:
    """Return definitions of which each has the next one in it."""
    return {
        f"d{i}": {"type": "object", "properties": {"a": {"$ref": f"#/$defs/d{i + 1}"}}}
        for i in range(count)
    }


def deep(count: int) -> Any:
    """Return objects in objects."""
    node: Any = TEXT
    for _ in range(count):
        node = {"type": "object", "properties": {"a": node}}
    return node


def product(count: int) -> Any:
    """Return a schema that llguidance multiplies out."""
    options = [
        [{"type": "object", "properties": {f"p{i}_{j}": TEXT}, "required": [f"p{i}_{j}"]}
         for j in range(4)]
        for i in range(count)
    ]  # fmt: skip
    return {"allOf": [{"anyOf": each} for each in options]}


FIRST = {"$ref": "#/$defs/d0"}
# The parameter x of a tool, and definitions of its schema.
HOSTILE: dict[str, Callable[[], tuple[Any, dict[str, Any]]]] = {
    "a reference to itself": lambda: ({"$ref": "#/properties/x"}, {}),
    "a reference to all": lambda: ({"type": "array", "items": {"$ref": "#"}}, {}),
    "a chain of references": lambda: (FIRST, chain(3_000)),
    "unions that double": lambda: (FIRST, doubling(40, "anyOf")),
    "lists of unions that double": lambda: (
        {"type": "array", "items": FIRST}, doubling(40, "anyOf")),
    "intersections that double": lambda: (
        {"type": "array", "items": FIRST}, doubling(40, "allOf")),
    "a product of unions": lambda: (product(12), {}),
    "a smaller product of unions": lambda: (product(6), {}),
    "a deep schema": lambda: (deep(300), {}),
    "many words": lambda: ({"enum": [f"member_{i}" for i in range(10_000)]}, {}),
    "too many words": lambda: ({"enum": [f"member_{i}" for i in range(100_000)]}, {}),
    "many words in a list": lambda: (
        {"type": "array", "items": {"enum": [f"member_{i}" for i in range(10_000)]}}, {}),
    "a long word": lambda: ({"enum": ["x" * 1_000_000]}, {}),
    "a deep word": lambda: ({"const": __import__("json").loads("[" * 500 + "]" * 500)}, {}),
    "a long pattern": lambda: ({"type": "string", "pattern": "a" * 1_000_000}, {}),
    "a pattern of counts": lambda: ({"type": "string", "pattern": "((a{1,99}){1,99}){1,99}"}, {}),
    "an exponential pattern": lambda: ({"type": "string", "pattern": "^(a|b)*a(a|b){300}$"}, {}),
    "an exponential pattern in a list": lambda: (
        {"type": "array", "items": {"type": "string", "pattern": "^(a|b)*a(a|b){300}$"}}, {}),
    "a large multiple": lambda: (
        {"type": "integer", "multipleOf": 982_451_653, "maximum": 10**18}, {}),
    "a large multiple of numbers": lambda: (
        {"type": "object", "properties": {"n": {"type": "number", "multipleOf": 2**31}}}, {}),
    "a multiple of 4,000 digits": lambda: (
        {"type": "array", "items": {"type": "integer", "multipleOf": 10**4000 + 1}}, {}),
    "multiples that multiply": lambda: (
        {"type": "array", "items": {"type": "integer", "allOf": [
            {"multipleOf": step} for step in (97, 98, 99, 101)]}}, {}),
    "large counts": lambda: (
        {"type": "array", "minItems": 10**8, "items": {"type": "string", "maxLength": 10**9}}, {}),
    "a wide object": lambda: (
        {"type": "object", "properties": {f"p{i}": TEXT for i in range(20_000)}}, {}),
    "a wide choice": lambda: (
        {"oneOf": [{"type": "object", "properties": {"k": {"const": i}}} for i in range(1_400)]},
        {}),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_schemas(name: str) -> None:
    """A schema beyond reason gets a looser grammar, or none, and its tool can still be called."""
    node, definitions = HOSTILE[name]()
    schema = {"type": "object", "properties": {"x": node, "y": TEXT}, "$defs": definitions}
    spec = ToolSpec("f", parameters=schema)

    grammar = calls(spec)
    try:
        compiled = small().grammars.compile(grammar.whole)
    except GrammarError:
        compiled = small().grammars.compile(calls(spec, loose=True).whole)

    matcher = compiled.matcher()
    for text in ("<tool_call>\n<function=f>\n<parameter=", "x>\n"):
        for token in small().encode(text):
            assert small().allowed(matcher)
            assert matcher.consume(token)
    assert small().allowed(matcher)
    assert not matcher.failed


# Keywords that a grammar reads, and what none or few of them may be.
KEYWORDS = (
    "type", "enum", "const", "format", "pattern", "minLength", "maxLength", "minimum", "maximum",
    "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "items", "prefixItems", "minItems",
    "maxItems", "uniqueItems", "properties", "patternProperties", "additionalProperties",
    "required", "minProperties", "maxProperties", "dependentRequired", "allOf", "anyOf", "oneOf",
    "not", "if", "then", "$ref", "$defs", "nullable", "description",
)  # fmt: skip
WRONG: tuple[Any, ...] = (None, True, -1.5, 10**30, "x", [], {}, [{}, 1], {"": []})
# One of each shape; that of the others is the same but for its marks.
USUAL = ("qwen3_coder", "glm4", "hermes")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(family.name, marks=() if family.name in USUAL else pytest.mark.slow)
        for family in FAMILIES
    ],
)
def test_nonsense(name: str) -> None:
    """A keyword that is not of its type is no reason to fail."""
    family = next(family for family in FAMILIES if family.name == name)
    for word in KEYWORDS:
        for value in WRONG:
            node = {**TEXT, word: value}
            schema = {"type": "object", "properties": {"x": node, "y": {"items": node}}}
            family.grammar([ToolSpec("f", parameters=schema)], small().grammars)
            family.grammar([ToolSpec("f", parameters={**schema, word: value})], small().grammars)


def test_many_parameters() -> None:
    """A tool with thousands of parameters can be called with the first of them."""
    spec = ToolSpec(
        "f", parameters={"type": "object", "properties": {f"p{i}": TEXT for i in range(5_000)}}
    )

    grammar = calls(spec)

    assert [str(note) for note in grammar.notes] == ["properties of f"]
    small().grammars.compile(grammar.whole)


def test_stack() -> None:
    """The longest chains that are let through need a small part of a thread's stack."""
    code = f"""
import threading
threading.stack_size(2 << 20)
from tests.grammar import test_hostile, worlds
from mlx_tools_server.messages import ToolSpec
def build():
    for count in (60, 120, 3000):
        for node in ({FIRST!r}, {{"type": "array", "items": {FIRST!r}}}):
            schema = {{"type": "object", "properties": {{"x": node}},
                      "$defs": test_hostile.chain(count)}}
            worlds.small().grammars.compile(worlds.calls(ToolSpec("f", parameters=schema)).whole)
    wide = {{f"p{{i}}": {TEXT!r} for i in range(5000)}}
    worlds.small().grammars.compile(worlds.calls(worlds.tool("f", **wide)).whole)
    print("built")
thread = threading.Thread(target=build)
thread.start()
thread.join()
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (ran.returncode, ran.stdout.strip()) == (0, "built"), ran.stderr[-500:]
