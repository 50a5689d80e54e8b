"""What the doctor asks of mlx and mlx-lm, without reading a model's weights.

Rules of this file:
- Nothing here raises but what stands in a docstring; whoever asks decides what it means.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx

from .contract import check_contract
from .foreign import MlxLmFormat
from .memory import machine_memory
from .seams import load

__all__ = ["check_contract", "device", "foreign_format", "machine_memory"]


def device() -> dict[str, Any]:
    """Return the kind and the name of the device that models run on, and what it says of itself."""
    told = {name: value for name, value in mx.device_info().items() if name != "resource_limit"}
    on_gpu = mx.default_device().type == mx.DeviceType.gpu
    kind = ("Metal" if mx.metal.is_available() else "CUDA") if on_gpu else "CPU"
    return {"kind": kind, "name": str(told.get("device_name", mx.default_device())), **told}


def foreign_format(folder: Path, *, trusted: bool) -> MlxLmFormat:
    """Return how mlx-lm reads the answers of a model in a folder; raises what loading raises."""
    _, tokenizer, *_ = load(
        str(folder),
        tokenizer_config={"trust_remote_code": trusted},
        trust_remote_code=trusted,
        lazy=True,
    )
    return MlxLmFormat(tokenizer)
