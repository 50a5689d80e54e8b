"""Models that are served one request at a time: with a draft model, or with a quantized KV cache.

What this way lacks: requests wait for each other, and with a draft model a prompt that is being
processed is neither told of nor dropped when its client leaves, since mlx-lm's speculative
decoding reports no progress. Everything a client sees is the same.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from mlx_tools_server.engine.scripted import write_checkpoint
from mlx_tools_server.templates import read_ours

from ..engine.checkpoints import write_random
from .folders import serve_folder
from .live import Live, call, tool

pytestmark = pytest.mark.mlx

RUN = tool("run_cmd", cmd="string")
WORDS = "one two three four five six seven eight nine ten "


@pytest.fixture(scope="module")
def draft(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Return a server of a scripted model that is its own draft; a step takes 3 ms."""
    folder = tmp_path_factory.mktemp("draft") / "model"
    write_checkpoint(folder, chat_template=read_ours("qwen3_coder"), step_delay=0.003)
    with serve_folder(folder, "--draft-model", str(folder)) as server:
        yield server


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Return a server of a tiny Qwen3 that speaks at random, with a KV cache of 8 bits."""
    folder = write_random(tmp_path_factory.mktemp("quantized") / "model", head_dim=64)
    flags = ("--kv-bits", "8", "--quantized-kv-start", "0", "--prefill-step-size", "32")
    with serve_folder(folder, *flags) as server:
        yield server


def test_text(draft: Live) -> None:
    """Text is said whole, streamed or not, and counted."""
    whole = draft.chat(WORDS)
    heard = draft.stream(WORDS, stream_options={"include_usage": True})

    assert whole["choices"][0]["message"]["content"] == heard.content == WORDS
    assert whole["choices"][0]["finish_reason"] == heard.finish == "stop"
    assert heard.usage is not None
    assert whole["usage"]["completion_tokens"] == heard.usage["completion_tokens"]


def test_call_streams(draft: Live) -> None:
    """A call streams in fragments."""
    heard = draft.stream(call("run_cmd", cmd=WORDS), tools=[RUN])

    assert json.loads(heard.calls[0]["text"]) == {"cmd": WORDS}
    assert heard.fragments[0] > 5
    assert heard.finish == "tool_calls"


def test_one_call_only(draft: Live) -> None:
    """Where one call is allowed, the answer ends with it."""
    script = call("run_cmd", cmd="a") + "\n" + call("run_cmd", cmd="b")

    choice = draft.chat(script, tools=[RUN], parallel_tool_calls=False)["choices"][0]

    assert [c["function"]["arguments"] for c in choice["message"]["tool_calls"]] == ['{"cmd": "a"}']
    assert choice["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("stop", [" fi", "four five", "e f"])
def test_stop_string(stop: str, draft: Live) -> None:
    """A stop string ends the answer and is left out."""
    choice = draft.chat(WORDS, stop=[stop])["choices"][0]

    assert choice["message"]["content"] == WORDS.partition(stop)[0]
    assert choice["finish_reason"] == "stop"


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_length(limit: int, draft: Live) -> None:
    """An answer is cut after its tokens, wherever the drafts end."""
    answer = draft.chat(WORDS, max_tokens=limit)

    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == limit
    assert WORDS.startswith(answer["choices"][0]["message"]["content"])


def test_seed(draft: Live) -> None:
    """Sampling with a seed works."""
    answers = [draft.chat("same", temperature=1.0, seed=3, top_p=0.9) for _ in range(2)]

    assert [a["choices"][0]["message"]["content"] for a in answers] == ["same", "same"]


def test_prompt_cache(draft: Live) -> None:
    """The prompt of a conversation that goes on comes from the cache."""
    first = draft.body("[[NEXT]]".join(["one", "two"]))
    draft.post("/v1/chat/completions", first)
    turns = [{"role": "assistant", "content": "one"}, {"role": "user", "content": "and?"}]

    second = draft.post(
        "/v1/chat/completions", {**first, "messages": first["messages"] + turns}
    ).json()

    assert second["choices"][0]["message"]["content"] == "two"
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] > 0


def test_same_prompt_again(draft: Live) -> None:
    """The very same prompt is answered again and again."""
    assert {draft.stream("again").content for _ in range(4)} == {"again"}


def test_failure(draft: Live) -> None:
    """A failing request ends alone, after what it had said; those that wait are served."""
    scripts = ["first", f"{WORDS}[[BOOM]]never", "third"]
    with ThreadPoolExecutor(3) as pool:
        first, broken, third = pool.map(draft.stream, scripts)

    assert (first.content, third.content) == ("first", "third")
    assert broken.error is not None
    assert "scripted failure" in broken.error["message"]
    assert WORDS.startswith(broken.content)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_client_that_leaves(stream: bool, draft: Live) -> None:
    """A generation stops soon after its client has gone."""
    body = draft.body("word " * 3000, stream=stream)

    if stream:
        with draft.client.stream("POST", "/v1/chat/completions", json=body) as response:
            next(response.iter_lines())
    else:
        with pytest.raises(httpx.TimeoutException):
            draft.post("/v1/chat/completions", body, timeout=1.0)

    assert draft.wait_idle(4.0)


def test_leaving_while_another_is_served(draft: Live) -> None:
    """A request whose client leaves while it waits is not begun."""
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(draft.stream, WORDS * 20)
        time.sleep(0.1)
        with pytest.raises(httpx.TimeoutException):
            draft.post("/v1/chat/completions", draft.body("word " * 3000), timeout=0.2)
        assert busy.result().content == WORDS * 20

    assert draft.wait_idle(2.0)


def test_quantized_cache(quantized: Live) -> None:
    """A model with a quantized KV cache answers, again from its cache, and with a seed."""
    body = quantized.body("hello " * 60, max_tokens=12)
    first, second = (quantized.post("/v1/chat/completions", body).json() for _ in range(2))
    fields = {"temperature": 1.0, "seed": 5, "max_tokens": 12}
    seeded = [quantized.chat("hello " * 60, **fields)["choices"][0]["message"] for _ in range(2)]

    assert first["choices"][0]["finish_reason"] in ("length", "stop")
    assert first["usage"]["completion_tokens"] > 0
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
    assert seeded[0] == seeded[1]


def test_leaving_a_long_prompt(quantized: Live, tmp_path: Path) -> None:
    """A prompt that is processed alone is dropped when its client leaves."""
    body = quantized.body("word " * 3500, max_tokens=1)
    began = time.monotonic()
    quantized.post("/v1/chat/completions", body)
    whole = time.monotonic() - began

    body["messages"][0]["content"] = "other " * 3500
    with pytest.raises(httpx.TimeoutException):
        quantized.post("/v1/chat/completions", body, timeout=whole / 10)
    began = time.monotonic()

    assert quantized.wait_idle(whole)
    assert quantized.chat("hello", max_tokens=1)["usage"]["completion_tokens"] == 1
    assert time.monotonic() - began < whole
