"""What an answer that calls may look like around its values."""

from __future__ import annotations

import pytest

from mlx_tools_server.families import FAMILIES, Family
from mlx_tools_server.grammar.answers import ANY_OBJECT, Thought, json_answer
from mlx_tools_server.messages import ToolSpec

from ..families.reading import THINKER, pieces, read
from .worlds import END, HEAD, arguments, call, calls, parameter, parsed, small, tool

TEXT = {"type": "string"}
READ = tool("Read", "path", path=TEXT, limit={"type": "integer"})
PING = ToolSpec("ping")
OPEN = ToolSpec("open", parameters={"type": "object", "additionalProperties": {"type": "integer"}})
TOOLS = (READ, PING, OPEN)
PATH, LIMIT = parameter("path", "a.py"), parameter("limit", "3")

# Answers, and whether they may come.
ANSWERS: dict[str, tuple[str, bool]] = {
    "a call": (call("Read", PATH, LIMIT), True),
    "its parameters in another order": (call("Read", LIMIT, PATH), True),
    "an optional one left out": (call("Read", PATH), True),
    "a required one left out": (call("Read", LIMIT), False),
    "none at all": (call("Read"), False),
    "a parameter twice": (call("Read", PATH, PATH), False),
    "an unknown parameter": (call("Read", PATH, parameter("mode", "r")), False),
    "an unknown tool": (call("Write", PATH), False),
    "the beginning of a tool's name": (call("Rea", PATH), False),
    "no arguments, canonical": (f"{HEAD}ping>\n{END}", True),
    "no arguments, in one line": (f"{HEAD}ping>{END}", True),
    "no arguments, with an empty line": (f"{HEAD}ping>\n\n{END}", True),
    "endless newlines": (f"{HEAD}ping>\n\n\n{END}", False),
    "any parameters where the schema says so": (call("open", parameter("a", "1")), True),
    "of another type than it says": (call("open", parameter("a", "x")), False),
    "two calls": (f"{call('ping')}\n{call('Read', PATH)}", True),
    "two calls without a newline": (call("ping") * 2, False),
    "text": ("Hello", False),
    "nothing": ("", False),
    "text before a call": (f"Hello\n{call('ping')}", False),
    "a bare call": (f"<function=ping>\n{END}", False),
    "a call that is not closed": (call("Read", PATH).removesuffix(END), False),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers(name: str) -> None:
    """An answer that must call is calls of tools on offer with what they require, and no more."""
    text, expected = ANSWERS[name]

    assert small().accepts(calls(*TOOLS).whole, text) is expected


def test_one_call() -> None:
    """Without parallel calls nothing but the end may follow the first."""
    world = small()
    matcher = world.grammars.compile(calls(*TOOLS, parallel=False).whole).matcher()

    for token in world.encode(call("ping")):
        matcher.consume(token)

    assert world.allowed(matcher) == set(world.eos)


def test_named() -> None:
    """A tool that is named is the only one that may be called."""
    grammar = calls(*TOOLS, name="ping").whole

    assert small().accepts(grammar, call("ping"))
    assert not small().accepts(grammar, call("Read", PATH))


def test_rest_of_a_call() -> None:
    """A call that has begun is held to its end, in its wrapper or bare."""
    world, grammar = small(), calls(*TOOLS)
    for text, spaced in ((grammar.wrapped, False), (grammar.bare, True)):
        for begun in ("", "Re", "Read>\n"):
            matcher = world.grammars.compile(text).matcher()
            assert matcher.consume_text(begun)
            rest = f"Read>\n{PATH}".removeprefix(begun) + "</function>"
            assert all(map(matcher.consume, world.encode(rest)))
            assert matcher.accepting is spaced
        assert not world.grammars.compile(text).matcher().consume_text("Write>")
    assert world.accepts(grammar.wrapped, f"Read>\n{PATH}{END}")
    assert world.accepts(grammar.bare, "ping>\n</function>\n")


def test_many_parameters() -> None:
    """Beyond 64 parameters they come in the schema's order, those that are required first."""
    names = [f"p{i:02}" for i in range(70)]
    grammar = calls(tool("f", "p69", **dict.fromkeys(names, TEXT))).whole

    assert small().accepts(grammar, call("f", *[parameter(name, "x") for name in ["p69", "p00"]]))
    assert not small().accepts(grammar, call("f", parameter("p00", "x")))
    assert not small().accepts(
        grammar, call("f", *[parameter(n, "x") for n in ("p69", "p01", "p00")])
    )


def test_names_that_no_tag_can_hold() -> None:
    """A tool or parameter whose name would break its tag is left out, and noted if required."""
    grammar = calls(tool("f", "a>b", **{"a>b": TEXT, "c": TEXT}), tool("g\nh"))

    assert small().accepts(grammar.whole, call("f", parameter("c", "x")))
    assert [str(note) for note in grammar.notes] == ["required of f.a>b"]
    assert FAMILIES[1].grammar([tool("g\nh")], small().grammars) is None


def test_families_without_a_form() -> None:
    """A family whose calls another library reads has no grammar of calls, but one of answers."""
    family = Family("plain")

    assert family.grammar([READ], small().grammars) is None
    assert small().accepts(json_answer(ANY_OBJECT, small().grammars).whole, "{}")


THOUGHTS: dict[str, tuple[str, bool, bool]] = {
    "a thought first": (f"Hm.\n</think>\n\n{call('ping')}", True, True),
    "its opener again": (f"<think>\nHm.\n</think>{call('ping')}", True, True),
    "a thought that speaks of calls": (f"<function=ping>\n</think>\n{call('ping')}", True, True),
    "no thought where one is open": (call("ping"), True, False),
    "an answer behind the thought": ("Hm.\n</think>\n\nHello", True, False),
    "no thought where none is open": (call("ping"), False, True),
    "a thought of its own": (f"<think>\nHm.\n</think>\n\n{call('ping')}", False, True),
    "a thought without its opener": (f"Hm.\n</think>\n\n{call('ping')}", False, False),
}


@pytest.mark.parametrize("name", THOUGHTS)
def test_thoughts(name: str) -> None:
    """A model that thinks does so first, and what it thinks is free."""
    text, thought_open, expected = THOUGHTS[name]
    thought = Thought("<think>", "</think>", thought_open)
    grammar = calls(*TOOLS, family=THINKER, thought=thought).whole

    assert small().accepts(grammar, text) is expected
    if expected:
        parser = THINKER.parser(TOOLS, thought_open=thought_open, constrained=True)
        answer = read(parser, pieces(text, 3))
        assert [part.name for part in answer.calls] == ["ping"]
        assert "ping" not in answer.joined("text")


SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}},
    "required": ["a"],
    "additionalProperties": False,
}
JSON: dict[str, tuple[str, bool]] = {
    "by the schema": ('{"a": 1}', True),
    "of another schema": ('{"b": 1}', False),
    "text around it": ('It is {"a": 1}', False),
    "a list": ("[1]", False),
    "cut": ('{"a": 1', False),
}


@pytest.mark.parametrize("name", JSON)
def test_json(name: str) -> None:
    """An answer in a format is JSON by its schema, alone, or instead of calls."""
    text, expected = JSON[name]
    alone = json_answer(SCHEMA, small().grammars).whole
    beside = calls(*TOOLS, answer=SCHEMA).whole

    assert small().accepts(alone, text) is expected
    assert small().accepts(beside, text) is expected
    assert small().accepts(beside, call("ping"))


def test_json_behind_a_thought() -> None:
    """A thought may come before the JSON, by a tag that is a token or one that is none."""
    for tags in (Thought("<think>", "</think>", opened=True), Thought("[T]", "[/T]", opened=True)):
        grammar = json_answer(SCHEMA, small().grammars, thought=tags).whole

        assert small().accepts(grammar, f'Hm {{}}.\n{tags.close}\n\n{{"a": 1}}')
        assert not small().accepts(grammar, '{"a": 1}')


def test_json_that_quotes_a_call() -> None:
    """A call inside the strings of a JSON answer is text."""
    said = '{"a": "<tool_call><function=ping></function></tool_call>"}'
    matcher = small().grammars.compile(calls(*TOOLS, answer=ANY_OBJECT).whole).matcher()
    # Spelled, since control tokens are no JSON.
    tokens = [
        token for part in said.replace("_", "\n_").split("\n") for token in small().encode(part)
    ]
    assert all(map(matcher.consume, tokens))
    assert matcher.accepting

    answer, _ = parsed(TOOLS, said)

    assert answer.joined("text") == said
    assert not answer.calls


QUOTED = call("Read", PATH)
# Texts in which the grammar lets go, since only what follows tells what they are.
LOOSE = {
    "a call": f"See:\n{QUOTED}\nDone.",
    "the head of a call": "<function=ping>\n<parameter=file>",
    "a tag at the start of a line": "<parameter=x>",
    "a closed function": "x\n</function>\ny",
    "the end of a wrapper": "x\n</tool_call>\ny",
}


@pytest.mark.parametrize("size", [1, 4, 0])
@pytest.mark.parametrize("name", LOOSE)
def test_quoted_calls(name: str, size: int) -> None:
    """A text that quotes tags at the start of a line comes through, by the parser's own rules."""
    said = call("Read", parameter("path", LOOSE[name]), LIMIT)

    assert small().accepts(calls(*TOOLS).whole, said)
    assert not small().accepts(calls(*TOOLS, strict=("Read",)).whole, said)
    answer, let_go = parsed(TOOLS, said, size=size)
    assert let_go
    assert arguments(answer) == [{"path": LOOSE[name], "limit": 3}]


def test_forgotten_closer() -> None:
    """A call may seem to end within a text only if it lacks nothing."""
    whole = f"{HEAD}Read>\n{LIMIT}<parameter=path>\na\n{END}"
    lacking = f"{HEAD}Edit>\n<parameter=old>\na\n{END}"
    edit = tool("Edit", "old", "new", old=TEXT, new=TEXT)
    grammar = calls(*TOOLS, edit).whole

    assert small().accepts(grammar, whole)
    assert arguments(parsed(TOOLS, whole)[0]) == [{"path": "a", "limit": 3}]
    assert not small().accepts(grammar, lacking)
