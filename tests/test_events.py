"""`fold()`: the answer that events tell."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlx_tools_server.events import (
    Answer,
    Event,
    Failed,
    Finished,
    Part,
    PartDelta,
    PartEnded,
    PartStarted,
    Progress,
    Sampled,
    Started,
    TokenLogprob,
    Usage,
    fold,
)

DONE = Finished("tool_calls", Usage(10, 5))
CUT = Finished("length", Usage(10, 5))
TOKEN = TokenLogprob("a", -0.5)
EVENTS: list[Event] = [
    Started(10),
    Progress(5, 10),
    PartStarted("reasoning"),
    PartDelta("Hm"),
    Progress(10, 10),
    PartDelta("m."),
    PartEnded(),
    Sampled(TOKEN),
    PartStarted("text"),
    PartDelta("I will."),
    PartEnded(),
    PartStarted("tool_call", "run", "c1"),
    PartDelta('{"cmd": '),
    PartDelta('"ls"}'),
    PartEnded(),
    PartStarted("tool_call", "run", "c2"),
    PartDelta('{"cm'),
    PartEnded(complete=False),
]


def test_parts() -> None:
    """Deltas are joined into their parts, in order, with their names and ids."""
    answer = fold([*EVENTS, CUT])

    assert answer.parts == [
        Part("reasoning", "Hmm."),
        Part("text", "I will."),
        Part("tool_call", '{"cmd": "ls"}', "run", "c1"),
        Part("tool_call", '{"cm', "run", "c2", complete=False),
    ]
    assert answer.finished == CUT
    assert answer.failed is None
    assert answer.logprobs == [TOKEN]


def test_calls_are_whole() -> None:
    """A call that was cut is not among the calls."""
    assert [call.id for call in fold([*EVENTS, CUT]).calls] == ["c1"]


def test_joined() -> None:
    """The text of several parts of a kind is one text."""
    parts = [Part("text", "a"), Part("reasoning", "b"), Part("text", "c")]

    assert Answer(parts).joined("text") == "ac"
    assert Answer(parts).joined("reasoning") == "b"


def test_part_without_deltas() -> None:
    """A part may be empty, and takes nothing from the part before it."""
    text: list[Event] = [PartStarted("text"), PartDelta("a"), PartEnded()]
    call: list[Event] = [PartStarted("tool_call", "f", "c"), PartEnded()]

    assert fold(text + call).parts == [Part("text", "a"), Part("tool_call", "", "f", "c")]


def test_failure() -> None:
    """A failure is kept beside what was said before it."""
    failed = Failed("broken", 500, "generation_failed")

    answer = fold([Started(1), PartStarted("text"), PartDelta("a"), PartEnded(), failed])

    assert answer.failed == failed
    assert answer.finished is None
    assert answer.joined("text") == "a"


@given(st.lists(st.text(max_size=5), max_size=6))
def test_size_of_deltas(deltas: list[str]) -> None:
    """However a text is cut into deltas, the answer is the same."""
    whole = "".join(deltas)
    cut: list[Event] = [PartStarted("text"), *map(PartDelta, deltas), PartEnded(), DONE]

    assert fold([PartStarted("text"), PartDelta(whole), PartEnded(), DONE]) == fold(cut)
