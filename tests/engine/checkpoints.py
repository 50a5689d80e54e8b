"""Tiny checkpoints of real architectures with random weights, for what a script can't show."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from mlx_tools_server.engine.scripted import write_checkpoint

_COMMON = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "max_position_embeddings": 16384,
}
_EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "moe_intermediate_size": 32,
    "norm_topk_prob": True,
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "qwen3": {},
    "qwen3_moe": _EXPERTS,
    "qwen3_next": {
        **_EXPERTS,
        "num_hidden_layers": 4,
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
        "linear_conv_kernel_dim": 4,
        "shared_expert_intermediate_size": 32,
        "partial_rotary_factor": 0.5,
    },
    "gpt_oss": {
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "sliding_window": 128,
        "layer_types": ["sliding_attention", "full_attention"],
    },
}


def write_random(
    folder: Path,
    architecture: str = "qwen3",
    *,
    head_dim: int = 16,
    seed: int = 0,
    words: Sequence[str] = (),
) -> Path:
    """Write a small model in float32 that speaks at random; return its folder.

    Its tokenizer and template are those of the scripted checkpoint, with `words` as tokens of their
    own. The head's weights are large, so that which token is likeliest does not hang on the last
    bit.
    """
    write_checkpoint(folder)
    (folder / "model.py").unlink()
    scripted = json.loads((folder / "config.json").read_text())
    _add_words(folder, words)
    config = {
        **_COMMON,
        **ARCHITECTURES[architecture],
        "model_type": architecture,
        "head_dim": head_dim,
        "vocab_size": scripted["vocab_size"],
        "eos_token_id": scripted["eos_token_id"],
    }
    mx.random.seed(seed)
    module = import_module(f"mlx_lm.models.{architecture}")
    model = module.Model(module.ModelArgs.from_dict(config))
    weights = {name: _drawn(value) for name, value in tree_flatten(model.parameters())}
    weights["lm_head.weight"] = 20 * weights["lm_head.weight"]
    mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def _add_words(folder: Path, words: Sequence[str]) -> None:
    """Give a tokenizer more tokens, of ASCII text, in place of those that it learned last."""
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    model = tokenizer["model"]
    for word in words:
        merge = model["merges"].pop()
        learned = "".join(merge if isinstance(merge, list) else merge.split(" "))
        spelled = word.replace("\n", "\u010a").replace(" ", "\u0120")
        model["vocab"][spelled] = model["vocab"].pop(learned)
    path.write_text(json.dumps(tokenizer))


def _drawn(value: mx.array) -> mx.array:
    # Some architectures begin with weights of zero, which would say nothing.
    return value if value.any().item() else 0.1 * mx.random.normal(value.shape).astype(value.dtype)


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


# Parsers as mlx-lm's folder of them could have, for formats that nobody else knows.
MADE_UP = '''

import json
import sys
import types


def _calls(text, tools=None):
    """Read `NAME OBJECT`, once or more often, up to what is no call."""
    calls = []
    while text := text.strip():
        name, _, rest = text.partition(" ")
        try:
            arguments, end = json.JSONDecoder().raw_decode(rest)
        except ValueError:
            break
        calls.append({"name": name, "arguments": arguments})
        text = rest[end:]
    if not calls:
        raise ValueError("no call")
    return calls


for _name, _end in (("closed", "<<end>>"), ("open", "")):
    _module = types.ModuleType(_name)
    _module.tool_call_start, _module.tool_call_end = "<<call>>", _end
    _module.parse_tool_call = _calls
    sys.modules[f"mlx_lm.tool_parsers.made_up_{_name}"] = _module
'''


def write_made_up(folder: Path, name: str, chat_template: str) -> Path:
    """Write a scripted checkpoint whose calls only a parser of its own can read."""
    write_checkpoint(folder, chat_template=chat_template, tool_parser=f"made_up_{name}")
    source = (folder / "model.py").read_text()
    (folder / "model.py").write_text(source + MADE_UP)
    return folder
