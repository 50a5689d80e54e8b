"""Answers of literal calls: what may come, and what random answers are read back as."""

from __future__ import annotations

from functools import cache
from typing import Any

import jsonschema
import pytest
from tokenizers import AddedToken

from mlx_tools_server.families import FAMILIES, CallGrammar, Family
from mlx_tools_server.families.shapes import literal_grammar
from mlx_tools_server.grammar.answers import ANY_OBJECT, Thought
from mlx_tools_server.messages import ToolSpec

from ..families.reading import calls_of, pieces, read
from .worlds import World, small, tool, world

LITERAL = [
    family
    for family in FAMILIES
    if getattr(family.shape.grammar, "func", None) is literal_grammar.calls
]
ROWS = [pytest.param(family, id=family.name) for family in LITERAL]

READ = tool(
    "Read",
    "path",
    path={"type": "string"},
    limit={"type": "integer"},
    whole={"type": "boolean"},
    lines={"type": "array", "items": {"type": "integer"}},
)
PING = ToolSpec("ping")
TOOLS = (READ, PING)
GOOD = {"path": 'a "b"\n', "limit": 3, "whole": True, "lines": [1, 2]}


@cache
def world_of(name: str) -> World:
    """Return a world whose tokenizer has the control tokens of a family."""
    family = next(family for family in FAMILIES if family.name == name)
    tokenizer = type(small().tokenizer).from_str(small().tokenizer.to_str())
    tokenizer.add_special_tokens([AddedToken(text) for text in family.control_texts])
    return world(tokenizer.to_str())


def grammar_of(family: Family, **options: Any) -> CallGrammar:
    """Return the grammars of the calls of a family."""
    grammar = family.grammar(TOOLS, world_of(family.name).grammars, **options)
    assert isinstance(grammar, CallGrammar)
    return grammar


def accepts(family: Family, text: str, **options: Any) -> bool:
    """Return whether an answer may be exactly this text."""
    return world_of(family.name).accepts(grammar_of(family, **options).whole, text)


ODD = ToolSpec(
    "Grep",
    parameters={
        "type": "object",
        "properties": {"-n": {"type": "boolean"}, "a.b": {"type": "string"}, "o": {}},
        "required": ["-n"],
    },
)


@pytest.mark.parametrize("family", ROWS)
def test_odd_names(family: Family) -> None:
    """Names need not be those of Python's variables, within values neither."""
    grammar = family.grammar([ODD], world_of(family.name).grammars)
    assert isinstance(grammar, CallGrammar)
    # Python's own spelling of a nested object is no JSON.
    nested = "" if family.name in ("lfm2", "llama4") else {"max width": 1, "f(x)": [2], "-": "x"}
    call = family.shape.write("Grep", {"-n": True, "a.b": "x", "o": nested})

    assert world_of(family.name).accepts(grammar.whole, call)
    assert not world_of(family.name).accepts(grammar.whole, family.shape.write("Grep", {"a.b": ""}))


# Arguments, and whether a call of Read may have them.
ARGUMENTS: dict[str, tuple[dict[str, Any], bool]] = {
    "all": (GOOD, True),
    "only what is required": ({"path": ""}, True),
    "what is required left out": ({"limit": 3}, False),
    "a wrong type": ({"path": "a", "limit": "3"}, False),
    "an unknown name": ({"path": "a", "mode": "r"}, False),
}


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("family", ROWS)
def test_written_calls(family: Family, name: str) -> None:
    """A call as the family writes it may come if its arguments follow the schema."""
    arguments, expected = ARGUMENTS[name]

    assert accepts(family, family.shape.write("Read", arguments)) is expected
    assert not accepts(family, family.shape.write("Write", arguments))
    assert accepts(family, family.shape.write("ping", {}))


@pytest.mark.parametrize("family", ROWS)
def test_options(family: Family) -> None:
    """One tool, one call, a thought before it, or JSON in its place, where the request says so."""
    ping = family.shape.write("ping", {})
    thought = Thought("<think>", "</think>")

    assert not accepts(family, ping, name="Read")
    assert not accepts(family, "Hello")
    assert not accepts(family, f"Hello {ping}")
    assert not accepts(family, f"<think>x</think>{ping}")
    assert accepts(family, f"<think>\nx</think>\n\n{ping}", thought=thought)
    form = getattr(family.shape.write, "keywords", {})["form"]
    opener = "" if form.opened else form.openers[0]
    assert accepts(family, '{"a": 1}', answer=ANY_OBJECT)
    assert accepts(family, opener + ping, answer=ANY_OBJECT)
    assert family.grammar((), world_of(family.name).grammars) is None


@pytest.mark.parametrize("family", ROWS)
def test_several_calls(family: Family) -> None:
    """Several calls are read back as they were written; without parallel calls there is one."""
    form = getattr(family.shape.write, "keywords", {})["form"]
    opener, closer = form.section
    one = family.shape.write("ping", {}).removeprefix(opener).removesuffix(closer)
    two = f"{opener}{one}{form.between}{one}{closer}"

    answer = read(family.parser(TOOLS, constrained=True), pieces(two, 3))

    assert calls_of(answer) == [("ping", {})] * 2
    assert accepts(family, two)
    assert not accepts(family, two, parallel=False)


@pytest.mark.parametrize("family", ROWS)
def test_random_answers(family: Family) -> None:
    """Whatever a model draws from the masks is, once it has ended, valid calls."""
    drawn = [answer_of(family, seed) for seed in range(8)]

    assert sum(map(len, drawn)) > 4


def answer_of(family: Family, seed: int, **options: Any) -> list[tuple[str, Any]]:
    """Return the calls of a random answer, which follow their schemas."""
    text, ended = world_of(family.name).draw(grammar_of(family, **options).whole, seed, 200)
    answer = read(family.parser(TOOLS, constrained=True), pieces(text, 3), cut=not ended)
    calls = calls_of(answer)
    for name, arguments in calls:
        schema = next(tool.parameters for tool in TOOLS if tool.name == name)
        jsonschema.validate(arguments, {**schema, "additionalProperties": False} if schema else {})
    assert not ended or not answer.joined("text")
    assert not ended or (calls and all(part.complete for part in answer.parts))
    return calls


@pytest.mark.parametrize("family", ROWS)
def test_taking_over(family: Family) -> None:
    """A call that begins in free text is told where its name begins, and then follows a grammar."""
    made = world_of(family.name)
    matcher = made.grammars.compile(grammar_of(family).wrapped)
    text = "I'll look.\n" + family.shape.write("Read", GOOD)
    parser = family.parser(TOOLS)
    begun = []
    for at, character in enumerate(text):
        parser.feed(character)
        if (found := parser.begun) is not None:
            begun.append((at, found.text))
    assert begun
    at, start = begun[0]

    follower = matcher.matcher()

    assert "Read".startswith(start) or start.startswith("Read")
    assert follower.consume_text(start)
    for token in made.encode(text[at + 1 :]):
        if follower.accepting:
            break
        assert follower.consume(token), follower.error
    assert follower.accepting


@pytest.mark.parametrize("family", ROWS)
def test_nothing_to_take_over(family: Family) -> None:
    """In text that only looks like a call no grammar takes over, nor after one has."""
    texts = ["plain {text} with [brackets] (and more)", '{"name": "John", "age": 3}', "[a](b)"]
    for text in texts:
        parser = family.parser(TOOLS)
        for character in text:
            parser.feed(character)
            assert parser.begun is None

    parser = family.parser(TOOLS)
    seen = 0
    for character in family.shape.write("Read", GOOD):
        parser.feed(character)
        if parser.begun is not None:
            parser.constrain()
            seen += 1
    assert seen == 1
