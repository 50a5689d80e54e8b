"""The whole call: a foreign parser reads the text between two markers once it is complete.

Rules of this file:
- For families that mlx-lm parses and that have no shape of their own yet. The engine injects how
  mlx-lm splits text and reads calls, since importing its parsers loads the model runtime.
- A call that the foreign parser can't read becomes text, markers included. A call that was cut
  becomes text as well; nothing half-read is handed on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ...events import ParsedEvent
from ...messages import ToolSpec
from ..parser import Parser


class Splitter(Protocol):
    """Cuts one answer's text into `normal`, `reasoning` and `tool` pieces, markers left out."""

    def split(self, text: str) -> Sequence[tuple[str, str]]:
        """Return the pieces that are certain by now, each with its state."""

    def flush(self) -> tuple[str, str]:
        """Return what is held back, with its state."""


class ForeignFormat(Protocol):
    """How another library splits answers and reads calls."""

    name: str
    opener: str
    closer: str

    def splitter(self, *, tools: bool, thought_open: bool) -> Splitter:
        """Return a fresh splitter; without `tools`, call markers are text."""

    def read(self, text: str, tools: Sequence[ToolSpec]) -> Sequence[tuple[str, Mapping[str, Any]]]:
        """Return the calls that the text between two markers spells; raise ValueError if none."""


class WholeCallParser(Parser):
    """Reads calls of a foreign format."""

    def __init__(
        self,
        form: ForeignFormat,
        tools: Sequence[ToolSpec],
        *,
        thought_open: bool = False,
        first_call_only: bool = False,
        stop: Sequence[str] = (),
    ) -> None:
        super().__init__(stop=stop)
        self._form = form
        self._tools = tools
        self._first_call_only = first_call_only
        self._splitter = form.splitter(tools=bool(tools), thought_open=thought_open)
        self._state = "reasoning" if thought_open else "normal"
        self._thought = thought_open
        self._call_text: list[str] = []

    def feed(self, text: str) -> list[ParsedEvent]:
        """Read more text and return the events that are certain by now."""
        return self._pieces_in(self._splitter.split(text) if not self.stopped else ())

    def close(self, *, cut: bool = False) -> list[ParsedEvent]:
        """Read the end of the text; a format without a closing marker ends its call here."""
        events = [] if self.stopped else self._pieces_in([self._splitter.flush()])
        if self._state == "tool" and not self.stopped:
            self._finish_call(closer="", cut=cut)
        return events + super().close(cut=cut)

    def _pieces_in(self, pieces: Sequence[tuple[str, str]]) -> list[ParsedEvent]:
        events: list[ParsedEvent] = []
        for state, text in pieces:
            if state != self._state and not self.stopped:
                self._change(state)
            if self.stopped:
                break
            if state == "tool":
                self._call_text.append(text)
            else:
                events += super().feed(text)
        return events + self._flush()

    def _change(self, state: str) -> None:
        self._say(self._tape.take_until(None))  # the start of a stop string that did not come
        if self._state == "tool":
            self._finish_call(closer=self._form.closer, cut=False)
        elif self._state == "reasoning":
            self._space.clear()
            self._end_open()
        self._state = state
        self._thought = state == "reasoning"

    def _finish_call(self, *, closer: str, cut: bool) -> None:
        text = "".join(self._call_text)
        self._call_text.clear()
        try:
            calls = () if cut else self._form.read(text, self._tools)
        except ValueError:
            calls = ()
        if not calls:
            self._thought = False
            self._notice("text")
            self._say(f"{self._form.opener}{text}{closer}")
        for name, arguments in calls[:1] if self._first_call_only else calls:
            self._say_call(name, arguments)
            if closer != self._form.closer:
                self._mend()
            self.stopped = self._first_call_only
