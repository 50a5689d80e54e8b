"""Words, paths, texts and numbers for the demo model's dialogues.

Rules of this file:
- More than half of all words are made up, so that a value can only be copied; many of these from
  pieces of words, so that every token of the tokenizer is copied at some time.
- A held-out sequence uses words that training never does.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from typing import Any

from tools.demo_kinds import Param
from tools.demo_phrases import COMMON, WORDS

_SYLLABLES = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"] + ["qu", "zo", "xi", "plim", "orb"]
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_ENDS = "txt md py json csv log yaml html sh cfg js ts rs toml xml".split()  # noqa: SIM905
_LANGUAGES = "French German Spanish Dutch Italian Polish Greek Turkish Danish Welsh".split()  # noqa: SIM905


def held_out_text(text: str) -> bool:
    """Return whether this word or name is kept from training."""
    return zlib.crc32(text.encode()) % 6 == 0


class Values:
    """Draws values from one random sequence."""

    def __init__(self, seed: int, *, held_out: bool = False) -> None:
        self.rng = random.Random(f"demo-{seed}-{held_out}")
        self.held_out = held_out
        self.words = [word for word in WORDS if held_out_text(word) == held_out]

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def pseudo_word(self) -> str:
        return "".join(self.rng.choice(_SYLLABLES) for _ in range(self.rng.choice((2, 2, 2, 3))))

    def scramble(self) -> str:
        size = self.rng.randint(2, 4)
        return "".join(self.rng.choice(_LETTERS + "0123456789") for _ in range(size))

    def word(self) -> str:
        kind = self.rng.random()
        if kind < 0.4:
            return self.rng.choice(self.words)
        if kind < 0.65:
            return self.spliced_word()
        return self.pseudo_word() if kind < 0.95 else self.scramble()

    def spliced_word(self) -> str:
        """Return the head of one word with the tail of another, so that any piece is copied."""
        while True:
            head, tail = self.rng.choice(WORDS), self.rng.choice(WORDS)
            word = head[: self.rng.randint(1, len(head))] + tail[self.rng.randrange(len(tail)) :]
            if word not in WORDS and len(word) < 12:
                return word.capitalize() if self.chance(0.06) else word

    def path(self, *, folder: bool = False) -> str:
        if folder and self.chance(0.1):
            return self.rng.choice((".", "/", "..", "/tmp", "~", "./"))
        parts = [self.word() for _ in range(self.rng.choice((1, 1, 1, 2, 2, 3)))]
        if self.chance(0.06):
            parts[-1] += self.rng.choice("_-") + self.word()
        if self.chance(0.06):
            parts[-1] = parts[-1].upper() if self.chance(0.5) else parts[-1].capitalize()
        if not folder and self.chance(0.96):
            parts[-1] += "." + self.rng.choice(_ENDS)
        start = self.rng.choice(("./", "/", "~/", "../")) if self.chance(0.2) else ""
        return start + "/".join(parts) + ("/" if folder and self.chance(0.1) else "")

    def text(self) -> str:
        words = [self.word() for _ in range(self.rng.choice((1, 2, 2, 2, 3, 3, 4, 5)))]
        if self.chance(0.5):
            words[1:] = [self.rng.choice(COMMON) if self.chance(0.5) else w for w in words[1:]]
        text = " ".join(words)
        kind = self.rng.random()
        if kind < 0.15:
            text = text[0].upper() + text[1:] + self.rng.choice(("!", ".", "?", ""))
        elif kind < 0.2:
            text = self.rng.choice((" = ", ": ", ", ", "=", "-")).join(words)
        elif kind < 0.25:
            text = f"{words[0]} {self.number()}"
        return text

    def number(self) -> int:
        size = self.rng.choice((10, 100, 100, 1000, 1000, 10000))
        number = self.rng.randrange(size)
        return -number if self.chance(0.03) else number

    def value(self, param: Param) -> Any:
        """Return a value for this parameter."""
        makers: dict[str, Callable[[], Any]] = {
            "path": self.path,
            "folder": lambda: self.path(folder=True),
            "text": self.text,
            "word": self.word,
            "name": lambda: self.word().capitalize() if self.chance(0.6) else self.word(),
            "language": lambda: self.rng.choice(_LANGUAGES),
            "url": lambda: f"https://{self.word()}.{self.rng.choice(_ENDS)}/{self.word()}",
            "int": self.number,
            "bool": lambda: self.chance(0.5),
        }
        return makers[param.kind]()

    def said(self, value: Any, kind: str) -> str:
        """Return the value as a user writes it."""
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if kind in ("int", "bool"):
            return text
        quotes = [quote for quote in "\"'`" if quote not in text]
        plain = {"path": 0.8, "folder": 0.8, "text": 0.0, "url": 0.9}.get(kind, 0.7)
        if self.chance(plain):
            return text
        quote = self.rng.choice(quotes[:1] * 2 + quotes)
        return f"{quote}{text}{quote}"
