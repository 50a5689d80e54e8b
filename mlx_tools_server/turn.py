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
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace

from .engine.engine import Engine, Prompt
from .events import Event, Failed, Finished, PartDelta, PartEnded, PartStarted
from .jsontext import loads
from .messages import ChatRequest, Options, TextRequest, ToolSpec
from .schema import problem

log = logging.getLogger(__name__)


class Counters:
    """What the server has done so far; safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def add(self, name: str, amount: int = 1) -> None:
        """Count something."""
        with self._lock:
            self._counts[name] += amount

    def snapshot(self) -> Mapping[str, int]:
        """Return all counts."""
        with self._lock:
            return dict(self._counts)


class Turns:
    """Runs turns on one engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.counters = Counters()
        self._ended = threading.Condition()
        self._running = 0

    def wait_until_ended(self, timeout: float) -> None:
        """Wait, at most `timeout` seconds, until no turn runs any more."""
        with self._ended:
            self._ended.wait_for(lambda: self._running == 0, timeout)

    def chat(self, request: ChatRequest) -> Generator[Event, None, None]:
        """Answer a conversation; raises RequestError before the first event if it can't."""
        prompt = self.engine.prepare_chat(request)
        return self._events(prompt, request.options, request.tools)

    def text(self, request: TextRequest) -> Generator[Event, None, None]:
        """Continue a raw prompt; raises RequestError before the first event if it can't."""
        prompt = self.engine.prepare_text(request)
        return self._events(prompt, request.options, ())

    def _events(
        self, prompt: Prompt, options: Options, tools: Sequence[ToolSpec]
    ) -> Generator[Event, None, None]:
        self.counters.add("requests")
        calls = _Calls(tools, self.counters)
        events = self.engine.run(prompt, options)
        with self._ended:
            self._running += 1
        try:
            for event in events:
                yield calls.see(event)
        finally:
            events.close()
            with self._ended:
                self._running -= 1
                self._ended.notify_all()


class _Calls:
    """The calls of one turn: their ids, their checks, and what they make of its end."""

    def __init__(self, tools: Sequence[ToolSpec], counters: Counters) -> None:
        self._schemas = {tool.name: tool.parameters for tool in tools}
        self._counters = counters
        self._open: str | None = None
        self._arguments: list[str] = []
        self._delivered = False

    def see(self, event: Event) -> Event:
        match event:
            case PartStarted("tool_call", name):
                self._open = name
                self._arguments = []
                return replace(event, id=f"call_{secrets.token_hex(12)}")
            case PartDelta(text) if self._open is not None:
                self._arguments.append(text)
            case PartEnded(complete) if self._open is not None:
                if complete:
                    self._delivered = True
                    self._check(self._open)
                self._open = None
            case Finished("stop") if self._delivered:
                return replace(event, reason="tool_calls")
            case Failed():
                self._counters.add("failures")
            case _:
                pass
        return event

    def _check(self, name: str) -> None:
        self._counters.add("tool_calls")
        if wrong := self._problem(name, "".join(self._arguments) or "{}"):
            self._counters.add("invalid_tool_calls")
            log.warning("a call of %s does not fit: %s", name, wrong)

    def _problem(self, name: str, arguments: str) -> str | None:
        if name not in self._schemas:
            return "there is no such tool"
        try:
            return problem(loads(arguments), self._schemas[name])
        except ValueError as error:  # a foreign parser's arguments
            return f"its arguments are not JSON: {error}"
