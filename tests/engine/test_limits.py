"""What a request may take: places, time and memory; and what becomes of one that takes more."""

from __future__ import annotations

import gc
import json
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlx_tools_server.engine import jobs, memory, reader, tokens
from mlx_tools_server.engine.engine import Engine
from mlx_tools_server.engine.layers import Footprint
from mlx_tools_server.engine.memory import MemoryGuard
from mlx_tools_server.engine.reader import repeats
from mlx_tools_server.engine.scripted import write_checkpoint
from mlx_tools_server.errors import ContextOverflow, MemoryOverflow
from mlx_tools_server.events import EngineEvent, Failed, Finished, PartDelta, fold
from mlx_tools_server.kv import Record
from mlx_tools_server.messages import Options, ToolSpec

from .running import WORDS, answer, ask, running, script, together, wait_idle

pytestmark = pytest.mark.mlx

# What a token takes in the scripted model: a key and a value of four bytes each.
TOKEN = 8


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("limits"), step_delay=0.005)


@pytest.fixture
def small(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """An engine with memory for 2,000 tokens or so."""
    monkeypatch.setattr(memory, "LEAST", 2000 * TOKEN)
    monkeypatch.setattr(jobs, "HEADROOM", 0)
    with running(checkpoint, memory_limit=1, kv_ram_bytes=8000) as engine:
        yield engine


def heard_until_it_speaks(events: Iterator[EngineEvent]) -> list[EngineEvent]:
    heard: list[EngineEvent] = []
    while not heard or not isinstance(heard[-1], PartDelta):
        heard.append(next(events))
    return heard


# Memory.


def test_what_a_batch_needs() -> None:
    """A batch is padded to its longest sequence, and there twice when another is taken in."""
    guard = MemoryGuard(Footprint(100, ((10, None), (5, 50))), 10_000, 0, lambda _: None)

    assert guard.need([]) == 0
    assert guard.need([10]) == 100 + 100 + 50
    assert guard.need([100]) == 100 + 1000 + 250
    assert guard.need([100, 1]) == 2 * 2 * (100 + 1000 + 250)
    assert guard.need([100], [10]) == 100 + 1000 + 250 + 100 + 100 + 50
    assert guard.fits([100, 1, 1])
    assert not guard.fits([100, 1, 1, 1])
    assert guard.most_tokens == (10_000 - 100 - 250) // 10


def test_a_state_of_one_size_has_no_end() -> None:
    """Where nothing grows with the prompt, memory sets no limit to it."""
    assert Footprint(100, ((5, 50),)).most_tokens(1000) is None


def test_what_is_kept_makes_way() -> None:
    """What is kept of earlier requests gets what those at work leave, never more than its own."""
    told: list[int] = []
    guard = MemoryGuard(Footprint(0, ((10, None),)), 10_000, 1600, told.append)

    for lengths in ([], [100], [900], [990], [2000], []):
        guard.settle(lengths)

    assert told == [1000, 100, 0, 1600]


def test_prompt_over_memory(small: Engine) -> None:
    """A prompt whose KV cache can't fit is refused in words that clients act on."""
    with pytest.raises(MemoryOverflow) as caught:
        next(ask(small, WORDS * 300))

    assert caught.value.code == ContextOverflow.code
    assert "--memory-limit" in caught.value.message
    assert caught.value.limit < 2100
    assert answer(small, script("fine")).joined("text") == "fine"


def test_requests_that_fit_one_by_one(small: Engine) -> None:
    """Requests that don't fit together wait for each other, and each gets its answer."""
    peak = [0]
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.002):
            peak[0] = max(peak[0], small.in_flight)

    thread = threading.Thread(target=watch)
    thread.start()
    answers = together(
        *[lambda n=n: answer(small, WORDS * 80 + script(f"{n} done")) for n in range(4)]
    )
    stop.set()
    thread.join()

    assert [got.joined("text") for got in answers] == [f"{n} done" for n in range(4)]
    assert peak[0] == 1


def test_requests_that_fit_together(small: Engine) -> None:
    """Requests that are small enough are served together."""
    events = [ask(small, script(f"{n} {WORDS * 2}")) for n in range(3)]
    for each in events:
        heard_until_it_speaks(each)

    assert small.in_flight == 3
    assert all(isinstance(list(each)[-1], Finished) for each in events)


def test_waiting_requests_hold_nothing(small: Engine, checkpoint: Path, tmp_path: Path) -> None:
    """What is on disk of a conversation is read when there is memory for it, not while it waits."""
    prompts = [f"{n} {WORDS * 80}" for n in range(4)]
    kept = {"memory_limit": 1, "kv_ram_bytes": 2048, "no_kv_disk": False, "kv_dir": str(tmp_path)}
    with running(checkpoint, **kept) as engine:
        for prompt in prompts:
            answer(engine, prompt + script("fine"))
    with running(checkpoint, **kept) as engine:
        first = ask(engine, prompts[0] + script("fine"), "more", script(WORDS * 20))
        heard_until_it_speaks(first)
        waiting = [ask(engine, one + script("fine"), "more", script("yes")) for one in prompts[1:]]
        for each in waiting:
            for _ in range(2):
                next(each)
        gc.collect()
        held = sum(one.nbytes for one in gc.get_objects() if isinstance(one, Record))
        first.close()
        answers = together(*[lambda each=each: fold(each) for each in waiting])

    assert held <= 2048
    assert [got.joined("text") for got in answers] == ["yes"] * 3
    cached = [got.finished.usage.cached_tokens for got in answers if got.finished]
    assert min(cached) > 512


def test_answers_that_outgrow_memory(small: Engine) -> None:
    """Where answers grow beyond memory the last one ends with an error, and the first goes on."""
    first, second = ask(small, script(WORDS * 20)), ask(small, script(WORDS * 20))
    heard = [heard_until_it_speaks(first), heard_until_it_speaks(second)]
    whole, cut = together(lambda: [*heard[0], *first], lambda: [*heard[1], *second])

    assert "".join(event.text for event in whole if isinstance(event, PartDelta)) == WORDS * 20
    failed = cut[-1]
    assert isinstance(failed, Failed)
    assert failed.status == 503
    assert "--memory-limit" in failed.message


# Time.


def test_wait_for_a_place(checkpoint: Path) -> None:
    """A request that waits for its turn for too long is told so; those at work go on."""
    with running(checkpoint, decode_concurrency=1, queue_seconds=0.3) as engine:
        first = ask(engine, script(WORDS * 20))
        heard = heard_until_it_speaks(first)
        late = answer(engine, script("never"))
        heard += first

        assert late.failed is not None
        assert (late.failed.status, late.parts) == (503, [])
        assert "--queue-seconds" in late.failed.message
        assert isinstance(heard[-1], Finished)


def test_time_for_an_answer(checkpoint: Path) -> None:
    """An answer that takes too long ends with an error, after what it had said."""
    with running(checkpoint, request_seconds=0.5) as engine:
        late = answer(engine, script(WORDS * 400))

        assert late.failed is not None
        assert "--request-seconds" in late.failed.message
        assert late.joined("text")
        assert wait_idle(engine)


# Fair shares.


def test_a_burst_of_one_client(checkpoint: Path) -> None:
    """A client that sends many requests at once does not keep another from its turn."""
    with running(checkpoint, decode_concurrency=2) as engine:
        ends: list[str] = []

        def one(client: str) -> None:
            fold(ask(engine, script(WORDS * 2), options=Options(client=client)))
            ends.append(client)

        threads = [threading.Thread(target=one, args=("burst",)) for _ in range(10)]
        for thread in threads:
            thread.start()
        while engine.in_flight < 2:
            time.sleep(0.005)
        one("other")
        before = ends.index("other")
        for thread in threads:
            thread.join()

    assert before <= 5


def test_a_burst_of_long_prompts(tmp_path: Path) -> None:
    """The long prompts of one client are not all read before the short one of another."""
    folder = write_checkpoint(tmp_path, prefill_delay_per_1k=0.03)
    with running(folder, prompt_concurrency=2) as engine:
        asked: list[str] = []
        begun: list[str] = []

        def one(client: str, text: str) -> None:
            events = ask(engine, text + script("fine"), options=Options(client=client))
            heard = [next(events), next(events)]
            asked.append(client)
            heard += heard_until_it_speaks(events)
            begun.append(client)

        burst = [
            threading.Thread(target=one, args=("burst", f"{n} {'p ' * 3000}")) for n in range(8)
        ]
        for thread in burst:
            thread.start()
        while len(asked) < len(burst):
            time.sleep(0.005)
        one("other", "")
        before = begun.index("other")
        for thread in burst:
            thread.join()

    assert before < 6


@pytest.mark.parametrize("stage", ["queued", "prefill", "decode"])
def test_leaving_at_any_stage(stage: str, tmp_path: Path) -> None:
    """Who leaves is forgotten within a step, wherever the request is, and others don't notice."""
    folder = write_checkpoint(tmp_path, step_delay=0.005, prefill_delay_per_1k=0.5)
    with running(folder, decode_concurrency=1, prefill_step_size=256) as engine:
        if stage == "queued":
            first = ask(engine, script(WORDS * 4))
            heard = heard_until_it_speaks(first)
            leaving = ask(engine, script("never"))
            for _ in range(3):
                next(leaving)
            leaving.close()
            assert isinstance([*heard, *first][-1], Finished)
        else:
            events = ask(engine, ("p " * 8000 if stage == "prefill" else "") + script(WORDS * 99))
            if stage == "decode":
                heard_until_it_speaks(events)
            else:
                for _ in range(3):
                    next(events)
            events.close()
        # A step takes 130 ms at most; the whole prompt would take four seconds.
        assert wait_idle(engine, 1.0)
        assert answer(engine, script("next")).joined("text") == "next"


# Answers without an end.

REPEATED = [
    ([1] * 8, 8, True),
    ([5, 1, 2] * 4, 12, True),
    ([9, 9, *([1, 2, 3] * 4)], 12, True),
    ([*([1, 2, 3] * 4), 4], 12, False),
    ([1, 2, 3] * 3, 12, False),
    (list(range(40)), 12, False),
    ([1] * 11 + [2], 12, False),
    (list(range(reader.PERIOD)) * 4, 4 * reader.PERIOD, True),
    (list(range(reader.PERIOD + 1)) * 4, 4 * reader.PERIOD, False),
]


@pytest.mark.parametrize(("said", "count", "expected"), REPEATED)
def test_repeats(said: list[int], count: int, expected: bool) -> None:
    """Only a short text that fills all that is looked at counts as repetition."""
    assert repeats(said, count) is expected


def test_runaway(tmp_path: Path) -> None:
    """An answer that only repeats itself is cut; with other text, or when it is off, it is not."""
    folder = write_checkpoint(tmp_path)
    with running(folder, runaway_tokens=256) as engine:
        cut = answer(engine, script("no end " * 600))
        whole = answer(engine, script(" ".join(map(str, range(200)))))

        assert cut.finished is not None
        assert cut.finished.reason == "length"
        assert 256 <= cut.finished.usage.completion_tokens <= 256 + 2 * reader.LOOK
        assert whole.finished is not None
        assert whole.finished.reason == "stop"
        assert answer(engine, script("fine")).joined("text") == "fine"
    with running(folder, runaway_tokens=0) as engine:
        whole = answer(engine, script("no end " * 300))
        assert whole.finished is not None
        assert whole.finished.reason == "stop"


# Large prompts.


def test_a_large_prompt_is_refused_early(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt that is far too long is refused after a look at its beginning."""
    monkeypatch.setattr(tokens, "_LARGE", 2000)
    monkeypatch.setattr(tokens, "_SLICE", 500)
    seen = [0]
    plain = tokens._encoded

    def counted(tokenizer: Any, text: str, **kwargs: bool) -> list[int]:
        seen[0] += len(text)
        return plain(tokenizer, text, **kwargs)

    monkeypatch.setattr(tokens, "_encoded", counted)
    with running(checkpoint, context_length=1000) as engine:
        with pytest.raises(ContextOverflow) as caught:
            next(ask(engine, WORDS * 2000))
        assert seen[0] < 10_000
        exact = len(engine.model.encoder.encode_raw(WORDS * 2000))
        assert exact * 0.9 < caught.value.prompt_tokens < exact * 1.2
        seen[0] = 0
        schema = {"type": "object", "properties": {f"p{i}": {"enum": [WORDS]} for i in range(900)}}
        with pytest.raises(ContextOverflow):
            next(ask(engine, "hi", tools=(ToolSpec("large", parameters=schema),)))
        assert seen[0] < 10_000
        seen[0] = 0
        fits = ask(engine, WORDS * 50)
        assert isinstance(list(fits)[-1], Finished)
        assert seen[0] >= 2 * len(WORDS) * 50


# Rest.


@pytest.mark.parametrize("hybrid", [False, True], ids=["plain", "hybrid"])
def test_rest(hybrid: bool, tmp_path: Path) -> None:
    """After a while without a request the model's memory is given back, until one comes."""
    folder = write_checkpoint(tmp_path / "model", hybrid=hybrid)
    kept = {"no_kv_disk": False, "kv_dir": str(tmp_path / "kv")}
    with running(folder, idle_unload_seconds=1, **kept) as engine:
        asked = ask(engine, WORDS * 80 + script("fine " * 50))
        events: list[EngineEvent] = []
        while not any(isinstance(event, PartDelta) for event in events):
            events.append(next(asked))
        # It does not rest now, however slow this machine is.
        loaded, at_once = weakref.ref(engine.model_provider.model), engine.rests
        first = fold([*events, *asked])
        until = time.monotonic() + 20
        while not engine.rests and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.1)
        gc.collect()
        resting = loaded() is None
        again = answer(engine, WORDS * 80 + script("fine"), WORDS, script("again"))

        assert first.joined("text").startswith("fine fine")
        assert not at_once
        assert resting
        assert not engine.rests
        assert again.joined("text") == "again"
        assert again.finished is not None
        # The state of a hybrid one is on disk where a turn ended only; this goes on before that.
        assert hybrid or again.finished.usage.cached_tokens > 1000
        assert engine.is_healthy


def test_rest_and_stop(tmp_path: Path) -> None:
    """A server whose model is not loaded stops like any other."""
    with running(write_checkpoint(tmp_path), idle_unload_seconds=1) as engine:
        while not engine.rests:
            time.sleep(0.05)


def test_another_model_after_the_rest(tmp_path: Path) -> None:
    """Where the model's files have changed meanwhile, the server ends instead of mixing them."""
    folder = write_checkpoint(tmp_path)
    with running(folder, idle_unload_seconds=1) as engine:
        while not engine.rests:
            time.sleep(0.05)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "hybrid": True}))
        failed = answer(engine, script("fine"))

        assert failed.failed is not None
        assert not engine.is_healthy
