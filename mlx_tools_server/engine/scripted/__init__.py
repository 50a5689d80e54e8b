"""A checkpoint without weights that plays, token by token, the script in its own prompt.

Rules of this file:
- `write_checkpoint` writes a folder that mlx-lm loads like any other (`--trust-remote-code`);
  writing it imports neither mlx nor transformers.
- A script is plain text in a message: `[[SCRIPT]]first turn[[NEXT]]second turn[[/SCRIPT]]`.
  The last one in the conversation counts. Part k is played by the k-th assistant turn after it;
  with no part left, or no script, the model says `OK.`.
- `[[BOOM]]` makes the forward pass raise when a row reaches it, `[[SLOW]]` slows the rest of the
  turn down, `[[CUT]]` vanishes and so forces a token boundary that plain encoding would not give.
- `[[think]]`, `[[/think]]`, `[[tool_call]]`, `[[/tool_call]]`, `[[im_start]]`, `[[im_end]]` and
  `[[endoftext]]` are played as the control token of that name; the same text in angle brackets
  is played as the plain text tokens that it arrived in. `played` writes such marks for the tokens
  of any family, which a checkpoint gets as `controls`.
- With a template that has no `<|im_start|>assistant`, the last message must have a script of its
  own, since turns can't be told apart: a question, or the result of a call.
- The tokenizer is Qwen's byte-level BPE in small, less its normalizer: every text decodes to
  exactly its bytes. `merges.txt` was learnt from Python's standard library and its manual.
"""

from __future__ import annotations

import json
import re
import shutil
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["played", "write_checkpoint"]

_HERE = Path(__file__).parent

# Qwen's pre-tokens: a run of letters, a digit, punctuation with its newlines, white space.
_PRE_TOKENS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
_ADDED = (
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
)
_MARKS = {
    "script": "[[SCRIPT]]",
    "end": "[[/SCRIPT]]",
    "next": "[[NEXT]]",
    "boom": "[[BOOM]]",
    "slow": "[[SLOW]]",
    "cut": "[[CUT]]",
}
_PLAYED_AS = {
    "[[think]]": "<think>",
    "[[/think]]": "</think>",
    "[[tool_call]]": "<tool_call>",
    "[[/tool_call]]": "</tool_call>",
    "[[im_start]]": "<|im_start|>",
    "[[im_end]]": "<|im_end|>",
    "[[endoftext]]": "<|endoftext|>",
}
_OPEN_THOUGHT = (
    "{%- if add_generation_prompt %}\n"
    "{{- '<think>\\n' if enable_thinking | default(true) else '<think>\\n\\n</think>\\n\\n' }}\n"
    "{%- endif %}\n"
)


def write_checkpoint(
    folder: Path,
    *,
    hybrid: bool = False,
    step_delay: float = 0.0,
    prefill_delay_per_1k: float = 0.0,
    thinking: bool = False,
    context_length: int = 262144,
    chat_template: str | None = None,
    controls: Sequence[str] = (),
    ends: Sequence[str] = (),
    tool_parser: str = "",
) -> Path:
    """Write the checkpoint into `folder`, which is made if it is missing, and return `folder`.

    `hybrid` adds a layer whose state can't be trimmed. With `thinking` the generation prompt opens
    a thought, so a script begins inside it; a given template that has no `<think>` is extended.
    `controls` are the control tokens of another family than Qwen's, `ends` those that end answers.
    `tool_parser` is the name of mlx-lm's parser that the tokenizer asks for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokens = _vocabulary()
    texts = _added_texts(controls)
    fresh = [text for text in texts if text not in tokens]
    added = {text: tokens[text] for text in texts if text in tokens}
    added |= {text: len(tokens) + i for i, text in enumerate(fresh)}
    # No `model_type`: transformers, which reads this file too, warns about one it doesn't know.
    config = {
        "model_file": "model.py",
        "vocab_size": (len(tokens) + len(added) + 127) // 128 * 128,
        "max_position_embeddings": context_length,
        "eos_token_id": added["<|im_end|>"],
        "hybrid": hybrid,
        "step_delay": step_delay,
        "prefill_delay_per_1k": prefill_delay_per_1k,
        "script": _script_ids(tokens, added, controls),
    }
    template = chat_template or (_HERE / "chat_template.jinja").read_text(encoding="utf-8")
    if thinking and "<think>" not in template:
        template = template.rstrip("\n") + "\n" + _OPEN_THOUGHT
    _write_json(folder / "config.json", config)
    special = dict.fromkeys((*_SPECIAL, *(text for text in controls if text not in _ADDED)))
    about = _tokenizer_config(context_length, list(special)[1:])
    _write_json(folder / "tokenizer.json", _tokenizer(tokens, added, special))
    _write_json(
        folder / "tokenizer_config.json",
        about | ({"tool_parser_type": tool_parser} if tool_parser else {}),
    )
    _write_json(
        folder / "generation_config.json",
        {"eos_token_id": [added[text] for text in ("<|im_end|>", "<|endoftext|>", *ends)]},
    )
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    (folder / "model.safetensors").write_bytes(_weights())
    shutil.copyfile(_HERE / "model.py", folder / "model.py")
    return folder


def played(text: str, controls: Sequence[str]) -> str:
    """Return a text as a script that plays these texts as the control tokens that they spell."""
    marks = _marks(controls)
    longest = sorted(marks, key=len, reverse=True)
    pattern = "|".join(map(re.escape, longest)) or "(?!)"
    return re.sub(pattern, lambda found: marks[found[0]], text)


def _marks(controls: Sequence[str]) -> dict[str, str]:
    return {text: f"[[control {i}]]" for i, text in enumerate(controls)}


def _added_texts(controls: Sequence[str]) -> tuple[str, ...]:
    texts = (*_SPECIAL, *(controls or _ADDED), *_MARKS.values(), *_PLAYED_AS)
    return tuple(dict.fromkeys((*texts, *_marks(controls).values())))


def _vocabulary() -> dict[str, int]:
    """The 256 bytes and all merges, in the printable alphabet of byte-level BPE."""
    tokens = sorted(_byte_alphabet().values())
    tokens += ["".join(merge.split(" ")) for merge in _merges()]
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}


def _merges() -> list[str]:
    return (_HERE / "merges.txt").read_text(encoding="utf-8").splitlines()


def _byte_alphabet() -> dict[int, str]:
    """Byte → character: itself where it prints, else one of the characters from 256 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {
        byte: chr(256 + i) for i, byte in enumerate(others)
    }


def _script_ids(
    tokens: Mapping[str, int], added: Mapping[str, int], controls: Sequence[str]
) -> dict[str, Any]:
    """All that `model.py` must know of the tokenizer, as ids."""
    played_as = _PLAYED_AS | {mark: text for text, mark in _marks(controls).items()}
    newline, blank_line = tokens["Ċ"], tokens["ĊĊ"]
    opened = (
        [
            [added["<think>"], blank_line, added["</think>"], blank_line],
            [added["<think>"], newline],
        ]
        if "<think>" in added
        else []
    )
    return {
        **{name: added[text] for name, text in _MARKS.items()},
        "header": [added["<|im_start|>"], tokens["assistant"], newline],
        "opened": opened,
        "stop": added["<|im_end|>"],
        "played_as": [
            [added[mark], added[text]] for mark, text in played_as.items() if text in added
        ],
        "default": [tokens["OK"], tokens["."]],
        "wrong": [tokens[c] for c in "MISMATCH"],
    }


def _tokenizer(
    tokens: Mapping[str, int], added: Mapping[str, int], special: Mapping[str, Any]
) -> dict[str, Any]:
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": False,
        "use_regex": False,
    }
    split = {
        "type": "Split",
        "pattern": {"Regex": _PRE_TOKENS},
        "behavior": "Isolated",
        "invert": False,
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": i,
                "content": text,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": text in special,
            }
            for text, i in added.items()
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": dict(tokens),
            "merges": [merge.split(" ") for merge in _merges()],
        },
    }


def _tokenizer_config(context_length: int, special: Sequence[str]) -> dict[str, Any]:
    return {
        "add_bos_token": False,
        "add_prefix_space": False,
        "additional_special_tokens": list(special),
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": context_length,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": None,
    }


def _weights() -> bytes:
    """A safetensors file with the one number that `model.py` declares: loaders want a weight."""
    header = json.dumps({"unit": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + struct.pack("<f", 1.0)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
