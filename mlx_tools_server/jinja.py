"""Jinja as Hugging Face speaks it, in which chat templates are written, and in a sandbox.

Rules of this file:
- A template sees no Python objects but plain values, and changes none of them.
- It has the filters, tags and functions that published templates rely on, and no others.
- What one rendering costs has a limit: some templates go through all messages for each of them.
"""

from __future__ import annotations

import json
import threading
from datetime import datetime
from typing import Any, NoReturn

import jinja2
import jinja2.ext
from jinja2 import meta, nodes
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from .errors import StartupError

# How much a template may look up for one conversation. The costliest of those published looks up a
# million things for one of 1,000 messages, which takes a few seconds.
LOOKUPS = 5_000_000

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


class Sandbox(ImmutableSandboxedEnvironment):
    """What templates run in; counts what each thread's looks up."""

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, _Generation]
        )
        self._left = _Left()

    def allow(self, lookups: int) -> None:
        """Let this thread's renderings look up so much from now on, all in all."""
        self._left.count = lookups

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Look up `obj.attribute`."""
        left = self._left
        left.count -= 1
        if left.count < 0:
            raise _TooLong
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Look up `obj[argument]`."""
        left = self._left
        left.count -= 1
        if left.count < 0:
            raise _TooLong
        return super().getitem(obj, argument)


class _Left(threading.local):
    count = LOOKUPS


class _TooLong(jinja2.TemplateError):
    def __init__(self) -> None:
        super().__init__("it would take too long for so many messages or calls")


def compiled(source: str, origin: str) -> tuple[jinja2.Template, set[str], Sandbox]:
    """Return a template, the names of the variables that it reads, and what it runs in."""
    environment = Sandbox()
    environment.filters["tojson"] = _tojson
    environment.globals.update(raise_exception=_raise_exception, strftime_now=_strftime_now)
    try:
        template = environment.from_string(source)
        reads = meta.find_undeclared_variables(environment.parse(source))
        return template, reads, environment
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
