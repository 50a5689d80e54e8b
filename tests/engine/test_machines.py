"""Two machines that serve one model together: two processes here, joined by mlx's ring.

Rules of this file:
- The model is split by tensors, as mlx-lm does it; rank 0 talks to clients.
- What a test expects is what the model says on one machine.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlx_tools_server.messages import Options

from .checkpoints import write_random
from .running import answer, running

pytestmark = [pytest.mark.mlx, pytest.mark.slow]

PROMPTS = ["hello", "what is a ring? " * 20, "x"]


@dataclass
class Ring:
    """The processes, and a client of the first."""

    ranks: list[subprocess.Popen[str]]
    client: httpx.Client

    def ask(self, prompt: str, **fields: Any) -> dict[str, Any]:
        body = {"model": "m", "messages": [{"role": "user", "content": prompt}], **fields}
        response = self.client.post("/v1/chat/completions", json=body)
        assert response.status_code == 200, response.text
        choice: dict[str, Any] = response.json()["choices"][0]
        return choice


def free_ports() -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture
def ring(tmp_path: Path) -> Iterator[Ring]:
    """Return two processes that serve a tiny Qwen3 together."""
    hosts = tmp_path / "hosts.json"
    hosts.write_text(json.dumps([[f"127.0.0.1:{port}"] for port in free_ports()]))
    model = write_random(tmp_path / "model")
    command = [sys.executable, "-m", "mlx_tools_server", "--model-path", str(model)]
    command += ["--port", "0", "--no-kv-disk"]
    ranks = []
    for rank in range(2):
        with (tmp_path / f"rank{rank}.log").open("w") as log:
            ranks.append(
                subprocess.Popen(
                    command,
                    env={**os.environ, "MLX_RANK": str(rank), "MLX_HOSTFILE": str(hosts)},
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                )
            )
    try:
        assert ranks[0].stdout is not None
        found = (re.search(r"(http://\S+?)/v1", line) for line in ranks[0].stdout)
        url = next(match[1] for match in found if match)
        with httpx.Client(base_url=url, timeout=30.0) as client:
            yield Ring(ranks, client)
    finally:
        for process in ranks:
            process.kill()
            with process:
                pass


def test_two_machines(ring: Ring, tmp_path: Path) -> None:
    """Together they say what one says, survive a client that leaves, and end together."""
    with running(tmp_path / "model") as engine:
        short = Options(max_tokens=12)
        expected = [answer(engine, prompt, options=short).joined("text") for prompt in PROMPTS]

    said = [ring.ask(prompt, max_tokens=12)["message"]["content"] for prompt in PROMPTS]
    with ThreadPoolExecutor(3) as pool:
        at_once = list(
            pool.map(lambda p: ring.ask(p, max_tokens=12)["message"]["content"], PROMPTS)
        )
    assert expected == said == at_once

    word = expected[0][5:9]
    stopped = ring.ask(PROMPTS[0], max_tokens=12, stop=[word])
    assert stopped["finish_reason"] == "stop"
    assert stopped["message"]["content"] == expected[0].partition(word)[0]

    with pytest.raises(httpx.TimeoutException):
        ring.client.post(
            "/v1/chat/completions",
            json={"messages": [{"role": "user", "content": "long"}], "temperature": 1.0},
            timeout=0.1,
        )
    assert ring.ask(PROMPTS[0], max_tokens=12)["message"]["content"] == expected[0]

    ring.ranks[0].send_signal(signal.SIGTERM)
    assert [process.wait(20) for process in ring.ranks] == [0, 0]


def test_a_machine_that_is_lost(ring: Ring) -> None:
    """When a machine is gone, clients are told and nothing hangs."""
    ring.ranks[1].kill()

    response = ring.client.post(
        "/v1/chat/completions", json={"messages": [{"role": "user", "content": "x"}]}
    )

    assert response.status_code in (500, 503)
