"""Which grammar an answer follows: the policies of tool choice, strict tools and formats.

Rules of this file:
- Made in the thread that serves the client, before the loop sees the request. What can't be
  promised is refused if the client insists on it, and logged otherwise; no tool list is refused.
- What a client demands (`required`, a named tool, `strict`, a format) holds under every
  --constrain; the flag is about calls that a model makes by itself.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from ..errors import BadRequest
from ..families import CallGrammar
from ..grammar.answers import ANY_OBJECT, AnswerGrammar, Thought, json_answer
from ..grammar.lark import Note
from ..grammar.matching import GrammarError, Grammars
from ..jsontext import dumps
from ..messages import ChatRequest
from ..recent import Recent
from .guide import Plan, PlanTexts
from .provider import LoadedModel

log = logging.getLogger(__name__)

# Plans that are kept: an agent sends the same tools again and again.
KEPT = 64
# Remarks that are not repeated in the log.
NOTED = 256
# What notes about the format of an answer are about.
_FORMAT = "response_format"


class Plans:
    """Makes the plans for one model; safe to use from many threads."""

    def __init__(self, model: LoadedModel, constrain: str) -> None:
        self._model = model
        self._constrain = constrain
        self._lock = threading.Lock()
        self._grammars: Grammars | None = None
        self._kept: Recent[tuple[Plan | None, tuple[Note, ...]]] = Recent(KEPT)
        self._noted: Recent[bool] = Recent(NOTED)
        if constrain != "off" and model.family.marks:
            # The tables take a second, which the first request need not wait for.
            threading.Thread(target=self._warm_up, daemon=True).start()

    def _warm_up(self) -> None:
        if self.grammars is not None:
            self.grammars.prepare()

    def plan(self, request: ChatRequest, *, thought_open: bool) -> Plan | None:
        """Return what an answer to this request follows; None if it is free.

        Raises:
            BadRequest: the client insists on a schema that can't be promised.
        """
        if request.tools and request.tool_choice.mode == "none" and request.output_format is None:
            return Plan(forbidden=self._openers())
        if not self._wanted(request):
            return None
        grammars = self.grammars
        if grammars is None:
            log.warning("This tokenizer allows no grammars; what the model says is delivered.")
            return None
        return self._calls(request, grammars, thought_open) or self._json(
            request, grammars, thought_open
        )

    def _wanted(self, request: ChatRequest) -> bool:
        tools = request.callable_tools
        demanded = request.output_format is not None or _forced(request)
        return (
            demanded
            or any(tool.strict for tool in tools)
            or (bool(tools) and self._constrain != "off")
        )

    def _calls(self, request: ChatRequest, grammars: Grammars, thought_open: bool) -> Plan | None:
        """Return the plan of a request whose answer may call; None if its calls have no grammar."""
        tools, form = request.callable_tools, request.output_format
        strict = sorted(tool.name for tool in tools if tool.strict or self._constrain == "strict")
        options: dict[str, Any] = {
            "name": request.tool_choice.name,
            "parallel": request.parallel_tool_calls,
            "strict": strict,
            "answer": None if form is None or _forced(request) else form.schema or ANY_OBJECT,
        }
        whole, family = form is not None or _forced(request), self._model.family
        if family.form is not None and not whole:
            return None  # such calls are known when they are over
        thought = self._thought(thought_open)
        key = [[[tool.name, tool.parameters] for tool in tools], options, thought_open, whole]
        write = partial(family.grammar, tools, grammars, thought=thought, **options)
        plan, notes = self._made(dumps(key), write, grammars, whole)
        if plan is None and _forced(request):
            log.warning("This model's calls can't be forced; what it says is delivered.")
        self._hear(notes, {*strict, *_strict_format(request)})
        return plan

    def _json(self, request: ChatRequest, grammars: Grammars, thought_open: bool) -> Plan | None:
        """Return the plan of a request whose answer is JSON; None if it is not."""
        form = request.output_format
        if form is None:
            return None
        thought = self._thought(thought_open)
        schema = form.schema or ANY_OBJECT
        plan, notes = self._made(
            dumps(["json", schema, thought_open]),
            partial(json_answer, schema, grammars, thought=thought),
            grammars,
            True,
        )
        self._hear(notes, _strict_format(request))
        return plan

    def _thought(self, opened: bool) -> Thought | None:
        """Return how a thought comes before an answer; None where none is read as one."""
        family, tags = self._model.family, self._model.thought_tags
        thinks = opened or family.thinking is not None or family.form is not None
        return Thought(*tags, opened=opened) if tags and thinks else None

    def _made(
        self,
        key: str,
        write: Callable[..., CallGrammar | AnswerGrammar | None],
        grammars: Grammars,
        whole: bool,
    ) -> tuple[Plan | None, tuple[Note, ...]]:
        """Return a plan and what it does not ensure; None where no grammar can be written.

        What llguidance can't build is written once more, as loosely as can be.
        """
        if (kept := self._kept.get(key)) is not None:
            return kept
        made: tuple[Plan | None, tuple[Note, ...]] = None, ()
        for loose in (False, True):
            written = write(loose=loose)
            if written is None:
                break
            try:
                made = _compiled(written, grammars, whole), written.notes
                break
            except GrammarError as error:
                log.warning("A grammar can't be built: %s", error)
        self._kept.put(key, made)
        return made

    def again(self, texts: PlanTexts) -> Plan | None:
        """Return the plan that another machine has made of these texts; None if it has none.

        Raises:
            GrammarError: it can't be made here, so that the machines would differ.
        """
        if texts == PlanTexts():
            return None
        if (grammars := self.grammars) is None:
            raise GrammarError("the tokenizer of this machine allows no grammars")
        whole, wrapped, bare = (
            grammars.compile(text) if text else None
            for text in (texts.whole, texts.wrapped, texts.bare)
        )
        return Plan(whole, wrapped, bare)

    @property
    def grammars(self) -> Grammars | None:
        """The grammars of the model; None if its tokenizer allows none."""
        with self._lock:
            if self._grammars is None and (description := self._model.encoder.description):
                self._grammars = Grammars(
                    description, self._model.vocabulary, sorted(self._model.eos)
                )
            return self._grammars

    def _openers(self) -> tuple[int, ...]:
        """Return the tokens that open a call by themselves."""
        family, grammars = self._model.family, self.grammars
        openers = (family.form.opener,) if family.form else family.shape.openers
        ids = grammars.controls.ids if grammars is not None else {}
        return tuple(ids[text] for text in openers if text in ids)

    def _hear(self, notes: tuple[Note, ...], strict: Collection[str]) -> None:
        """Refuse what is not ensured where the client insists on it; log the rest, once."""
        for note in notes:
            if any(note.where == name or note.where.startswith(f"{name}.") for name in strict):
                raise BadRequest(
                    f"{note} can't be promised. Leave the keyword out, or send the schema without "
                    "strict: the answer is then checked, not constrained.",
                    param=_FORMAT if note.where == _FORMAT else "tools",
                )
        told = ", ".join(map(str, notes[:20]))
        if told and not self._noted.get(told):
            self._noted.put(told, True)
            log.info("Not ensured by grammars: %s.", told)


def _compiled(written: CallGrammar | AnswerGrammar, grammars: Grammars, whole: bool) -> Plan:
    if whole or isinstance(written, AnswerGrammar):
        return Plan(whole=grammars.compile(written.whole))
    return Plan(wrapped=grammars.compile(written.wrapped), bare=grammars.compile(written.bare))


def _forced(request: ChatRequest) -> bool:
    return request.tool_choice.mode in ("required", "named")


def _strict_format(request: ChatRequest) -> set[str]:
    form = request.output_format
    return {_FORMAT} if form is not None and form.strict else set()
