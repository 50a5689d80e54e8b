"""Jinja as Hugging Face speaks it, in which chat templates are written, and in a sandbox.

Rules of this file:
- A template sees no Python objects but plain values, and changes none of them.
- It has the filters, tags and functions that published templates rely on, and no others.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, NoReturn

import jinja2
import jinja2.ext
from jinja2 import meta, nodes
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from .errors import StartupError

# All that a template's own code can raise; what is left out is a fault of the machine or of ours.
FAULTS = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


def compiled(source: str, origin: str) -> tuple[jinja2.Template, set[str]]:
    """Return a template, and the names of the variables that it reads."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, _Generation]
    )
    environment.filters["tojson"] = _tojson
    environment.globals.update(raise_exception=_raise_exception, strftime_now=_strftime_now)
    try:
        return environment.from_string(source), meta.find_undeclared_variables(
            environment.parse(source)
        )
    except (jinja2.TemplateError, RecursionError) as fault:
        line = f", line {fault.lineno}" if isinstance(fault, jinja2.TemplateSyntaxError) else ""
        raise StartupError(
            f"The chat template ({origin}{line}) does not compile: {fault}",
            "Repair it, or name another one with --chat-template.",
        ) from fault


class _Generation(jinja2.ext.Extension):
    """Accepts `{% generation %}`, with which training marks answers, and renders its body."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes for HTML, which no model was trained on.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(format: str) -> str:  # noqa: A002  (templates may name it)
    return datetime.now().astimezone().strftime(format)
