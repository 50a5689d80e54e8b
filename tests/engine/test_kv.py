"""The KV cache in blocks under real architectures: what is restored is what was computed.

Rules of this file:
- Models have random weights and speak at random; equality is to the bit, log probabilities too.
- What is compared goes on from the same computation: kept in memory, or read from disk.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mlx_tools_server.engine.engine import Engine
from mlx_tools_server.engine.prompts import Prompt
from mlx_tools_server.engine.reader import ReaderSpec
from mlx_tools_server.engine.scripted import write_checkpoint
from mlx_tools_server.events import Sampled, Usage, fold
from mlx_tools_server.messages import ChatRequest, Message, Options, ToolSpec

from .checkpoints import ARCHITECTURES, write_random
from .running import READ, WORDS, running, script

pytestmark = pytest.mark.mlx

PROMPT = tuple(100 + (i * i) % 3000 for i in range(1030))
MORE = tuple(200 + (7 * i) % 2000 for i in range(90))


# Plain and hybrid; what the others have of their own is tried among the slow tests.
USUAL = ("qwen3", "qwen3_next")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=() if name in USUAL else pytest.mark.slow)
        for name in ARCHITECTURES
    ],
)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a model."""
    return write_random(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture
def kept(tmp_path: Path) -> dict[str, Any]:
    """Return the settings of an engine that keeps its KV cache in a folder."""
    return {"no_kv_disk": False, "kv_dir": str(tmp_path / "kv"), "kv_disk_bytes": 10**9}


def say(
    engine: Engine, ids: tuple[int, ...], tokens: int = 24
) -> tuple[tuple[int, ...], list[Any], Usage]:
    """Return the ids, the log probabilities and the usage of what continues a prompt."""
    options = Options(max_tokens=tokens, top_logprobs=3)
    # A random model says ids that its tokenizer doesn't know, which no client may send.
    prompt = Prompt(ids, ReaderSpec(raw=True, max_tokens=tokens))
    events = list(engine.run(prompt, options))
    finished: Any = events[-1]
    return finished.tokens, [e.token for e in events if isinstance(e, Sampled)], finished.usage


def test_restored_is_hot(folder: Path, kept: dict[str, Any]) -> None:
    """After a restart a conversation goes on as it would have, to the last bit."""
    with running(folder, **kept) as engine:
        said, _, _ = say(engine, PROMPT)
    with running(folder, **kept) as engine:
        cold = say(engine, PROMPT + said + MORE)
    with running(folder, no_kv_disk=True) as engine:
        say(engine, PROMPT)
        hot = say(engine, PROMPT + said + MORE)

    assert cold[2].cached_tokens >= len(PROMPT + said)
    assert hot[2].cached_tokens >= len(PROMPT + said)
    assert cold[:2] == hot[:2]


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(0, id="from the start"),
        pytest.param(1060, id="later", marks=pytest.mark.slow),
    ],
)
def test_quantized(tmp_path: Path, kept: dict[str, Any], start: int) -> None:
    """A quantised KV cache is kept as it is, and goes on after a restart to the last bit."""
    folder = write_random(tmp_path / "model", head_dim=64)
    kept |= {"kv_bits": 8, "quantized_kv_start": start}
    with running(folder, **kept) as engine:
        said, _, _ = say(engine, PROMPT)
    with running(folder, **kept) as engine:
        cold = say(engine, PROMPT + said + MORE)
        further = say(engine, PROMPT + said + MORE + cold[0] + MORE)
    with running(folder, **kept, kv_ram_bytes=1) as engine:
        again = say(engine, PROMPT + said + MORE + cold[0] + MORE)
    with running(folder, **{**kept, "no_kv_disk": True}) as engine:
        say(engine, PROMPT)
        hot = say(engine, PROMPT + said + MORE)

    assert cold[2].cached_tokens >= len(PROMPT + said) - 1
    assert cold[:2] == hot[:2]
    assert again[0] == further[0]


def test_cold_is_hot(folder: Path) -> None:
    """What is said does not hang on what was kept."""
    with running(folder) as engine:
        said, _, usage = say(engine, PROMPT)
        again = say(engine, PROMPT)
        longer = say(engine, PROMPT + said + MORE)
    with running(folder) as engine:
        fresh = say(engine, PROMPT + said + MORE)

    assert usage.cached_tokens == fresh[2].cached_tokens == 0
    assert again[2].cached_tokens == len(PROMPT) - 1
    assert (again[0], longer[0]) == (said, fresh[0])


def test_together(folder: Path) -> None:
    """Requests of one batch keep and restore each its own, whatever their lengths."""
    prompts = [(i, *PROMPT[: 300 + 77 * i]) for i in range(1, 5)]
    with running(folder) as engine, ThreadPoolExecutor(4) as pool:
        first = list(pool.map(lambda ids: say(engine, ids)[0], prompts))
        longer = [(*ids, *said, *MORE) for ids, said in zip(prompts, first, strict=True)]
        second = list(pool.map(lambda ids: say(engine, ids), longer))
    with running(folder) as engine:
        alone = [say(engine, ids)[0] for ids in longer]

    assert [one[0] for one in second] == alone
    for ids, said, one in zip(prompts, first, second, strict=True):
        assert one[2].cached_tokens >= len(ids) + len(said)


@pytest.mark.parametrize("hybrid", [False, True], ids=["plain", "hybrid"])
def test_same_beginning_at_the_same_time(tmp_path: Path, hybrid: bool) -> None:
    """Of requests that come together with the same new system prompt, one computes it."""
    write_checkpoint(tmp_path, hybrid=hybrid, prefill_delay_per_1k=0.5)
    system = Message("system", WORDS * 60)

    def ask(number: int) -> Usage:
        return answer_to(engine, (system, Message("user", f"{number} {script('yes')}")))

    with running(tmp_path, prefill_step_size=256) as engine, ThreadPoolExecutor(4) as pool:
        usages = sorted(pool.map(ask, range(4)), key=lambda usage: usage.cached_tokens)

    assert usages[0].cached_tokens == 0
    for usage in usages[1:]:
        assert usage.cached_tokens >= 512


@pytest.mark.parametrize("hybrid", [False, True], ids=["plain", "hybrid"])
def test_another_conversation(tmp_path: Path, hybrid: bool) -> None:
    """A new conversation takes the system prompt and tools of an earlier one from the cache."""
    write_checkpoint(tmp_path, hybrid=hybrid)
    system = Message("system", WORDS * 60)
    with running(tmp_path) as engine:
        found = [
            answer_to(engine, (system, Message("user", f"{i}" * 40 + script("yes"))), (READ,))
            for i in range(2)
        ]

    assert found[0].cached_tokens == 0
    assert found[1].cached_tokens >= 512


@pytest.mark.parametrize("hybrid", [False, True], ids=["plain", "hybrid"])
def test_back_to_an_earlier_turn(tmp_path: Path, hybrid: bool) -> None:
    """A user who asks the last question in other words goes on from the turn before it."""
    write_checkpoint(tmp_path, hybrid=hybrid)
    first = (Message("user", WORDS * 30 + script("yes")), Message("assistant", "yes"))
    with running(tmp_path) as engine:
        start = answer_to(engine, first[:1], (READ,))
        before = answer_to(engine, (*first, Message("user", "a" + script("one"))), (READ,))
        other = answer_to(engine, (*first, Message("user", "b" + script("two"))), (READ,))

    assert before.cached_tokens >= start.prompt_tokens
    assert other.cached_tokens >= start.prompt_tokens // 256 * 256
    if hybrid:
        assert other.cached_tokens == before.cached_tokens


def test_agents_share_their_beginning(tmp_path: Path) -> None:
    """Twelve agents with one system prompt hold it once: at most 5% more than what differs."""
    write_checkpoint(tmp_path)
    system = tuple(100 + i % 3000 for i in range(8000))
    agents = [system + tuple(100 + (i * 37 + j) % 3000 for j in range(2000)) for i in range(12)]
    with running(tmp_path) as engine:
        say(engine, agents[0], tokens=1)
        one = engine.prompt_cache.nbytes / len(agents[0])
        for ids in agents[1:]:
            say(engine, ids, tokens=1)
        held = engine.prompt_cache.nbytes

    assert held <= 1.05 * one * (8000 + 12 * 2001)


@pytest.mark.parametrize("hybrid", [False, True], ids=["plain", "hybrid"])
def test_each_block_is_written_once(tmp_path: Path, kept: dict[str, Any], hybrid: bool) -> None:
    """A conversation that grows by turns writes each of its blocks once, and little beside."""
    write_checkpoint(tmp_path / "model", hybrid=hybrid)
    ids: tuple[int, ...] = tuple(100 + i % 3000 for i in range(1100))
    with running(tmp_path / "model", **kept) as engine:
        for turn in range(10):
            ids += say(engine, ids, tokens=20)[0] + tuple(range(500 + turn, 620 + turn))
        say(engine, ids, tokens=1)
        for _ in range(100):
            stats = engine.cache_stats["disk"]
            if stats["blocks_written"] >= len(ids) // 256 and not stats["queued_bytes"]:
                break
            time.sleep(0.05)

    assert stats["blocks_written"] == len(ids) // 256
    assert stats["marks_written"] <= 2 * 11
    assert stats["dropped"] == stats["errors"] == 0


def test_many_long_conversations(tmp_path: Path) -> None:
    """Memory stays under its cap while fifty conversations of 8,000 tokens pass through."""
    write_checkpoint(tmp_path)
    cap = 1 << 20
    with running(tmp_path, kv_ram_bytes=cap) as engine:
        for i in range(50):
            say(engine, tuple(100 + (i * 61 + j) % 3000 for j in range(8000)), tokens=1)
            assert engine.prompt_cache.nbytes <= cap
        last = say(engine, tuple(100 + (49 * 61 + j) % 3000 for j in range(8000)), tokens=1)

    assert last[2].cached_tokens == 7999


def answer_to(
    engine: Engine, messages: tuple[Message, ...], tools: tuple[ToolSpec, ...] = ()
) -> Usage:
    """Return what the answer to a conversation cost."""
    request = ChatRequest(messages, tools, options=Options(max_tokens=4))
    answer = fold(engine.run(engine.prepare_chat(request), request.options))
    assert answer.finished is not None
    return answer.finished.usage


@pytest.fixture
def small(folder: Path) -> Iterator[Engine]:
    """Return an engine whose KV cache in memory has room for little."""
    with running(folder, kv_ram_bytes=1 << 20) as engine:
        yield engine


def test_cap(small: Engine) -> None:
    """Memory stays under its cap, whatever passes through, and nothing goes wrong."""
    for i in range(6):
        ids = tuple(100 + (i * 31 + j) % 3000 for j in range(600))
        assert say(small, ids, tokens=4)[0]
        assert small.prompt_cache.nbytes <= 1 << 20
