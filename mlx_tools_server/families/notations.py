"""How literals are written, and what opens and closes the arguments of a call."""

from __future__ import annotations

import re
from dataclasses import dataclass

# What a name without quotes has not, and what it has only where names are `wordy`.
_NEVER, _WORDY = r":,{}\[\]\"'<\n", r"\s=()"


@dataclass(frozen=True, slots=True)
class Notation:
    """How literals are written, and what opens and closes the arguments of a call.

    Of the `quotes` that open and close a string, the longest come first; strings in `raw` ones have
    no escapes. `plain` quotes are as they should be, and so are names without quotes if `bare`;
    `wordy` ones may have blanks and round brackets in them.
    """

    name: str
    opener: str = "{"
    closer: str = "}"
    quotes: tuple[str, ...] = ('"', "'")
    plain: tuple[str, ...] = ('"',)
    raw: tuple[str, ...] = ()
    bare: bool = False
    wordy: bool = False

    @property
    def name_end(self) -> re.Pattern[str]:
        """What ends a name without quotes."""
        return re.compile(f"[{_NEVER if self.wordy else _NEVER + _WORDY}]")

    @property
    def bare_name(self) -> str:
        """The regular expression of a name without quotes."""
        word = rf"[^{_NEVER}{_WORDY}]"
        return rf"{word}([^{_NEVER}]{{0,200}}[^{_NEVER}\s])?" if self.wordy else rf"{word}{{1,200}}"


JSON = Notation("JSON")
PYTHON = Notation(
    "Python",
    opener="(",
    closer=")",
    quotes=('"""', "'''", '"', "'"),
    plain=('"""', "'''", '"', "'"),
    bare=True,
)
