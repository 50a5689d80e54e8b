"""Write the trained demo model as an mlx-lm checkpoint, and its model card.

Rules of this file:
- The folder holds the standard files of a `qwen3` checkpoint and nothing else; any loader of
  mlx-lm or transformers takes it.
- Weights are bfloat16, as they were used in training.
- The model card is `demo_model_card.md`; its figures are put in by `eval_demo_model --card`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from mlx_tools_server.templates import read_ours
from tools.demo_network import Shape
from tools.demo_tokenizer import SPECIAL

CONTEXT = 32768
_HERE = Path(__file__).resolve().parent


def export(weights: Mapping[str, torch.Tensor], shape: Shape, tokenizer: Path, out: Path) -> None:
    """Write the checkpoint into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    content = json.loads(tokenizer.read_text(encoding="utf-8"))
    ids = {token["content"]: token["id"] for token in content["added_tokens"]}
    tensors = {
        f"model.{name}": weight.detach().to(torch.bfloat16).contiguous()
        for name, weight in weights.items()
    }
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    (out / "tokenizer.json").write_text(text + "\n", encoding="utf-8")
    _write_json(out / "config.json", _config(shape, ids))
    _write_json(out / "tokenizer_config.json", _tokenizer_config())
    stops = [ids["<|im_end|>"], ids["<|endoftext|>"]]
    generation = {"do_sample": False, "eos_token_id": stops, "pad_token_id": stops[1]}
    _write_json(out / "generation_config.json", generation)
    (out / "chat_template.jinja").write_text(read_ours("qwen3_coder"), encoding="utf-8")
    (out / "README.md").write_text((_HERE / "demo_model_card.md").read_text("utf-8"), "utf-8")


def _config(shape: Shape, ids: Mapping[str, int]) -> dict[str, Any]:
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        **shape.config(),
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": None,
        "eos_token_id": ids["<|im_end|>"],
        "hidden_act": "silu",
        "max_position_embeddings": CONTEXT,
        "pad_token_id": ids["<|endoftext|>"],
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
    }


def _tokenizer_config() -> dict[str, Any]:
    return {
        "add_bos_token": False,
        "add_prefix_space": False,
        "additional_special_tokens": list(SPECIAL[1:]),
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": CONTEXT,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": None,
    }


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
