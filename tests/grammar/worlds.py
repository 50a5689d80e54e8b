"""Grammars of a small model, and answers that follow them: given, or drawn at random."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from mlx_tools_server.engine.scripted import write_checkpoint
from mlx_tools_server.events import Answer
from mlx_tools_server.families import CallGrammar, Family
from mlx_tools_server.grammar.matching import Grammars, Matcher
from mlx_tools_server.messages import ToolSpec

from ..families.reading import CODER, pieces, read

HEAD = "<tool_call>\n<function="
END = "</function>\n</tool_call>"

# What a random answer likes to go on with behind these texts, so that most of them end.
_BEHIND = (
    ("</parameter>\n", "<"),
    ("</parameter>\n<", "parameter"),
    ("</parameter", ">\n"),
    ("</", "parameter"),
    ("\n", "</"),
)
_LIKED = ("\n", '"', "}", "]", '"}', '"]')


@dataclass(frozen=True)
class World:
    """A tokenizer and its grammars, for logits that are wider than it."""

    tokenizer: Tokenizer
    grammars: Grammars
    eos: tuple[int, ...]

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, control tokens included."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, tokens: Sequence[int]) -> str:
        """Return what tokens say, control tokens included."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=False))

    def accepts(self, grammar: str, text: str) -> bool:
        """Return whether an answer may be exactly this text."""
        matcher = self.grammars.compile(grammar).matcher()
        return all(map(matcher.consume, self.encode(text))) and matcher.accepting

    def allowed(self, matcher: Matcher) -> set[int]:
        """Return the tokens that a matcher allows next."""
        row = np.zeros(self.grammars.words, dtype=np.int32)
        matcher.mask(row)
        return set(np.flatnonzero(np.unpackbits(row.view(np.uint8), bitorder="little")).tolist())

    def draw(
        self, grammar: str, seed: int, longest: int = 600, *, likings: Sequence[str] = ()
    ) -> tuple[str, bool]:
        """Return a random answer of a grammar, and whether it came to its end.

        Texts that are begun in `likings` are liked to go on.
        """
        random = np.random.default_rng(seed)
        matcher = self.grammars.compile(grammar).matcher()
        width = self.grammars.words * 32
        row = np.zeros(self.grammars.words, dtype=np.int32)
        liked = self._liked(_LIKED, width)
        liked[list(self.eos)] = 8
        tokens: list[int] = []
        for _ in range(longest):
            matcher.mask(row)
            wanted = liked.copy()
            tail = self.decode(tokens[-6:])
            for text, following in _BEHIND:
                if tail.endswith(text):
                    wanted += 2 * self._liked((following,), width)
            for text in likings:
                wanted += 2 * self._liked(self._rest(text, tail), width)
            drawn = wanted + random.gumbel(size=width)
            drawn[np.unpackbits(row.view(np.uint8), bitorder="little") == 0] = -np.inf
            token = int(drawn.argmax())
            assert matcher.consume(token), matcher.error
            if token in self.eos:
                return self.decode(tokens), True
            tokens.append(token)
        return self.decode(tokens), False

    def _rest(self, text: str, tail: str) -> tuple[str, ...]:
        """Return what is missing of a text that a tail has begun, the text itself if it has not."""
        begun = next((i for i in range(len(text), 0, -1) if tail.endswith(text[:i])), 0)
        return (text[begun:],) if begun < len(text) else ()

    def _liked(self, texts: Iterable[str], width: int) -> Any:
        liked = np.zeros(width)
        for text in texts:
            liked[self.encode(text)[0]] = 5.5
        return liked


@cache
def small() -> World:
    """Return a world with a byte-level vocabulary of some thousand tokens."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        write_checkpoint(path)
        return world((path / "tokenizer.json").read_text("utf-8"))


def world(description: str) -> World:
    """Return the world of a tokenizer that ends answers as Qwen's does."""
    tokenizer = Tokenizer.from_str(description)
    vocabulary = tokenizer.get_vocab()
    eos = tuple(vocabulary[text] for text in ("<|im_end|>", "<|endoftext|>"))
    # Not a multiple of 32, and wider than the tokenizer.
    width = (len(vocabulary) // 32 + 3) * 32 + 5
    return World(tokenizer, Grammars(description, width, eos), eos)


def tool(name: str = "f", *required: str, **properties: Any) -> ToolSpec:
    """Return a tool with these parameters."""
    parameters = {"type": "object", "properties": properties, "required": list(required)}
    return ToolSpec(name, parameters=parameters)


def calls(*tools: ToolSpec, family: Family = CODER, **options: Any) -> CallGrammar:
    """Return the grammars of calls of these tools."""
    grammar = family.grammar(tools, small().grammars, **options)
    assert isinstance(grammar, CallGrammar)
    return grammar


def parameter(name: str, text: str) -> str:
    """Return a parameter as a model writes it."""
    return f"<parameter={name}>\n{text}\n</parameter>\n"


def call(name: str, *parameters: str) -> str:
    """Return a call as a model writes it."""
    return f"{HEAD}{name}>\n{''.join(parameters)}{END}"


def parsed(
    tools: Sequence[ToolSpec], text: str, *, size: int = 3, cut: bool = False
) -> tuple[Answer, bool]:
    """Read an answer that followed a grammar; return also whether the grammar let go."""
    parser = CODER.parser(tools, constrained=True)
    return read(parser, pieces(text, size), cut=cut), parser.let_go


def arguments(answer: Answer) -> list[Any]:
    """Return the arguments of the whole calls."""
    return [json.loads(part.text) for part in answer.calls]
