"""All tool schemas of the Berkeley Function-Calling Leaderboard, drawn at random.

`pip install --no-deps bfcl-eval` brings them; they are not part of this project.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlx_tools_server.messages import ToolSpec

from .test_laws import check_drawn

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("bfcl_eval") is None, reason="needs bfcl-eval"),
]

# BFCL names types as Python, Java and JavaScript do; a validator needs JSON's names.
TYPES = {
    "dict": "object", "HashMap": "object", "Hashtable": "object", "float": "number",
    "double": "number", "tuple": "array", "list": "array", "ArrayList": "array", "Array": "array",
    "Queue": "array", "Stack": "array", "Set": "array", "int": "integer", "long": "integer",
    "short": "integer", "byte": "integer", "Bigint": "integer", "bool": "boolean",
    "Boolean": "boolean", "String": "string", "char": "string", "str": "string",
}  # fmt: skip
KNOWN = {"object", "array", "string", "integer", "number", "boolean", "null"}


def standard(node: Any) -> Any:
    """Return a schema with the types of JSON; a type that is none may be anything."""
    if isinstance(node, list):
        return [standard(item) for item in node]
    if not isinstance(node, dict):
        return node
    copied = {word: value for word, value in node.items() if word in ("enum", "required")}
    if isinstance(node.get("type"), str) and (kind := TYPES.get(node["type"], node["type"])):
        copied |= {"type": kind} if kind in KNOWN else {}
    if isinstance(node.get("properties"), dict):
        copied["properties"] = {name: standard(item) for name, item in node["properties"].items()}
    for word in ("items", "additionalProperties", "anyOf", "oneOf", "allOf"):
        if word in node:
            copied[word] = standard(node[word])
    return copied


def tools() -> Iterator[ToolSpec]:
    """Yield each tool once."""
    spec = importlib.util.find_spec("bfcl_eval")
    assert spec is not None
    assert spec.origin is not None
    seen = set()
    data = Path(spec.origin).parent / "data"
    for path in sorted([*data.glob("BFCL_*.json"), *data.glob("multi_turn_func_doc/*.json")]):
        for line in path.read_text("utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:  # one file is no list of lines
                break
            for function in row.get("function") or ([row] if "parameters" in row else []):
                schema = standard(function.get("parameters", {}))
                key = json.dumps([function["name"], schema], sort_keys=True)
                if key not in seen:
                    seen.add(key)
                    yield ToolSpec(function["name"], parameters=schema)


def contradicts(node: Any) -> bool:
    """Return whether a schema has an `enum` without a word of its type: nothing can be valid."""
    if isinstance(node, list):
        return any(map(contradicts, node))
    if not isinstance(node, dict):
        return False
    if "enum" in node and node.get("type") in ("boolean", "integer", "number", "array"):
        return any(isinstance(member, str) for member in node["enum"])
    return any(map(contradicts, node.values()))


def test_bfcl() -> None:
    """Whatever is drawn for any of them is, once it has ended, a valid call."""
    offered = [spec for spec in tools() if not contradicts(spec.parameters)]
    assert len(offered) > 2_000

    ended = [check_drawn((spec,), seed, sealed=seed % 2 == 0) for seed, spec in enumerate(offered)]

    assert sum(ended) > 0.9 * len(offered)
