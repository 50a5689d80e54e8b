"""What a family is: how its calls are written, read and held to their schemas, and its thoughts.

Rules of this file:
- It knows no family; `rows` has them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ..grammar.nodes import Engine
from ..messages import ToolSpec
from .parser import Parser, Thinking
from .shapes import tag_call, tag_grammar
from .shapes.call_grammar import CallGrammar, CallOptions
from .shapes.tag_value import OPEN
from .shapes.whole_call import ForeignFormat, WholeCallParser

# Writes the grammars of calls of these tools.
Grammar: TypeAlias = Callable[[Sequence[ToolSpec], Engine, CallOptions], CallGrammar | None]


@dataclass(frozen=True, slots=True)
class Shape:
    """A way of writing calls: how one is written, read, and held to its schema by a grammar.

    `parser` takes the parameter schemas by tool, `first_call_only` and what `Parser` takes; with a
    `grammar` also `constrained`. Calls of a shape without one are checked afterwards only.
    `openers` are texts that open calls, and nothing else. In a shape that is `framed` an answer
    stands between markers, even one to a request without tools.
    """

    name: str
    write: Callable[[str, Mapping[str, Any]], str]
    parser: Callable[..., Parser]
    grammar: Grammar | None = None
    openers: tuple[str, ...] = ()
    framed: bool = False


TAG_CALL = Shape("tag call", tag_call.write, tag_call.TagCallParser, tag_grammar.calls, (OPEN,))


@dataclass(frozen=True, slots=True)
class Family:
    """One family.

    It is recognised by `marks`, one of which must stand in its template (spelled with a newline
    or with `\\n`), and all of `also`; or by `upstream`, mlx-lm's name of its parser, which knows
    some models by their vocabulary. `published` are words of the family's own template that tell it
    from other users of the same call format: only that template is replaced by ours, `template`.
    `call_id` is how ids of calls must look in its prompts, with {name} and {index}.
    """

    name: str
    marks: tuple[str, ...] = ()
    shape: Shape = TAG_CALL
    thinking: Thinking | None = None
    template: str = ""
    published: tuple[str, ...] = ()
    control_texts: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    upstream: str = ""
    call_id: str = ""
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
        free = bool(tools) and not (constrained and not guided)
        if not self.marks or not (free or self.shape.framed):
            return Parser(**base)
        if guided:
            base["constrained"] = constrained
        schemas = {tool.name: tool.parameters for tool in tools} if free else {}
        return self.shape.parser(schemas, first_call_only=first_call_only, **base)

    def grammar(
        self, tools: Sequence[ToolSpec], engine: Engine, *, name: str = "", **options: Any
    ) -> CallGrammar | None:
        """Return the grammars of calls of these tools; None if the family's form has none.

        `name` is the only tool that may be called, if there is one; `options` are `CallOptions`.
        """
        if not self.marks or self.shape.grammar is None:
            return None
        offered = [tool for tool in tools if name in ("", tool.name)]
        return self.shape.grammar(offered, engine, CallOptions(**options))
