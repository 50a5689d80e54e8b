"""One turn: a request through the engine, its events made ready for any dialect.

Rules of this file:
- A call gets its id here, and is checked against its schema here. One that does not fit is
  delivered all the same, since the client answers the model; it is counted and logged.
- The answer ends with `tool_calls` if and only if a call was delivered and nothing was cut.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

from .admission import Admission, Admitted
from .engine.engine import Engine
from .engine.prompts import Prompt
from .events import (
    Event,
    Failed,
    Finished,
    Noticed,
    PartDelta,
    PartEnded,
    PartKind,
    PartStarted,
    Started,
)
from .history import History
from .jsontext import loads
from .logs import REQUEST
from .messages import ChatRequest, Exact, Message, Options, TextRequest, ToolCall, ToolSpec
from .metrics import Metrics, TurnFigures
from .sampling import SamplingPolicy
from .schema import problem
from .timeline import Seen, Timeline

log = logging.getLogger(__name__)


class Turns:
    """Runs turns on one engine."""

    def __init__(
        self,
        engine: Engine,
        sampling: SamplingPolicy,
        history: History | None = None,
        admission: Admission | None = None,
    ) -> None:
        self.engine = engine
        self.sampling = sampling
        self._history = history
        self._admission = admission or Admission()
        self.timeline = Timeline()
        self.metrics = Metrics()
        self.metrics.watch(self.figures)
        self._ended = threading.Condition()
        self._running = 0

    @property
    def running(self) -> int:
        """How many turns run."""
        return self._running

    def wait_until_ended(self, timeout: float) -> None:
        """Wait, at most `timeout` seconds, until no turn runs any more."""
        with self._ended:
            self._ended.wait_for(lambda: self._running == 0, timeout)

    @property
    def load(self) -> tuple[int, int]:
        """How many requests wait, and how many are in flight."""
        in_flight = self.engine.in_flight
        return max(0, self._admission.count - in_flight), in_flight

    def chat(self, request: ChatRequest) -> Generator[Event, None, None]:
        """Answer a conversation; raises RequestError before the first event if it can't."""
        began = time.monotonic()
        with self._admitted(request.options) as (admitted, seen):
            request = self._recalled(request)
            prompt = self.engine.prepare_chat(request)
            admitted.add(len(prompt.ids))
            yield from self._events(prompt, request.options, began, seen, request)

    def count(self, request: ChatRequest) -> int:
        """Return how many tokens the prompt of a conversation has; the model is not asked."""
        return self.engine.count_chat(self._recalled(request))

    def _recalled(self, request: ChatRequest) -> ChatRequest:
        if self._history is None:
            return request
        recalled = self._history.recall(request.messages, request.tools)
        return replace(request, messages=recalled)

    def text(self, request: TextRequest) -> Generator[Event, None, None]:
        """Continue a raw prompt; raises RequestError before the first event if it can't."""
        began = time.monotonic()
        with self._admitted(request.options) as (admitted, seen):
            prompt = self.engine.prepare_text(request)
            admitted.add(len(prompt.ids))
            yield from self._events(prompt, request.options, began, seen)

    @contextmanager
    def _admitted(self, options: Options) -> Iterator[tuple[Admitted, Seen]]:
        """Let a request in until the block ends, and let people see it."""
        with (
            self._admission.admit(options.client) as admitted,
            self.timeline.watch(REQUEST.get(), options) as seen,
        ):
            yield admitted, seen

    def _events(
        self,
        prompt: Prompt,
        options: Options,
        began: float,
        seen: Seen,
        request: ChatRequest | None = None,
    ) -> Generator[Event, None, None]:
        figures = TurnFigures()
        calls = _Calls(request.tools if request else (), figures.calls)
        options = replace(options, sampling=self.sampling.settle(options.sampling))
        events = self.engine.run(prompt, options)
        with self._ended:
            self._running += 1
        try:
            for event in events:
                if isinstance(event, Noticed):
                    calls.notice(event)
                    continue
                told = calls.see(event)
                _note(figures, told, began)
                seen.see(told)
                if request is not None and isinstance(event, Finished):
                    # The client may send its next request as soon as it has seen the end.
                    self._remember(request, prompt, calls, event)
                yield told
        finally:
            events.close()
            figures.seconds = time.monotonic() - began
            self.metrics.turn(figures)
            seen.end(figures)
            log.info("%s", figures, extra={"facts": asdict(figures)})
            with self._ended:
                self._running -= 1
                self._ended.notify_all()

    def figures(self) -> dict[str, Any]:
        """Return the figures of this moment: queue, KV cache and grammars."""
        waiting, in_flight = self.load
        return {
            "queue": {"waiting": waiting, "in_flight": in_flight},
            "kv_cache": self.engine.cache_stats,
            "grammars": self.engine.guided,
            "restarts": self.engine.restarts,
        }

    def _remember(
        self, request: ChatRequest, prompt: Prompt, calls: _Calls, finished: Finished
    ) -> None:
        if self._history is None or prompt.opening is None or calls.cut:
            return
        answer = Message("assistant", calls.text, tool_calls=tuple(calls.made))
        thought = prompt.reader.thought_open or calls.thought
        exact = Exact(finished.tokens, prompt.opening, finished.closing, thought)
        self._history.remember(request.messages, answer, exact)


def _note(figures: TurnFigures, event: Event, began: float) -> None:
    """Add to the figures of a turn what an event says."""
    match event:
        case Started(prompt, cached, computed_again=again):
            figures.tokens |= {"prompt": prompt, "cached": cached}
            if again:
                figures.tokens["computed_again"] = again
        case PartStarted() if figures.first is None:
            figures.first = time.monotonic() - began
        case Finished(reason, usage) if figures.finish != "error":
            figures.finish = reason
            figures.tokens |= {
                "prompt": usage.prompt_tokens,
                "cached": usage.cached_tokens,
                "completion": usage.completion_tokens,
                "reasoning": usage.reasoning_tokens,
            }
        case Failed():
            figures.finish = "error"
        case _:
            pass


class _Calls:
    """The parts of one turn: the ids and checks of its calls, and what they make of its end.

    `counts` is told their outcomes. `made` are the calls that were delivered, `text` what was said
    beside them. `thought` says that there was a thought, `cut` that a call could not be delivered.
    """

    def __init__(self, tools: Sequence[ToolSpec], counts: dict[str, int]) -> None:
        self._schemas = {tool.name: tool.parameters for tool in tools}
        self._counts = counts
        self.made: list[ToolCall] = []
        self.thought = self.cut = False
        self._texts: list[str] = []
        self._kind: PartKind = "text"
        self._id = self._name = ""
        self._arguments: list[str] = []
        self._delivered = False
        # What became of the last call so far, and whether it was written faultily.
        self._outcome = ""
        self._faulty = False

    @property
    def text(self) -> str:
        return "".join(self._texts)

    def see(self, event: Event) -> Event:
        match event:
            case PartStarted(kind, name):
                self._kind = kind
                self.thought |= kind == "reasoning"
                if kind == "tool_call":
                    self._name, self._id = name, f"call_{secrets.token_hex(12)}"
                    self._arguments = []
                    self._outcome, self._faulty = "", False
                    return replace(event, id=self._id)
            case PartDelta(text) if self._kind == "tool_call":
                self._arguments.append(text)
            case PartDelta(text) if self._kind == "text":
                self._texts.append(text)
            case PartEnded(complete) if self._kind == "tool_call":
                if complete:
                    self._check("".join(self._arguments) or "{}")
                else:
                    self._settle("cut")
                self.cut |= not complete
            case Finished("stop") if self._delivered:
                return replace(event, reason="tool_calls")
            case _:
                pass
        return event

    def notice(self, noticed: Noticed) -> None:
        """Count what the parser noticed, which may be of a call that was counted already."""
        if noticed.outcome == "text":
            self._count("text")
            return
        self._faulty = True
        if self._outcome == "ok":
            self._counts["ok"] -= 1
            self._settle("repaired")

    def _settle(self, outcome: str) -> None:
        self._outcome = outcome
        self._count(outcome)

    def _count(self, outcome: str) -> None:
        self._counts[outcome] = self._counts.get(outcome, 0) + 1

    def _check(self, arguments: str) -> None:
        self._delivered = True
        wrong = self._problem(self._name, arguments)
        self._settle("invalid" if wrong else "repaired" if self._faulty else "ok")
        if wrong:
            # The reason quotes what the model wrote, which is as private as the prompt.
            log.warning("A call of %s does not fit its schema", self._name)
            log.debug("A call of %s does not fit: %s", self._name, wrong)

    def _problem(self, name: str, arguments: str) -> str | None:
        try:
            read = loads(arguments)
        except ValueError as error:  # a foreign parser's arguments
            self.cut = True
            return f"its arguments are not JSON: {error}"
        if isinstance(read, dict):
            self.made.append(ToolCall(self._id, name, read))
        else:
            self.cut = True
        if name not in self._schemas:
            return "there is no such tool"
        return problem(read, self._schemas[name])
