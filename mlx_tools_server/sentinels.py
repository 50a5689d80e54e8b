"""Client text in a prompt: hidden from the template's code, kept from becoming a control token.

Rules of this file:
- What a client sent is data. Control-token text in it, whole or as an edge that the template might
  complete, stands behind a sentinel while the template runs, and comes back as a literal piece.
- An answer of ours that came back unchanged stands behind a sentinel too, and comes back as the
  ids that were generated, if the template leaves its turn as it was then.
- A client can't forge a sentinel: each rendering has a nonce of its own.
- Every pass over a text is linear in its length.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from .messages import Exact

# Keys that templates look up, so they must stay as they are.
_SCHEMA_WORD = re.compile(
    r"\$\w+|additionalProperties|allOf|anyOf|const|default|description|enum|format|items|name"
    "|nullable|oneOf|parameters|properties|required|title|type"
)

_OPEN, _CLOSE, _DIGIT_0 = "\ue000", "\ue001", 0xE010
_TO_PRIVATE = {ord(f"{n:x}"): chr(_DIGIT_0 + n) for n in range(16)}
_FROM_PRIVATE = {_DIGIT_0 + n: f"{n:x}" for n in range(16)}
# A template may print a string as ASCII JSON or as Python's repr; both escape a private-use
# character in this way, and an encoding of an encoding doubles the backslash.
_ESCAPED_DIGIT = re.compile(r"\\{1,4}ue01([0-9a-f])")
_DIGIT = r"(?:[\ue010-\ue01f]|\\{1,4}ue01[0-9a-f])"
_SENTINEL = re.compile(rf"(?:\ue000|\\{{1,4}}ue000)({_DIGIT}{{17,}})(?:\ue001|\\{{1,4}}ue001)")


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of a rendered prompt; literal text is the client's, and spells or completes a token.

    A piece with `ids` is those tokens, and has no text.
    """

    text: str
    literal: bool
    ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Mark:
    """Client text behind a sentinel: a whole control token, or an edge that might complete one.

    `answer` is the number of a message whose ids are to stand here; `thought_of` marks where the
    template would write the thought of one.
    """

    text: str
    whole: bool
    answer: int | None = None
    thought_of: int | None = None


class Unfit(Exception):
    """These messages, by their numbers, can't be replayed: the template writes them otherwise."""

    def __init__(self, numbers: Collection[int]) -> None:
        super().__init__(numbers)
        self.numbers = numbers


@dataclass(frozen=True, slots=True)
class Turns:
    """How a template writes answers: `header` opens their turns, in prompts and history alike.

    `keep_thoughts` replays answers with the thoughts that the template would leave out.
    """

    header: str = ""
    keep_thoughts: bool = False


_NO_TURNS = Turns()


class Controls:
    """Finds control tokens in client text, whole or cut by the text's ends."""

    def __init__(self, tokens: Collection[str]) -> None:
        tokens = sorted(filter(None, tokens), key=len, reverse=True)
        self.pattern = _any_of(tokens)
        self.longest = max(map(len, tokens), default=0)
        # A token that starts or ends like a word would make edges of ordinary words.
        opening = [token for token in tokens if not token[0].isalnum()]
        closing = [token for token in tokens if not token[-1].isalnum()]
        self._heads = {token[:cut] for token in opening for cut in range(1, len(token))}
        self._tails = {token[cut:] for token in closing for cut in range(1, len(token))}
        self._first = _any_of({token[0] for token in opening})
        self._last = _any_of({token[-1] for token in closing})
        words = {word for token in tokens for word in _insides(token)}
        self.words = {word for word in words if not _SCHEMA_WORD.fullmatch(word)}

    def spans(self, text: str) -> list[tuple[int, int, bool]]:
        """Return (start, end, whole) of all that must be hidden, in order and apart."""
        found = [(match.start(), match.end(), True) for match in self.pattern.finditer(text)]
        # A template may trim the text before it writes on, so the edges are those of the trimmed.
        start, end = len(text) - len(text.lstrip()), len(text.rstrip())
        stop = found[0][0] if found else end
        for match in self._last.finditer(text, start, min(stop, start + self.longest)):
            if text[start : match.end()] in self._tails:
                found = [(start, match.end(), False), *(span for span in found if span[2])]
        floor = found[-1][1] if found else start
        for match in self._first.finditer(text, max(floor, end - self.longest), end):
            if text[match.start() : end] in self._heads:
                found.append((match.start(), end, False))
                break
        return found

    def crosses(self, text: str, start: int, end: int) -> bool:
        """Return whether a control token in `text` has a part of start:end."""
        for begin in range(max(0, start - self.longest + 1), end):
            match = self.pattern.match(text, begin)
            if match and match.end() > start:
                return True
        return False


def _insides(token: str) -> list[str]:
    """Return what stands between any two signs of a token: `think` and `/think` in `</think>`."""
    signs = [match.start() for match in re.finditer(r"\W", token)]
    return [token[left + 1 : right] for left, right in combinations(signs, 2) if right - left > 1]


def _any_of(texts: Collection[str]) -> re.Pattern[str]:
    # An alternation of nothing would match everywhere; this matches nowhere.
    return re.compile("|".join(map(re.escape, texts)) or "(?!)")


class Hidden:
    """The sentinels of one rendering: hides client text in, and cuts the prompt at them."""

    def __init__(self, controls: Controls) -> None:
        self._controls = controls
        # A client can't guess the nonce, so whatever looks like a sentinel in its text is text.
        self._nonce = secrets.token_hex(8)
        self._marks: list[_Mark] = []
        self._exact: dict[int, Exact] = {}
        self._sentinels: dict[_Mark, str] = {}

    def hide(self, value: Any) -> Any:
        """Return a copy of this JSON value with control-token text behind sentinels."""
        if isinstance(value, str):
            return self._hide_text(value)
        if isinstance(value, Mapping):
            return {self.hide_name(key): self.hide(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.hide(item) for item in value]
        return value

    def hide_name(self, name: str) -> str:
        """Do the same for a name or key, which some templates write as a tag: `<key>`."""
        if name in self._controls.words:
            return self._sentinel(_Mark(name, whole=False))
        return self._hide_text(name)

    def hold(self, number: int, exact: Exact) -> dict[str, str]:
        """Return what stands for a message that is to be replayed: its content and its thought."""
        self._exact[number] = exact
        held = {"content": self._sentinel(_Mark("", whole=True, answer=number))}
        if exact.thought:
            held["reasoning_content"] = self._sentinel(_Mark("", whole=True, thought_of=number))
        return held

    def pieces(self, rendered: str, turns: Turns = _NO_TURNS) -> list[Piece]:
        """Return the rendered text, cut at the sentinels, with the client's text put back.

        Raises Unfit if a held message can't be replayed where the template has put it.
        """
        text, marked = self._restored(rendered)
        opens = self._opens(text, marked, turns)
        pieces: list[Piece] = []
        done = 0
        for start, end, mark in marked:
            if mark.thought_of is not None:
                continue
            if mark.answer is not None:
                exact = self._exact[mark.answer]
                before = text[done : opens[mark.answer]] + exact.opening
                pieces += [Piece(before, literal=False), Piece("", literal=False, ids=exact.ids)]
                done = end
            elif mark.whole or self._controls.crosses(text, start, end):
                if done < start:
                    pieces.append(Piece(text[done:start], literal=False))
                pieces.append(Piece(text[start:end], literal=True))
                done = end
        if done < len(text):
            pieces.append(Piece(text[done:], literal=False))
        return pieces

    def _opens(
        self, text: str, marked: Sequence[tuple[int, int, _Mark]], turns: Turns
    ) -> dict[int, int]:
        """Return where the turns of the held answers open, behind their headers."""
        found: dict[int, int] = {}
        thoughts: dict[int, int] = {}
        twice: set[int] = set()
        done = 0
        for start, _, mark in marked:
            if mark.thought_of is not None:
                thoughts[mark.thought_of] = start
            if mark.answer is None:
                continue
            if mark.answer in found:
                twice.add(mark.answer)
            exact = self._exact[mark.answer]
            header = text.rfind(turns.header, done, start) if turns.header else -1
            behind = header + len(turns.header)
            if exact.thought:
                as_it_was = thoughts.get(mark.answer, -1) >= behind
            else:
                as_it_was = text[behind:start] == exact.opening
            closes = text.startswith(exact.closing, start)
            if header >= 0 and closes and (as_it_was or turns.keep_thoughts):
                found[mark.answer] = behind
            done = start
        if unfit := twice | (self._exact.keys() - found):
            raise Unfit(unfit)
        return found

    def _restored(self, rendered: str) -> tuple[str, list[tuple[int, int, _Mark]]]:
        parts: list[str] = []
        marked: list[tuple[int, int, _Mark]] = []
        done = length = 0
        for match in _SENTINEL.finditer(rendered):
            mark = self._mark_of(match)
            if mark is None:
                continue
            between = rendered[done : match.start()]
            parts += [between, mark.text]
            start = length + len(between)
            length = start + len(mark.text)
            marked.append((start, length, mark))
            done = match.end()
        parts.append(rendered[done:])
        return "".join(parts), marked

    def _mark_of(self, sentinel: re.Match[str]) -> _Mark | None:
        number = _ESCAPED_DIGIT.sub(r"\1", sentinel[1]).translate(_FROM_PRIVATE)
        nonce, index = number[: len(self._nonce)], number[len(self._nonce) :]
        return self._marks[int(index, 16)] if nonce == self._nonce else None

    def _hide_text(self, text: str) -> str:
        parts: list[str] = []
        done = 0
        for start, end, whole in self._controls.spans(text):
            parts += [text[done:start], self._sentinel(_Mark(text[start:end], whole))]
            done = end
        parts.append(text[done:])
        return "".join(parts)

    def _sentinel(self, mark: _Mark) -> str:
        if mark not in self._sentinels:
            number = f"{self._nonce}{len(self._marks):x}".translate(_TO_PRIVATE)
            self._sentinels[mark] = f"{_OPEN}{number}{_CLOSE}"
            self._marks.append(mark)
        return self._sentinels[mark]
