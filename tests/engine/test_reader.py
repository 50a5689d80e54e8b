"""The reader of one answer: where it ends, and what is left of it when it can't be read."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mlx_tools_server.engine.reader import Reader
from mlx_tools_server.events import Answer, Noticed, ParsedEvent, PartEnded, fold
from mlx_tools_server.families import FAMILIES, Parser, Thinking
from mlx_tools_server.messages import ToolSpec

pytestmark = pytest.mark.mlx

END = 0


class Letters:
    """A detokenizer for tests: a token is its character; the last of an é comes at the end."""

    def __init__(self) -> None:
        self.held = ""

    def add(self, token: int) -> str:
        text, self.held = self.held, ""
        if chr(token) == "é":
            self.held = "é"
            return text
        return text + chr(token)

    def finish(self) -> str:
        return self.held


class Fragile(Parser):
    """A parser that can't read a certain letter."""

    def feed(self, text: str) -> list[ParsedEvent]:
        """Read more text."""
        if "!" in text:
            raise ValueError("no exclamations")
        return super().feed(text)


def reader(parser: Parser | None = None, max_tokens: int = 100) -> Reader:
    return Reader(parser or Parser(), Letters(), {END}, max_tokens)


def advance(reader: Reader, text: str) -> list[bool]:
    return [reader.advance(END if letter == "$" else ord(letter)) for letter in text]


def told(events: Sequence[ParsedEvent]) -> Answer:
    return fold(events)


@pytest.mark.parametrize(
    ("text", "max_tokens", "ends", "said", "reason"),
    [
        ("ab$", 100, [False, False, True], "ab", "stop"),
        ("ab$", 3, [False, False, True], "ab", "stop"),
        ("abc", 3, [False, False, True], "abc", "length"),
        ("$", 1, [True], "", "stop"),
        ("a", 1, [True], "a", "length"),
        ("aé$", 100, [False, False, True], "aé", "stop"),
        ("aé", 2, [False, True], "aé", "length"),
        ("axy", 4, [False, False, True], "a", "stop"),
    ],
    ids=["end", "end-in-time", "length", "empty", "one", "held", "held-and-cut", "stop-string"],
)
def test_end(text: str, max_tokens: int, ends: list[bool], said: str, reason: str) -> None:
    """An answer ends at its end token, its stop string or its last token, whichever is first."""
    made = reader(Parser(stop=("xy",)), max_tokens)

    assert ends == advance(made, text)
    assert said == told(made.take()).joined("text")
    assert reason == made.reason
    assert made.finished


def test_reasoning_tokens() -> None:
    """Tokens that were read inside a thought are counted."""
    made = reader(Parser(thinking=Thinking(), thought_open=True))

    advance(made, "hm</think>yes$")

    assert told(made.take()).joined("text") == "yes"
    assert made.reasoning_tokens == len("hm</think>")


def test_cancelled() -> None:
    """A cancelled answer ends with its next token."""
    made = reader()
    advance(made, "a")
    made.cancelled = True

    assert advance(made, "b") == [True]
    assert not made.finished


@pytest.mark.parametrize("taken_before", [False, True])
def test_fault(taken_before: bool) -> None:
    """An answer that can't be read ends, keeps what was read, and leaves no part open."""
    made = reader(Fragile())
    advance(made, "ab")
    events = made.take() if taken_before else []

    assert advance(made, "!") == [True]
    events += made.abandon()

    assert str(made.fault) == "no exclamations"
    assert told(events).joined("text") == "ab"
    assert events[-1] == PartEnded(complete=False)
    assert made.abandon() == []


def test_notice_behind_a_part() -> None:
    """What is noticed of a call that has ended does not open it again."""
    run = ToolSpec("run")
    made = reader(next(one for one in FAMILIES if one.name == "qwen3_coder").parser([run]))
    advance(made, "<tool_call>\n<function=run>\n</function>\n</function>")
    made.fault = ValueError("broken")

    events = made.abandon()

    assert isinstance(events[-1], Noticed)
    assert events.count(PartEnded()) == 1


def test_abandon_closes_what_is_open() -> None:
    """An answer that is given up is cut where it is, once."""
    made = reader()
    advance(made, "a b ")

    assert told(made.abandon()).joined("text").rstrip() == "a b"
    assert made.abandon() == []
