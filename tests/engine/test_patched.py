"""This server on an mlx-lm that has all of `patches/`: what they change, it does not stumble over.

Rules of this file:
- The patched tree is made from a downloaded release; where there is no package index, the tests are
  skipped. Only server processes see it: it comes first on their PYTHONPATH.
- The tests of everything else run on the release as it is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from ..http.live import Live, call, serve, tool, user

pytestmark = [pytest.mark.mlx, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
CHAT = "/v1/chat/completions"
RUN = tool("run_cmd", cmd="string")
WORDS = "one two three four five six seven eight nine ten " * 8


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the environment of a process that imports the patched mlx-lm."""
    tree = tmp_path_factory.mktemp("patched") / "tree"
    command = [sys.executable, "-m", "tools.patches", "--tree", str(tree)]
    made = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if made.returncode == 2:
        pytest.skip(f"no release to be had: {made.stderr.strip()}")
    assert made.returncode == 0, made.stdout + made.stderr
    return {**os.environ, "PYTHONPATH": str(tree)}


@pytest.fixture(scope="module")
def live(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Return a server on the patched mlx-lm that takes a second for 1,000 tokens of a prompt."""
    folder = tmp_path_factory.mktemp("batched")
    flags = ("--prefill-step-size", "512")
    with serve(folder, *flags, environment=environment, prefill_delay_per_1k=1.0) as server:
        yield server


@pytest.fixture(scope="module")
def draft(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Return a server on the patched mlx-lm whose model is its own draft."""
    folder = tmp_path_factory.mktemp("draft")
    flags = ("--draft-model", str(folder / "model"))
    with serve(folder, *flags, environment=environment) as server:
        yield server


def test_contract(environment: dict[str, str]) -> None:
    """The contract holds, and it is the patched mlx-lm that is asked."""
    code = (
        "import mlx_lm; from mlx_tools_server.engine.contract import check_contract;"
        " check_contract(); print(mlx_lm.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        check=True,
    )

    assert done.stdout.splitlines()[-1].startswith(environment["PYTHONPATH"])


@pytest.mark.parametrize("kind", ["live", "draft"])
def test_chat(kind: str, request: pytest.FixtureRequest) -> None:
    """Answers come whole, in a batch and alone, and end at a stop string inside a token."""
    server: Live = request.getfixturevalue(kind)
    scripts = [f"{number}: {WORDS}" for number in range(5)]
    with ThreadPoolExecutor(5) as pool:
        heard = list(pool.map(server.stream, scripts))

    assert [answer.content for answer in heard] == scripts
    choice = server.chat("hello world, and more", stop=["o w"])["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("hell", "stop")


@pytest.mark.parametrize("kind", ["live", "draft"])
def test_streamed_call(kind: str, request: pytest.FixtureRequest) -> None:
    """A call streams in fragments."""
    server: Live = request.getfixturevalue(kind)
    heard = server.stream(call("run_cmd", cmd=WORDS), tools=[RUN])

    assert json.loads(heard.calls[0]["text"]) == {"cmd": WORDS}
    assert heard.fragments[0] > 5
    assert heard.finish == "tool_calls"


@pytest.mark.parametrize("kind", ["live", "draft"])
def test_failing_request(kind: str, request: pytest.FixtureRequest) -> None:
    """A request that makes the model raise fails alone."""
    server: Live = request.getfixturevalue(kind)
    with ThreadPoolExecutor(2) as pool:
        other = pool.submit(server.stream, WORDS)
        broken = pool.submit(server.stream, f"{WORDS}[[BOOM]]never").result()

    assert broken.error is not None
    assert "scripted failure" in broken.error["message"]
    assert other.result().content == WORDS
    assert server.chat("still here")["choices"][0]["message"]["content"] == "still here"


def test_refused_values(live: Live) -> None:
    """What this server refuses, it refuses as before, and what it takes mlx-lm takes too."""
    assert live.post(CHAT, live.body("never", stop=5)).status_code == 400
    assert live.post(CHAT, live.body("never", logit_bias={"99999999": 5})).status_code == 400
    answer = live.chat("fine", temperature=1.0, top_k=1_000_000)
    assert answer["choices"][0]["message"]["content"] == "fine"


@pytest.mark.parametrize("kind", ["live", "draft"])
def test_cached_tokens(kind: str, request: pytest.FixtureRequest) -> None:
    """A conversation goes on from the KV cache, whichever token its answer was cut at."""
    server: Live = request.getfixturevalue(kind)
    for limit in range(1, 9):
        prompt = user(f"{limit} one two three four five six seven")["content"]
        body = {"model": "m", "prompt": prompt, "max_tokens": limit}
        first = server.post("/v1/completions", body).json()["choices"][0]["text"]
        body |= {"prompt": prompt + first, "max_tokens": 50}
        second = server.post("/v1/completions", body).json()

        assert first + second["choices"][0]["text"] == f"{limit} one two three four five six seven"
        assert second["usage"]["prompt_tokens_details"]["cached_tokens"] > 5


def test_cancelled_prefill(live: Live) -> None:
    """What was computed of a prompt whose client left is there when it is sent again."""
    body = live.body("fine", stream=True)
    body["messages"].insert(0, {"role": "system", "content": "word " * 3000})
    began = time.monotonic()
    waits = httpx.Timeout(10, read=1.5)
    with (
        suppress(httpx.ReadTimeout),
        live.client.stream("POST", CHAT, json=body, timeout=waits) as r,
    ):
        for _ in r.iter_lines():
            if time.monotonic() - began > 1.5:
                break
    assert live.wait_idle(10)

    answer = live.post(CHAT, {**body, "stream": False}).json()

    assert answer["choices"][0]["message"]["content"] == "fine"
    assert 512 <= answer["usage"]["prompt_tokens_details"]["cached_tokens"] < 2900
