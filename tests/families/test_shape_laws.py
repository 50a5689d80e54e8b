"""The laws that hold for every family's calls, whatever their shape."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_tools_server.events import Noticed, PartDelta, PartEnded, PartStarted, fold
from mlx_tools_server.families import FAMILIES, Family, Parser
from mlx_tools_server.messages import ToolSpec

from ..counting import calls_made
from .reading import TOOLS, calls_of, fragments, outcomes, pieces, read, told

ROWS = [pytest.param(family, id=family.name) for family in FAMILIES]
SIZES = (1, 2, 3, 7, 0)
# For each family and law; there are many of both.
EXAMPLES = 15


def texts(family: Family) -> st.SearchStrategy[str]:
    """Return a strategy of what a model of this family may say, mostly wrong."""
    words = st.integers(0, 9999).map("w{}".format)
    piece = st.one_of(st.sampled_from(fragments(family)), words)
    return st.lists(piece, max_size=30).map("".join)


def parser(family: Family, **options: Any) -> Parser:
    """Return a parser of a family's answers."""
    return family.parser(TOOLS, **options)


@pytest.mark.parametrize("family", ROWS)
@settings(max_examples=EXAMPLES)
@given(st.data(), st.booleans())
def test_chunking(family: Family, data: st.DataObject, cut: bool) -> None:
    """However the text is cut, the events fold to the same answer, whose calls fare the same."""
    text = data.draw(texts(family))
    options = {"stop": ("stop",), "first_call_only": data.draw(st.booleans())}

    expected = told(parser(family, **options), [text], cut=cut)

    for size in SIZES[:-1]:
        events = told(parser(family, **options), pieces(text, size), cut=cut)
        assert fold(expected) == fold(events)
        assert outcomes(expected) == outcomes(events)


@pytest.mark.parametrize("family", ROWS)
@settings(max_examples=EXAMPLES)
@given(st.data(), st.booleans())
def test_order(family: Family, data: st.DataObject, cut: bool) -> None:
    """Parts open, grow and close in turn; calls are whole objects, or cut and none."""
    events = told(parser(family), pieces(data.draw(texts(family)), 3), cut=cut)

    is_open = False
    for event in events:
        match event:
            case PartStarted():
                assert not is_open
                is_open = True
            case PartDelta() | PartEnded():
                assert is_open
                is_open = isinstance(event, PartDelta)
            case Noticed():
                pass
    assert not is_open
    answer = fold(events)
    assert all(isinstance(arguments, dict) for _, arguments in calls_of(answer))
    for part in answer.parts:
        if not part.complete:
            with pytest.raises(ValueError):  # noqa: PT011  JSON's own error
                json.loads(part.text)


@pytest.mark.parametrize("family", [family for family in FAMILIES if family.name != "gpt_oss"])
@settings(max_examples=EXAMPLES)
@given(st.data())
def test_lines_are_not_lost(family: Family, data: st.DataObject) -> None:
    """A line of its own is said or handed on, whatever stands around it.

    Of gpt-oss's answers, what stands between its markers is the name of a channel.
    """
    line = st.integers(0, 9999).map("\nw{}\n".format)
    text = "".join(
        data.draw(st.lists(st.sampled_from(fragments(family)) | line, min_size=1, max_size=30))
    )

    parts = read(parser(family), pieces(text, 3)).parts
    said = "".join(part.name + part.text for part in parts)

    assert [word for word in re.findall(r"\nw\d+(?=\n)", text) if word[1:] not in said] == []


NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,12}", fullmatch=True)
PLAIN = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40)
AWKWARD = st.sampled_from(
    ["\n", "\t", '"', "'", "\\", "\\n", "{", "}]", "), (", "<", "</", "null", "True", "12", " ",
     "`", '", "a": "', "', b='", "🙂", "```", "# x", "[1]", "a\r\nb", "\u2028"]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False) | PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


def strings(family: Family) -> st.SearchStrategy[str]:
    """Return texts without what ends one in this family's form."""
    ends = re.compile("|".join(map(re.escape, [*family.control_texts, "</", "<param"])))
    made = st.lists(st.one_of(PLAIN, AWKWARD), max_size=6).map("".join)
    return made.filter(lambda text: not ends.search(text) and '<|"|>' not in text)


TYPED = {
    "integer": st.integers(),
    "number": st.floats(allow_nan=False, allow_infinity=False) | st.integers(),
    "boolean": st.booleans(),
    "null": st.none(),
    "array": st.lists(JSON, max_size=4),
    "object": st.dictionaries(NAMES, JSON, max_size=4),
}


@pytest.mark.parametrize("family", ROWS)
@settings(max_examples=EXAMPLES)
@given(st.data(), st.sampled_from(SIZES))
def test_round_trip(family: Family, data: st.DataObject, size: int) -> None:
    """A call that was written is read back as it was, value by value, and needs no repair."""
    typed = {"string": strings(family), **TYPED}
    kinds = data.draw(st.dictionaries(NAMES, st.sampled_from(sorted(typed)), max_size=4))
    arguments = {name: data.draw(typed[kind]) for name, kind in kinds.items()}
    properties = {name: {"type": kind} for name, kind in kinds.items()}
    tool = ToolSpec(data.draw(NAMES), parameters={"type": "object", "properties": properties})

    text = family.shape.write(tool.name, arguments)
    events = told(family.parser([tool]), pieces(text, size))

    assert [(tool.name, arguments)] == calls_of(fold(events))
    assert not fold(events).joined("text")
    assert outcomes(events) == ["ok"]


@pytest.mark.parametrize("family", ROWS)
def test_strings_leave_as_they_come(family: Family) -> None:
    """Each token of a string leaves before the next but two has come."""
    mark = "|here|"
    before, _, _ = family.shape.write("run_cmd", {"cmd": mark}).partition(mark)
    reader = parser(family)
    events = reader.feed(before)
    for i in range(200):
        events += reader.feed(f"word{i} ")

        sent = "".join(event.text for event in events if isinstance(event, PartDelta))
        assert i < 2 or f"word{i - 2} " in sent


@pytest.mark.parametrize("family", ROWS)
def test_linear(family: Family) -> None:
    """Twice the text costs twice the work, for the worst repetitions as well."""
    begun = family.shape.write("save_note", {"body": "|"}).partition("|")[0]

    for run in ('"', "{", "[", "(", "\\", " ", '", ', "<", "x ", *family.control_texts[:2]):
        for start in ("", begun):
            once, twice = (work(family, start + run * times) for times in (150, 300))
            assert twice < 2.3 * once + 500, (run, start)


def work(family: Family, text: str) -> int:
    """Return the work of reading a text."""
    return calls_made(lambda: read(parser(family), pieces(text, 4)))


@pytest.mark.parametrize("family", [family for family in FAMILIES if family.thinking])
def test_call_ends_thought(family: Family) -> None:
    """A call inside a thought ends it, and what comes behind the call is text."""
    assert family.thinking is not None
    call = family.shape.write("run_cmd", {"cmd": "ls"})
    text = f"{family.thinking.open}\nHm.\n{call}\n{family.thinking.close}\nDone."

    answer = read(parser(family), pieces(text, 3))

    assert [part.kind for part in answer.parts] == ["reasoning", "tool_call", "text"]
    assert answer.joined("reasoning").strip() == "Hm."
    assert answer.joined("text").strip() == "Done."
