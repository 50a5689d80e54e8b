"""Lark text as llguidance reads it: literals, regular expressions, control tokens and rules.

Rules of this file:
- Everything is escaped here; what callers pass in may hold any character.
- A string never stands for a control token: those are named, so that a model which spells one in
  plain text and one which says the token can be told apart.
- No negation: llguidance can't skip ahead in a complement, which makes its masks ten times as slow.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

# Stands for the number of a call.
INDEX = "INDEX"

# Control tokens that can be named; all others are told by their ids.
_TOKEN = re.compile(r"<[!-;=?-~]+>")
_SPECIAL = re.compile(r"[\\/.^$*+?()\[\]{}|#&~\-]")


@dataclass(frozen=True, slots=True)
class Note:
    """Something that a schema asks for and its grammar does not ensure.

    `keyword` is the schema's, `where` the tool and its parameter, or what else the schema is for.
    """

    keyword: str
    where: str

    def __str__(self) -> str:
        return f"{self.keyword} of {self.where}"


@dataclass(frozen=True)
class Controls:
    """The control tokens of a tokenizer: texts that are one token each, by their ids.

    `eos` are those that end an answer.
    """

    ids: Mapping[str, int] = field(default_factory=dict)
    eos: frozenset[int] = frozenset()

    @property
    def anything(self) -> str:
        """The expression for any text, with any control tokens but those that end an answer."""
        text = "/(?s:.+)/?"
        return f"({text} {self.quotable})* {text}" if self.quotable else text

    def token(self, text: str) -> str:
        """Return the expression for this text: as its token where it has one."""
        if text not in self.ids:
            return literal(text)
        return text if _TOKEN.fullmatch(text) else f"<[{self.ids[text]}]>"

    def spelled(self, text: str) -> str:
        """Return the expression for a text with control tokens in it, and digits for INDEX."""
        known = sorted(self.ids, key=len, reverse=True)
        parts = re.split(f"({'|'.join(map(re.escape, [*known, INDEX]))})", text)
        return " ".join(
            "/[0-9]{1,3}/" if part == INDEX else self.token(part) for part in parts if part
        )

    def without(self, text: str) -> Controls:
        """Return the same without the control token of this text."""
        ids = {token: i for token, i in self.ids.items() if token != text}
        return Controls(ids, self.eos)

    @property
    def quotable(self) -> str:
        """The expression for a control token that may be quoted in a text; "" for none."""
        return _ranges(set(self.ids.values()) - self.eos)


def _ranges(ids: Iterable[int]) -> str:
    spans: list[list[int]] = []
    for i in sorted(ids):
        if spans and spans[-1][1] == i - 1:
            spans[-1][1] = i
        else:
            spans.append([i, i])
    return f"<[{','.join(f'{first}-{last}' for first, last in spans)}]>" if spans else ""


def literal(text: str) -> str:
    """Return the expression for exactly this text."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def escaped(text: str) -> str:
    """Return a regular expression, without slashes around it, for exactly this text."""
    return _SPECIAL.sub(r"\\\g<0>", text).replace("\n", "\\n")


@cache
def line_without(
    beginnings: tuple[str, ...], *, newline: bool = True, never: tuple[str, ...] = ()
) -> str:
    """Return a terminal for a line that begins with none of these texts.

    It ends with its newline; without `newline` it is the beginning of a line, and not empty.
    `never` are beginnings of the beginnings that are no whole line either.
    """
    if not newline:
        never = ("", *never)
    end = "\\n" if newline else ""
    return f"/{_without(beginnings, '', never)}{end}/"


def _without(beginnings: tuple[str, ...], start: str, never: tuple[str, ...]) -> str:
    """Return what may follow `start`, which one of the beginnings begins with."""
    following = sorted({text[len(start)] for text in beginnings if text.startswith(start)})
    choices = [f"[^{''.join(map(_in_class, following))}\\n][^\\n]*"]
    choices += [
        escaped(character) + _without(beginnings, start + character, never)
        for character in following
        if start + character not in beginnings
    ]
    return f"({'|'.join(choices)})" + ("" if start in never else "?")


def _in_class(character: str) -> str:
    if character in "\\]^-[&~/":
        return f"\\{character}"
    return {"\t": "\\t", "\r": "\\r"}.get(character, character)


class Rules:
    """The rules of one grammar; equal ones are written once."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], str] = {}
        self._lines: list[str] = []

    def name(self, prefix: str, body: str) -> str:
        """Return the name of a rule with this body; a prefix in capitals makes it a terminal."""
        key = (prefix, body)
        if key not in self._names:
            separator = "" if prefix.isupper() else "_"
            self._names[key] = f"{prefix}{separator}{len(self._names)}"
            self._lines.append(f"{self._names[key]}: {body}")
        return self._names[key]

    def define(self, name: str, alternatives: Sequence[str], *, parameter: bool = False) -> None:
        """Add a rule of this name, with a 64-bit parameter if wanted."""
        head = f"{name}::_" if parameter else name
        self._lines.append(f"{head}: " + "\n  | ".join(alternatives))

    def text(self, start: str, more: Mapping[str, str] | None = None) -> str:
        """Return the whole grammar, with `more` rules that only this one has."""
        others = [f"{name}: {body}" for name, body in (more or {}).items()]
        return "\n".join(["%llguidance {}", f"start: {start}", *others, *self._lines]) + "\n"
