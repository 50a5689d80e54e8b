"""What counts as an answer of ours that came back unchanged, and what is remembered of it."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_tools_server.history import History, same_json, unchanged
from mlx_tools_server.messages import Exact, Message, ToolCall, ToolSpec

EXACT = Exact((5, 6, 7), opening="<think>\n", closing="<|im_end|>", thought=True)
HELLO = (Message("system", "be brief"), Message("user", "hello"))
BASH = ToolSpec("Bash", "", {"properties": {"timeout": {"type": "integer", "default": 60}}})


def calling(
    arguments: Mapping[str, Any], *, content: str = "I look.", name: str = "Bash", call: str = "c1"
) -> Message:
    """Return an answer with one call."""
    return Message("assistant", content, tool_calls=(ToolCall(call, name, arguments),))


def saying(content: str) -> Message:
    """Return an answer without a call."""
    return Message("assistant", content)


@pytest.fixture
def history() -> Iterator[History]:
    """Return a history that forgets."""
    made = History(None, b"tokenizer")
    yield made
    made.close()


def replayed(history: History, *messages: Message) -> list[bool]:
    """Return which of the messages are replayed."""
    found = history.recall(messages, [BASH])
    assert found == messages
    return [message.exact is not None for message in found]


# What came back, for {"command": "cd /w && ls", "n": 1} in a call of Bash that said "I look.".
OURS: dict[str, Any] = {"command": "cd /w && ls", "n": 1}
RETURNS = [
    pytest.param(calling(OURS), True, id="the same"),
    pytest.param(calling({"n": 1, "command": "cd /w && ls"}), True, id="another order"),
    pytest.param(calling({**OURS, "n": 1.0}), True, id="1 as 1.0"),
    pytest.param(calling({**OURS, "command": "ls"}), True, id="Claude Code drops cd"),
    pytest.param(calling({**OURS, "replace_all": False}), True, id="Claude Code adds replace_all"),
    pytest.param(calling({**OURS, "timeout": 60}), True, id="a default is added"),
    pytest.param(
        calling({"timeout": 60, "command": "ls", "n": 1}), True, id="several rewrites at once"
    ),
    pytest.param(calling(OURS, content=""), True, id="anyclaude drops the text"),
    pytest.param(calling(OURS, content="\n\nI look.\n"), True, id="white space around the text"),
    pytest.param(calling(OURS, content="I looked."), False, id="another text"),
    pytest.param(calling({**OURS, "command": "cd /w && rm"}), False, id="another command"),
    pytest.param(calling({**OURS, "command": "rm"}), False, id="another command without cd"),
    pytest.param(calling({**OURS, "n": True}), False, id="1 as true"),
    pytest.param(calling({**OURS, "n": "1"}), False, id="1 as text"),
    pytest.param(calling({"command": "cd /w && ls"}), False, id="a parameter is missing"),
    pytest.param(calling({**OURS, "timeout": 61}), False, id="added, but no default"),
    pytest.param(calling({**OURS, "replace_all": True}), False, id="replace_all is true"),
    pytest.param(calling({**OURS, "other": 1}), False, id="an unknown parameter is added"),
    pytest.param(calling(OURS, name="Shell"), False, id="another tool"),
    pytest.param(calling(OURS, call="c2"), False, id="an id that is not ours"),
    pytest.param(
        Message("assistant", "I look.", tool_calls=2 * calling(OURS).tool_calls), False, id="twice"
    ),
    pytest.param(saying("I look."), False, id="the call is left out"),
]


@pytest.mark.parametrize(("message", "expected"), RETURNS)
def test_calls(history: History, message: Message, expected: bool) -> None:
    """A call is replayed if it came back as it was, or as known clients rewrite it."""
    history.remember(HELLO, calling(OURS), EXACT)

    assert replayed(history, *HELLO, message) == [False, False, expected]


def test_what_is_replayed(history: History) -> None:
    """The ids come back with all that stood around them."""
    history.remember(HELLO, calling(OURS), EXACT)

    assert history.recall((*HELLO, calling(OURS)))[-1].exact == EXACT


TEXTS = [
    pytest.param((*HELLO, saying("Hi.")), True, id="the same"),
    pytest.param((*HELLO, saying(" Hi.\n")), True, id="white space around it"),
    pytest.param((HELLO[1], saying("Hi.")), True, id="another system message"),
    pytest.param((*HELLO, saying("Hi!")), False, id="another text"),
    pytest.param((HELLO[0], Message("user", "hi"), saying("Hi.")), False, id="another question"),
    pytest.param((*HELLO, saying("x"), saying("Hi.")), False, id="more before it"),
    pytest.param((*HELLO, Message("user", "Hi.")), False, id="said by the user"),
]


@pytest.mark.parametrize(("messages", "expected"), TEXTS)
def test_texts(history: History, messages: tuple[Message, ...], expected: bool) -> None:
    """A text is replayed where the same was said before it; system messages don't count."""
    history.remember(HELLO, saying("Hi."), EXACT)

    assert replayed(history, *messages)[-1] == expected


def test_conversation(history: History) -> None:
    """Every answer of a conversation is replayed, calls and texts alike."""
    turns = [
        *HELLO,
        calling(OURS),
        Message("tool", "a.txt", tool_call_id="c1"),
        saying("Done."),
        Message("user", "again"),
        saying("Done."),
    ]
    for at, message in enumerate(turns):
        if message.role == "assistant":
            history.remember(turns[:at], message, Exact((at,)))

    found = history.recall(turns)

    assert [m.exact.ids[0] for m in found if m.exact] == [2, 4, 6]


@pytest.mark.parametrize(
    ("answer", "exact"), [(saying("Hi."), Exact(())), (saying(" \n"), EXACT)], ids=["ids", "text"]
)
def test_nothing_to_remember(history: History, answer: Message, exact: Exact) -> None:
    """An answer without ids, or one that says nothing, is not remembered."""
    history.remember(HELLO, answer, exact)

    assert replayed(history, *HELLO, answer)[-1] is False


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.text(max_size=3), VALUES))
def test_order_is_no_change(arguments: dict[str, Any]) -> None:
    """Arguments in the opposite order are unchanged."""
    assert unchanged(arguments, dict(reversed(arguments.items())), {})


@given(VALUES, VALUES)
def test_equal_json(one: Any, other: Any) -> None:
    """Equal values are those that Python calls equal, once booleans are told from numbers."""
    assert same_json(one, other) == (repr_of(one) == repr_of(other))


def repr_of(value: Any) -> Any:
    """Return the value with its booleans as text that nothing else is."""
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, dict):
        return {key: repr_of(item) for key, item in value.items()}
    return [repr_of(item) for item in value] if isinstance(value, list) else value


# The file.


def test_file_that_others_could_read(tmp_path: Path) -> None:
    """A file that was copied to where it is becomes its owner's alone."""
    path = tmp_path / "history.sqlite3"
    path.touch()
    path.chmod(0o666)

    History(path, b"tokenizer").close()

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_restart(tmp_path: Path) -> None:
    """What was remembered is there after a restart, in a file that only its owner can read."""
    path = tmp_path / "new" / "history.sqlite3"
    first = History(path, b"tokenizer")
    first.remember(HELLO, calling(OURS), EXACT)
    # The process may be killed, so nothing is closed before the next one reads.
    second = History(path, b"tokenizer")

    assert replayed(second, *HELLO, calling(OURS))[-1]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    first.close()
    second.close()


def test_another_tokenizer(tmp_path: Path) -> None:
    """The ids of another tokenizer are not replayed."""
    for scope, expected in ((b"one", True), (b"other", False)):
        history = History(tmp_path / "h", scope)
        if expected:
            history.remember(HELLO, saying("Hi."), EXACT)
        assert replayed(history, *HELLO, saying("Hi."))[-1] == expected
        history.close()


def test_limit(tmp_path: Path) -> None:
    """The oldest answers are forgotten where the limit is reached, also after a restart."""
    path = tmp_path / "h"
    answers = [saying(f"answer {i}") for i in range(20)]
    for part in (answers[:10], answers[10:]):
        history = History(path, b"t", limit=1500)
        for answer in part:
            history.remember(HELLO, answer, Exact((1,) * 50))
        history.close()
    history = History(path, b"t")

    found = [replayed(history, *HELLO, answer)[-1] for answer in answers]

    assert found == sorted(found)
    assert 2 < sum(found) < 6
    history.close()


@pytest.mark.parametrize("column", ["row", "ids"])
def test_damaged_row(tmp_path: Path, column: str) -> None:
    """An answer whose row was changed on disk is forgotten, never replayed wrongly."""
    history = History(tmp_path / "h", b"t")
    history.remember(HELLO, saying("Hi."), EXACT)
    with sqlite3.connect(tmp_path / "h") as base:
        value = b"\1\0\0\0" if column == "ids" else '["", [], "", "", false]'
        base.execute(f"UPDATE answers SET {column} = ?", (value,))
    base.close()

    assert not replayed(history, *HELLO, saying("Hi."))[-1]
    history.close()


@pytest.mark.parametrize("damage", ["no database", "cut", "a folder"])
def test_broken_file(tmp_path: Path, damage: str) -> None:
    """A file that is no database is made anew; where none can be made, memory serves."""
    path = tmp_path / "h"
    if damage == "a folder":
        path.mkdir()
    elif damage == "cut":
        History(path, b"t").close()
        os.truncate(path, 3000)
    else:
        path.write_bytes(b"no database " * 100)
    history = History(path, b"t")
    history.remember(HELLO, saying("Hi."), EXACT)

    assert replayed(history, *HELLO, saying("Hi."))[-1]
    history.close()


def test_two_processes(tmp_path: Path) -> None:
    """Two servers on one file remember for each other."""
    one, other = History(tmp_path / "h", b"t"), History(tmp_path / "h", b"t")
    one.remember(HELLO, saying("Hi."), EXACT)
    other.remember(HELLO, saying("Ho."), EXACT)

    assert replayed(other, *HELLO, saying("Hi."))[-1]
    assert replayed(one, *HELLO, saying("Ho."))[-1]
    one.close()
    other.close()


def test_closed_file() -> None:
    """A fault of the file is a forgotten answer, not a failed request."""
    history = History(None, b"t")
    history.close()

    history.remember(HELLO, saying("Hi."), EXACT)

    assert not replayed(history, *HELLO, saying("Hi."))[-1]
