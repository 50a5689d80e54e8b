"""Model families: how each writes its calls and thoughts. One row a family, over a few shapes.

Rules of this folder:
- No I/O and no mlx. A family is recognised by its chat template, never by a name or a path.
- A row picks a shape and says which of our templates stands in for the family's published one.
- To add a family, add a row to `FAMILIES`; only a new way of writing calls needs a new shape.
  docs/adding-a-model-family.md does both.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..grammar.answers import AnswerGrammar, Thought
from ..grammar.nodes import Engine
from ..messages import ToolSpec
from .parser import Begun, Parser, Thinking
from .shapes import json_grammar, tag_call, tag_grammar
from .shapes.tag_grammar import CallGrammar
from .shapes.tag_value import CLOSE, OPEN
from .shapes.whole_call import ForeignFormat, WholeCallParser

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


@dataclass(frozen=True, slots=True)
class Shape:
    """A way of writing calls: how one is written, read, and held to its schema by a grammar.

    `parser` takes the parameter schemas by tool, `first_call_only` and what `Parser` takes; with a
    `grammar` also `constrained`. Calls of a shape without one are checked afterwards only.
    """

    write: Callable[[str, Mapping[str, Any]], str]
    parser: Callable[..., Parser]
    grammar: Callable[..., CallGrammar | None] | None = None


TAG_CALL = Shape(tag_call.write, tag_call.TagCallParser, tag_grammar.calls)


@dataclass(frozen=True, slots=True)
class Family:
    """One family.

    It is recognised by `marks`, one of which must stand in its template (spelled with a newline
    or with `\\n`), and by whether the template mentions its thoughts. `published` are words of
    the family's own template that tell it from other users of the same call format: only that
    template is replaced by ours, `template`.
    """

    name: str
    marks: tuple[str, ...] = ()
    shape: Shape = TAG_CALL
    thinking: Thinking | None = None
    template: str = ""
    published: tuple[str, ...] = ()
    control_texts: tuple[str, ...] = ()
    form: ForeignFormat | None = field(default=None, compare=False)

    def parser(
        self,
        tools: Sequence[ToolSpec] = (),
        *,
        thought_open: bool = False,
        first_call_only: bool = False,
        stop: Sequence[str] = (),
        constrained: bool = False,
    ) -> Parser:
        """Return a parser for one answer; without tools, nothing is read as a call.

        `constrained` says that the whole answer follows a grammar of this family.
        """
        if self.form is not None:
            return WholeCallParser(
                self.form,
                tools,
                thought_open=thought_open,
                first_call_only=first_call_only,
                stop=stop,
            )
        base: dict[str, Any] = {
            "thinking": self.thinking,
            "thought_open": thought_open,
            "stop": stop,
        }
        guided = self.shape.grammar is not None
        # What follows a grammar can't call where calls have none.
        if not self.marks or not tools or (constrained and not guided):
            return Parser(**base)
        if guided:
            base["constrained"] = constrained
        schemas = {tool.name: tool.parameters for tool in tools}
        return self.shape.parser(schemas, first_call_only=first_call_only, **base)

    def grammar(
        self,
        tools: Sequence[ToolSpec],
        engine: Engine,
        *,
        thought: Thought | None = None,
        name: str = "",
        parallel: bool = True,
        strict: Collection[str] = (),
        answer: Mapping[str, Any] | None = None,
        loose: bool = False,
    ) -> CallGrammar | AnswerGrammar | None:
        """Return the grammars of calls of these tools; None if the family's form has none.

        A form that tells of whole calls only has one of the whole answer. `name` is the only tool
        that may be called, if there is one, and without `parallel` one call is all. Values of tools
        in `strict` hold no tags of the form, so that nothing but whole calls of their schema can
        come. `answer` is the schema of the JSON that may be said instead. A `loose` grammar ensures
        names and types only: for schemas whose own can't be compiled.
        """
        options: dict[str, Any] = {
            "thought": thought,
            "name": name,
            "parallel": parallel,
            "answer": answer,
            "loose": loose,
        }
        if self.marks and self.shape.grammar is not None:
            return self.shape.grammar(tools, engine, strict=strict, **options)
        if self.form is not None and self.form.name == HERMES:
            return json_grammar.calls(tools, engine, **options)
        return None


# What mlx-lm calls the form of Hermes, Qwen2.5 and Qwen3.
HERMES = "json_tools"
_TAG_CALL = ("<tool_call>\n<function=", "<tool_call>\\n<function=")

# The first row that fits counts.
FAMILIES = (
    Family(
        "qwen3_5",
        marks=_TAG_CALL,
        thinking=Thinking(),
        template="qwen3_5",
        published=("No user query found in messages",),
        control_texts=(OPEN, CLOSE),
    ),
    Family(
        "qwen3_coder",
        marks=_TAG_CALL,
        template="qwen3_coder",
        published=("You are Qwen, a helpful AI assistant that can interact with a computer",),
        control_texts=(OPEN, CLOSE),
    ),
)


def detect(
    template: str, form: ForeignFormat | None = None, families: Sequence[Family] = FAMILIES
) -> tuple[Family, str]:
    """Return the family that a chat template belongs to, and why.

    `form` is what the engine's own library makes of the model; it counts where no row fits.
    """
    for family in families:
        mark = next((mark for mark in family.marks if mark in template), None)
        thinks = family.thinking is None or family.thinking.open in template
        if mark and thinks:
            thoughts = f" and {family.thinking.open}" if family.thinking else ""
            return family, f"the chat template writes {mark.splitlines()[0][:11]}…{thoughts}"
    if form is not None and form.opener:
        return Family(f"mlx-lm's {form.name}", form=form), "mlx-lm's own parser, whole calls"
    if form is not None:
        return Family("plain text", form=form), "the chat template shows no tool calls"
    return Family("plain text"), "there is no chat template"
