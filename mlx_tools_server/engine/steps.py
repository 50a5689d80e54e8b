"""How an answer's reader takes part in the steps of the generation loop, in a batch or alone.

Rules of this file:
- It is a part of `seams`, and like it touches mlx-lm's private names, which stand in `contract`.
- Guides work while the forward pass is on its way, and nothing waits for what nobody looks at.
"""

from __future__ import annotations

import functools
from typing import Any, Protocol

import mlx.core as mx
from mlx_lm.generate import GenerationBatch

from .masks import Bits, masked, open_mask


class Guide(Protocol):
    """Says which tokens may come next in one answer."""

    def fill(self, row: Bits) -> bool:
        """Set the bits of the tokens that are allowed; False, and no bit, if all are."""


class AnswerReader(Protocol):
    """Sees each token of one answer in the generation loop, and may end the answer there."""

    @property
    def guide(self) -> Guide | None:
        """What says which tokens may come, if anything does."""

    @property
    def wants_logprobs(self) -> bool:
        """Whether anybody looks at the log probabilities."""

    def read_ahead(self, token: int) -> None:
        """Read a token before the loop hands it over, so that the guide knows what follows it."""

    def advance(self, token: int) -> bool:
        """Read a token; True ends the answer, and its KV cache is kept."""


_stock_step = GenerationBatch._step


class _Untold:
    """The log probabilities of a step, where nobody looks at them.

    The loop asks for that of each token, which waits for the forward pass that is on its way, so
    that nothing else could be done meanwhile.
    """

    def __getitem__(self, _: int) -> _Untold:
        return self

    def item(self) -> float:
        return 0.0


_UNTOLD = _Untold()


@functools.wraps(_stock_step)
def _step(self: Any) -> Any:
    """Take a step of a batch; tell log probabilities to those who want them."""
    tokens, logprobs = _guided_step(self)
    wanted = [getattr(reader, "wants_logprobs", True) for reader in self._matchers]
    # There are none before the first token.
    pairs = zip(wanted, logprobs, strict=False)
    return tokens, [one if wants else _UNTOLD for wants, one in pairs]


def _guided_step(self: Any) -> Any:
    """Take a step of a batch; answers that have a guide draw from what it allows.

    The forward pass is on its way before the tokens before it are read: the guides work meanwhile.
    """
    guides = [getattr(reader, "guide", None) for reader in self._matchers]
    if not any(guides):
        return _stock_step(self)
    model, before = self.model, self._next_tokens
    # A batch that has drawn nothing yet begins with the last tokens of its prompts.
    drawn = bool(self._next_logprobs)

    def guided(inputs: mx.array, cache: Any) -> mx.array:
        logits = model(inputs, cache=cache)
        mx.async_eval(logits)
        bits = open_mask(len(guides), logits.shape[-1])
        filled = False
        for row, (guide, token) in enumerate(zip(guides, before.tolist(), strict=True)):
            if guide is not None:
                if drawn:
                    self._matchers[row].read_ahead(token)
                filled |= guide.fill(bits[row])
        return masked(logits, bits) if filled else logits

    self.model = guided
    try:
        return _stock_step(self)
    finally:
        self.model = model


GenerationBatch._step = _step


class Guided:
    """Does for an answer that is served alone what `_step` does in a batch."""

    def __init__(self, reader: AnswerReader, guide: Guide) -> None:
        self._reader = reader
        self._guide = guide
        self._drawn = False

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        if self._drawn:
            token: Any = tokens[-1].item()
            self._reader.read_ahead(token)
        self._drawn = True
        bits = open_mask(1, logits.shape[-1])
        return masked(logits, bits) if self._guide.fill(bits[0]) else logits
