"""What the history holds is what it counts: what is said again does not use up its room."""

from __future__ import annotations

from mlx_tools_server.history import History
from mlx_tools_server.messages import Exact, Message

HELLO = (Message("user", "hello"),)
ANSWER = Message("assistant", "Hello to you.")
EXACT = Exact(tuple(range(20)), "", "", True)


def test_answer_that_is_given_again() -> None:
    """An answer that is given to the same question again and again takes its room once."""
    history = History(None, b"t", limit=2000)

    for _ in range(50):
        history.remember(HELLO, ANSWER, EXACT)

    recalled = history.recall((*HELLO, ANSWER))
    assert recalled[-1].exact == EXACT
    history.close()
