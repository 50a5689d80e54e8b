"""Client text in a prompt: hidden from the template's code, kept from becoming a control token.

Rules of this file:
- What a client sent is data. Control-token text in it, whole or as an edge that the template might
  complete, stands behind a sentinel while the template runs, and comes back as a literal piece.
- An answer of ours that came back unchanged stands behind a sentinel too, and comes back as the
  ids that were generated, if the template leaves its turn as it was then.
- A sentinel in the midst of each text shows whether the template wrote it, once and in order.
- A client can't forge a sentinel: each rendering has a nonce of its own.
- Every pass over a text is linear in its length.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby, pairwise
from operator import itemgetter
from typing import Any, TypeAlias

from .messages import Exact, Message

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


# What `Controls.spans` found in texts, for those that are hidden again.
Seen: TypeAlias = dict[str, list[tuple[int, int, bool]]]


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
    template would write the thought of one, `call_of` one of its calls, and `place` the midst of
    a text.
    """

    text: str
    whole: bool
    answer: int | None = None
    thought_of: int | None = None
    call_of: int | None = None
    place: int | None = None

    @property
    def owner(self) -> int | None:
        """The number of the message that is to be replayed, if it is one's mark."""
        return next(
            (of for of in (self.answer, self.thought_of, self.call_of) if of is not None), None
        )


class Unfit(Exception):
    """These messages, by their numbers, can't be replayed: the template writes them otherwise.

    `framed` says that it writes more than its text into the turn of one.
    """

    def __init__(self, numbers: Collection[int], *, framed: bool = False) -> None:
        super().__init__(numbers)
        self.numbers = numbers
        self.framed = framed


@dataclass(frozen=True, slots=True)
class Turns:
    """How a template writes answers: `header` opens their turns, in prompts and history alike.

    Where answers are `bare`, nothing opens them: they stand where the prompt ended. `keep_thoughts`
    replays answers with the thoughts that the template would leave out.
    """

    header: str = ""
    keep_thoughts: bool = False
    bare: bool = False


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


def _exact_of(message: Message) -> Exact:
    if message.exact is None:
        raise ValueError("There is nothing to be replayed.")
    return message.exact


def _any_of(texts: Collection[str]) -> re.Pattern[str]:
    # An alternation of nothing would match everywhere; this matches nowhere.
    return re.compile("|".join(map(re.escape, texts)) or "(?!)")


class Hidden:
    """The sentinels of one rendering: hides client text in, and cuts the prompt at them."""

    def __init__(
        self,
        controls: Controls,
        *,
        watch: bool = False,
        span: bool = False,
        seen: Seen | None = None,
    ) -> None:
        self._controls = controls
        self._span = span
        self._seen = {} if seen is None else seen
        self._watch = watch
        self._places = 0
        # What has no text to be watched, and how many of the watched stand before it.
        self._names: list[tuple[int, str]] = []
        # The places that were found in what the template wrote, and where.
        self._found: list[tuple[int, int]] = []
        self._text = ""
        # A client can't guess the nonce, so whatever looks like a sentinel in its text is text.
        self._nonce = secrets.token_hex(8)
        self._marks: list[_Mark] = []
        self._exact: dict[int, Exact] = {}
        self._sentinels: dict[_Mark, str] = {}
        self._unchanged: dict[str, _Mark] = {}

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

    def watch(self, text: str, *, is_result: bool = False) -> str:
        """Do the same for a text of a message, which the template should write once, in order.

        A result is watched even if it is empty, where a turn could span it.
        """
        middle = text.find(" ", len(text) // 2)
        middle = len(text) // 2 if middle < 0 else middle
        watched = self._watch and (text.strip() or (is_result and self._span))
        return self._hide_text(text, middle if watched else None)

    def watch_call(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Hide a call and watch whether it is written: the first text in it, or else its name."""
        texts = (key for key, value in arguments.items() if isinstance(value, str))
        first = next((key for key in texts if arguments[key].strip()), None)
        if first is None:
            self._names.append((self._places, name))
        hidden = {
            self.hide_name(key): self.watch(value) if key == first else self.hide(value)
            for key, value in arguments.items()
        }
        return {"name": self.hide_name(name), "arguments": hidden}

    def hold(self, number: int, message: Message, thought_keys: Sequence[str]) -> dict[str, Any]:
        """Return what stands for a message that is to be replayed: its content and its thought.

        Where answers `span` what the template writes for them, its calls too, without arguments.
        """
        exact = self._exact[number] = _exact_of(message)
        held: dict[str, Any] = {"content": self._sentinel(_Mark("", whole=True, answer=number))}
        if exact.thought:
            thought = self._sentinel(_Mark("", whole=True, thought_of=number))
            held |= dict.fromkeys(thought_keys, thought)
        if self._span and message.tool_calls:
            # A template may take a call beside a text or a thought, but not beside both.
            if exact.thought and not message.content.strip():
                held["content"] = ""
            mark = self._sentinel(_Mark("", whole=True, call_of=number))
            held["tool_calls"] = [
                {
                    "type": "function",
                    "id": self.hide(call.id),
                    "function": {"name": self.hide_name(call.name), "arguments": {"x": mark}},
                }
                for call in message.tool_calls
            ]
        return held

    def pieces(self, rendered: str, turns: Turns = _NO_TURNS) -> list[Piece]:
        """Return the rendered text, cut at the sentinels, with the client's text put back.

        Raises Unfit if a held message can't be replayed where the template has put it.
        """
        text, marked = self._restored(rendered)
        self._text = text
        regions = (self._spanned if self._span else self._opens)(text, marked, turns)
        pieces: list[Piece] = []
        done = 0
        for start, end, mark in marked:
            if start < done:
                continue
            if mark.owner is not None:
                if mark.owner not in regions or regions[mark.owner][0] > start:
                    continue
                opens, closes = regions.pop(mark.owner)
                exact = self._exact[mark.owner]
                before = text[done:opens] + exact.opening
                pieces += [Piece(before, literal=False), Piece("", literal=False, ids=exact.ids)]
                done = closes
            elif mark.whole or self._controls.crosses(text, start, end):
                if done < start:
                    pieces.append(Piece(text[done:start], literal=False))
                pieces.append(Piece(text[start:end], literal=True))
                done = end
        if done < len(text):
            pieces.append(Piece(text[done:], literal=False))
        return pieces

    def lost(self) -> int:
        """Return how many of the watched texts were left out, moved or written twice.

        It looks at the text that `pieces` was given last.
        """
        places = dict(self._found)
        missing = self._places - len(places)
        moved = sum(one >= two for (one, _), (two, _) in pairwise(self._found))
        if missing or moved or not self._names:
            return missing + moved
        text = self._text
        done = 0
        for before, name in self._names:
            start = text.find(name, max(done, places.get(before - 1, 0)), places.get(before))
            missing += start < 0
            done = max(done, start + len(name))
        return missing

    def _opens(
        self, text: str, marked: Sequence[tuple[int, int, _Mark]], turns: Turns
    ) -> dict[int, tuple[int, int]]:
        """Return where the turns of the held answers open, behind their headers, and close."""
        found: dict[int, tuple[int, int]] = {}
        thoughts: dict[int, int] = {}
        twice: set[int] = set()
        framed = False
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
            header = start if turns.bare else header
            behind = header + len(turns.header)
            if exact.thought:
                as_it_was = thoughts.get(mark.answer, -1) >= behind
            else:
                as_it_was = text[behind:start] == exact.opening
                framed = framed or (not as_it_was and text.startswith(exact.opening, behind))
            closes = text.startswith(exact.closing, start)
            framed = framed or not closes
            if header >= 0 and closes and (as_it_was or turns.keep_thoughts):
                found[mark.answer] = behind, start
            done = start
        if unfit := twice | (self._exact.keys() - found):
            raise Unfit(unfit, framed=framed)
        return found

    def _spanned(
        self, text: str, marked: Sequence[tuple[int, int, _Mark]], turns: Turns
    ) -> dict[int, tuple[int, int]]:
        """Do the same where a turn is all that was written from its header to its closing.

        Nothing else that was said may stand in it.
        """
        # Where each mark stands, and whose it is; those of other texts are nobody's.
        places = [(start, mark.owner) for start, _, mark in marked if mark.owner is not None]
        places += [(start, -1) for _, start in self._found]
        stretches = [[*run] for _, run in groupby(sorted(places), key=itemgetter(1))]
        ends = [run[0][0] for run in stretches[1:]]
        thought = {mark.thought_of for _, _, mark in marked}
        texts = {(start, mark.answer) for start, _, mark in marked}
        found: dict[int, tuple[int, int]] = {}
        done = 0
        for run, end in zip(stretches, [*ends, len(text)], strict=False):
            (first, owner), (last, _) = run[0], run[-1]
            if owner >= 0:
                exact = self._exact[owner]
                header = text.rfind(turns.header, done, first) if turns.header else -1
                header = first if turns.bare and (first, owner) in texts else header
                behind = header + len(turns.header)
                closes = text.find(exact.closing, last, end) if exact.closing else -1
                again = bool(turns.header) and turns.header in text[last:closes]
                one_turn = header >= 0 <= closes and not again
                if exact.thought:
                    as_it_was = owner in thought
                else:
                    as_it_was = text.startswith(exact.opening, behind)
                if one_turn and owner not in found and (as_it_was or turns.keep_thoughts):
                    found[owner] = behind, closes
            done = last
        if unfit := self._exact.keys() - found:
            raise Unfit(unfit)
        return found

    def _restored(self, rendered: str) -> tuple[str, list[tuple[int, int, _Mark]]]:
        parts: list[str] = []
        marked: list[tuple[int, int, _Mark]] = []
        self._found = []
        done = length = 0
        for match in _SENTINEL.finditer(rendered):
            mark = self._mark_of(match)
            if mark is None:
                continue
            between = rendered[done : match.start()]
            parts += [between, mark.text]
            start = length + len(between)
            length = start + len(mark.text)
            if mark.place is None:
                marked.append((start, length, mark))
            else:
                self._found.append((mark.place, start))
            done = match.end()
        parts.append(rendered[done:])
        return "".join(parts), marked

    def _mark_of(self, sentinel: re.Match[str]) -> _Mark | None:
        if sentinel[0] in self._unchanged:
            return self._unchanged[sentinel[0]]
        number = _ESCAPED_DIGIT.sub(r"\1", sentinel[1]).translate(_FROM_PRIVATE)
        nonce, index = number[: len(self._nonce)], number[len(self._nonce) :]
        return self._marks[int(index, 16)] if nonce == self._nonce else None

    def _hide_text(self, text: str, middle: int | None = None) -> str:
        """Hide what is in this text, and mark its middle if it has one."""
        spans = self._seen.get(text)
        if spans is None:
            spans = self._seen[text] = self._controls.spans(text)
        cuts = [
            (start, end, self._sentinel(_Mark(text[start:end], whole)))
            for start, end, whole in spans
        ]
        if middle is not None:
            middle = next((end for start, end, _ in cuts if start < middle < end), middle)
            mark = _Mark("", whole=False, place=self._places)
            cuts = sorted([*cuts, (middle, middle, self._sentinel(mark))])
            self._places += 1
        parts: list[str] = []
        done = 0
        for start, end, sentinel in cuts:
            parts += [text[done:start], sentinel]
            done = end
        parts.append(text[done:])
        return "".join(parts)

    def _sentinel(self, mark: _Mark) -> str:
        if mark not in self._sentinels:
            number = f"{self._nonce}{len(self._marks):x}".translate(_TO_PRIVATE)
            self._sentinels[mark] = f"{_OPEN}{number}{_CLOSE}"
            self._unchanged[self._sentinels[mark]] = mark
            self._marks.append(mark)
        return self._sentinels[mark]
