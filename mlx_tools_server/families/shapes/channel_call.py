"""The channel call: gpt-oss speaks in messages, each with a channel and perhaps a recipient.

Rules of this file:
- `<|channel|>NAME to=RECIPIENT<|message|>` opens a message, with more words between them now and
  then; `<|end|>` ends it. What is said on the channel `analysis` is a thought, on any other text.
- A message to `functions.NAME` is a call, and its text the arguments; so is one to any other
  recipient whose text is an object. The header is never said. The first one may begin with its
  recipient, since the prompt has opened the message.
"""

from __future__ import annotations

import re
from typing import Any

from ..arguments import Arguments
from ..literals import Literals
from ..notations import JSON
from ..tape import Steps
from .literal_call import LiteralCallParser
from .literal_head import FENCE

CHANNEL, START, MESSAGE, END = "<|channel|>", "<|start|>", "<|message|>", "<|end|>"
THOUGHTS = "analysis"

# No header is as long as this.
MAX_HEADER = 256

_TO = "to="
_HEADER_END = re.compile("<")
_RECIPIENT = re.compile(r"\bto=(?:functions\.)?([\w.\-]+)")
_CHANNEL = re.compile(rf"{re.escape(CHANNEL)}\s*(\w+)")


class ChannelCallParser(LiteralCallParser):
    """Reads the messages of an answer."""

    def __init__(self, *args: Any, **options: Any) -> None:
        # A thought is a message like any other here.
        super().__init__(*args, **{**options, "thinking": None})

    def _run(self) -> Steps[None]:
        offset = yield from self._tape.space(0)
        if (yield from self._tape.literal(offset, (_TO,))):  # the prompt opened the message
            yield from self._message("")
        yield from super()._run()

    @property
    def _call_markers(self) -> tuple[str, ...]:
        return (*self._form.openers, *self._form.closers, MESSAGE)

    def _call(self, marker: str) -> Steps[bool]:
        if self._in_code_span and (yield from self._tape.literal(len(marker), ("`",))):
            return False  # a mention
        if marker in self._form.openers:
            yield from self._message(marker)
        else:  # the end of a message, or one without a header
            self._tape.take(len(marker))
            self._turn(thought=self._thought and marker == MESSAGE)
        return True

    def _message(self, marker: str) -> Steps[None]:
        """Read the header that a marker opens, and the message if it is a call."""
        tape = self._tape
        end = yield from self._header_end()
        if end < 0:
            cut = tape.starved and tape.cut
            tape.take_until(None) if cut else tape.take(len(marker))
            self._heads.name_at = None
            self._taken_over = False
            return
        header = tape.peek(0, end)
        recipient, channel = _RECIPIENT.search(header), _CHANNEL.search(header)
        if self._heads.name_at is not None:
            self._heads.begin(self._heads.name_at)
        self._heads.name_at = None
        self._turn(thought=channel is not None and channel[1] == THOUGHTS and not recipient)
        name = self._heads.known(recipient[1]) if recipient else ""
        if not name or not (yield from self._message_to(name, end)):
            tape.take(end + len(MESSAGE))

    def _turn(self, *, thought: bool) -> None:
        """Begin a message; what ends its last one is framing."""
        self._space.clear()
        self._end_open()
        self._thought, self._line_start = thought, True

    def _header_end(self) -> Steps[int]:
        """Return the offset of what ends the header; -1 if it has no end."""
        tape, lead = self._tape, CHANNEL + self._form.lead
        if self._tools and (yield from tape.literal(0, (lead,))):
            self._heads.name_at = len(lead)
        end = 0
        while 0 <= end < MAX_HEADER:
            end = yield from tape.find(end, _HEADER_END, MAX_HEADER)
            if end >= 0 and (yield from tape.literal(end, (MESSAGE,))):
                return end
            end = end + 1 if end >= 0 else -1
        return -1

    def _message_to(self, name: str, end: int) -> Steps[bool]:
        """Read the message to a recipient as a call; return False if it can't be one."""
        tape = self._tape
        begin = yield from tape.space(end + len(MESSAGE))
        inner = yield from self._heads.fence(begin)
        fence, begin = inner > begin, inner
        mark = yield from tape.literal(begin, ("{", '"', *self._form.closers))
        if not mark and not (yield from tape.at_end(begin)):
            return False
        if not self._tools or (mark != "{" and name not in self._tools):
            return False
        self._taken_over = False
        if mark == '"':
            tape.take(begin)
            told = yield from self._encoded(name, 0)
            self.stopped = told and self._first_call_only
            return True
        tape.take(begin)
        self._open_call(name)
        if fence:
            self._mend()
        if mark == "{":
            tape.take(1)
            self._fence = FENCE if fence else ""
            yield from self._arguments(name, Literals(tape, JSON, self._stops))
            if not self._first_call_only:
                yield from self._message_end()
        elif tape.ended and tape.cut and not mark:
            self._end(complete=False)
        else:
            Arguments(self._pieces.append).close()
            self._end()
            self._mend()
        self.stopped = self._first_call_only
        return True

    def _message_end(self) -> Steps[None]:
        """Swallow braces and fences that are too many behind a call."""
        tape = self._tape
        while True:
            offset = yield from tape.space(0)
            mark = yield from tape.literal(offset, ("}", FENCE))
            if not mark:
                return
            tape.take(offset + len(mark))
            self._mend()
