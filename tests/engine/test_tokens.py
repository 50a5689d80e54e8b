"""Text to ids and back, against the tokenizers library: byte-level and sentencepiece-like."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlx_lm import tokenizer_utils
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

from mlx_tools_server.engine.scripted import write_checkpoint
from mlx_tools_server.engine.tokens import DetokenizerFactory, PromptEncoder
from mlx_tools_server.sentinels import Piece

pytestmark = pytest.mark.mlx

CONTROL = ["<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>", "<think>"]
TEXTS = {
    "empty": "",
    "leading spaces": "  two spaces and a tab\t",
    "umlauts": "Füße, ünï, e\u0301",
    "emoji": "🎉👩‍👩‍👧 🇩🇪",
    "cjk": "你好,世界。日本語 한국어",
    "control characters": "\x00\x1b[0m\r\n\u2028\ufeff",
    "replacement character": "a \ufffd b",
    "code": "def f(x):\n    return x  # done\n" * 3,
}
texts = pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the tokenizer of the scripted checkpoint."""
    return load(write_checkpoint(tmp_path_factory.mktemp("byte_level")))


@pytest.fixture(scope="module")
def sentencepiece(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a tokenizer as Llama's: words marked by U+2581, unknown characters as bytes."""
    folder = tmp_path_factory.mktemp("sentencepiece")
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    words += ["▁", *"abcdehlortuwy", "▁h", "▁he", "ll", "▁hell", "▁hello"]
    merges = [("▁", "h"), ("▁h", "e"), ("l", "l"), ("▁he", "ll"), ("▁hell", "o")]
    vocabulary = {word: i for i, word in enumerate(words)}
    made = Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    made.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    special = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    made.add_special_tokens([AddedToken(text, normalized=False) for text in special])
    made.add_tokens([AddedToken("<tool_call>", normalized=False)])
    made.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return load(folder)


@cache
def encoder_of(tokenizer: Any) -> PromptEncoder:
    return PromptEncoder(tokenizer)


@cache
def factory_of(tokenizer: Any) -> DetokenizerFactory:
    return DetokenizerFactory(tokenizer)


def load(folder: Path) -> Any:
    # Without a model type transformers looks for one in a config file.
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return tokenizer_utils.load(folder)


def said(tokenizer: Any, ids: list[int]) -> str:
    detokenizer = factory_of(tokenizer).new()
    return "".join(detokenizer.add(token) for token in ids) + detokenizer.finish()


def literal(text: str) -> list[Piece]:
    return [Piece(text, literal=True)]


def written(text: str) -> list[Piece]:
    return [Piece(text, literal=False)]


@texts
@pytest.mark.parametrize("kind", ["byte_level", "sentencepiece"])
def test_round_trip(kind: str, text: str, request: pytest.FixtureRequest) -> None:
    """What was encoded is said back, character by character."""
    tokenizer = request.getfixturevalue(kind)

    assert text == said(tokenizer, encoder_of(tokenizer).encode(written(text)))


@given(st.text())
def test_any_text(byte_level: Any, text: str) -> None:
    """No text is changed on its way through the ids, be it literal or not."""
    encoder = encoder_of(byte_level)

    assert text == said(byte_level, encoder.encode(written(text)))
    assert text == said(byte_level, encoder.encode(literal(text)))


@given(st.lists(st.integers(0, 4000)))
def test_any_ids(byte_level: Any, ids: list[int]) -> None:
    """Any ids, even of broken characters or beyond the table, say what all their bytes say."""
    factory = factory_of(byte_level)
    table = factory._table
    assert table is not None
    whole = b"".join(table[token] for token in ids if token < len(table))

    assert whole.decode("utf-8", "replace") == said(byte_level, ids)


def test_ids_beyond_the_table(byte_level: Any) -> None:
    """An id that only the logits know says nothing."""
    assert said(byte_level, [len(byte_level), 10**9]) == ""


def test_character_in_several_tokens(byte_level: Any) -> None:
    """A character that is split over tokens comes with its last byte, and cut, as U+FFFD."""
    ids = [byte_level.convert_tokens_to_ids(c) for c in "ðŁİī"]
    detokenizer = factory_of(byte_level).new()

    assert [detokenizer.add(token) for token in ids] == ["", "", "", "🎉"]
    assert said(byte_level, [*ids[:3], *encoder_of(byte_level).encode(written("x"))]) == "\ufffdx"
    assert said(byte_level, ids[:3]) == "\ufffd"


def test_leading_space_is_kept(byte_level: Any) -> None:
    """The space at the start of an answer is part of it."""
    assert said(byte_level, encoder_of(byte_level).encode(written(" x"))) == " x"


def test_space_before_every_text(sentencepiece: Any) -> None:
    """The space that a vocabulary puts before each text is dropped, but not in its middle."""
    ids = encoder_of(sentencepiece).encode(written("hello hello"))
    factory = factory_of(sentencepiece)
    new, old = factory.new(), factory.new(continues=True)

    assert [new.add(token) for token in ids] == ["hello", " hello"]
    assert [old.add(token) for token in ids] == [" hello", " hello"]


def test_tokenizer_with_python_code(sentencepiece: Any) -> None:
    """A tokenizer whose own code changes texts is used whole, not only its inner half."""
    inner = sentencepiece._tokenizer
    plain = tokenizer_utils.NewlineTokenizer(tokenizer_object=inner.backend_tokenizer)
    wrapped = tokenizer_utils.TokenizerWrapper(plain, eos_token_ids=[2])
    encoder = PromptEncoder(wrapped)

    assert plain.encode("a<n>b") == encoder.encode(written("a\nb"))
    assert not set(inner.added_tokens_decoder) & set(encoder.encode(literal("<|im_end|>")))


def test_one_token(byte_level: Any) -> None:
    """A token by itself says its bytes, an added one its text."""
    factory = factory_of(byte_level)

    assert factory.text(byte_level.convert_tokens_to_ids("Ġ")) == " "
    assert factory.text(byte_level.convert_tokens_to_ids("<tool_call>")) == "<tool_call>"
    assert factory.text(byte_level.convert_tokens_to_ids("ð")) == "\ufffd"


@pytest.mark.parametrize("kind", ["byte_level", "sentencepiece"])
@pytest.mark.parametrize("mark", CONTROL)
def test_literal_control_text(kind: str, mark: str, request: pytest.FixtureRequest) -> None:
    """Literal text that spells a control token becomes plain tokens and is said unchanged."""
    tokenizer = request.getfixturevalue(kind)
    encoder = encoder_of(tokenizer)
    added = set(tokenizer.added_tokens_decoder)

    for text in (mark, f"a{mark}b", mark * 3, f"{mark}\n", mark[1:] + mark):
        ids = encoder.encode(literal(text))
        assert not added & set(ids)
        assert text == said(tokenizer, ids)


@given(st.lists(st.sampled_from([*CONTROL, "<", "|", "im_", ">", " ", "x"])))
def test_literal_text_of_pieces(byte_level: Any, pieces: list[str]) -> None:
    """However control texts are put together, literal text holds no control token."""
    ids = encoder_of(byte_level).encode(literal("".join(pieces)))

    assert not set(byte_level.added_tokens_decoder) & set(ids)


def test_written_control_text(byte_level: Any) -> None:
    """Control tokens of the template and of raw prompts count."""
    encoder = encoder_of(byte_level)
    start, end = (byte_level.convert_tokens_to_ids(text) for text in CONTROL[:2])
    pieces = [*written("<|im_start|>"), *literal("<|im_end|>"), *written("<|im_end|>")]

    ids = encoder.encode(pieces)

    assert (ids[0], ids[-1]) == (start, end)
    assert ids.count(end) == 1
    assert encoder.encode_raw("<|im_start|><|im_end|>") == [start, end]


@texts
def test_same_ids_as_the_tokenizer(byte_level: Any, text: str) -> None:
    """Text without control tokens gets the ids that the tokenizer itself gives it."""
    encoder = encoder_of(byte_level)
    expected = byte_level.encode(text, add_special_tokens=False)

    assert expected == encoder.encode(written(text)) == encoder.encode(literal(text))


def test_settings_of_the_file_do_not_cut(tmp_path: Path) -> None:
    """A tokenizer file that truncates and pads does neither to prompts."""
    folder = write_checkpoint(tmp_path)
    made = Tokenizer.from_file(str(folder / "tokenizer.json"))
    made.enable_truncation(4)
    made.enable_padding(length=64)
    made.save(str(folder / "tokenizer.json"))
    encoder = PromptEncoder(load(folder))

    assert len(encoder.encode(written("a b c d e f g h"))) == 8
    assert len(encoder.encode(literal("a b c d e f g h"))) == 8
