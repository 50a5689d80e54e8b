"""The base of every parser: text, thoughts and stop strings; calls are added by the shapes.

Rules of this file:
- Sans-IO: `feed(text)` and `close(cut=...)` return events, and however the text is cut, the
  events fold to the same answer.
- Text is passed on as soon as it can't be a marker. White space is held back until it is known
  what follows, since white space that touches a call or a thought is framing.
- Nothing is lost: what turns out to be no marker, thought or call is said as text.
- Stop strings count in text and thoughts only, never inside a call.
- A call that was written faultily and read all the same is noticed, and so is what looks like a
  call and is none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..events import Noticed, ParsedEvent, PartDelta, PartEnded, PartKind, PartStarted
from ..jsontext import dumps
from .tape import SPACE, Steps, Tape


@dataclass(frozen=True, slots=True)
class Thinking:
    """How a family marks its thoughts."""

    open: str = "<think>"
    close: str = "</think>"


@dataclass(frozen=True, slots=True)
class Begun:
    """A call that has certainly begun: the text behind its opener so far, which is mostly "".

    `wrapped` calls end with their wrapper, bare ones with themselves.
    """

    text: str
    wrapped: bool


class Parser:
    """Reads generated text into part events; one instance reads one answer.

    `thought_open` says that the prompt ended inside a thought. `stopped` becomes True where a
    stop string or a limit on calls ends the answer; what comes after that is ignored.
    `stop_string` is the stop string that did.
    """

    def __init__(
        self,
        *,
        thinking: Thinking | None = None,
        thought_open: bool = False,
        stop: Sequence[str] = (),
    ) -> None:
        self.stopped = False
        self.stop_string = ""
        self._thinking = thinking
        self._thought = thought_open and thinking is not None
        self._unclosed = False
        self._stop = tuple(stop)
        self._tape = Tape()
        self._events: list[ParsedEvent] = []
        self._pieces: list[str] = []
        self._open_kind: PartKind | None = None
        self._last_kind: PartKind | None = None
        # Whether the call that began last was written as it should be, as far as is known.
        self._plain = False
        self._space: list[str] = []
        self._line_start = True
        self._before = ""
        self._first = self._first_characters()
        self._steps = self._run()

    def feed(self, text: str) -> list[ParsedEvent]:
        """Read more text and return the events that are certain by now."""
        if not self.stopped:
            self._tape.push(text)
            next(self._steps, None)
        return self._flush()

    def close(self, *, cut: bool = False) -> list[ParsedEvent]:
        """Read the end of the text; `cut` says that the model was stopped, not finished."""
        self._tape.end(cut=cut)
        next(self._steps, None)
        if self._open_kind is not None:
            self._end()
        return self._flush()

    @property
    def taken(self) -> int:
        """How many characters of the text belong to the answer, once it is `stopped`."""
        return self._tape.taken

    @property
    def thinking(self) -> bool:
        """Whether the text so far ends inside a thought."""
        return self._thought

    # What the shapes override.

    @property
    def begun(self) -> Begun | None:
        """The call that has begun and that a grammar may take over now; None at any other time."""
        return None

    @property
    def let_go(self) -> bool:
        """Whether a grammar has let go of a call, so that it may be any."""
        return False

    def constrain(self) -> None:
        """Say that a grammar takes over the call that has begun.

        Its values end by the grammar's rule from here on, even if the grammar gives up on the way.
        """

    @property
    def _call_markers(self) -> Sequence[str]:
        """The texts that may open a call."""
        return ()

    def _call(self, marker: str) -> Steps[bool]:
        """Read the call that may stand at this marker; take nothing and return False if none."""
        return False
        yield

    # Text and thoughts.

    def _run(self) -> Steps[None]:
        if self._thinking:
            yield from self._enter(self._thinking)
        tape = self._tape
        while not self.stopped:
            self._say(tape.take_until(self._first))
            if not tape.empty:
                yield from self._candidate()
            elif tape.ended:
                break
            else:
                yield
        self._settle_space()

    def _enter(self, thinking: Thinking) -> Steps[None]:
        """Read a place where a model may open its thought, even once more, or close it again."""
        size = yield from self._tape.space(0)
        tag = yield from self._tape.literal(size, (thinking.open, thinking.close))
        if tag == thinking.close:
            self._tape.take(size)
            yield from self._leave(thinking)
        elif tag or self._thought:
            self._thought = True
            size = yield from self._tape.space(size + len(tag))
            self._tape.take(size)

    def _candidate(self) -> Steps[None]:
        """Read a character that may begin a marker."""
        tape = self._tape
        if stop := (yield from tape.literal(0, self._stop)):
            self.stopped, self.stop_string = True, stop
            return
        markers = tuple(self._call_markers)
        if self._thinking and (self._thought or self._unclosed):
            markers += (self._thinking.close,)
        marker = yield from tape.literal(0, markers)
        if self._thinking and marker == self._thinking.close:
            if self._thought:
                yield from self._leave(self._thinking)
            else:
                self._unclosed = False
                tape.take(len(marker))
        elif not marker or not (yield from self._call(marker)):
            self._say(tape.take(len(marker) or 1))
        elif self._thinking and not self.stopped:
            yield from self._enter(self._thinking)

    def _leave(self, thinking: Thinking) -> Steps[None]:
        """Read the end of a thought; models double its tag now and then."""
        self._thought = False
        self._space.clear()
        self._end_open()
        while (yield from self._tape.literal(0, (thinking.close,))):
            self._tape.take(len(thinking.close))
            size = yield from self._tape.space(0)
            self._tape.take(size)
        self._line_start = True

    def _say(self, text: str) -> None:
        """Pass text on, holding back the white space at its end."""
        if not text:
            return
        solid = text.rstrip(SPACE)
        if solid:
            self._open("reasoning" if self._thought else "text")
            self._pieces += self._space
            self._pieces.append(solid)
            self._space = [text[len(solid) :]]
        else:
            self._space.append(text)
        self._before = (self._before + text)[-2:]
        _, newline, line = text.rpartition("\n")
        self._line_start = (bool(newline) or self._line_start) and not line.strip(SPACE)

    @property
    def _in_code_span(self) -> bool:
        """Whether the text so far ends in a single backquote, which is no fence."""
        return self._before.endswith("`") and self._before != "``"

    def _settle_space(self) -> None:
        """Say the white space held back at the end, unless it only follows a call."""
        held = "".join(self._space)
        self._space.clear()
        if held and self._last_kind != "tool_call":
            self._open("reasoning" if self._thought else "text")
            self._pieces.append(held)

    def _first_characters(self) -> re.Pattern[str] | None:
        markers = [*self._stop, *self._call_markers]
        if self._thinking:
            markers.append(self._thinking.close)
        characters = "".join(sorted({marker[0] for marker in markers if marker}))
        return re.compile(f"[{re.escape(characters)}]") if characters else None

    # Events.

    def _open_call(self, name: str) -> None:
        """Begin a call; it ends the thought that it stands in, whose own end may follow later."""
        self._unclosed = self._unclosed or self._thought
        self._thought = False
        self._space.clear()
        self._open("tool_call", name)
        self._plain = True

    def _mend(self) -> None:
        """Notice that the call that began last was not written as it should be."""
        if self._plain:
            self._plain = False
            self._notice("repaired")

    def _notice(self, outcome: Literal["repaired", "text"]) -> None:
        self._events.append(Noticed(outcome))

    def _say_call(self, name: str, arguments: Mapping[str, Any]) -> None:
        """Pass on a call that is whole."""
        self._open_call(name)
        self._pieces.append(dumps(arguments))
        self._end()

    def _open(self, kind: PartKind, name: str = "") -> None:
        if self._open_kind == kind:
            return
        self._end_open()
        self._open_kind = self._last_kind = kind
        self._events.append(PartStarted(kind, name))

    def _end_open(self) -> None:
        if self._open_kind is not None:
            self._end()

    def _end(self, *, complete: bool = True) -> None:
        self._flush_pieces()
        self._events.append(PartEnded(complete))
        self._open_kind = None

    def _flush_pieces(self) -> None:
        text = "".join(self._pieces)
        self._pieces.clear()
        if text:
            self._events.append(PartDelta(text))

    def _flush(self) -> list[ParsedEvent]:
        self._flush_pieces()
        events, self._events = self._events, []
        return events
