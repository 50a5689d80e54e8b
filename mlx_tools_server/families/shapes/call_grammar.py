"""What the grammars of calls share: their form, their limits, and which parameters a call may have.

Rules of this file:
- No form shows here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...grammar.lark import Note, Rules, literal
from ...grammar.nodes import UNENSURED
from ...messages import ToolSpec
from ...schema import Parameters

# A rule's parameter has this many bits; parameters beyond them come in the schema's order.
BITS = 64
# A chain of rules is as deep as it is long, and llguidance recurses. What is beyond is left out.
MAX_PARAMETERS = 250

# What a schema may say of an object that no grammar of tags ensures.
TAGS_UNENSURED = UNENSURED | {
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


def names_of(known: Parameters) -> list[str]:
    """Return the names of a tool's parameters, those that are required first."""
    names = dict.fromkeys([*known.declared, *sorted(known.required)])
    return sorted(names, key=lambda name: name not in known.required)


def extra_node(tool: ToolSpec) -> Any:
    """Return the schema of parameters that are not declared; None if the tool wants none."""
    node = tool.parameters.get("additionalProperties")
    if node is None and "type" in tool.parameters and "properties" not in tool.parameters:
        node = True
    return node if node is True or isinstance(node, Mapping) else None


def extra_name(known: Parameters, rules: Rules) -> str:
    """Return the terminal of the names that such parameters may have."""
    taken = " | ".join(literal(name) for name in known.declared)
    return rules.name("NAME", f"{_NAME} & ~({taken})" if taken else _NAME)
