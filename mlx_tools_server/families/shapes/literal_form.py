"""What a family writes around a name and its arguments, and how it writes those.

Rules of this file:
- A form is data: the parser, the grammar and `write` all go by it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...grammar.lark import INDEX
from ...jsontext import dumps
from ..notations import JSON, Notation

NAME, ARGUMENTS = "NAME", "ARGUMENTS"


@dataclass(frozen=True, slots=True)
class Form:
    """How a family frames its calls.

    `call` is one of them as it is written, with NAME and ARGUMENTS in it (and INDEX for
    its number), `section` what stands around all calls of an answer, and `between` what stands
    between two. Any of the `openers` opens
    calls and any of the `closers` ends one; `head` reads what stands between an opener and the
    arguments, with a group `name`. `bare` are the characters that begin calls without an opener,
    and a `fence` may close the arguments.
    """

    call: str
    openers: tuple[str, ...] = ()
    closers: tuple[str, ...] = ()
    section: tuple[str, str] = ("", "")
    between: str = "\n"
    head: str = r"(?P<name>[\w.\-]+)"
    bare: tuple[str, ...] = ()
    fence: str = ""
    notation: Notation = JSON
    write: Callable[[Mapping[str, Any]], str] = dumps

    @property
    def parts(self) -> tuple[str, str, str]:
        """What stands before the name, between it and the arguments, and behind those."""
        before, _, rest = self.call.partition(NAME)
        between, _, behind = rest.partition(ARGUMENTS)
        return before, between, behind

    @property
    def lead(self) -> str:
        """What stands between the last opener and the name."""
        before = self.section[0] + self.parts[0]
        ends = [before.rfind(mark) + len(mark) for mark in self.openers if mark in before]
        return before[max(ends, default=0) :]

    @property
    def opened(self) -> bool:
        """Whether an opener stands before a call that is written as it should be."""
        return any(mark in self.section[0] + self.parts[0] for mark in self.openers)


def write(name: str, arguments: Mapping[str, Any], *, form: Form) -> str:
    """Return a call as the family was trained to write it."""
    before, between, behind = (part.replace(INDEX, "0") for part in form.parts)
    call = f"{before}{name}{between}{form.write(arguments)}{behind}"
    return f"{form.section[0]}{call}{form.section[1]}"
