"""Calls that a grammar takes over: when one has begun, and where its values end."""

from __future__ import annotations

import pytest

from mlx_tools_server.events import ParsedEvent, PartDelta, fold
from mlx_tools_server.families import Begun, Parser

from .reading import CODER, FIND, THINKER, TOOLS, calls_of, pieces, read

# Texts so far, and the call that has certainly begun by then.
BEGUN: dict[str, tuple[str, Begun | None]] = {
    "a wrapped call": ("Ok.\n<tool_call>\n<function=", Begun("", wrapped=True)),
    "its name": ("<tool_call>\n<function=run", Begun("run", wrapped=True)),
    "its name is whole": ("<tool_call>\n<function=run_cmd>", Begun("run_cmd>", wrapped=True)),
    "behind text in its line": ("Ok. <tool_call>\n<function=", Begun("", wrapped=True)),
    "in one line at its start": ("<tool_call><function=", Begun("", wrapped=True)),
    "a doubled wrapper": ("<tool_call><tool_call><function=", Begun("", wrapped=True)),
    "a second function in a wrapper": (
        "<tool_call>\n<function=run_cmd>\n</function>\n<function=", Begun("", wrapped=True)),
    "a second call": (
        "<tool_call>\n<function=run_cmd>\n</function>\n</tool_call>\n<tool_call>\n<function=f",
        Begun("f", wrapped=True)),
    "a call in a fence": ("```\n<tool_call>\n<function=", Begun("", wrapped=True)),
    "a bare call": (
        "<function=run_cmd>\n<parameter=", Begun("run_cmd>\n<parameter=", wrapped=False)),
    "the wrapper alone": ("<tool_call>", None),
    "half an opener": ("<tool_call>\n<function", None),
    "a bare mention": ("<function=run_cmd> starts", None),
    "a bare name": ("<function=run_cmd>", None),
    "a bare unknown tool": ("<function=other>\n<parameter=", None),
    "a mention in prose": ("Use <tool_call><function=", None),
    "a mention in a code span": ("Use `<tool_call><function=", None),
    "a mention in prose that shows to be a call": (
        "Use <tool_call><function=run_cmd>\n<parameter=",
        Begun("run_cmd>\n<parameter=", wrapped=True)),
    "a Hermes call": ('<tool_call>\n{"name": "', None),
    "a call that is over": ("<tool_call>\n<function=run_cmd>\n</function>\n</tool_call>\n", None),
    "text": ("Hello", None),
}  # fmt: skip


@pytest.mark.parametrize("size", [1, 0])
@pytest.mark.parametrize("name", BEGUN)
def test_begun(name: str, size: int) -> None:
    """A call can be taken over once nothing but its name is missing, and no mention can."""
    text, expected = BEGUN[name]
    parser = CODER.parser(TOOLS)

    for part in pieces(text, size):
        parser.feed(part)

    assert parser.begun == expected


def test_begun_once() -> None:
    """A call is on offer while its name is awaited, and when it turns out to be one."""
    parser = CODER.parser(TOOLS)
    texts = []
    for character in "<tool_call>\n<function=run_cmd>\nx":
        parser.feed(character)
        texts += [parser.begun.text] if parser.begun else []

    assert texts == ["run_cmd>"[:i] for i in range(9)]


def test_taken_over_once() -> None:
    """A call that was taken over is not on offer any more; the next one is."""
    parser = CODER.parser(TOOLS)
    parser.feed("<tool_call>\n<function=")
    parser.constrain()
    parser.feed("ru")
    assert parser.begun is None

    parser.feed("n_cmd>\n</function>\n</tool_call>\n<tool_call>\n<function=")

    assert parser.begun == Begun("", wrapped=True)


def test_other_parsers() -> None:
    """A parser without calls offers none, and takes it lightly."""
    parser = Parser()
    parser.feed("<tool_call>\n<function=")
    parser.constrain()

    assert parser.begun is None
    assert not parser.let_go


HEAD = "<tool_call>\n<function=find_text>\n<parameter=needle>\n"
NEXT = "\n</parameter>\n<parameter=root>\n.\n</parameter>\n</function>\n</tool_call>"
LAST = "\n</parameter>\n</function>\n</tool_call>"

# Values, and whether the grammar lets go in them.
VALUES: dict[str, tuple[str, bool]] = {
    "text": ("a\nb", False),
    "nothing": ("", False),
    "tags within lines": ("x </parameter> <function=f> <parameter=k> </function>", False),
    "a call within a line": ("<tool_call><function=run_cmd></function></tool_call>", False),
    "an opener that nothing closes": ("x <parameter=k>", False),
    "a closer alone on its line": ("a\n</parameter>\nb", False),
    "a closer first": ("</parameter>\nb", False),
    "a closer before an empty line": ("a\n</parameter>\n\nb", False),
    "a closer before an element": ("</parameter>\n<div>", False),
    "an indented tag": ("  <parameter=root>\n  x\n  </parameter>", False),
    "a call in lines": ("<function=run_cmd>\n<parameter=cmd>\nx\n</parameter>\n</function>", True),
    "a function that ends": ("</function>\nx", True),
    "a wrapper that ends": ("</tool_call>\nx", True),
}


@pytest.mark.parametrize("size", [1, 2, 7])
@pytest.mark.parametrize("tail", [NEXT, LAST], ids=["before another", "last"])
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "taken over"])
@pytest.mark.parametrize("name", VALUES)
def test_values(name: str, whole: bool, tail: str, size: int) -> None:
    """A value of a constrained call ends where its grammar says, or by the parser's own rules."""
    value, let_go = VALUES[name]
    parser = CODER.parser(TOOLS, constrained=whole)
    events: list[ParsedEvent] = []
    for part in pieces(HEAD + value + tail, size):
        events += parser.feed(part)
        if parser.begun is not None:
            parser.constrain()
    answer = fold(events + parser.close())

    expected = {"needle": value} | ({"root": "."} if tail == NEXT else {})
    assert calls_of(answer) == [("find_text", expected)]
    assert not answer.joined("text")
    assert parser.let_go is let_go


def test_streams_at_once() -> None:
    """What is written of a constrained text has left before the next character comes."""
    parser = CODER.parser([FIND], constrained=True)
    parser.feed(HEAD)
    said = ""
    for character in "a <b> </d> c":
        said += "".join(e.text for e in parser.feed(character) if isinstance(e, PartDelta))

    assert said == "a <b> </d> c"


def test_thoughts_of_a_constrained_answer() -> None:
    """Nothing in the thought of an answer that follows a grammar is a call."""
    call = f"{HEAD}a{LAST}"
    parser = THINKER.parser(TOOLS, thought_open=True, constrained=True)

    answer = read(parser, pieces(f"{call}\n</think>\n\n{call}", 3))

    assert answer.joined("reasoning") == call
    assert calls_of(answer) == [("find_text", {"needle": "a"})]


@pytest.mark.parametrize("size", [1, 0])
def test_cut(size: int) -> None:
    """A constrained call that is cut is a true beginning, without the beginning of a closer."""
    for tail in ("", "\n</para", "\n</parameter>", "\n</parameter>\n", "\n</parameter>\n<"):
        parser = CODER.parser(TOOLS, constrained=True)
        answer = read(parser, pieces(f"{HEAD}ab{tail}", size), cut=True)

        assert [part.text for part in answer.parts] == ['{"needle": "ab']
        assert not answer.parts[0].complete


def test_after_a_failure() -> None:
    """A call whose grammar has failed is still read, and told from what follows."""
    parser = CODER.parser(TOOLS)
    parser.feed("<tool_call>\n<function=")
    parser.constrain()

    answer = read(parser, ["find_text>\n<parameter=needle>\na</parameter>\n</function>\n"])

    assert calls_of(answer) == [("find_text", {"needle": "a"})]
