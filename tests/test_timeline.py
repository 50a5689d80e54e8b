"""What people can see of the turns: phases, figures, and no words."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from mlx_tools_server.events import (
    Event,
    Failed,
    Finished,
    PartDelta,
    PartEnded,
    PartStarted,
    Progress,
    Started,
    Usage,
)
from mlx_tools_server.messages import Options
from mlx_tools_server.metrics import TurnFigures
from mlx_tools_server.timeline import LONGEST_NAME, Timeline, program

OPTIONS = Options(client="10.0.0.1|secret session", program="pi/1.0", route="messages")
SECRET = "a word of the prompt"

PROGRAMS = {
    "": "",
    "claude-cli/2.1.0 (external, cli)": "claude-cli/2.1.0",
    "  OpenAI/Python 3.1": "OpenAI/Python",
    "<img/src=x>": "img/srcx",
    "x" * 99: "x" * LONGEST_NAME,
    "ünï\u0000cöde": "ncde",
}


@pytest.mark.parametrize("given", PROGRAMS)
def test_program(given: str) -> None:
    """A program's name is the first word of its User-Agent, short and of plain characters."""
    assert program(given) == PROGRAMS[given]


def ticking() -> Timeline:
    """Return a timeline whose clock goes on by a second whenever it is read."""
    ticks: Iterator[int] = iter(range(1000))
    return Timeline(clock=lambda: float(next(ticks)), calendar=lambda: 1000.0, recent=3)


# What is seen, and the phase, prompt tokens that are done, and generated tokens it leads to.
PHASES: dict[str, tuple[list[Event], tuple[str, int, int]]] = {
    "nothing yet": ([], ("queued", 0, 0)),
    "waiting for its turn": ([Started(50, 10), Progress(0, 50, waits=True)], ("queued", 10, 0)),
    "taken": ([Started(50, 10), Progress(10, 50)], ("prefill", 10, 0)),
    "half of its prompt": (
        [Started(50, 10), Progress(10, 50), Progress(30, 50)], ("prefill", 30, 0)
    ),
    "progress that is repeated": (
        [Started(50), Progress(30, 50), Progress(0, 50)], ("prefill", 30, 0)
    ),
    "tokens that are held back": ([Started(50), Progress(50, 50, 2)], ("decode", 50, 2)),
    "a part": ([Started(50, 10), PartStarted("text")], ("decode", 50, 0)),
    "more of it": (
        [Started(50), PartStarted("text"), PartDelta(SECRET), Progress(50, 50, 7)],
        ("decode", 50, 7),
    ),
    "silence within it": (
        [Started(50), PartStarted("text"), Progress(50, 50, 7), Progress(50, 50)],
        ("decode", 50, 7),
    ),
    "its end": (
        [Started(50), PartStarted("text"), PartEnded(), Finished("stop", Usage(50, 9, 0))],
        ("decode", 50, 9),
    ),
    "a failure": ([Started(50), Failed(SECRET)], ("queued", 0, 0)),
}  # fmt: skip


@pytest.mark.parametrize("name", PHASES)
def test_live(name: str) -> None:
    """A turn that runs shows its phase and how far it is, and none of its words."""
    events, (phase, done, generated) = PHASES[name]
    timeline = ticking()

    with timeline.watch("req_1", OPTIONS) as seen:
        for event in events:
            seen.see(event)
        (live,) = timeline.live

    assert (live["phase"], live["done_tokens"], live["completion_tokens"]) == (
        phase,
        done,
        generated,
    )
    assert {
        "id": "req_1",
        "client": "pi/1.0",
        "route": "messages",
        "when": 1000,
    }.items() <= live.items()
    assert live["seconds"] > 0
    assert SECRET not in json.dumps(live)
    assert "10.0.0.1" not in json.dumps(live)
    assert timeline.live == []


def figures(**fields: Any) -> TurnFigures:
    """Return what a turn came to."""
    tokens = {"prompt": 50, "cached": 10, "completion": 9, "reasoning": 4}
    return TurnFigures("tool_calls", tokens, {"ok": 2}, first=2.0, seconds=6.0, **fields)


def test_recent() -> None:
    """A turn that ended shows its tokens, its times, its calls, and what was lost, in no words."""
    timeline = ticking()
    with timeline.watch("req_1", OPTIONS) as seen:
        for event in (Started(50, 10, SECRET, "300 tokens were lost"), Progress(10, 50)):
            seen.see(event)
        seen.end(figures())

    assert timeline.recent == [
        {
            "id": "req_1",
            "when": 1000.0,
            "route": "messages",
            "client": "pi/1.0",
            "finish": "tool_calls",
            "prompt_tokens": 50,
            "cached_tokens": 10,
            "completion_tokens": 9,
            "reasoning_tokens": 4,
            "seconds": 6.0,
            "queued_seconds": 1.0,
            "first_token_seconds": 2.0,
            "decode_seconds": 4.0,
            "tokens_per_second": 2.0,
            "calls": {"ok": 2},
            "loss": "300 tokens were lost",
        }
    ]


def test_cancelled() -> None:
    """A turn whose client left before its first token shows what was known until then."""
    timeline = ticking()
    with timeline.watch("req_1", OPTIONS) as seen:
        seen.see(Started(50, 10))
        seen.end(TurnFigures(tokens={"prompt": 50, "cached": 10}, seconds=3.0))

    (turn,) = timeline.recent
    assert (turn["finish"], turn["completion_tokens"], turn["queued_seconds"]) == (
        "cancelled",
        0,
        3,
    )
    assert (
        turn["first_token_seconds"] is turn["decode_seconds"] is turn["tokens_per_second"] is None
    )


def test_refused() -> None:
    """A request that was refused leaves no trace."""
    timeline = ticking()
    with pytest.raises(ValueError, match="refused"), timeline.watch("req_1", OPTIONS):
        raise ValueError("refused")

    assert (timeline.live, timeline.recent) == ([], [])


def test_bounded() -> None:
    """Only the last turns are remembered, the latest first."""
    timeline = ticking()
    for number in range(5):
        with timeline.watch(f"req_{number}", OPTIONS) as seen:
            seen.end(figures())

    assert [turn["id"] for turn in timeline.recent] == ["req_4", "req_3", "req_2"]


def test_one_name_twice() -> None:
    """Requests that clients gave one id are seen side by side."""
    timeline = ticking()
    with timeline.watch("mine", OPTIONS), timeline.watch("mine", OPTIONS):
        assert [turn["id"] for turn in timeline.live] == ["mine", "mine"]
    assert timeline.live == []


def test_threads() -> None:
    """Many threads may tell of their turns while others look."""
    timeline = Timeline(recent=1000)

    def play(number: int) -> None:
        for turn in range(20):
            with timeline.watch(f"{number}.{turn}", OPTIONS) as seen:
                for event in (Started(5), Progress(5, 5), PartStarted("text")):
                    seen.see(event)
                    assert len(timeline.live) <= 8
                seen.end(figures())

    threads = [threading.Thread(target=play, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(timeline.recent) == 160
    assert timeline.live == []
