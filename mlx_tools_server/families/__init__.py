"""Model families: how each writes its calls and thoughts. One row a family, over a few shapes.

Rules of this folder:
- No I/O and no mlx. A family is recognised by its chat template, never by a name or a path.
- A row picks a shape and says which of our templates stands in for the family's published one.
- To add a family, add a row to `rows`; only a new way of writing calls needs a new shape.
  docs/adding-a-model-family.md does both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .family import Family, Shape
from .parser import Begun, Parser, Thinking
from .rows import FAMILIES
from .shapes.call_grammar import CallGrammar
from .shapes.whole_call import ForeignFormat

__all__ = [
    "FAMILIES",
    "Begun",
    "CallGrammar",
    "Family",
    "ForeignFormat",
    "Parser",
    "Shape",
    "Thinking",
    "detect",
]

# Longer ones are shortened where they are told.
MAX_MARK = 24


def detect(
    template: str,
    form: ForeignFormat | None = None,
    families: Sequence[Family] = FAMILIES,
    *,
    thinks: bool = False,
) -> tuple[Family, str]:
    """Return the family that a chat template belongs to, and why.

    `form` is what the engine's own library makes of the model; it counts where no row fits.
    `thinks` says that the vocabulary has thoughts, which a template may leave to the model.
    """
    for family in families:
        mark = next((mark for mark in family.marks if mark in template), None)
        if mark and all(text in template for text in family.also):
            found = _as_in(family, template, thinks)
            thoughts = f" and {found.thinking.open}" if found.thinking else ""
            return found, f"the chat template writes {_begin(mark)}{thoughts}"
    if form is not None and form.opener:
        known = next((family for family in families if family.upstream == form.name), None)
        if known is not None:
            return _as_in(known, template, thinks), f"mlx-lm knows it as {form.name}"
        return Family(f"mlx-lm's {form.name}", form=form), "mlx-lm's own parser, whole calls"
    if form is not None:
        return Family("plain text", form=form), "the chat template shows no tool calls"
    return Family("plain text"), "there is no chat template"


def _as_in(family: Family, template: str, thinks: bool) -> Family:
    """Return the family as a model has it: with thoughts only if those show anywhere."""
    thinking = family.thinking
    if thinking is None or thinks or thinking.open in template or thinking.close in template:
        return family
    return replace(family, thinking=None)


def _begin(mark: str) -> str:
    line = mark.splitlines()[0]
    return line if len(line) <= MAX_MARK else f"{line[:11]}…"
