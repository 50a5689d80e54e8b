"""Whose sampling settings count."""

from __future__ import annotations

from typing import Any

import pytest

from mlx_tools_server.config import ServerConfig
from mlx_tools_server.dialects import chat
from mlx_tools_server.messages import Sampling
from mlx_tools_server.models import _sampling
from mlx_tools_server.sampling import SamplingPolicy
from mlx_tools_server.wire import Fields

RECOMMENDED = {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05}
MODEL = Sampling(0.7, 0.8, 20, repetition_penalty=1.05)

# The mode, the flags, what the client sends, and what counts.
CASES: dict[str, tuple[str, dict[str, str], dict[str, Any], Sampling]] = {
    "client: nothing": ("client", {}, {}, Sampling()),
    "client: flags fill in": (
        "client",
        {"--temp": "0.3"},
        {"top_p": 0.9},
        Sampling(0.3, 0.9),
    ),
    "client: what is sent": ("client", {"--temp": "0.3"}, {"temperature": 1}, Sampling(1.0)),
    "model: nothing": ("model", {}, {}, MODEL),
    "model: the default of every API": ("model", {}, {"temperature": 1, "top_p": 1}, MODEL),
    "model: an opinion": ("model", {}, {"temperature": 0}, Sampling(0.0)),
    "model: half an opinion": ("model", {}, {"top_p": 0.5}, Sampling(1.0, 0.5)),
    "model: a seed is no opinion": (
        "model",
        {},
        {"temperature": 1, "seed": 7},
        Sampling(0.7, 0.8, 20, repetition_penalty=1.05, seed=7),
    ),
    "model: flags beat its file": (
        "model",
        {"--temp": "0.3"},
        {},
        Sampling(0.3, 0.8, 20, repetition_penalty=1.05),
    ),
    "fixed": ("fixed", {"--temp": "0.3"}, {"temperature": 1, "min_p": 0.5}, Sampling(0.3)),
    "fixed: seed and bias": (
        "fixed",
        {},
        {"temperature": 1, "seed": 7, "logit_bias": {"5": 1}},
        Sampling(seed=7, logit_bias={5: 1.0}),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_sampling(name: str) -> None:
    """Client, model or server decide, as the mode says."""
    mode, flags, sent, expected = CASES[name]
    config = ServerConfig.from_sources({"--sampling": mode, **flags}, {}, {})
    policy = SamplingPolicy.of(config, RECOMMENDED)
    body = Fields({"messages": [{"role": "user", "content": "x"}], **sent})
    asked = chat.parse(body, policy.defaults).options.sampling

    assert policy.settle(asked) == expected


FILES: dict[str, tuple[dict[str, Any], dict[str, float]]] = {
    "all": ({**RECOMMENDED, "eos_token_id": [1]}, RECOMMENDED),
    "greedy": ({"do_sample": False, "temperature": 0.7}, {"temperature": 0.0}),
    "nonsense": ({"temperature": "hot", "top_p": 7, "top_k": True, "min_p": None}, {}),
    "nothing": ({}, {}),
}


@pytest.mark.parametrize("name", FILES)
def test_recommended(name: str) -> None:
    """What a generation_config.json recommends is read, and what makes no sense left out."""
    content, expected = FILES[name]

    assert _sampling(content) == expected
