"""Every case of the shared table, at every way of cutting the text."""

from __future__ import annotations

import json

import pytest

from mlx_tools_server.events import Answer
from mlx_tools_server.families import Parser

from ..cases import CASES, Case
from .reading import CODER, THINKER, TOOLS, pieces, read

SIZES = (1, 2, 3, 7, 0)


def parser_of(case: Case) -> Parser:
    """Return a parser with the options of a case's request."""
    thinking = case.options.get("thinking", False)
    tools = () if case.options.get("tool_choice") == "none" else case.tool_specs
    return (THINKER if thinking else CODER).parser(
        tools,
        thought_open=thinking is True,
        first_call_only=case.options.get("parallel_tool_calls") is False,
    )


def read_case(case: Case, size: int) -> Answer:
    """Read the model's output of a case with the options of its request."""
    parts = pieces(case.model_output, size)
    return read(parser_of(case), parts, cut=case.engine_finish == "length")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.id}-{case.level}")
def test_case(case: Case, size: int) -> None:
    """What the model wrote reaches the client as the table says, however the text is cut."""
    answer = read_case(case, size)

    calls = [{"name": call.name, "arguments": json.loads(call.text)} for call in answer.calls]
    assert case.expected_calls == calls
    assert case.expected_content == answer.joined("text")
    assert case.expected_reasoning == answer.joined("reasoning")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", [c for c in CASES if c.partial_call], ids=lambda case: case.id)
def test_cut_call(case: Case, size: int) -> None:
    """A call that was cut is a true beginning of what the model was writing, and never whole."""
    parts = [part for part in read_case(case, size).parts if part.kind == "tool_call"]

    assert len(parts) == 1
    assert not parts[0].complete
    whole = json.dumps(case.partial_call["arguments_prefix_of"], ensure_ascii=False)
    assert parts[0].name == case.partial_call["name"]
    assert case.partial_call["arguments_prefix_of"] == {} or whole.startswith(parts[0].text)
    with pytest.raises(ValueError):  # noqa: PT011  JSON's own error
        json.loads(parts[0].text)


# What the model wrote before it was cut; content, and the arguments of the call that was cut.
CUT = {
    "in the closer of the wrapper": (
        "<tool_call>\n<function=run_cmd>\n</function>\n</tool_c",
        "",
        None,
    ),
    "in the name of a parameter": ("<tool_call>\n<function=run_cmd>\n<parameter=cm", "", ""),
    "in an object of arguments": (
        '<tool_call>\n<function=run_cmd>\n{"cmd": "l',
        '\n{"cmd": "l',
        "",
    ),
    "behind stray words": (
        "<tool_call>\n<function=run_cmd>\nso\n<parameter=cmd>\nl",
        "\nso",
        '{"cmd": "l',
    ),
    "in an escape of a Hermes call": ('<tool_call>{"a\\', '<tool_call>{"a\\', None),
    "in the opener of a call": ("So:\n<tool_call>\n<func", "So:\n<tool_call>\n<func", None),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", CUT)
def test_cut(name: str, size: int) -> None:
    """Where the model was cut, begun tags go and every word stays."""
    text, content, arguments = CUT[name]

    answer = read(CODER.parser(TOOLS), pieces(text, size), cut=True)

    cut = [part.text for part in answer.parts if not part.complete]
    assert content == answer.joined("text")
    assert cut == ([] if arguments is None else [arguments])
