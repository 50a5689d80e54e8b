"""The demo model's network in PyTorch: Qwen3's, so that mlx-lm's `qwen3` loads its weights.

Rules of this file:
- Parameter names and shapes are those of the exported checkpoint.
- Only training needs it; nothing in the package imports torch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of the network."""

    vocab_size: int = 2048
    hidden_size: int = 160
    num_hidden_layers: int = 5
    intermediate_size: int = 448
    num_attention_heads: int = 5
    num_key_value_heads: int = 5
    head_dim: int = 32
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-6

    def config(self) -> dict[str, Any]:
        """Return it as the entries of a config.json."""
        return asdict(self)


class Attention(nn.Module):
    """Grouped-query attention with normalised queries and keys."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        size, head = shape.hidden_size, shape.head_dim
        self.q_proj = nn.Linear(size, shape.num_attention_heads * head, bias=False)
        self.k_proj = nn.Linear(size, shape.num_key_value_heads * head, bias=False)
        self.v_proj = nn.Linear(size, shape.num_key_value_heads * head, bias=False)
        self.o_proj = nn.Linear(shape.num_attention_heads * head, size, bias=False)
        self.q_norm = nn.RMSNorm(head, eps=shape.rms_norm_eps)
        self.k_norm = nn.RMSNorm(head, eps=shape.rms_norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        rows, length, _ = x.shape
        head = self.shape.head_dim
        q = self.q_norm(self.q_proj(x).view(rows, length, -1, head)).transpose(1, 2)
        k = self.k_norm(self.k_proj(x).view(rows, length, -1, head)).transpose(1, 2)
        v = self.v_proj(x).view(rows, length, -1, head).transpose(1, 2)
        repeat = self.shape.num_attention_heads // self.shape.num_key_value_heads
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
        y = F.scaled_dot_product_attention(q, k, v.to(q.dtype), is_causal=True)
        out: Tensor = self.o_proj(y.transpose(1, 2).reshape(rows, length, -1))
        return out


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary positions, halves rotated against each other."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class MLP(nn.Module):
    """The gated feed-forward layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Layer(nn.Module):
    """Attention, then feed-forward, each behind a norm."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.self_attn = Attention(shape)
        self.mlp = MLP(shape)
        self.input_layernorm = nn.RMSNorm(shape.hidden_size, eps=shape.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(shape.hidden_size, eps=shape.rms_norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Network(nn.Module):
    """Token ids to the last hidden states; `logits` turns these into scores of tokens."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_hidden_layers))
        self.norm = nn.RMSNorm(shape.hidden_size, eps=shape.rms_norm_eps)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                deep = (2 * shape.num_hidden_layers) ** -0.5
                scale = deep if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
                nn.init.normal_(weight, std=scale * weight.shape[1] ** -0.5)
        nn.init.normal_(self.embed_tokens.weight, std=0.05)

    def forward(self, ids: Tensor) -> Tensor:
        half = self.shape.head_dim // 2
        rates = self.shape.rope_theta ** (-torch.arange(half) / half)
        angles = torch.arange(ids.shape[1])[:, None] * rates
        cos, sin = angles.cos(), angles.sin()
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x, cos, sin)
        out: Tensor = self.norm(x)
        return out

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the scores of all tokens; the output matrix is the embedding."""
        return F.linear(hidden, self.embed_tokens.weight)
