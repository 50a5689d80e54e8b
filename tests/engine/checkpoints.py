"""Tiny checkpoints of real architectures with random weights, for what a script can't show."""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.models import qwen3

from mlx_tools_server.engine.scripted import write_checkpoint


def write_random(folder: Path, *, head_dim: int = 16, seed: int = 0) -> Path:
    """Write a two-layer Qwen3 in float32 that speaks at random; return its folder.

    Its tokenizer and template are those of the scripted checkpoint. The head's weights are large,
    so that which token is likeliest does not hang on the last bit.
    """
    write_checkpoint(folder)
    (folder / "model.py").unlink()
    scripted = json.loads((folder / "config.json").read_text())
    config = {
        "model_type": "qwen3",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": head_dim,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "vocab_size": scripted["vocab_size"],
        "max_position_embeddings": 4096,
        "eos_token_id": scripted["eos_token_id"],
    }
    mx.random.seed(seed)
    model = qwen3.Model(qwen3.ModelArgs.from_dict(config))
    weights = dict(tree_flatten(model.parameters()))
    weights["lm_head.weight"] = 20 * weights["lm_head.weight"]
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(config))
    return folder


FRAGILE = '''

class _Fragile(Model):
    """The scripted model, which fails on the prefill of a chunk with a certain word in it."""

    def __call__(self, inputs, cache=None):
        if inputs.shape[1] > 1 and (np.array(inputs) == {token}).any():
            raise RuntimeError("fragile")
        return super().__call__(inputs, cache)


Model = _Fragile
'''


def write_fragile(folder: Path) -> Path:
    """Write a scripted checkpoint whose forward pass fails on prompts with ` FRAGILE` in them."""
    write_checkpoint(folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    token = 1 + max(token["id"] for token in tokenizer["added_tokens"])
    tokenizer["added_tokens"].append(
        {**tokenizer["added_tokens"][-1], "id": token, "content": "FRAGILE", "special": False}
    )
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    source = (folder / "model.py").read_text()
    (folder / "model.py").write_text(source + FRAGILE.replace("{token}", str(token)))
    return folder
