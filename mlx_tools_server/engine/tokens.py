"""Text to token ids and back, for threads that serve clients.

Rules of this file:
- Encoding works on copies of the tokenizer that no other thread changes.
- Text that a client sent and that spells a control token is encoded by a copy that knows none.
- Decoding is byte-exact and gives each character as soon as its last byte is there.
"""

from __future__ import annotations

import codecs
import json
import threading
from collections.abc import Sequence
from functools import cache
from typing import Any, Protocol

from tokenizers import Tokenizer

from ..sentinels import Piece
from .seams import TokenizerWrapper


class PromptEncoder:
    """Encodes prompts; safe to use from many threads at once."""

    def __init__(self, tokenizer: TokenizerWrapper) -> None:
        self._slow: TokenizerWrapper | None = None
        self._lock = threading.Lock()
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            self._slow = tokenizer
            self.added = [
                (token.content, token.special) for token in tokenizer.added_tokens_decoder.values()
            ]
            return
        description = backend.to_str()
        self._full = Tokenizer.from_str(description)
        self._full.no_truncation()
        self._full.no_padding()
        plain = json.loads(description)
        self.added = [(token["content"], token["special"]) for token in plain["added_tokens"]]
        plain["added_tokens"] = []
        self._plain = Tokenizer.from_str(json.dumps(plain))
        self._plain.no_truncation()
        self._plain.no_padding()

    def encode(self, pieces: Sequence[Piece]) -> list[int]:
        """Return the ids of a rendered prompt."""
        ids: list[int] = []
        for piece in pieces:
            if piece.literal:
                ids += self._literal(piece.text)
            else:
                ids += self._encode(piece.text, add_special_tokens=False)
        return ids

    def encode_raw(self, text: str) -> list[int]:
        """Return the ids of a raw prompt, whose control tokens count."""
        return self._encode(text, add_special_tokens=True)

    def _encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        if self._slow is None:
            ids = self._full.encode(text, add_special_tokens=add_special_tokens).ids
            return list(ids)
        with self._lock:
            return list(self._slow.encode(text, add_special_tokens=add_special_tokens))

    def _literal(self, text: str) -> list[int]:
        if self._slow is None:
            return list(self._plain.encode(text, add_special_tokens=False).ids)
        # No control token is one character long: cut in two, none is left.
        parts = (text[:1], text[1:])
        return [i for part in parts for i in self._encode(part, add_special_tokens=False)]


class Detokenizer(Protocol):
    """Turns the tokens of one answer into text."""

    def add(self, token: int) -> str:
        """Return the text that this token completes."""

    def finish(self) -> str:
        """Return what is left, incomplete characters as U+FFFD."""


class DetokenizerFactory:
    """Makes detokenizers for one model; the table of its tokens is built once."""

    def __init__(self, tokenizer: TokenizerWrapper) -> None:
        self._tokenizer = tokenizer
        self._table: list[bytes] | None = None
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is not None and _is_byte_level(json.loads(backend.to_str())["decoder"]):
            added = backend.get_added_tokens_decoder()
            self._table = [
                added[i].content.encode() if i in added else _token_bytes(backend.id_to_token(i))
                for i in range(backend.get_vocab_size(with_added_tokens=True))
            ]

    def new(self) -> Detokenizer:
        """Return a detokenizer for one answer."""
        if self._table is not None:
            return _ByteLevel(self._table)
        return _Upstream(self._tokenizer.detokenizer)

    def text(self, token: int) -> str:
        """Return what one token says by itself."""
        detokenizer = self.new()
        return detokenizer.add(token) + detokenizer.finish()


class _ByteLevel:
    """For byte-level vocabularies: each token is some bytes."""

    def __init__(self, table: list[bytes]) -> None:
        self._table = table
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def add(self, token: int) -> str:
        # The logits of many models are wider than their tokenizer.
        return self._decode(self._table[token]) if token < len(self._table) else ""

    def finish(self) -> str:
        return self._decode(b"", True)


class _Upstream:
    """For all other vocabularies: mlx-lm's own detokenizer."""

    def __init__(self, detokenizer: Any) -> None:
        self._detokenizer = detokenizer

    def add(self, token: int) -> str:
        self._detokenizer.add_token(token)
        return str(self._detokenizer.last_segment)

    def finish(self) -> str:
        self._detokenizer.finalize()
        return str(self._detokenizer.last_segment)


def _is_byte_level(decoder: dict[str, Any] | None) -> bool:
    if not decoder:
        return False
    return decoder["type"] == "ByteLevel" or (
        decoder["type"] == "Sequence" and [d["type"] for d in decoder["decoders"]] == ["ByteLevel"]
    )


def _token_bytes(token: str | None) -> bytes:
    table = _byte_of_character()
    if token is None:
        return b""
    try:
        return bytes(table[character] for character in token)
    except KeyError:  # not in the byte alphabet: it stands for itself
        return token.encode()


@cache
def _byte_of_character() -> dict[str, int]:
    """The byte-level alphabet: printable bytes stand for themselves, the others from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(0x100 + place): byte for place, byte in enumerate(others)}
