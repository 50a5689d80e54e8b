"""What the KV cache takes, reckoned from config.json, and whether it fits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlx_tools_server.config import ServerConfig
from mlx_tools_server.doctor.memory import Layers, check_memory, layers_of
from mlx_tools_server.models import ModelInfo

PLAIN = {
    "num_hidden_layers": 48,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "hidden_size": 2048,
}
GB = 10**9

CONFIGS = [
    pytest.param(PLAIN, Layers(1024, 48), id="Qwen3-Coder 30B"),
    pytest.param(
        {k: v for k, v in PLAIN.items() if k not in ("head_dim", "num_key_value_heads")},
        Layers(4096, 48),
        id="no head_dim, no grouped heads",
    ),
    pytest.param({"text_config": PLAIN}, Layers(1024, 48), id="nested"),
    pytest.param({**PLAIN, "torch_dtype": "float32"}, Layers(1024, 48, width=4), id="float32"),
    pytest.param({**PLAIN, "full_attention_interval": 4}, Layers(1024, 12), id="a hybrid"),
    pytest.param(
        {**PLAIN, "layer_types": ["sliding_attention", "full_attention"] * 24,
         "sliding_window": 128},
        Layers(1024, 24, 24, 128),
        id="windows",
    ),
    pytest.param(
        {**PLAIN, "sliding_window_pattern": 6, "sliding_window": 512},
        Layers(1024, 8, 40, 512),
        id="a pattern of windows",
    ),
    pytest.param(
        {**PLAIN, "kv_lora_rank": 512, "qk_rope_head_dim": 64}, Layers(576, 48), id="latent"
    ),
    pytest.param({"num_hidden_layers": 4}, None, id="too little is said"),
    pytest.param({"num_hidden_layers": "x", "num_attention_heads": []}, None, id="nonsense"),
]  # fmt: skip


@pytest.mark.parametrize(("config", "layers"), CONFIGS)
def test_layers(config: dict[str, Any], layers: Layers | None) -> None:
    """Each architecture's KV cache is told from the numbers of its config.json."""
    assert layers_of(config) == layers


def test_bytes() -> None:
    """A token takes layers x heads x width x 2 x 2 bytes; 8 bits save nearly half."""
    layers = layers_of(PLAIN)

    assert layers is not None
    assert layers.nbytes(1) == 48 * 4 * 128 * 2 * 2
    assert layers.nbytes(32_768) == 32_768 * layers.nbytes(1)
    assert 0.5 < layers.nbytes(8192, 8) / layers.nbytes(8192) < 0.54
    assert Layers(10, 0, 3, 100).nbytes(5000) == 10 * 3 * 100 * 2


def look(usable: int, weights: int = 17 * GB, **settings: Any) -> Any:
    info = ModelInfo(Path("m"), "m", "qwen3_moe", weights, context_length=262_144)
    config = ServerConfig(**settings)
    return check_memory(config, info, layers_of(PLAIN), usable)


def test_fit() -> None:
    """A context that fits is ok; one too small for agents a warning; none at all a problem."""
    assert look(48 * GB).status == "ok"
    assert "3.2 GB for 32k" in look(48 * GB).seen
    assert look(24 * GB).status == "ok"
    assert "room for about" in look(24 * GB).seen
    assert look(20 * GB).status == "warning"
    assert look(18 * GB).status == "problem"
    assert look(16 * GB).seen.startswith("the weights take")
    assert look(20 * GB, kv_bits=8).status == "ok"
    assert look(20 * GB, memory_limit=48 * GB).status == "ok"
    assert look(20 * GB, context_length=4096).status == "ok"


@pytest.mark.mlx
@pytest.mark.parametrize("name", ["qwen3", "qwen3_moe", "qwen3_next", "gpt_oss"])
def test_as_measured(name: str, tmp_path: Path) -> None:
    """The estimate for a long context is what mlx-lm's own layers take, fixed state aside."""
    from mlx_lm import load

    from mlx_tools_server.engine.layers import footprint
    from tests.engine.checkpoints import write_random

    folder = write_random(tmp_path, name)
    model, *_ = load(str(folder), tokenizer_config={"trust_remote_code": True})
    measured = footprint(model)
    layers = layers_of(json.loads((folder / "config.json").read_text()))

    assert layers is not None
    # These are in float32, which their config.json does not say.
    assert 2 * layers.growth() == pytest.approx(
        sum(size for size, most in measured.growing if most is None)
    )
