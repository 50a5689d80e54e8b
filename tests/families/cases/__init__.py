"""What models of each family say, and what a client gets: a module a family, a row a text.

Rules of this folder:
- A module is named after its family and has `CASES`; its docstring says where the texts come from:
  written after the format's description, as a published template renders them, or recorded.
- The first rows are calls as they should be, then texts that only look alike, then the family's
  commonest faults, then texts that were cut.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

Call: TypeAlias = tuple[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Said:
    """What a model says, with `TOOLS` on offer; and the content, the calls and the thought in it.

    `cut` says that the model was stopped there, `thought_open` that its prompt opened a thought.
    `begun` is the name of the call that was cut, and its arguments so far.
    """

    text: str
    content: str = ""
    calls: Sequence[Call] = ()
    reasoning: str = ""
    cut: bool = False
    thought_open: bool = False
    begun: tuple[str, str] | None = None


def tables() -> dict[str, Mapping[str, Said]]:
    """Return the cases by family."""
    names = [module.name for module in pkgutil.iter_modules(__path__)]
    return {name: importlib.import_module(f"{__name__}.{name}").CASES for name in names}
