"""When the model fails, a client leaves or the server stops: who ends, and who goes on.

Rules of this file:
- The failures are real ones of a forward pass, in decode or in prefill.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mlx_tools_server.config import ServerConfig
from mlx_tools_server.engine import engine as engine_module
from mlx_tools_server.engine.engine import Engine
from mlx_tools_server.engine.scripted import write_checkpoint
from mlx_tools_server.events import (
    Answer,
    EngineEvent,
    Failed,
    PartDelta,
    PartEnded,
    Progress,
    fold,
)

from .checkpoints import write_fragile
from .running import CALL, READ, WORDS, answer, ask, running, script, together, wait_idle

pytestmark = pytest.mark.mlx


@pytest.fixture(scope="module", params=["plain", "hybrid"])
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """Return an engine of a scripted model, over layers that can be cut back or not."""
    folder = tmp_path_factory.mktemp(request.param)
    write_checkpoint(folder, hybrid=request.param == "hybrid")
    with running(folder) as made:
        yield made


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Return an engine whose model fails on a prompt with a certain token in it."""
    with running(write_fragile(tmp_path_factory.mktemp("fragile")), prefill_step_size=64) as made:
        yield made


def text_of(events: Sequence[EngineEvent]) -> str:
    return fold(events).joined("text")


def test_failure_in_decode(engine: Engine) -> None:
    """Where one answer makes the model fail, it alone ends; nobody loses or repeats a word."""
    texts = [f"{number}: {WORDS * 3}" for number in range(4)]
    broken = WORDS + "[[BOOM]]never"

    *others, failed = together(
        *[lambda t=text: answer(engine, script(t)) for text in texts],
        lambda: answer(engine, script(broken)),
    )

    assert texts == [got.joined("text") for got in others]
    assert failed.failed is not None
    assert failed.joined("text") == WORDS.rstrip()
    assert wait_idle(engine)


def test_failing_requests_do_not_use_up_the_others(fragile: Engine) -> None:
    """However many requests fail beside it one after another, an answer goes on to its end."""
    text = WORDS * 200
    events = ask(fragile, script(text))
    heard: list[EngineEvent] = []
    while not heard or not isinstance(heard[-1], PartDelta):
        heard.append(next(events))

    failures = [answer(fragile, script(f"{n} a b [[BOOM]]")).failed for n in range(20)]
    still_running = fragile.in_flight == 1
    heard += events

    assert all(failures)
    assert still_running
    assert text_of(heard) == text


@pytest.mark.parametrize("others", [0, 1, 4])
def test_failure_in_prefill(fragile: Engine, others: int) -> None:
    """Where a prompt makes the model fail, the answers that are being given go on."""
    texts = [f"{number}: {WORDS * 4}" for number in range(others)]
    prompt = "p " * 200 + "FRAGILE " + "p " * 200

    *answers, failed = together(
        *[lambda t=text: answer(fragile, script(t)) for text in texts],
        lambda: answer(fragile, prompt + script("never")),
    )

    assert texts == [got.joined("text") for got in answers]
    assert failed.failed is not None
    assert "fragile" in failed.failed.message
    assert failed.parts == []
    assert answer(fragile, script("still here")).joined("text") == "still here"


def test_failed_requests_whose_clients_left(fragile: Engine) -> None:
    """Failures with nobody left to tell don't add up to a broken server."""
    for number in range(8):
        events = ask(fragile, f"{number} " * 600 + "FRAGILE " + script("never"))
        while not (isinstance(event := next(events), Progress) and event.done):
            pass
        events.close()
        assert answer(fragile, script("fine")).joined("text") == "fine"

    assert fragile.is_healthy


def test_a_model_that_computes_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that fails on whatever it is given ends the loop, for a supervisor to see."""
    monkeypatch.setattr(engine_module, "BACK_OFF", 0.01)
    folder, gone = write_checkpoint(tmp_path / "model"), tmp_path / "gone"
    with (folder / "model.py").open("a") as model:
        model.write(f"import os\ndef look(): assert not os.path.exists({str(gone)!r})\n")
        model.write("call = Model.__call__\n")
        model.write("Model.__call__ = lambda *args, **named: (look(), call(*args, **named))[1]\n")
    with running(folder) as engine:
        assert answer(engine, script("fine")).joined("text") == "fine"
        gone.touch()
        statuses: list[int] = []
        while engine.is_healthy and len(statuses) < 20:
            failed = answer(engine, script("never")).failed
            statuses.append(failed.status if failed else 200)

    assert statuses == [500] * engine_module.MAX_FAILURES


def test_retry_says_everything_once(engine: Engine) -> None:
    """Text, thoughts and calls that a failure interrupts are told once, whole and in order."""
    script_ = f"{WORDS}{CALL}\n{CALL}"

    def one() -> Answer:
        return answer(engine, script(script_), tools=(READ,))

    alone = one()
    *answers, failed = together(
        one, one, one, lambda: answer(engine, script("a b c d e f g h [[BOOM]]"))
    )

    assert failed.failed is not None
    assert engine.restarts > 0
    assert [alone.parts] * 3 == [got.parts for got in answers]
    assert all(got.finished and alone.finished for got in answers)
    assert {got.finished.usage.completion_tokens for got in answers if got.finished} == {
        alone.finished.usage.completion_tokens if alone.finished else 0
    }


def test_failure_closes_what_is_open(engine: Engine) -> None:
    """An open call is ended as incomplete before the failure is told."""
    cut = CALL.replace("a.txt", "a.txt and [[BOOM]]more")
    events = list(ask(engine, script(cut), tools=(READ,)))

    assert isinstance(events[-1], Failed)
    assert events[-2] == PartEnded(complete=False)


@pytest.mark.parametrize("kv_bits", [None, 8], ids=["in a batch", "alone"])
def test_stopping_tells_open_streams(kv_bits: int | None, tmp_path: Path) -> None:
    """When the server stops, an answer that is being given ends with a failure that says so."""
    with running(write_checkpoint(tmp_path, step_delay=0.02), kv_bits=kv_bits) as engine:
        events = ask(engine, script(WORDS * 100))
        while not isinstance(next(events), PartDelta):
            pass
        engine.stop_and_join()
        rest = list(events)

    assert isinstance(rest[-1], Failed)
    assert "stopping" in rest[-1].message


def test_a_model_that_can_not_be_loaded(tmp_path: Path) -> None:
    """What loading raised is raised to who waits, and the thread ends."""
    folder = write_checkpoint(tmp_path)
    (folder / "model.py").write_text("raise RuntimeError('no such luck')")

    with (
        Engine(ServerConfig(model=str(folder), trust_remote_code=True), "m") as engine,
        pytest.raises(RuntimeError, match="no such luck"),
    ):
        engine.wait_until_loaded(60)

    assert not engine.is_healthy


EXIT = """
import sys
from pathlib import Path
from mlx_tools_server.messages import Sampling
from tests.engine.running import answer, running, script
from mlx_tools_server.messages import Options

def main():
    with running(Path(sys.argv[1])) as engine:
        warm = Options(sampling=Sampling(temperature=1.0, top_p=0.9, top_k=5))
        assert answer(engine, script("a b c"), options=warm).finished
        assert answer(engine, script("a [[BOOM]]")).failed

main()
"""


def test_process_ends_cleanly(tmp_path: Path) -> None:
    """A process that sampled and failed ends without an abort when the engine is gone."""
    write_checkpoint(tmp_path)

    done = subprocess.run(
        [sys.executable, "-c", EXIT, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )

    assert (done.returncode, "terminate" in done.stderr) == (0, False)
