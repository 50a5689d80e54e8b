"""What is said of a prompt that has to be computed again."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_tools_server.engine.losses import Losses


def decode(ids: Sequence[int]) -> str:
    """Return ids as text: each is the code of a character."""
    return "".join(map(chr, ids))


def losses(*texts: str) -> Losses:
    """Return what remembers these sequences."""
    made = Losses(decode)
    for text in texts:
        made.remember([ord(character) for character in text])
    return made


SYSTEM = "Today is 2026-11-22, at 10:15. " + "You are an agent. " * 200
TALK = " ".join(f"user said {i} and the model said {i * i}." for i in range(100))
CASES = [
    pytest.param(SYSTEM + TALK, SYSTEM + TALK + " more", 0, "no room", id="nothing is cached"),
    pytest.param(SYSTEM + TALK, SYSTEM + TALK + " more", len(SYSTEM + TALK), "", id="all is"),
    pytest.param(
        SYSTEM + TALK, SYSTEM.replace("10:15", "10:16") + TALK + " more", 0, "clock", id="clock"
    ),
    pytest.param(
        SYSTEM + TALK, SYSTEM.replace("an agent", "a poet", 1) + TALK, 0, "system", id="system"
    ),
    pytest.param(
        SYSTEM + "<think>why</think>" + TALK,
        SYSTEM + TALK + " more",
        len(SYSTEM),
        "--history-thinking",
        id="thoughts",
    ),
    pytest.param(
        SYSTEM + TALK,
        SYSTEM + TALK.replace("user said 9 ", "USER said 9 ") + " more",
        len(SYSTEM),
        "client changed",
        id="an edited message",
    ),
    pytest.param(SYSTEM + TALK, SYSTEM + "hello", len(SYSTEM), "", id="another conversation"),
    pytest.param("short talk", "short walk and talk", 0, "", id="too little to tell"),
    pytest.param("", "hello", 0, "", id="the first prompt"),
]


@pytest.mark.parametrize(("earlier", "now", "cached", "cause"), CASES)
def test_cause(earlier: str, now: str, cached: int, cause: str) -> None:
    """A loss is told with its likely cause; what is no loss is not told."""
    loss = losses(*filter(None, [earlier])).find([ord(c) for c in now], cached)

    assert (loss is not None) == bool(cause)
    if loss is not None:
        assert cause in str(loss)


def test_place() -> None:
    """The place where the prompts part is told with both sides."""
    now = SYSTEM.replace("10:15", "10:16") + TALK
    loss = losses(SYSTEM + TALK).find([ord(c) for c in now], 0)

    assert loss is not None
    assert loss.position == SYSTEM.index("5. ")
    assert (loss.earlier[:2], loss.now[:2]) == ("5.", "6.")
    assert loss.tokens == len(SYSTEM + TALK)


def test_nearest_sequence_counts() -> None:
    """Of several sequences, the prompt is compared with the one that has most in common."""
    made = losses(SYSTEM + TALK, "other " * 500)

    assert made.find([ord(c) for c in SYSTEM + TALK], len(SYSTEM + TALK) - 1) is None


@given(st.lists(st.text("ab", max_size=40), max_size=8), st.text("ab", max_size=40))
def test_any_prompt(earlier: list[str], now: str) -> None:
    """Whatever came before, a short prompt is no loss worth telling."""
    assert losses(*earlier).find([ord(c) for c in now], 0) is None
