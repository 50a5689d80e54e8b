"""Requests as the generation loop takes them: token ids, and how the answer is read.

Rules of this file:
- It runs in the threads that serve clients; all that can be refused is refused here.
- Of a prompt that can't fit, only as much is encoded as it takes to know that, and nothing is
  rendered: what is done with a text must not cost more than the text may.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from ..config import ServerConfig
from ..errors import BadRequest, ContextOverflow, MemoryOverflow
from ..jsontext import dumps
from ..messages import ChatRequest, Message, Options, TextRequest, ThinkingWish
from ..sentinels import Piece
from .guide import Plan, ThoughtBudget
from .kv import SIDE_TOKENS
from .losses import common_length
from .memory import MemoryGuard
from .plans import Plans
from .provider import LoadedModel
from .reader import ReaderSpec

log = logging.getLogger(__name__)

# A user's first message that has nothing in common with any other.
_NEVER_SAID = "\ue100"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request as the loop takes it: its ids, and how its answer is read.

    `opening` is what stands between the header of the answer's turn and its first token; None if
    the template's answers can't be replayed. `asked` says that it ends with a user's message, and
    `system` how many of its tokens are those of the system prompt and the tools, if that matters.
    `plan` has the grammars that the answer follows, if any.
    """

    ids: tuple[int, ...]
    reader: ReaderSpec
    opening: str | None = None
    asked: bool = False
    system: int = 0
    plan: Plan | None = None

    @property
    def side(self) -> bool:
        """Whether it is too small to displace a conversation: a title, a summary."""
        return not self.reader.tools and len(self.ids) < SIDE_TOKENS

    @property
    def max_tokens(self) -> int:
        """After how many tokens the answer is cut."""
        return self.reader.max_tokens


class Prompts:
    """Makes the prompts of one model; safe to use from many threads.

    `marks_system` says that it matters where the system prompt ends.
    """

    def __init__(
        self,
        model: LoadedModel,
        config: ServerConfig,
        *,
        plans: Plans | None,
        guard: MemoryGuard | None,
        marks_system: bool,
    ) -> None:
        self._model = model
        self._plans = plans
        self._marks_system = marks_system
        self._most = config.max_tokens
        self._runaway = config.runaway_tokens
        self._thinking_budget = config.thinking_budget
        self._told = False
        self._room = guard.most_tokens if guard is not None else None
        limits = [most for most in (model.context_length, self._room) if most is not None]
        self._limit = min(limits, default=config.max_queued_tokens)

    def chat(self, request: ChatRequest) -> Prompt:
        """Render and encode a conversation; raises RequestError if it can't be served."""
        model = self._model
        if excess := self._excess(request):
            raise self._overflow(excess)
        pieces = self._rendered(request)
        spec = ReaderSpec(
            tools=request.callable_tools,
            thought_open=model.thought_open(pieces),
            thought_budget=self._budget(request.thinking),
            first_call_only=not request.parallel_tool_calls,
            stop=request.options.stop,
        )
        # A template may write much that nobody sent.
        if excess := model.encoder.excess([piece.text for piece in pieces], self._limit):
            raise self._overflow(excess)
        prompt = self._prompt(model.encoder.encode(pieces), request.options, spec)
        return replace(
            prompt,
            opening=model.template.opening(pieces),
            asked=bool(request.messages) and request.messages[-1].role == "user",
            system=self._system_tokens(request, prompt.ids),
            plan=self._plans.plan(request, thought_open=spec.thought_open) if self._plans else None,
        )

    def count(self, request: ChatRequest) -> int:
        """Return how many tokens the prompt of a conversation has, whether it fits or not."""
        return self._excess(request) or len(self._model.encoder.encode(self._rendered(request)))

    def text(self, request: TextRequest) -> Prompt:
        """Encode a raw prompt; raises RequestError if it can't be served."""
        prompt, model = request.prompt, self._model
        if isinstance(prompt, str):
            if excess := model.encoder.excess([prompt], self._limit):
                raise self._overflow(excess, "prompt")
            ids = model.encoder.encode_raw(prompt)
        else:
            ids = list(prompt)
        if any(not 0 <= token < model.vocabulary for token in ids):
            raise BadRequest(
                f"prompt has token ids outside of 0 to {model.vocabulary - 1}", param="prompt"
            )
        spec = ReaderSpec(stop=request.options.stop, raw=True)
        return self._prompt(ids, request.options, spec)

    def _excess(self, request: ChatRequest) -> int | None:
        """Return about how many tokens a conversation has, if they are far too many.

        Only texts that any template writes are looked at; earlier thoughts are often left out.
        """
        texts = [message.content for message in request.messages]
        for tool in request.listed_tools:
            texts += (tool.description, dumps(tool.parameters))
        for message in request.messages:
            for call in message.tool_calls:
                texts += [text for text in call.arguments.values() if isinstance(text, str)]
        return self._model.encoder.excess(texts, self._limit)

    def _overflow(self, size: int, param: str = "messages") -> ContextOverflow:
        length = self._model.context_length
        if self._room is not None and (length is None or self._room < length):
            return MemoryOverflow(size, self._room, param=param)
        return ContextOverflow(size, self._limit, param=param)

    def _rendered(self, request: ChatRequest) -> list[Piece]:
        return self._render(request, request.messages)

    def _render(self, request: ChatRequest, messages: Sequence[Message]) -> list[Piece]:
        return self._model.template.render(
            messages, request.listed_tools, request.template_kwargs, thinking=request.thinking
        )

    def _budget(self, wish: ThinkingWish) -> ThoughtBudget | None:
        """Return the limit of thought; None if there is none, or none can be kept to."""
        tokens, closer = wish.budget or self._thinking_budget, self._model.thought_closer
        if tokens is None or wish.on is False:
            return None
        if self._plans is not None and closer:
            return ThoughtBudget(tokens, closer)
        if not self._told:
            self._told = True
            log.info(
                "Thinking budgets are ignored: %s.",
                "with a draft model nothing is constrained"
                if closer
                else "it is not known how this model ends a thought, if it has any",
            )
        return None

    def _system_tokens(self, request: ChatRequest, ids: tuple[int, ...]) -> int:
        """Return how many tokens stand before anything that was said, where a mark is of use."""
        if not self._marks_system:
            return 0
        leading = tuple(takewhile(lambda message: message.role == "system", request.messages))
        pieces = self._render(request, (*leading, Message("user", _NEVER_SAID)))
        return common_length(ids, tuple(self._model.encoder.encode(pieces)))

    def _prompt(self, ids: list[int], options: Options, spec: ReaderSpec) -> Prompt:
        model, size = self._model, len(ids)
        if not ids:
            raise BadRequest("The prompt is empty. Send at least one token.", param="prompt")
        bad = [token for token in options.sampling.logit_bias if not 0 <= token < model.vocabulary]
        if bad:
            raise BadRequest(
                f"logit_bias names the token {bad[0]}, but this model's tokens are 0 to "
                f"{model.vocabulary - 1}.",
                param="logit_bias",
            )
        if size >= self._limit:
            raise self._overflow(size, "prompt" if spec.raw else "messages")
        left = self._limit - size
        most = min(options.max_tokens or self._most or left, left)
        return Prompt(tuple(ids), replace(spec, max_tokens=most, runaway=self._runaway))
