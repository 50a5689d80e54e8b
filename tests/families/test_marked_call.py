"""The laws of marked calls, for every family, every text, every cut and every value."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_tools_server.events import ParsedEvent, PartDelta, fold
from mlx_tools_server.families import Begun, Parser

from ..counting import calls_made
from .cases import tables
from .marked import FAMILY, MARKED, Marked, texts
from .reading import TOOLS, calls_of, outcomes, pieces, read, told
from .test_laws import NAMES, PLAIN, typed_calls

# Words in the titles of those cases that show a fault.
FAULTS = ("forgotten", "twice", "JSON", "quotes", "blanks around", "instead of")
# Of these cases what became of the calls is another matter.
OTHERS = {
    "the section forgotten, of an unknown tool": ["text"],
    "cut in a name": [],
    "words in place of a call": ["text"],
    "two sections": ["ok", "ok"],
    "the closer forgotten before another call": ["repaired", "ok"],
    "the closer of a call forgotten before another": ["repaired", "ok"],
}


def parsers(marked: Marked) -> Iterator[Parser]:
    """Return a parser of every kind."""
    family = marked.family
    yield family.parser(TOOLS)
    yield family.parser(TOOLS, first_call_only=True, stop=("stop", "\n\nw1"))
    yield family.parser(())
    yield family.parser(TOOLS, thought_open=True)
    yield family.parser(TOOLS, constrained=True)


def check_chunking(marked: Marked, text: str, places: set[int], *, cut: bool) -> None:
    """Read a text in many ways."""
    ends = sorted(place % (len(text) + 1) for place in places)
    parts = [text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True)]
    for whole, chopped, single in zip(*map(parsers, [marked] * 3), strict=True):
        expected = told(whole, [text], cut=cut)
        for events in (told(chopped, parts, cut=cut), told(single, list(text), cut=cut)):
            assert fold(expected) == fold(events)
            assert outcomes(expected) == outcomes(events)
        for part in fold(expected).parts:
            if not part.complete:
                with pytest.raises(ValueError):  # noqa: PT011  JSON's own error
                    json.loads(part.text)
        assert all(isinstance(arguments, dict) for _, arguments in calls_of(fold(expected)))


PLACES = st.sets(st.integers(0, 2000), max_size=12)


@settings(max_examples=60)
@given(texts(), PLACES, st.booleans())
def test_chunking(text: tuple[Marked, str], places: set[int], cut: bool) -> None:
    """However a text is cut, the events fold to the same answer, whose whole calls are objects."""
    check_chunking(*text, places, cut=cut)


@pytest.mark.slow
@settings(max_examples=4000, deadline=None)
@given(texts(), PLACES, st.booleans())
def test_chunking_of_many(text: tuple[Marked, str], places: set[int], cut: bool) -> None:
    """So it is for thousands of texts."""
    check_chunking(*text, places, cut=cut)


@settings(max_examples=80)
@given(texts())
def test_nothing_lost(text: tuple[Marked, str]) -> None:
    """Every word that the model said is in the content, a thought or a call."""
    marked, said = text
    # A word that stands in a header is part of it, and so is one in a tag beside the name.
    words = re.findall(r"(?<![<|= ])\bw\d+\b", re.sub(r"to=[^<]*|<[^<>]*>?", "<", said))
    for tools in (TOOLS, ()):
        answer = read(marked.family.parser(tools), pieces(said, 5))

        kept = "".join(part.text + part.name for part in answer.parts)
        for word in words:
            assert word in kept


@settings(max_examples=70)
@given(FAMILY, NAMES, typed_calls(), st.integers(0, 9))
def test_round_trip(
    marked: Marked, name: str, call: tuple[dict[str, Any], dict[str, Any]], size: int
) -> None:
    """A call that was written is read back as it was, value by value."""
    schema, arguments = call

    events = told(marked.parser({name: schema}), pieces(marked.write(name, arguments), size))

    assert [(name, arguments)] == calls_of(fold(events))
    assert not fold(events).joined("text")
    assert outcomes(events) == ["ok"]


@settings(max_examples=40)
@given(FAMILY, PLAIN, typed_calls(), PLAIN, st.sampled_from(["run_cmd", "elsewhere"]))
def test_call_inside_a_value(
    marked: Marked,
    before: str,
    call: tuple[dict[str, Any], dict[str, Any]],
    after: str,
    tool: str,
) -> None:
    """A call that stands inside a value is payload: it is not executed, and nothing is cut."""
    body = f"{before}\n{marked.write(tool, call[1])}\n{after}."
    if marked.form.cdata[0] in body and marked.form.cdata[0]:
        return  # CDATA in CDATA has no meaning in that form
    expected = {"file": "a.md", "body": body, "mode": 1}

    answer = read(marked.family.parser(TOOLS), pieces(marked.write("save_note", expected), 4))

    assert [("save_note", expected)] == calls_of(answer)


@pytest.mark.parametrize("name", MARKED)
def test_strings_leave_at_once(name: str) -> None:
    """All of a string but a newline at its end has left before the next character comes."""
    parser = MARKED[name].family.parser(TOOLS)
    opener = MARKED[name].form.cdata[0]
    events = parser.feed(f"{MARKED[name].head}{MARKED[name].key('body')}{opener}")
    said = ""
    for character in "ab c\nd\n\n'é\"e > f":
        events += parser.feed(character)
        said += character
        sent = "".join(event.text for event in events if isinstance(event, PartDelta))
        assert json.loads(sent + '"}')["body"] in (said, said.removesuffix("\n"))


def runs(marked: Marked) -> list[str]:
    """Return texts whose repetition could be costly."""
    form = marked.form
    end = f"{form.end_value}\n{form.end_call}"
    return ["<", form.end_value, f"{form.end_value} ", end, f"{end}\nx", form.call.head, "\n ",
            marked.key("file"), form.call.text("run_cmd"), form.cdata[1] or form.end_call, "]",
            "".join(form.section_openers[:1])]  # fmt: skip


@pytest.mark.parametrize("name", ["glm4", "minimax_m2", "minicpm5"])
def test_linear(name: str) -> None:
    """Twice the text costs twice the work, for the worst repetitions as well."""
    marked = MARKED[name]
    starts = ["", marked.head, marked.head + marked.key("body") + marked.form.cdata[0]]

    def work(text: str) -> int:
        return calls_made(lambda: read(marked.family.parser(TOOLS), pieces(text, 8)))

    for start in starts:
        for run in filter(None, runs(marked)):
            assert work(start + run * 80) < 2.3 * work(start + run * 40) + 800


# What was said so far, by the names of its parts, and whether a name is awaited.
@pytest.mark.parametrize("name", MARKED)
def test_begun(name: str) -> None:
    """A call can be taken over once nothing but its name is missing, and is not on offer after."""
    marked = MARKED[name]
    before, _, behind = marked.head.partition("save_note")
    parser = marked.family.parser(TOOLS)
    begun = []
    for character in f"Ok.\n{before}save_note{behind}":
        parser.feed(character)
        begun.append(parser.begun)

    first = begun.index(Begun("", wrapped=True))
    assert first == len(f"Ok.\n{before}") - 1
    assert begun[first + 3] == Begun("sav", wrapped=True)
    assert not any(begun[:first])


@pytest.mark.parametrize("name", MARKED)
def test_taken_over_once(name: str) -> None:
    """A call that was taken over is not on offer any more; the next one is."""
    marked = MARKED[name]
    parser = marked.family.parser(TOOLS)
    before, _, _ = marked.head.partition("save_note")
    parser.feed(before)
    parser.constrain()
    parser.feed("run")
    assert parser.begun is None

    rest = marked.write("run_cmd", {"cmd": "ls"}).removeprefix(before.replace("save_note", ""))
    parser.feed(rest.removeprefix("run"))
    parser.feed(f"\n{before}")

    assert parser.begun == Begun("", wrapped=True)


@pytest.mark.parametrize("name", MARKED)
def test_mentions(name: str) -> None:
    """What is said about calls is text, and no grammar takes it over."""
    marked = MARKED[name]
    call = marked.write("run_cmd", {}).replace("\n", "")
    opener = next(iter(marked.form.section_openers), marked.form.call.head)
    said = f"Write `{call}` or begin with {opener} and a name."
    parser = marked.family.parser(TOOLS)
    events: list[ParsedEvent] = []
    for character in said:
        events += parser.feed(character)
        assert parser.begun is None
    answer = fold(events + parser.close())

    assert answer.joined("text") == said
    assert not answer.calls


@pytest.mark.parametrize("name", MARKED)
def test_outcomes(name: str) -> None:
    """A call is repaired if its case shows a fault, and right as it was written otherwise."""
    for title, said in tables()[name].items():
        parser = MARKED[name].family.parser(TOOLS, thought_open=said.thought_open)
        found = outcomes(told(parser, pieces(said.text, 3), cut=said.cut))

        outcome = "repaired" if any(word in title for word in FAULTS) else "ok"
        expected = OTHERS.get(title, [outcome] * len(said.calls) + ["cut"] * bool(said.begun))
        assert (title, found) == (title, expected)


# Answers between frames, and what they say.
FRAMED = {
    "kimi_k3": "Hm.<|close|>think<|sep|><|open|>response<|sep|>Yes.<|close|>response<|sep|>"
    "<|close|>message<|sep|>",
    "muse_spark": " to=self<|message|>Hm.<|eom|><|start|>assistant to=user<|message|>Yes.<|eot|>",
}


@pytest.mark.parametrize("tools", [TOOLS, ()], ids=["with tools", "without"])
@pytest.mark.parametrize("name", FRAMED)
def test_frames(name: str, tools: Any) -> None:
    """What stands around a text is no part of it, whether there are tools or not."""
    parser = MARKED[name].family.parser(tools, thought_open=name == "kimi_k3")

    answer = read(parser, pieces(FRAMED[name], 2))

    assert answer.joined("reasoning") == "Hm."
    assert answer.joined("text") == "Yes."


@pytest.mark.parametrize("name", MARKED)
def test_first_call_only(name: str) -> None:
    """An answer ends behind its first call, of which every character belongs to it."""
    call = MARKED[name].write("run_cmd", {"cmd": "ls"})
    parser = MARKED[name].family.parser(TOOLS, first_call_only=True)

    answer = read(parser, pieces(f"{call}\n{call}", 1))

    assert calls_of(answer) == [("run_cmd", {"cmd": "ls"})]
    assert parser.stopped
    assert parser.taken == len(call)
