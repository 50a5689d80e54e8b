"""The exact bytes of every kind of answer, streamed and whole, as recorded and read by eye."""

from __future__ import annotations

import json

import pytest

from .judges import chunks_of, judge_chat, judge_text, judge_whole
from .recordings import GOLDEN, RECORDINGS


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
    """OpenAI's own types take every chunk and every body."""
    judge = judge_chat if name.startswith("chat/") else judge_text

    judge(chunks_of((GOLDEN / f"{name}.sse").read_bytes()))
    judge_whole(json.loads((GOLDEN / f"{name}.json").read_bytes()))


@pytest.mark.parametrize("name", RECORDINGS)
def test_keepalive(name: str) -> None:
    """What is sent in silence is a comment, which no client takes for an event."""
    assert RECORDINGS[name].encoder.keepalive() == b": keepalive\n\n"
