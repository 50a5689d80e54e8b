"""Grammars at work: from text to token masks, with llguidance. The only file that imports it.

Rules of this file:
- One `Grammars` a model: its token tables cost a second and 110 MB, so they are built when the
  first grammar is, and once.
- What is compiled is kept and shared; each answer gets a `Matcher` of its own, a cheap copy that
  one thread at a time may use.
- A matcher never raises. Whatever goes wrong makes it `failed`, and a failed one allows everything.
- Limits bound every step, so that no schema holds a thread for more than a second.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from numpy.typing import NDArray

from ..recent import Recent
from .lark import Controls

# Compiled grammars that are kept; one takes up to a megabyte.
KEPT = 64
# Fragments whose check is kept.
CHECKED = 4_096

# Characters of the longest grammar: 300 tools with long lists of words take a third of it.
MAX_TEXT = 2_000_000

# What llguidance skips over at once: runs of text without a tag, without and with what ends a
# string of JSON or a line; then runs with tags, and any line. Its own list is for JSON only.
_PLAIN = r'"\\\x00-\x1F\x7F'
_SLICES = [
    rf"[^<{_PLAIN}]{{1,10}}",
    rf"[^<{_PLAIN}]{{1,30}}",
    rf"[^<{_PLAIN}]+",
    r"[^<\n]+",
    r"[^<]+",
    rf"[^{_PLAIN}]+",
    r"[^<\n][^\n]*",
    r"[^\n]+",
]


# llguidance's own limits let one step take some seconds.
_LIMITS: dict[str, Any] = {
    "initial_lexer_fuel": 500_000,
    "step_lexer_fuel": 200_000,
    "max_grammar_size": 300_000,
    "verbose_errors": False,
}
# What one schema may take of it.
_CHECK_LIMITS = {**_LIMITS, "initial_lexer_fuel": 200_000, "max_grammar_size": 60_000}

Bits: TypeAlias = NDArray[np.int32]


class GrammarError(Exception):
    """A grammar that llguidance can't build, or not within its limits."""


class Grammars:
    """The grammars of one model.

    `tokenizer_json` is its fast tokenizer's description, `vocabulary` the width of its logits,
    which is often more than the tokenizer's tokens; the rest is never allowed. `eos` end an answer.
    """

    def __init__(self, tokenizer_json: str, vocabulary: int, eos: Sequence[int]) -> None:
        self.vocabulary = vocabulary
        self.words = (vocabulary + 31) // 32
        self.controls = _controls(json.loads(tokenizer_json), frozenset(eos))
        self._json = tokenizer_json
        self._tokenizer: LLTokenizer | None = None
        self._kept: Recent[Grammar] = Recent(KEPT)
        self._checked: Recent[str] = Recent(CHECKED)
        self._building = threading.Lock()

    def compile(self, text: str) -> Grammar:
        """Return the grammar of this Lark text.

        Raises:
            GrammarError: llguidance refuses it, or it goes beyond the limits.
        """
        if (kept := self._kept.get(text)) is not None:
            return kept
        if len(text) > MAX_TEXT:
            raise GrammarError(
                f"the grammar has {len(text):,} characters, {MAX_TEXT:,} are the most"
            )
        matcher = self._build(text, _LIMITS)
        if matcher.is_error():
            raise GrammarError(matcher.get_error().splitlines()[0][:500])
        grammar = Grammar(text, matcher, self._tables(), self.words)
        grammar.warm_up()
        self._kept.put(text, grammar)
        return grammar

    def prepare(self) -> None:
        """Build the tables now, if they can be built; they are needed for the first grammar."""
        with contextlib.suppress(GrammarError):
            self._tables()

    def check(self, text: str) -> str:
        """Return what is wrong with a grammar that names no control token, "" if nothing is."""
        if (known := self._checked.get(text)) is not None:
            return known
        try:
            error = self._build(text, _CHECK_LIMITS).get_error()
        except GrammarError as wrong:
            error = str(wrong)
        self._checked.put(text, error)
        return error

    def fill(self, matchers: Sequence[Matcher | None], bitmask: Bits) -> None:
        """Fill a row of (rows, words) for each matcher; None and failed ones allow everything."""
        for row, matcher in zip(bitmask, matchers, strict=True):
            if matcher is None:
                row.fill(-1)
            else:
                matcher.mask(row)

    def _build(self, text: str, limits: Mapping[str, Any]) -> LLMatcher:
        return LLMatcher(self._tables(), text, log_level=0, limits=LLParserLimits(**limits))

    def _tables(self) -> LLTokenizer:
        with self._building:
            if self._tokenizer is None:
                try:
                    self._tokenizer = LLTokenizer(
                        self._json,
                        self.vocabulary,
                        eos_token=sorted(self.controls.eos),
                        slices=_SLICES,
                    )
                except ValueError as error:
                    raise GrammarError(f"llguidance can't read the tokenizer: {error}") from error
                self._json = ""
            return self._tokenizer


class Grammar:
    """A compiled grammar, and its text."""

    def __init__(self, text: str, matcher: LLMatcher, tables: LLTokenizer, words: int) -> None:
        self.text = text
        self._matcher = matcher
        self._tables = tables
        self._words = words
        self._lock = threading.Lock()

    def matcher(self) -> Matcher:
        """Return a matcher at the beginning of an answer."""
        with self._lock:
            return Matcher(self._matcher.deep_copy(), self._tables)

    def warm_up(self) -> None:
        """Let the lexer build its first states, which all matchers share."""
        self.matcher().mask(np.zeros(self._words, dtype=np.int32))


class Matcher:
    """Follows one answer; one thread at a time may use it.

    `failed`: the answer has left the grammar, or a limit was met, and everything is allowed from
    then on. `taken` are the tokens so far; `forced` of them were all that their masks allowed.
    """

    def __init__(self, matcher: LLMatcher, tables: LLTokenizer) -> None:
        self._matcher = matcher
        self._tables = tables
        self._only = False
        self._history = bytearray()
        self.failed = False
        self.error = ""

    @property
    def taken(self) -> int:
        """How many tokens were taken."""
        return len(self._history)

    @property
    def forced(self) -> int:
        """How many of them had no rival in their mask."""
        return sum(self._history)

    @property
    def accepting(self) -> bool:
        """Whether the answer may end here."""
        return not self.failed and self._matcher.is_accepting()

    @property
    def stopped(self) -> bool:
        """Whether nothing but the end of the answer may come."""
        return not self.failed and self._matcher.is_stopped()

    def mask(self, row: Bits) -> None:
        """Fill a row: bit i of its words is set where token i may come next."""
        if not self.failed:
            self._matcher.unsafe_compute_mask_ptr(row.ctypes.data, row.nbytes)
            # Of a signed word, numpy counts the bits of its amount.
            allowed = int(np.bitwise_count(row.view(np.uint32)).sum())
            self._only = allowed == 1
            if allowed == 0 or self._matcher.is_error():
                self._fail()
        if self.failed:
            row.fill(-1)

    def consume(self, token: int) -> bool:
        """Take the token that was chosen; return False, and be `failed`, if it may not come."""
        if self.failed:
            return False
        if not self._matcher.consume_token(token):
            self._fail()
            return False
        self._history.append(self._only)
        self._only = False
        return True

    def _fail(self) -> None:
        self.failed = True
        self.error = self._matcher.get_error()[:500]

    def consume_text(self, text: str) -> bool:
        """Take text that came before the first token, however it was cut into tokens."""
        tokens = self._tables.tokenize_str(text)
        if not self.failed and not self._matcher.consume_tokens(tokens):
            self._fail()
        return not self.failed

    def rollback(self, tokens: int) -> bool:
        """Go back by this many tokens; return False, and be `failed`, if there were fewer."""
        if self.failed or not self._matcher.rollback(tokens):
            self._fail()
            return False
        del self._history[len(self._history) - tokens :]
        self._only = False
        return True


def _controls(tokenizer: Any, eos: frozenset[int]) -> Controls:
    """Return the added tokens that llguidance takes for control tokens."""
    ids = {
        token["content"]: token["id"]
        for token in tokenizer.get("added_tokens", ())
        if token["special"] or (token["content"][:1] == "<" and token["content"][-1:] == ">")
    }
    return Controls(ids, eos)
