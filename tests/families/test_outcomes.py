"""What is noticed of how calls were written: faultily, or as what only looks like one."""

from __future__ import annotations

import pytest

from ..cases import CASES, Case
from .reading import CODER, THINKER, TOOLS, outcomes, pieces, told
from .test_cases import parser_of
from .test_faults import MORE

SIZES = (1, 3, 0)
OPENER, NAME, KEY = "<tool_call>\n", "<function=run_cmd>\n", "<parameter=cmd>\n"
VALUE, END_KEY, END_NAME, CLOSER = "ls\n", "</parameter>\n", "</function>\n", "</tool_call>"
WHOLE = OPENER + NAME + KEY + VALUE + END_KEY + END_NAME + CLOSER

# What the model wrote, and what became of each call.
WRITTEN = {
    "as it should be": (WHOLE, ["ok"]),
    "in one line": (WHOLE.replace("\n", ""), ["ok"]),
    "with blank lines": (WHOLE.replace("\n", "\n\n"), ["ok"]),
    "behind words, and before words": (f"So: {WHOLE}\nDone.", ["ok"]),
    "twice": (f"{WHOLE}\n{WHOLE}", ["ok", "ok"]),
    "of an unknown tool": (WHOLE.replace("run_cmd", "elsewhere"), ["ok"]),
    "without an opener": (WHOLE.removeprefix(OPENER), ["repaired"]),
    "with two openers": (OPENER + WHOLE, ["repaired"]),
    "without the closer of its value": (WHOLE.replace(END_KEY, ""), ["repaired"]),
    "without the closer of the function": (WHOLE.replace(END_NAME, ""), ["repaired"]),
    "without the closer of the wrapper": (WHOLE.replace(CLOSER, ""), ["repaired"]),
    "without any closer": (OPENER + NAME + KEY + VALUE, ["repaired"]),
    "with two closers of its value": (WHOLE.replace(END_KEY, 2 * END_KEY), ["repaired"]),
    "with two closers of the function": (WHOLE.replace(END_NAME, 2 * END_NAME), ["repaired"]),
    "with two closers of the wrapper": (f"{WHOLE}\n{CLOSER}", ["repaired"]),
    "with closers in the wrong order": (
        WHOLE.replace(END_KEY + END_NAME, END_NAME + END_KEY),
        ["repaired"],
    ),
    "with a quoted name": (WHOLE.replace("run_cmd", '"run_cmd"'), ["repaired"]),
    "with a quoted name of a parameter": (WHOLE.replace("=cmd", "='cmd'"), ["repaired"]),
    "with a name that its bracket lacks": (WHOLE.replace("run_cmd>", "run_cmd"), ["repaired"]),
    "with the tag of a parameter for its name": (
        WHOLE.replace("<function=", "<parameter="),
        ["repaired"],
    ),
    "with its arguments as JSON": (
        OPENER + NAME + '{"cmd": "ls"}' + END_NAME + CLOSER,
        ["repaired"],
    ),
    "as JSON": (
        OPENER + '{"name": "run_cmd", "arguments": {"cmd": "ls"}}\n' + CLOSER,
        ["repaired"],
    ),
    "with words between its tags": (WHOLE.replace(KEY, "so\n" + KEY), ["repaired"]),
    "faultily, before one that is right": (f"{OPENER}{WHOLE}\n{WHOLE}", ["repaired", "ok"]),
    "rightly, before one that is faulty": (f"{WHOLE}\n{OPENER}{WHOLE}", ["ok", "repaired"]),
    "in one wrapper with another": (
        WHOLE.replace(CLOSER, NAME + END_NAME + CLOSER),
        ["repaired", "repaired"],
    ),
    "as JSON that is no call": (OPENER + '{"tool": "run_cmd"}\n' + CLOSER, ["text"]),
    "as broken JSON": (OPENER + '{"name": "run_cmd", "argu', ["text"]),
    "in another form": (OPENER + "run_cmd(cmd='ls')\n" + CLOSER, ["text"]),
    "without a name": (WHOLE.replace("run_cmd", ""), ["text"]),
    "bare, of an unknown tool": (
        WHOLE.removeprefix(OPENER).replace("run_cmd", "elsewhere"),
        ["text"],
    ),
    "as prose": ("A call begins with <tool_call> and <function=NAME>, so write them.", []),
    "as prose at the start of a line": ("<function=run_cmd> begins a call.", []),
    "as a word at the start of a line": ("<tool_call> begins a call.", []),
    "in a code span": (f"Write `{WHOLE.replace(chr(10), '')}`.", []),
    "as nothing": (OPENER + CLOSER, []),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("how", WRITTEN)
def test_written(how: str, size: int) -> None:
    """A call is repaired if it was written faultily; prose about calls is nothing."""
    text, expected = WRITTEN[how]

    assert expected == outcomes(told(CODER.parser(TOOLS), pieces(text, size)))


# Of the calls of the shared table, those that are faulty.
FAULTY = {"m10", "m11", "m12", "m13", "m15", "m19", "m20", "m21", "m36", "m39", "m41"}
MIXED = {"m43": ["repaired", "ok"]}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.id}-{case.level}")
def test_case(case: Case) -> None:
    """Each call of the shared table is right or repaired, and nothing in it is unread."""
    parts = pieces(case.model_output, 3)
    found = outcomes(told(parser_of(case), parts, cut=case.engine_finish == "length"))

    usual = "repaired" if case.id in FAULTY else "ok"
    cut = ["cut"] if case.partial_call else []
    assert MIXED.get(case.id, [usual] * len(case.expected_calls) + cut) == found


# What the table of faults has that is right as it was written, or no call.
RIGHT = {
    "an opener of another parameter as the whole value",
    "a function opener as the whole value",
    "an opener mentioned in a line, and another call behind",
    "an XML element called parameter at the end of the value",
    "a value whose last line ends in the closer",
    "a call in one line inside a value",
    "two documented calls at the end of a value",
    "the closer of the function within a text",
    "Windows lines keep their payload",
    "Windows framing",
    "no closer at all before the next call",
    "a tool without arguments",
    "a number with blanks around it",
    "a closer of the function as the last line of a value",
    "closers in one line, and words behind",
    "closers behind the last word of a value",
    "an opener mentioned in a line, and words behind",
    "an opener alone in the last line of a value",
    "a name without an end inside a value",
    "a closer that is followed by an opener without a name",
    "a documented call whose closers stand behind its value",
    "a documented parameter before an opener without a name",
    "a parameter that is given twice counts as it was given last",
    "a call behind a fence in its line counts",
    "a page of blank space behind a call",
}


@pytest.mark.parametrize("name", [name for name, (_, calls, _) in MORE.items() if calls])
def test_fault(name: str) -> None:
    """The first call of each fault is repaired; tags that a value quotes are no fault."""
    found = outcomes(told(CODER.parser(TOOLS), pieces(MORE[name][0], 2)))

    assert ("ok" if name in RIGHT else "repaired") == found[0]


# What was said of a thought and a call, and what became of it.
THOUGHT = {
    "a thought about calls": ("<think>\n<tool_call>\nis how\n</think>\n\nSo.", []),
    "a call in a thought": (f"<think>\nplan\n{WHOLE}\n</think>\n\nSo.", ["ok"]),
    "a call behind a thought": (f"<think>\nplan\n</think>\n\n{WHOLE}", ["ok"]),
}


@pytest.mark.parametrize("name", THOUGHT)
def test_thought(name: str) -> None:
    """What a thought says of calls is no try at one, and its end is no fault of a call."""
    text, expected = THOUGHT[name]

    assert expected == outcomes(told(THINKER.parser(TOOLS), pieces(text, 2)))


# What was cut, and what became of it.
CUT = {
    "in a value": (OPENER + NAME + KEY + "l", ["cut"]),
    "behind the function": (OPENER + NAME + END_NAME, ["ok"]),
    "in the closer of the wrapper": (OPENER + NAME + END_NAME + "</tool", ["ok"]),
    "in a name": (OPENER + "<function=ru", ["text"]),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("where", CUT)
def test_cut(where: str, size: int) -> None:
    """What the limit of tokens took away is no fault of the model."""
    text, expected = CUT[where]

    assert expected == outcomes(told(CODER.parser(TOOLS), pieces(text, size), cut=True))
