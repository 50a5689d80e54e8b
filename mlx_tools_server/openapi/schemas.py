"""JSON Schemas, in short: the words that the description is written in.

Rules of this file:
- A schema is a plain dict that nobody changes once it is made: many stand in several places.
- `asked` is for what clients send, `told` for what the server writes; they differ in what may be
  null and in what is always there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from ..wire import MAX_INTEGER

Schema: TypeAlias = dict[str, Any]

TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
NULL: Schema = {"type": "null"}
COUNT: Schema = {"type": "integer", "minimum": 0}
OBJECT: Schema = {"type": "object"}


def ref(name: str, kind: str = "schemas") -> Schema:
    """Return a reference to a component."""
    return {"$ref": f"#/components/{kind}/{name}"}


def number(low: float, high: float) -> Schema:
    """Return a number within bounds."""
    return {"type": "number", "minimum": low, "maximum": high}


def whole(low: int, high: int = MAX_INTEGER) -> Schema:
    """Return a whole number within bounds."""
    return {"type": "integer", "minimum": low, "maximum": high}


def words(*values: str) -> Schema:
    """Return one of these texts."""
    return {**TEXT, "enum": list(values)}


def other(values: Iterable[str]) -> Schema:
    """Return any text but these."""
    refused = sorted(values)
    return {**TEXT, "not": {"enum": refused}} if refused else TEXT


def many(items: Schema, **limits: Any) -> Schema:
    """Return a list."""
    return {"type": "array", "items": items, **limits}


def either(*schemas: Schema) -> Schema:
    """Return what fits any of these."""
    return {"anyOf": list(schemas)}


def or_null(schema: Schema) -> Schema:
    """Return a schema that takes null too."""
    if schema == NULL:
        return schema
    if "enum" in schema:
        rest = {name: value for name, value in schema.items() if name != "type"}
        return {**rest, "enum": [*schema["enum"], None]}
    if "anyOf" in schema:
        return {**schema, "anyOf": [*schema["anyOf"], NULL]}
    return (
        either(schema, NULL) if "$ref" in schema else {**schema, "type": [schema["type"], "null"]}
    )


def default(value: object, schema: Schema) -> Schema:
    """Return a schema with what counts if the field is left out."""
    return {**schema, "default": value}


def asked(needed: Mapping[str, Schema] | None = None, /, **optional: Schema) -> Schema:
    """Return an object that a client sends; null is the same as leaving an optional field out."""
    needed = needed or {}
    fields = {**needed, **{name: or_null(schema) for name, schema in optional.items()}}
    return {
        "type": "object",
        "properties": fields,
        **({"required": list(needed)} if needed else {}),
    }


def told(optional: Mapping[str, Schema] | None = None, /, **fields: Schema) -> Schema:
    """Return an object of an answer, whose fields are all there but the optional ones."""
    return {
        "type": "object",
        "properties": {**fields, **(optional or {})},
        "required": list(fields),
    }


def kind(name: str) -> dict[str, Schema]:
    """Return the `type` of an object that has one of its own."""
    return {"type": words(name)}
