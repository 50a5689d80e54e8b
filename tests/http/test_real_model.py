"""A real model with real weights answers through the real server."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools.smollm2 import UnavailableError, convert, download_gguf, find_gguf

from .live import process

pytestmark = [pytest.mark.mlx, pytest.mark.slow, pytest.mark.real_model]


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return SmolLM2-135M-Instruct as an mlx-lm checkpoint."""
    folder = tmp_path_factory.mktemp("smollm2")
    try:
        gguf = find_gguf() or download_gguf(folder)
    except UnavailableError as error:
        pytest.skip(str(error))
    convert(gguf, folder / "SmolLM2-135M-Instruct")
    return folder / "SmolLM2-135M-Instruct"


def test_plain_question(smollm2: Path, tmp_path: Path) -> None:
    """SmolLM2 knows the capital of France, streamed and whole."""
    command = [sys.executable, "-m", "mlx_tools_server", "--model-path", str(smollm2)]
    question = {"role": "user", "content": "What is the capital of France?"}
    with process([*command, "--port", "0", "--no-kv-disk"], tmp_path) as live:
        answer = live.post(
            "/v1/chat/completions",
            {"model": "m", "messages": [question], "max_tokens": 20},
        ).json()["choices"][0]
        heard = live.stream("", messages=[question], max_tokens=20)

    assert answer["message"]["content"] == "The capital of France is Paris."
    assert answer["finish_reason"] == "stop"
    assert heard.content == answer["message"]["content"]
