"""Whether weights and KV cache fit, by the numbers of config.json.

Rules of this file:
- Nothing is loaded: a token takes layers x heads x width x 2 (keys and values) elements. Layers
  with a window stop growing at it; layers with a fixed state count for nothing.
- It is an estimate, and says so; the server measures when the model is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..budgets import STEP_SHARE, size
from ..config import ServerConfig
from ..models import ModelInfo
from .finding import Finding

LENGTHS = (8_192, 32_768, 131_072)
# What a coding agent needs at least, its instructions and tools included.
USEFUL = 32_768
# Bytes of scale and bias for each group of a quantised KV cache.
GROUP_BYTES = 4


@dataclass(frozen=True, slots=True)
class Layers:
    """The KV cache of a model: `elements` of a token in one layer, and how many layers keep them.

    `windowed` layers keep at most `window` tokens.
    """

    elements: int
    full: int
    windowed: int = 0
    window: int = 0
    width: int = 2

    def nbytes(self, tokens: int, bits: int | None = None, group: int = 64) -> int:
        """Return the bytes for so many tokens, quantised if `bits` are given."""
        bounded = self.elements * self.windowed * min(tokens, self.window) * self.width
        return int(self.growth(bits, group) * tokens) + bounded

    def growth(self, bits: int | None = None, group: int = 64) -> float:
        """Return the bytes that each further token takes, however many there are."""
        each = bits / 8 + GROUP_BYTES / group if bits else self.width
        return self.elements * self.full * each


def layers_of(config: Mapping[str, Any]) -> Layers | None:
    """Return what config.json tells of the KV cache; None if it is not said."""
    nested = config.get("text_config")
    if isinstance(nested, dict) and "num_hidden_layers" in nested:
        config = {**config, **nested}
    layers, elements = _number(config, "num_hidden_layers", "n_layers"), _elements(config)
    if not layers or not elements:
        return None
    kind = config.get("torch_dtype") or config.get("dtype")
    width = 4 if kind == "float32" and "quantization" not in config else 2
    window = _number(config, "sliding_window")
    types = config.get("layer_types")
    pattern = config.get("hybrid_override_pattern")
    if isinstance(types, list):
        full, windowed = types.count("full_attention"), types.count("sliding_attention")
    elif isinstance(pattern, str):
        full, windowed = pattern.count("*"), 0
    elif interval := _interval(config):
        full, windowed = layers // interval, 0
    elif every := _number(config, "sliding_window_pattern"):
        full, windowed = layers // every, layers - layers // every
    else:
        full, windowed = layers, 0
    return Layers(elements, full, windowed if window else 0, window, width)


def _interval(config: Mapping[str, Any]) -> int:
    """Return which layers of a hybrid attend to all tokens: each fourth, if it is not said."""
    stated = _number(config, "full_attention_interval")
    return stated or (4 if "linear_num_value_heads" in config else 0)


def _elements(config: Mapping[str, Any]) -> int:
    if latent := _number(config, "kv_lora_rank"):
        return latent + _number(config, "qk_rope_head_dim")
    heads = _number(config, "num_attention_heads", "n_heads")
    keys = _number(config, "num_key_value_heads") or heads
    width = _number(config, "head_dim")
    if not width and heads:
        width = _number(config, "hidden_size", "d_model") // heads
    return 2 * keys * width


def _number(config: Mapping[str, Any], *names: str) -> int:
    for name in names:
        value = config.get(name)
        if type(value) is int and value > 0:
            return value
    return 0


def check_memory(
    config: ServerConfig, info: ModelInfo, layers: Layers | None, usable: int
) -> Finding:
    """Whether the weights and a useful context fit into `usable` bytes."""
    usable = config.memory_limit or usable
    weights, left = info.size_bytes, int(usable * (1 - STEP_SHARE)) - info.size_bytes
    remedy = "Choose a smaller model or one with fewer bits, or a machine with more memory."
    have = f"of {size(usable)} that can be used"
    facts: dict[str, Any] = {"usable": usable, "weights": weights}
    if left <= 0:
        seen = f"the weights take {size(weights)} {have}"
        return Finding("memory", "problem", seen, remedy, facts)
    if layers is None:
        seen = f"weights {size(weights)} {have}; config.json does not tell the KV cache"
        return Finding("memory", "ok", seen, facts=facts)
    length = config.context_length or info.context_length or LENGTHS[-1]
    lengths = [each for each in LENGTHS if each <= length] or [length]
    bits, group = config.kv_bits, config.kv_group_size
    needs = {each: layers.nbytes(each, bits, group) for each in lengths}
    most = _most(layers, left, bits, group)
    facts |= {"kv": {str(each): need for each, need in needs.items()}, "most_tokens": most}
    shown = ", ".join(f"{size(need)} for {each // 1024}k" for each, need in needs.items())
    seen = f"weights {size(weights)}, KV cache {shown} tokens, {have}"
    if bits is None:
        saved = needs[lengths[-1]] - layers.nbytes(lengths[-1], 8, group)
        facts["saved_by_8_bits"] = saved
        if saved > 0:
            seen += f"; --kv-bits 8 saves {size(saved)} of {size(needs[lengths[-1]])}"
    if most is None or most >= min(length, LENGTHS[-1]):
        return Finding("memory", "ok", seen, facts=facts)
    seen += f"; there is room for about {most:,} tokens"
    if most < lengths[0]:
        return Finding("memory", "problem", seen, remedy, facts)
    if most < min(USEFUL, length):
        remedy = "Use --kv-bits 8, a smaller model, or one with fewer bits."
        return Finding("memory", "warning", seen, remedy, facts)
    return Finding("memory", "ok", seen, facts=facts)


def _most(layers: Layers, room: int, bits: int | None, group: int) -> int | None:
    """Return how many tokens of one conversation fit; None if there is no end."""
    if not layers.full:
        return None
    windowed = layers.elements * layers.windowed * layers.window * layers.width
    return max(0, int((room - windowed) // layers.growth(bits, group)))
