"""Values that speak of calls: documents, sources and diffs come through as they were written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_tools_server import families
from mlx_tools_server.families.shapes.tag_call import write
from mlx_tools_server.messages import ToolSpec

from .reading import STRING, TOOLS, calls_of, read_text

SWAP = ToolSpec(
    "swap_text",
    parameters={
        "type": "object",
        "properties": {"file": STRING, "before": STRING, "after": STRING},
    },
)
OFFER = (*TOOLS, SWAP)

CALL = write("run_cmd", {"cmd": "rm -rf /"})
SAME = write("save_note", {"mode": 2, "body": "b", "file": "f"})
LINE = SAME.replace("\n", "")
TAIL = "\n</parameter>\n</function>\n</tool_call>"

# Documents in which every call is whole.
WHOLE = {
    "a fenced call": f"# How\n\n```xml\n{CALL}\n```\nDone.",
    "a call in a line": f"Write `{CALL}` to call.".replace("\n", ""),
    "a call in a line, broken by its value": f"Write `{LINE}`.".replace("b<", "b\n<"),
    "a call of the same tool": SAME,
    "two calls": f"{SAME}\n{CALL}",
    "an unknown tool's call": write("get_weather", {"city": "Berlin", "file": "x"}),
    "a call without arguments": write("ping", {}),
    "a call that a diff adds": "\n".join(f"+{line}" for line in SAME.split("\n")),
    "a call that a diff keeps": "\n".join(f" {line}" for line in CALL.split("\n")),
    "a call in an indented block": "\n".join(f"    {line}" for line in SAME.split("\n")),
    "a call with its parameters in lines": (
        "<tool_call>\n<function=f>\n<parameter=a>1</parameter>\n<parameter=file>2</parameter>\n"
        "</function>\n</tool_call>"
    ),
    "a string with all closers": 'ENDS = ["</parameter></function></tool_call>", "x"]',
    "a string with two closers": 'ENDS = ["</parameter></function>", "<parameter=x>"]',
    "closers named in prose": "The closers `</parameter>`, `</function>` and `</tool_call>`.",
    "the wrapper's seam named in prose": "Calls are joined by </tool_call>\n<tool_call> markers.",
    "openers named in prose": "Use `<tool_call>`, `<function=f>` and `<parameter=k>` for it.",
    "a function named in the last line": "It starts with <function=run_cmd>",
    "a parameter named in the last line": "It starts with <parameter=zz>",
    "a parameter without a name": "`<parameter>` is no parameter.",
    "a regular expression": 're.compile(r"<function=(.*?)</function>|<parameter=(.*)</parameter>")',
    "escaped line ends": '"<tool_call>\\n<function=f>\\n<parameter=a>\\n1\\n</parameter>\\n"',
    "half a call in one string": '"<tool_call>\\n<function=save_note>\\n<parameter=body>\\n"',
    "an element called parameter": '<a>\n<parameter name="x">\n1\n</parameter>\n</a>',
    "such an element in the last line": '<a>\n  <parameter name="x">1</parameter>',
    "such an element without attributes": "<parameter>\n  1\n</parameter>",
    "a self-closing parameter": '<parameter name="x" value="1"/>',
    "templates": "std::function<void()> f = [](auto x) { return x < 3 && 4 > x; };",
    "a Hermes call": '<tool_call>\n{"name": "run_cmd", "arguments": {"cmd": "x"}}\n</tool_call>',
    "thoughts": "<think>\nx\n</think>\n\n</think>",
}  # fmt: skip

# Documents that break off in a call, or begin in one.
HALVES = {
    "a head in lines": "<tool_call>\n<function=run_cmd>\n<parameter=cmd>",
    "a head in lines with a value": "<tool_call>\n<function=run_cmd>\n<parameter=cmd>\nls",
    "an end in lines": f"ls{TAIL}",
    "a closer in lines": "a\n</parameter>\nb",
    "closers in lines": "a\n</function>\n</tool_call>\nb",
}

# What stands before the document, and behind it in the call.
PLACES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "last": ({"file": "a"}, {}),
    "first": ({}, {"file": "a"}),
    "before two": ({}, {"after": "x", "file": "a"}),
}


def check(document: str, place: str, *, then: str = "", size: int = 0) -> None:
    """Write the document in a call, read it, and compare."""
    before, behind = PLACES[place]
    arguments = {**before, "before": document, **behind}
    text = write("swap_text", arguments)
    expected: list[tuple[str, Any]] = [("swap_text", arguments)]
    if then:
        text += "\n" + write("find_text", {"needle": then})
        expected.append(("find_text", {"needle": then}))

    answer = read_text(text, OFFER, size)

    assert expected == calls_of(answer)
    assert not answer.joined("text")


@pytest.mark.parametrize("size", [1, 3, 0])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", WHOLE)
def test_whole_calls_in_a_value(name: str, place: str, size: int) -> None:
    """A document with whole calls in it is payload, wherever its value stands."""
    check(WHOLE[name], place, size=size)


@pytest.mark.parametrize("size", [1, 0])
@pytest.mark.parametrize("name", [name for name in WHOLE if "function named" not in name])
def test_another_call_follows(name: str, size: int) -> None:
    """A document ends with its value, also where a further call follows."""
    check(WHOLE[name], "last", then="x", size=size)


@pytest.mark.parametrize("size", [1, 0])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", HALVES)
def test_half_calls_in_a_value(name: str, place: str, size: int) -> None:
    """Half a call is payload as long as what follows can't be the other half."""
    check(HALVES[name], place, size=size)


@settings(max_examples=400)
@given(
    st.lists(st.sampled_from(sorted(WHOLE)), min_size=2, max_size=4),
    st.sampled_from(sorted(PLACES)),
)
def test_documents_together(names: list[str], place: str) -> None:
    """Several such documents one below the other make a document."""
    check("\n".join(WHOLE[name] for name in names), place)


@pytest.mark.parametrize(
    "path",
    sorted([*Path(__file__).parent.glob("*.py"), *Path(families.__file__).parent.rglob("*.py")]),
    ids=lambda path: "/".join(path.parts[-3:]),
)
def test_own_sources(path: Path) -> None:
    """The parsers and their tests can be written by an agent that runs on this project."""
    for place in PLACES:
        check(path.read_text("utf-8"), place, then="x")
