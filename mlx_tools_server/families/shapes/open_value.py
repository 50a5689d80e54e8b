"""A value that has no escapes, while it is read: all is payload until its closer is certain.

Rules of this file:
- No form shows here: what may close a value, and when it does, is told by a form's own class.
- In a constrained call a grammar decides where a value ends, until it lets go.
- A newline at the end of what was read waits: it may be framing. A text that is cut keeps what may
  have been a closer to itself.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod

from ..arguments import Argument
from ..tape import Steps, Tape
from .calls import Rule

# What `_ahead` finds where the text ends.
END = "end"


class OpenValue(ABC):
    """One value while it is read; `unclosed` says that it was read, and had no closer of its own.

    `tags` are the tags that may close it or that count in it, and `endings` the newlines that may
    be framing at its end, the longest first.
    """

    def __init__(
        self,
        tape: Tape,
        argument: Argument,
        rule: Rule,
        *,
        tags: tuple[str, ...],
        endings: tuple[str, ...] = ("\r\n", "\n", "\r"),
    ) -> None:
        self._tape = tape
        self._argument = argument
        self._rule = rule
        self._tags = tags
        self._endings = endings
        self._tail = ""
        self._empty = True
        self.unclosed = False

    @abstractmethod
    def _begin(self) -> Steps[re.Pattern[str]]:
        """Take what frames the value before it; return the characters that may begin its closer."""

    @abstractmethod
    def _read(self, text: str) -> None:
        """Notice the payload that was read."""

    @abstractmethod
    def _is_framing(self, *, implied: bool) -> bool:
        """Return whether the newline before a closer, which may be an implied one, is framing."""

    @abstractmethod
    def _grammar_closes(self, tag: str) -> Steps[bool | None]:
        """Return whether a constrained value ends here; None where its grammar has let go."""

    @abstractmethod
    def _ends(self, tag: str) -> Steps[int | None]:
        """Return the size of the closer that ends the value here (0: implied), None if none."""

    def read(self) -> Steps[bool]:
        """Take the value and its closer; return False if the text was cut before that."""
        tape = self._tape
        first = yield from self._begin()
        while True:
            self._write(tape.take_until(first))
            if tape.empty:
                if tape.ended:
                    break
                yield
                continue
            tape.starved = False
            closer = yield from self._closer()
            if closer is not None:
                tape.take(closer)
                self._close(implied=not closer)
                return True
            if self._is_cut_here:
                tape.take_until(None)  # it may be a closer, so it must not pass as payload
                break
            self._write(tape.take(1))
        if not tape.cut:
            self._close(implied=True)
        return not tape.cut

    @property
    def _is_cut_here(self) -> bool:
        """Whether the text was cut within what was looked at."""
        return self._tape.starved and self._tape.cut

    def _write(self, text: str) -> None:
        """Pass payload on, all but a newline at its end, which may be framing."""
        if not text:
            return
        self._empty = False
        self._read(text)
        text = self._tail + text
        self._tail = next((ending for ending in self._endings if text.endswith(ending)), "")
        if len(text) > len(self._tail):
            self._argument.write(text[: len(text) - len(self._tail)])

    def _close(self, *, implied: bool) -> None:
        if self._tail and not self._is_framing(implied=implied):
            self._argument.write(self._tail)
        self._argument.close()
        self.unclosed = self.unclosed or implied

    def _closer(self) -> Steps[int | None]:
        """Return the size of the closer that ends the value here (0: implied), None if none."""
        tag = yield from self._tape.literal(0, self._tags)
        if not tag:
            return None
        if self._rule.constrained:
            closes = yield from self._grammar_closes(tag)
            if closes is not None or self._is_cut_here:
                return len(tag) if closes else None
            self._let_go()
        return (yield from self._ends(tag))

    def _let_go(self) -> None:
        """Go by the parser's own rules from here on."""
        self._rule.constrained, self._rule.let_go = False, True

    def _ahead(self, offset: int, tags: tuple[str, ...]) -> Steps[tuple[str, int]]:
        """Return which tag follows after white space, or that the text ends, and its end."""
        tape = self._tape
        offset = yield from tape.space(offset)
        tag = yield from tape.literal(offset, tags)
        if not tag and (yield from tape.at_end(offset)) and not tape.cut:
            return END, offset
        return tag, offset + len(tag)
