"""How literals are written, and what opens and closes the arguments of a call."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Notation:
    """How literals are written, and what opens and closes the arguments of a call.

    Of the `quotes` that open and close a string, the longest come first; strings in `raw` ones have
    no escapes. `plain` quotes are as they should be, and so are names without quotes if `bare`.
    """

    name: str
    opener: str = "{"
    closer: str = "}"
    quotes: tuple[str, ...] = ('"', "'")
    plain: tuple[str, ...] = ('"',)
    raw: tuple[str, ...] = ()
    bare: bool = False


JSON = Notation("JSON")
PYTHON = Notation(
    "Python",
    opener="(",
    closer=")",
    quotes=('"""', "'''", '"', "'"),
    plain=('"""', "'''", '"', "'"),
    bare=True,
)
