"""The exact bytes of every kind of answer, streamed and whole, as recorded and read by eye."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from . import judges_messages, judges_responses
from .judges import judge_chat_stream, judge_text_stream, judge_whole
from .recordings import DIALECTS, GOLDEN, RECORDINGS


@dataclass(frozen=True)
class Judges:
    """What the official client of a dialect makes of its answers."""

    stream: Callable[[bytes], None]
    whole: Callable[[dict[str, Any]], None]


JUDGES: Mapping[str, Judges] = {
    "chat": Judges(judge_chat_stream, judge_whole),
    "completions": Judges(judge_text_stream, judge_whole),
    "messages": Judges(judges_messages.judge_stream, judges_messages.judge_whole),
    "responses": Judges(judges_responses.judge_response_stream, judges_responses.judge_response),
}


@pytest.mark.parametrize("ending", ["sse", "json"])
@pytest.mark.parametrize("name", RECORDINGS)
def test_golden(name: str, ending: str) -> None:
    """An answer is written to the byte as it was recorded."""
    expected = (GOLDEN / f"{name}.{ending}").read_bytes()

    assert expected == RECORDINGS[name].files[ending]


def test_no_file_is_left_over() -> None:
    """Every golden file belongs to a recording."""
    files = {path.relative_to(GOLDEN).as_posix() for path in GOLDEN.glob("*/*")}

    assert files == {f"{name}.{ending}" for name in RECORDINGS for ending in ("sse", "json")}


@pytest.mark.parametrize("name", RECORDINGS)
def test_official_types(name: str) -> None:
    """The official client of a dialect takes every stream and every body."""
    judges = JUDGES[RECORDINGS[name].dialect]

    judges.stream((GOLDEN / f"{name}.sse").read_bytes())
    judges.whole(json.loads((GOLDEN / f"{name}.json").read_bytes()))


# Clients of these dialects end a stream in which no event comes for long, whatever comments do.
SIGNS = {
    "messages": {"type": "ping"},
    "responses": {"type": "response.in_progress", "sequence_number": 0},
}


@pytest.mark.parametrize("name", DIALECTS)
def test_signs_of_life(name: str) -> None:
    """In silence comes an event where comments don't count, and a comment elsewhere."""
    recording = next(recording for recording in RECORDINGS.values() if recording.dialect == name)
    sent = recording.encoder.keepalive().decode()

    if name in SIGNS:
        told = json.loads(sent.partition("data: ")[2])
        assert told | SIGNS[name] == told
    else:
        assert sent == ": keepalive\n\n"
