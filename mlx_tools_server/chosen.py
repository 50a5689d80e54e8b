"""Which model is served: the built-in one by its name, and what the folder of any other holds.

Rules of this file:
- A folder of that name in the working directory counts more than the built-in model.
- What is on the hub is left to upstream's loader.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from .config import ServerConfig
from .models import ModelInfo, inspect_model, is_hub_id

DEMO = "demo"
DEMO_MODEL = Path(__file__).parent / "demo_model"


def with_demo_model(config: ServerConfig) -> ServerConfig:
    """Name the built-in model's folder where the demo is asked for, by flag or as `demo`."""
    if not config.demo and (config.model != DEMO or os.path.lexists(DEMO)):
        return config
    return replace(config, model=str(DEMO_MODEL), model_name=config.model_name or DEMO)


def look_at_model(config: ServerConfig) -> ModelInfo | None:
    """What the model's folder holds; None for what upstream has yet to fetch."""
    if config.model is None:
        return None
    # --model-path promises a folder; the other sources may hold either.
    if config.sources.get("model") != "--model-path" and is_hub_id(config.model):
        return None
    return inspect_model(
        config.model,
        trust_remote_code=config.trust_remote_code,
        chat_template_given=bool(config.chat_template) or config.use_default_chat_template,
    )
