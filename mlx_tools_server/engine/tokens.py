"""Text to token ids and back, for threads that serve clients.

Rules of this file:
- Encoding works on copies of the tokenizer that no other thread changes.
- Text that a client sent and that spells a control token is encoded by a copy that knows none.
- Encoding never keeps other threads from running, and one large prompt is encoded at a time: what
  can't fit is refused when that is known, not when all of it is encoded.
- Decoding is byte-exact and gives each character as soon as its last byte is there.
"""

from __future__ import annotations

import codecs
import copy
import hashlib
import json
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Protocol

from tokenizers import Tokenizer

from ..sentinels import Piece
from .seams import TokenizerWrapper, backend_of

# Characters above which a prompt is a burden: encoding them takes half a second.
_LARGE = 1_000_000
# Characters of such a prompt that are looked at at a time.
_SLICE = 1 << 18


class PromptEncoder:
    """Encodes prompts; safe to use from many threads at once.

    `fingerprint` is the same for tokenizers that give the same ids.
    """

    def __init__(self, tokenizer: TokenizerWrapper) -> None:
        self._slow: TokenizerWrapper | None = None
        self._lock = threading.Lock()
        self._one_large = threading.Lock()
        backend = backend_of(tokenizer)
        if backend is None:
            self._slow = tokenizer
            self.fingerprint = _digest(json.dumps(sorted(tokenizer.get_vocab().items())))
            self.added = [
                (token.content, token.special) for token in tokenizer.added_tokens_decoder.values()
            ]
            return
        description = backend.to_str()
        self.fingerprint = _digest(description)
        self._full = Tokenizer.from_str(description)
        self._full.no_truncation()
        self._full.no_padding()
        plain = json.loads(description)
        self.added = [(token["content"], token["special"]) for token in plain["added_tokens"]]
        plain["added_tokens"] = []
        self._plain = Tokenizer.from_str(json.dumps(plain))
        self._plain.no_truncation()
        self._plain.no_padding()

    @property
    def description(self) -> str | None:
        """The tokenizer as JSON; None if Python code helps it."""
        return None if self._slow is not None else str(self._full.to_str())

    def encode(self, pieces: Sequence[Piece]) -> list[int]:
        """Return the ids of a rendered prompt."""
        with self._turn(piece.text for piece in pieces):
            return self._ids(pieces)

    def encode_raw(self, text: str) -> list[int]:
        """Return the ids of a raw prompt, whose control tokens count."""
        with self._turn([text]):
            return self._encode(text, add_special_tokens=True)

    def excess(self, texts: Sequence[str], most: int) -> int | None:
        """Return about how many tokens these texts have, if it is more than `most`.

        It is told of texts that are large enough to be a burden, from a look at their beginning.
        """
        total = sum(map(len, texts))
        if total <= _LARGE:
            return None
        tokens = seen = cuts = 0
        with self._one_large:
            for text in texts:
                for begin in range(0, len(text), _SLICE):
                    part = text[begin : begin + _SLICE]
                    tokens += len(self._literal(part))
                    seen += len(part)
                    cuts += 1
                    # A cut may part a token from the next, but not many.
                    if tokens > most + 8 * cuts:
                        return max(most + 1, tokens * total // seen)
        return None

    @contextmanager
    def _turn(self, texts: Iterable[str]) -> Iterator[None]:
        """Let one large prompt be encoded at a time."""
        if sum(map(len, texts)) <= _LARGE:
            yield
            return
        with self._one_large:
            yield

    def _ids(self, pieces: Sequence[Piece]) -> list[int]:
        ids: list[int] = []
        for piece in pieces:
            if piece.ids:
                ids += piece.ids
            elif piece.literal:
                ids += self._literal(piece.text)
            else:
                ids += self._encode(piece.text, add_special_tokens=False)
        return ids

    def _encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        if self._slow is None:
            return _encoded(self._full, text, add_special_tokens=add_special_tokens)
        with self._lock:
            return list(self._slow.encode(text, add_special_tokens=add_special_tokens))

    def _literal(self, text: str) -> list[int]:
        if self._slow is None:
            return _encoded(self._plain, text, add_special_tokens=False)
        # No control token is one character long: cut in two, none is left.
        parts = (text[:1], text[1:])
        return [i for part in parts for i in self._encode(part, add_special_tokens=False)]


def _encoded(tokenizer: Tokenizer, text: str, *, add_special_tokens: bool) -> list[int]:
    # Unlike `encode`, it lets other threads run meanwhile.
    (encoding,) = tokenizer.encode_batch_fast([text], add_special_tokens=add_special_tokens)
    return list(encoding.ids)


def _digest(description: str) -> bytes:
    return hashlib.sha256(description.encode()).digest()


class Detokenizer(Protocol):
    """Turns the tokens of one answer into text."""

    def add(self, token: int) -> str:
        """Return the text that this token completes."""

    def finish(self) -> str:
        """Return what is left, incomplete characters as U+FFFD."""


class DetokenizerFactory:
    """Makes detokenizers for one model; the table of its tokens is built once."""

    def __init__(self, tokenizer: TokenizerWrapper) -> None:
        self._upstream = tokenizer.detokenizer
        self._table: list[bytes] | None = None
        self._strips = False
        backend = backend_of(tokenizer)
        if backend is None:
            return
        steps = _decoder_steps(_decoder(backend))
        if steps == [_BYTE_LEVEL]:
            read = _byte_level_bytes
        elif steps[:3] == _SENTENCEPIECE and steps[3:] in ([], [_STRIP]):
            read = _sentencepiece_bytes
            self._strips = steps[3:] == [_STRIP]
        else:
            return
        added = backend.get_added_tokens_decoder()
        self._table = [
            added[i].content.encode() if i in added else read(backend.id_to_token(i) or "")
            for i in range(backend.get_vocab_size(with_added_tokens=True))
        ]

    def new(self, *, continues: bool = False) -> Detokenizer:
        """Return a detokenizer for one answer.

        Some vocabularies begin every text with a space that isn't its own. It is dropped, unless
        the answer `continues` a text.
        """
        if self._table is not None:
            return _Table(self._table, strip=self._strips and not continues)
        return _Upstream(self._upstream)

    def text(self, token: int) -> str:
        """Return what one token says by itself."""
        return self.join([token])

    def join(self, tokens: Sequence[int]) -> str:
        """Return what these tokens say."""
        detokenizer = self.new(continues=True)
        return "".join(map(detokenizer.add, tokens)) + detokenizer.finish()


class _Table:
    """For vocabularies in which each token is some bytes."""

    def __init__(self, table: list[bytes], *, strip: bool) -> None:
        self._table = table
        self._strip = strip
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def add(self, token: int) -> str:
        # The logits of many models are wider than their tokenizer.
        said = self._table[token] if token < len(self._table) else b""
        if self._strip and said:
            self._strip = False
            said = said.removeprefix(b" ")
        return self._decode(said)

    def finish(self) -> str:
        return self._decode(b"", True)


class _Upstream:
    """For all other vocabularies: mlx-lm's own detokenizer."""

    def __init__(self, detokenizer: Any) -> None:
        self._detokenizer = copy.copy(detokenizer)
        self._detokenizer.reset()

    def add(self, token: int) -> str:
        self._detokenizer.add_token(token)
        return str(self._detokenizer.last_segment)

    def finish(self) -> str:
        self._detokenizer.finalize()
        return str(self._detokenizer.last_segment)


_BYTE_LEVEL = {"type": "ByteLevel"}
_SENTENCEPIECE = [
    {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
    {"type": "ByteFallback"},
    {"type": "Fuse"},
]
_STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


def _decoder(backend: Tokenizer) -> dict[str, Any] | None:
    """Return the description of the decoder alone: that of the whole takes a second to write."""
    return None if backend.decoder is None else json.loads(backend.decoder.__getstate__())


def _decoder_steps(decoder: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The steps of a tokenizer's decoder, without settings that don't matter for decoding."""
    if not decoder:
        return []
    steps = decoder["decoders"] if decoder["type"] == "Sequence" else [decoder]
    return [_BYTE_LEVEL if step["type"] == "ByteLevel" else step for step in steps]


def _byte_level_bytes(token: str) -> bytes:
    table = _byte_of_character()
    try:
        return bytes(table[character] for character in token)
    except KeyError:  # not in the byte alphabet: it stands for itself
        return token.encode()


def _sentencepiece_bytes(token: str) -> bytes:
    if found := _BYTE_TOKEN.fullmatch(token):
        return bytes.fromhex(found[1])
    return token.replace("\u2581", " ").encode()


@cache
def _byte_of_character() -> dict[str, int]:
    """The byte-level alphabet: printable bytes stand for themselves, the others from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(0x100 + place): byte for place, byte in enumerate(others)}
