"""Laws of the whole call: cutting changes nothing, and nothing the model said is lost.

Rules of this file:
- mlx-lm's own tokenizer wrapper, text splitter and parsers do the reading, though we have shapes
  for most of these formats by now: what they can read shows what a format may be like.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlx_lm.tokenizer_utils import load

from mlx_tools_server.engine.foreign import MlxLmFormat
from mlx_tools_server.engine.scripted import write_checkpoint
from mlx_tools_server.events import Answer, EngineEvent, fold
from mlx_tools_server.families import Family, detect
from mlx_tools_server.messages import ToolSpec

from .checkpoints import MADE_UP

pytestmark = pytest.mark.mlx

READ = ToolSpec("read", "", {"type": "object", "properties": {"path": {"type": "string"}}})
MARKS = {
    "json_tools": "<tool_call> tool_call.name",
    "thinking": "<tool_call> tool_call.name <think>",
    "mistral": "[TOOL_CALLS]",
    "pythonic": "<|tool_list_start|>",
    "glm47": "<arg_key>",
    "made_up_open": "",
}
PIECES = {
    "json_tools": ["<tool_call>", "</tool_call>", '{"name": "read", "arguments": {"path": "x"}}'],
    "thinking": ["<tool_call>", "</tool_call>", '{"name": "read"}', "<think>", "</think>"],
    "mistral": ["[TOOL_CALLS]", 'read[ARGS]{"path": "x"}', "[", "read"],
    "pythonic": ["<|tool_call_start|>", "<|tool_call_end|>", "[read(path='x')]", "<|"],
    "glm47": ["<tool_call>", "</tool_call>", "read<arg_key>path</arg_key><arg_value>x</arg_value>"],
    "made_up_open": ["<<call>>", 'read {"path": "x"}', "<<", "call"],
}
COMMON = ["text", " ", "\n", "<", "<tool", "é🎉"]


@cache
def form(name: str) -> MlxLmFormat:
    with TemporaryDirectory() as folder:
        parser = name if name.startswith("made_up") else ""
        template = f"{{#- {MARKS[name]} #}}"
        write_checkpoint(Path(folder), chat_template=template, tool_parser=parser)
        return MlxLmFormat(load(Path(folder)))


@pytest.fixture(autouse=True, scope="module")
def made_up() -> Iterator[None]:
    """Let mlx-lm find the parsers that are made up."""
    before = {*sys.modules}
    exec(MADE_UP, {})
    yield
    for name in {*sys.modules} - before:
        if "made_up" in name:
            del sys.modules[name]


def read(name: str, chunks: list[str], *, tools: bool = True, stop: str = "") -> Answer:
    family = Family(name, form=form(name))
    parser = family.parser((READ,) if tools else (), stop=(stop,) if stop else ())
    events: list[EngineEvent] = []
    for chunk in chunks:
        events += parser.feed(chunk)
    return fold([*events, *parser.close()])


def texts(name: str) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(PIECES[name] + COMMON), max_size=12).map("".join)


names = pytest.mark.parametrize("name", MARKS)


@names
@given(data=st.data())
def test_chunking(name: str, data: st.DataObject) -> None:
    """However the text is cut, the answer is the same."""
    text = data.draw(texts(name))
    stop = data.draw(st.sampled_from(["", "x", "text"]))

    assert read(name, [text], stop=stop).parts == read(name, list(text), stop=stop).parts


@names
@given(data=st.data())
def test_nothing_is_lost(name: str, data: st.DataObject) -> None:
    """Every character is text, thought or call, but for markers and the space that touches them."""
    text = data.draw(texts(name))
    answer = read(name, [text])
    said = "".join(part.text for part in answer.parts if part.kind != "tool_call")

    markers = [m for m in (*PIECES[name], "<tool_call>") if m in text]
    if not answer.calls and not any("think" in marker for marker in markers):
        assert text == said
    assert said.count("text") == text.count("text") or answer.calls
    assert said.count("é🎉") == text.count("é🎉") or answer.calls


@names
@given(data=st.data())
def test_no_tools(name: str, data: st.DataObject) -> None:
    """Without tools all of it is text or thought."""
    text = data.draw(texts(name))
    answer = read(name, [text], tools=False)

    assert answer.calls == []
    if "think>" not in text:
        assert text == answer.joined("text")


@pytest.mark.parametrize(
    ("name", "family"),
    [("json_tools", "hermes"), ("pythonic", "lfm2"), ("made_up_open", "mlx-lm's made_up_open")],
)
def test_detection(name: str, family: str) -> None:
    """Formats of ours are known by the name of mlx-lm's parser; others go through the parser."""
    found, _ = detect("", form(name))

    assert found.name == family
    assert found.form is (form(name) if name.startswith("made_up") else None)
