"""Values of marked calls as rules: texts up to their closer, and everything else before one.

Rules of this file:
- A text is anything but the closer of a value and what opens one. It is one lexeme with its closer,
  spelled by what may follow each beginning of a marker: llguidance skips ahead in that, in neither
  a complement nor a lazy match. Where a control token begins the closer, that ends the lexeme.
- Behind a closer, and behind an opener in a text, the grammar may let go (`free`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...grammar.lark import Controls, Rules, escaped, literal
from ...grammar.nodes import Engine, fitting
from ...grammar.values import Expression, Framing, RawValues
from ...schema import Kinds
from .marks import Marks

# White space that may stand between a closer in a text and what shows that it is one of the text.
_GAP = r"[ \t\r\n]{0,16}"
_GUARDS = {"array": r"\[", "object": "{", "integer": r"\-0-9", "number": r"\-0-9"}
_SIMPLE = {
    "integer": "/-?(0|[1-9][0-9]*)/",
    "number": r"/-?(0|[1-9][0-9]{0,99})(\.[0-9]{1,99})?([eE][+\-]?[0-9]{1,2})?/",
    "boolean": '"true" | "false" | "True" | "False"',
    "null": '"null" | "None"',
}


def telling(marker: str) -> str:
    """Return the beginning of a marker up to the next `<` in it."""
    return marker[: marker.find("<", 1)] if "<" in marker[1:] else marker


class _Texts:
    """Regular expressions of texts that hold none of these markers."""

    def __init__(self, markers: Iterable[str]) -> None:
        self._markers = tuple(dict.fromkeys(map(telling, markers)))
        begun = f"<{self._beginnings('<')}"
        self.diverging = f"<{self._divergences('<')}"
        # A character of the text, with the beginnings of markers before it; and such at its end.
        self.piece = f"({begun})*{self.diverging}"
        self.tail = f"({begun})"

    def any(self, *, first: str = "", filled: bool = False) -> str:
        """Return the expression of a text that begins with none of the characters in `first`."""
        piece = f"([^<]|{self.piece})"
        if not (first or filled):
            return f"{piece}*{self.tail}*"
        start = f"([^<{first}]|{self.piece})"
        text = f"({start}{piece}*{self.tail}*|{self.tail}+)"
        return text if filled else f"{text}?"

    def _following(self, start: str) -> list[str]:
        return sorted({m[len(start)] for m in self._markers if m.startswith(start)})

    def _divergences(self, start: str) -> str:
        """Return what may follow `start` where no marker goes on, but another may begin."""
        following = self._following(start)
        choices = [f"[^<{''.join(map(_in_class, following))}]"]
        choices += [
            escaped(character) + self._divergences(start + character)
            for character in following
            if start + character not in self._markers
        ]
        return f"({'|'.join(choices)})"

    def _beginnings(self, start: str) -> str:
        choices = [
            escaped(character) + self._beginnings(start + character)
            for character in self._following(start)
            if start + character not in self._markers
        ]
        return f"({'|'.join(choices)})?" if choices else ""


def _in_class(character: str) -> str:
    return f"\\{character}" if character in "\\]^-[&~/" else character


def own_controls(marks: Marks, controls: Controls) -> Controls:
    """Return the control tokens without those that the family's markers are made of."""
    texts = "\0".join([*marks.texts, *marks.frames, *marks.header, *marks.block])
    for token in [token for token in controls.ids if token in texts]:
        controls = controls.without(token)
    return controls


class MarkedValues(RawValues):
    """Writes the rules of values; each rule but that of a `free` text ends with the closer."""

    def __init__(self, rules: Rules, engine: Engine, marks: Marks) -> None:
        super().__init__(rules, engine, Framing(marks.end_value, (), (), ""))
        self._marks = marks
        self._texts = _Texts((marks.end_value, marks.value_head))
        self._own = own_controls(marks, engine.controls)
        self._closer, self._rest = self._split(marks.end_value)
        # What begins where a text goes on behind its closer.
        self._behind = _Texts((marks.key.head, marks.end_call))

    def next(self, marker: str, *, spelled: bool = False) -> str:
        """Return the expression of a marker that may begin on the next line.

        Both are one lexeme: beside that of a text which goes on, no shorter one would count. A
        `spelled` one is written without control tokens.
        """
        head, rest = (marker, "") if spelled else self._split(marker)
        newline = "\\n?" if self._marks.newline else ""
        if not head:
            return f'"\\n"? {rest}' if newline else rest
        return f"/{newline}{escaped(head)}/ {rest}"

    def _split(self, marker: str) -> tuple[str, str]:
        """Return what a marker begins with in plain text, and the expression of the rest."""
        inside = [marker.find(token) for token in self._engine.controls.ids if token in marker]
        at = min(inside, default=len(marker))
        return marker[:at], self._engine.controls.spelled(marker[at:]) if marker[at:] else ""

    # Texts.

    def lines(self, *, filled: bool = False) -> str:
        """Return the rule of any text; a `filled` one is not empty."""
        if self._marks.cdata[0]:
            return self._with_cdata(f"[^<]{'+' if filled else '*'}", filled=filled)
        return self._text(self._texts.any(filled=filled))

    def guarded_lines(self, kinds: Kinds) -> str:
        """Return the rule of a text that can't be read as a value of these types."""
        guards = {_GUARDS[kind] for kind in kinds if kind in _GUARDS} | {r"\[", "{"}
        first = r" \t\r\n" + "".join(sorted(guards))
        if self._marks.cdata[0]:
            return self._with_cdata(f"([^<{first}][^<]*)?", first=first)
        return self._text(self._texts.any(first=first))

    def free(self) -> str:
        """Return the rule of what shows that the closer before it is one of the text."""
        gone = f"/{_GAP}([^ \\t\\r\\n<]|{self._behind.diverging})/"
        return self._rules.name("free", f"{gone} {self._engine.controls.anything}")

    def quoting(self) -> str:
        """Return the rule of a text that quotes an opener, and of anything behind."""
        if self._marks.cdata[0]:
            return self._broken_cdata()
        head, rest = self._split(telling(self._marks.value_head))
        texts = [self._lexeme(self._texts.any(), head, rest)]
        if tokens := self._openers():
            texts.append(self._lexeme(self._texts.any(), "", f"({' | '.join(tokens)})"))
        return self._rules.name(
            "quoting", f"({' | '.join(texts)}) {self._engine.controls.anything}"
        )

    def _openers(self) -> list[str]:
        """Return the control tokens of openers, but those that closers have too."""
        marks, controls = self._marks, self._engine.controls
        openers = "\0".join(
            [*marks.section_openers, marks.call.head, marks.key.head, marks.key.end]
        )
        closers = "\0".join([*marks.section_closers, marks.end_call, marks.end_value])
        found = (text for text in controls.ids if text in openers and text not in closers)
        return [controls.token(text) for text in found]

    def _text(self, regex: str) -> str:
        return self._rules.name("text", self._lexeme(regex, self._closer, self._rest))

    def _lexeme(self, regex: str, head: str, rest: str) -> str:
        """Return the expression of a text up to a marker, with control tokens in it."""
        last = self._rules.name("TEXT", f"/{regex}{escaped(head)}/")
        if quotable := self._own.quotable:
            part = self._rules.name("PART", f"/{self._texts.any(filled=True)}/")
            last_part = self._rules.name("TEXT", f"/{self._texts.any()}{escaped(head)}/")
            start = self._rules.name("PART", f"/{regex}/")
            return f"({last} | {start} {quotable} ({part}? {quotable})* {last_part}) {rest}"
        return f"{last} {rest}"

    def _with_cdata(self, regex: str, *, filled: bool = False, first: str = "") -> str:
        plain = self._rules.name("TEXT", f"/{regex}{escaped(self._closer)}/")
        opener, _ = map(escaped, self._marks.cdata)
        piece = f"{_BRACKETS}{'+' if filled else '*'}"
        if first:
            piece = rf"([^{first}\]]{_BRACKETS}*)?"
        cdata = self._rules.name("TEXT", rf"/{opener}{piece}\]{{2,}}>{escaped(self._closer)}/")
        return self._rules.name("text", f"({plain} | {cdata}) {self._rest}")

    def _broken_cdata(self) -> str:
        """Return the rule of CDATA that holds its own end, and of anything behind."""
        behind = _Texts((self._marks.end_value, self._marks.end_call)).diverging
        gone = rf"{_BRACKETS}*\]{{2,}}>{_GAP}([^ \t\r\n<]|{behind})"
        text = self._rules.name("TEXT", f"/{escaped(self._marks.cdata[0])}{gone}/")
        return self._rules.name("quoting", f"{text} {self._engine.controls.anything}")

    # Everything else.

    def _closed(self, body: str) -> Expression:
        """Return the expression of a terminal and the closer behind it."""
        head = f" {literal(self._closer)}" if self._closer else ""
        return Expression(f"{self._rules.name('VALUE', f'({body}){head}')} {self._rest}")

    def words(self, words: Sequence[str]) -> Expression:
        """Return the rule of one of these texts."""
        texts = list(words)
        if self._marks.cdata[0]:
            texts += [word.join(self._marks.cdata) for word in words if "]]>" not in word]
        return self._closed(" | ".join(map(literal, texts)))

    def matching(self, regexes: Sequence[str]) -> Expression | None:
        """Return the rule of a text that all these match; None if that is too much."""
        cdata = self._marks.cdata[0]
        text = "[^<]*" if cdata else self._texts.any()
        parts = " & ".join(f"/{regex}/" for regex in (*regexes, text))
        if self._engine.check(f"%llguidance {{}}\nstart: T\nT: {parts}\n"):
            return None
        ways = [self._all(*regexes, text)]
        if cdata:
            opener, closer = map(literal, self._marks.cdata)
            ways.append(f"{opener} {self._all(*regexes, _UNBROKEN)} {closer}")
        return self._closed(" | ".join(ways))

    def _all(self, *regexes: str) -> str:
        """Return the expression of texts that all these match, for a terminal."""
        return f"({' & '.join(self._rules.name('MATCH', f'/{regex}/') for regex in regexes)})"

    def simple(self, kinds: Kinds) -> Expression:
        """Return the rule of values of types that need no JSON schema."""
        return self._closed(" | ".join(_SIMPLE[kind] for kind in sorted(kinds)))

    def json(
        self, node: Any, root: Mapping[str, Any], kinds: Kinds | None, where: str
    ) -> Expression:
        """Return the rule of JSON values of a node, as strict as the engine can be."""
        text, notes = fitting(node, root, kinds, self._engine, where)
        self.notes += notes
        closer = self._engine.controls.spelled(self._marks.end_value)
        return Expression(f"{self._rules.name('json', text)} {closer}")

    def may_hold(self, text: str) -> bool:
        """Return whether a text holds no marker of a value."""
        markers = (self._marks.end_value, self._marks.value_head)
        starts = text.lstrip().startswith(self._marks.cdata[0] or "\0")
        return not starts and not any(telling(marker) in text for marker in markers)


# Texts without `]]>`, up to which one goes on.
_BRACKETS = r"([^\]]|\][^\]]|\]{2,}[^\]>])"
_UNBROKEN = rf"{_BRACKETS}*\]*"
