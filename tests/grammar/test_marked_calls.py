"""The law of marked calls' grammars: what one accepts is read as the same call, and it is valid."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_tools_server.engine.scripted import write_checkpoint
from mlx_tools_server.events import Answer
from mlx_tools_server.families import CallGrammar, Parser
from mlx_tools_server.grammar.answers import ANY_OBJECT, Thought
from mlx_tools_server.messages import ToolSpec

from ..families.marked import FAMILY, MARKED, Marked
from ..families.reading import pieces, read
from .test_laws import OFFER, check_valid
from .worlds import World, arguments, small, tool, world

TEXT = {"type": "string"}
# Markers that are control tokens of the families' own tokenizers.
CONTROLS = (
    "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", "<minimax:tool_call>",
    "</minimax:tool_call>", "<longcat_tool_call>", "</longcat_tool_call>", "<longcat_arg_key>",
    "</longcat_arg_key>", "<longcat_arg_value>", "</longcat_arg_value>", "｜DSML｜", "<|open|>",
    "<|close|>", "<|sep|>", "<|start|>", "<|message|>", "<|eom|>", "<function", "</function>",
    "<param", "</param>",
)  # fmt: skip
SPECIAL = frozenset({"｜DSML｜", "<function", "<param"})


@cache
def native() -> World:
    """Return a world whose tokenizer has the families' markers as tokens."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        write_checkpoint(path)
        description = json.loads((path / "tokenizer.json").read_text("utf-8"))
    added = description["added_tokens"]
    first = max(token["id"] for token in added) + 1
    vocabulary = description["model"]["vocab"]
    for i, text in enumerate((text for text in CONTROLS if text not in vocabulary), first):
        added.append({**added[-1], "id": i, "content": text, "special": text in SPECIAL})
    return world(json.dumps(description))


def grammar(marked: Marked, *tools: ToolSpec, native_world: bool, **options: Any) -> CallGrammar:
    """Return the grammars of calls of these tools."""
    made = marked.family.grammar(tools, worlds(native_world).grammars, **options)
    assert isinstance(made, CallGrammar)
    return made


def worlds(native_world: bool) -> World:
    """Return a world with the families' control tokens, or without."""
    return native() if native_world else small()


def parsed(marked: Marked, tools: Any, text: str, size: int, *, cut: bool) -> tuple[Answer, Parser]:
    """Read an answer that followed a grammar; return also its parser."""
    parser = marked.family.parser(tools, constrained=True)
    return read(parser, pieces(text, size), cut=cut), parser


PLAIN = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
BITS = ["\n", "\n\n", "</", "<", "x", " ", "]]>", "]", "<![CDATA[", "<div>", "</div>", "\r\n",
        "[1]", "{", "null", "-1", "&", "<|", "|>"]  # fmt: skip


def strings(marked: Marked) -> st.SearchStrategy[str]:
    """Return texts, among them those that quote markers."""
    bits = st.sampled_from([*BITS, *marked.fragments])
    return st.lists(st.one_of(PLAIN, st.sampled_from(BITS), bits), max_size=5).map("".join)


LISTS = st.lists(
    st.one_of(st.integers(), PLAIN.map(lambda text: text.replace("\x7f", ""))), max_size=3
)
# Schemas with values that they allow, beside those of texts.
NODES: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "words": ({"enum": ["a", "ab", "b c", "<x>"]}, st.sampled_from(["a", "ab", "b c", "<x>"])),
    "integer": ({"type": "integer"}, st.integers()),
    "number": ({"type": "number"}, st.floats(-1e50, 1e50).filter(lambda n: not 0 < abs(n) < 1e-50)),
    "boolean": ({"type": "boolean"}, st.booleans()),
    "null": ({"type": "null"}, st.none()),
    "list": ({"type": "array"}, LISTS),
    "list or word": ({"anyOf": [{"const": "all"}, {"type": "array"}]}, st.just("all") | LISTS),
    "few characters": ({"type": "string", "maxLength": 9}, PLAIN.map(lambda text: text[:9])),
    "digits": ({"type": "string", "pattern": "^[0-9]+$"}, st.integers(0, 999).map(str)),
}


@st.composite
def given_calls(draw: st.DrawFn) -> tuple[Marked, ToolSpec, dict[str, Any]]:
    """Return a family, a tool, and arguments that its schema allows, in any order."""
    marked = draw(FAMILY)
    texts = strings(marked)
    nodes = {
        **NODES,
        "text": (TEXT, texts),
        "filled": ({**TEXT, "minLength": 1}, texts.filter(bool)),
        "text or null": ({"type": ["string", "null"]}, texts.filter(lambda text: text != "null")),
    }
    kinds = draw(st.lists(st.sampled_from(sorted(nodes)), max_size=4))
    named = {f"p{i}": nodes[kind] for i, kind in enumerate(kinds)}
    values = {name: draw(strategy) for name, (_, strategy) in named.items()}
    required = draw(st.sets(st.sampled_from(sorted(values)))) if values else set()
    kept = [name for name in values if name in required or draw(st.booleans())]
    spec = tool("f", *sorted(required), **{name: node for name, (node, _) in named.items()})
    return marked, spec, {name: values[name] for name in draw(st.permutations(kept))}


def check_written(
    call: tuple[Marked, ToolSpec, dict[str, Any]], size: int, *, sealed: bool, native_world: bool
) -> None:
    """Write a call, and see whether grammar and parser agree on it."""
    marked, spec, expected = call
    said = marked.write("f", expected)
    here = worlds(native_world)
    made = grammar(marked, spec, native_world=native_world, strict=("f",) if sealed else ())

    accepted = here.accepts(made.whole, here.decode(here.encode(said)))
    answer, parser = parsed(marked, [spec], said, size, cut=False)

    texts = "".join(map(str, expected.values()))
    plain = not any(part in texts for part in ("<", "]]", *CONTROLS))
    assert accepted or not plain
    assert not (accepted and sealed and parser.let_go)
    if plain or (accepted and not parser.let_go):
        assert arguments(answer) == [expected]
        assert not answer.joined("text")


@settings(max_examples=40)
@given(given_calls(), st.integers(0, 7), st.booleans(), st.booleans())
def test_written_calls(
    call: tuple[Marked, ToolSpec, dict[str, Any]], size: int, sealed: bool, native_world: bool
) -> None:
    """A valid call that was written is accepted, however it is cut, and read as it was."""
    check_written(call, size, sealed=sealed, native_world=native_world)


@pytest.mark.slow
@settings(max_examples=3000, deadline=None)
@given(given_calls(), st.integers(0, 7), st.booleans(), st.booleans())
def test_many_written_calls(
    call: tuple[Marked, ToolSpec, dict[str, Any]], size: int, sealed: bool, native_world: bool
) -> None:
    """So it is for thousands of them."""
    check_written(call, size, sealed=sealed, native_world=native_world)


def check_drawn(marked: Marked, seed: int, *, sealed: bool, native_world: bool) -> bool:
    """Draw an answer and check it; return whether it came to its end."""
    strict = {spec.name for spec in OFFER} if sealed else set()
    made = grammar(marked, *OFFER, native_world=native_world, strict=strict)
    form = marked.form
    ends = [form.end_value, form.end_call, *form.section_closers[:1], *form.cdata[1:]]
    said, ended = worlds(native_world).draw(made.whole, seed, 400, likings=ends)
    answer, parser = parsed(marked, OFFER, said, 3, cut=not ended)
    assert not (parser.let_go and sealed)
    if not ended or parser.let_go:
        return ended
    check_valid(answer, OFFER, said)
    return True


@pytest.mark.parametrize("native_world", [True, False], ids=["own tokens", "spelled"])
@pytest.mark.parametrize("name", MARKED)
def test_random_answers(name: str, native_world: bool) -> None:
    """Whatever a model draws from the masks is, once it has ended, a valid call."""
    ended = [
        check_drawn(MARKED[name], seed, sealed=bool(seed % 2), native_world=native_world)
        for seed in range(2)
    ]

    assert ended


@pytest.mark.slow
@pytest.mark.parametrize("native_world", [True, False], ids=["own tokens", "spelled"])
@pytest.mark.parametrize("name", MARKED)
def test_many_random_answers(name: str, native_world: bool) -> None:
    """So it is for hundreds of them, of which most end."""
    ended = [
        check_drawn(MARKED[name], seed, sealed=bool(seed % 2), native_world=native_world)
        for seed in range(100, 200)
    ]

    assert sum(ended) > 60


READ = tool("Read", "path", path=TEXT, limit={"type": "integer"})
PING = ToolSpec("ping")
OPEN = ToolSpec("open", parameters={"type": "object", "additionalProperties": {"type": "integer"}})
TOOLS = (READ, PING, OPEN)
WHOLE = {"path": "a.py", "limit": 3}
# Calls, and whether they may come.
CALLS: dict[str, tuple[tuple[str, dict[str, Any]], bool]] = {
    "a call": (("Read", WHOLE), True),
    "in another order": (("Read", {"limit": 3, "path": "a.py"}), True),
    "an optional one left out": (("Read", {"path": "a.py"}), True),
    "a required one left out": (("Read", {"limit": 3}), False),
    "of another type": (("Read", {"path": "a.py", "limit": "x"}), False),
    "an unknown parameter": (("Read", {"path": "a.py", "mode": "r"}), False),
    "an unknown tool": (("Write", {"path": "a.py"}), False),
    "the beginning of a tool's name": (("Rea", {"path": "a.py"}), False),
    "no arguments": (("ping", {}), True),
    "any parameter where the schema says so": (("open", {"a": 1}), True),
    "of another type than it says": (("open", {"a": "x"}), False),
}


@pytest.mark.parametrize("name", MARKED)
def test_answers(name: str) -> None:
    """An answer that must call is calls of tools on offer with what they require, and no more."""
    marked, here = MARKED[name], native()
    whole = grammar(marked, *TOOLS, native_world=True).whole
    for title, ((called, given_arguments), expected) in CALLS.items():
        said = marked.write(called, given_arguments)
        assert (title, here.accepts(whole, said)) == (title, expected)
        if marked.form.newline:
            assert here.accepts(whole, said.replace("\n", "")) is expected
    call = marked.write("Read", WHOLE)
    for text in ("Hello", "", f"Hello\n{call}", call[:-3], f"{call}x"):
        assert not here.accepts(whole, text)


@pytest.mark.parametrize("name", MARKED)
def test_options(name: str) -> None:
    """One tool, one call, a thought before it, or JSON in its place, where the request says so."""
    marked, here = MARKED[name], native()
    call, ping = marked.write("Read", WHOLE), marked.write("ping", {})
    inner = call.removeprefix(marked.form.section_openers[0]) if marked.form.sections else call
    both = ping
    for closer in marked.form.section_closers[:1]:
        both = ping.removesuffix(closer)
    both = f"{both.rstrip()}{marked.form.newline}{inner.lstrip()}"
    thinking = marked.family.thinking
    assert thinking is not None
    thought = f"Hm <b>.{thinking.close}\n\n{ping}"

    def accepts(text: str, **options: Any) -> bool:
        made = grammar(marked, *TOOLS, native_world=True, **options)
        return here.accepts(made.whole, text)

    assert accepts(both)
    assert not accepts(both, parallel=False)
    assert accepts(ping, name="ping")
    assert not accepts(call, name="ping")
    for text in ('{"a": 1}', "".join([*marked.form.leads[:1], *_to(marked), '{"a": 1}'])):
        assert accepts(text, answer=ANY_OBJECT)
        assert parsed(marked, TOOLS, text, 3, cut=False)[0].joined("text") == '{"a": 1}'
    opened = Thought(thinking.open, thinking.close, opened=True)
    assert accepts(thought, thought=opened)
    assert accepts(f"{thinking.open}{thought}", thought=Thought(thinking.open, thinking.close))
    assert not accepts(ping, thought=opened)


def _to(marked: Marked) -> list[str]:
    opener, closer = marked.form.header
    return [f" {opener}user{closer}"] if opener else []


def test_other_section() -> None:
    """A section that has two names may have either."""
    marked = MARKED["deepseek_v32"]
    said = marked.write("Read", WHOLE).replace("function_calls", "tool_calls")

    assert native().accepts(grammar(marked, READ, native_world=True).whole, said)


@pytest.mark.parametrize("name", MARKED)
def test_rest_of_a_call(name: str) -> None:
    """A call that has begun is held from its name to its end, and free behind that."""
    marked, here = MARKED[name], native()
    made = grammar(marked, *TOOLS, native_world=True)
    before, _, _ = marked.head.partition("save_note")
    call = marked.write("Read", WHOLE)
    rest = call.removeprefix(before)
    for closer in marked.form.section_closers[:1]:
        rest = rest.removesuffix(closer).rstrip("\n")

    assert here.accepts(made.wrapped, rest)
    assert here.accepts(made.bare, rest)
    assert not here.grammars.compile(made.wrapped).matcher().consume_text("Write")
    # Where its end is no token of its own, its last token may begin what follows.
    rest = grammar(marked, *TOOLS, native_world=False).wrapped
    for tail in ("", "\n", "\n</", "<") if name in ("minimax_m2", "muse_spark", "minicpm5") else ():
        said = marked.form.call.text("ping").removeprefix(before.splitlines()[-1])
        assert small().accepts(rest, f"{said}{marked.form.end_call}{tail}")


# Texts in which the grammar lets go, with the closer and the opener of the family's values.
LOOSE = {
    "a closer before a word": "a{end}b",
    "a closer before another line": "a{end}\n b",
    "a closer before another tag": "a{end}<div>",
    "a value": "a {key}b{end} c",
}


@pytest.mark.parametrize("native_world", [True, False], ids=["own tokens", "spelled"])
@pytest.mark.parametrize("name", [name for name in MARKED if name != "minicpm5"])
def test_quoted_markers(name: str, native_world: bool) -> None:
    """A text that quotes markers comes through, by the parser's own rules, but in strict tools."""
    marked, here = MARKED[name], worlds(native_world)
    for title, text in LOOSE.items():
        value = text.format(end=marked.form.end_value, key=marked.key("x"))
        said = marked.write("Read", {"path": value, "limit": 3})

        made = grammar(marked, READ, native_world=native_world)
        assert here.accepts(made.whole, said), title
        sealed = grammar(marked, READ, native_world=native_world, strict=("Read",))
        assert not here.accepts(sealed.whole, said), title
        answer, parser = parsed(marked, [READ], said, 3, cut=False)
        assert parser.let_go, title
        assert arguments(answer) == [{"path": value, "limit": 3}]


def test_cdata() -> None:
    """A text with special characters stands in CDATA, which may hold its own end."""
    marked, here = MARKED["minicpm5"], native()
    whole = grammar(marked, READ, native_world=True).whole
    for text, let_go in {"a < b": False, "]]": False, "a]]></b>": True, "]]>]]> x": True}.items():
        said = marked.write("Read", {"path": f"{text} & c"})

        assert here.accepts(whole, said)
        answer, parser = parsed(marked, [READ], said, 2, cut=False)
        assert arguments(answer) == [{"path": f"{text} & c"}]
        assert parser.let_go is let_go


@pytest.mark.parametrize("name", MARKED)
def test_json_with_closers(name: str) -> None:
    """A closer in a string of JSON is part of that, whatever follows it."""
    marked = MARKED[name]
    spec = tool("f", items={"type": "array"}, path=TEXT)
    expected = {"items": [f'"{marked.form.end_value}{marked.key("path")}\\'], "path": "x"}
    said = marked.write("f", expected)

    assert small().accepts(grammar(marked, spec, native_world=False).whole, said)
    answer, parser = parsed(marked, [spec], said, 3, cut=False)
    assert arguments(answer) == [expected]
    assert not parser.let_go


def test_names_and_many_parameters() -> None:
    """A name that breaks its tag is left out, and beyond 64 parameters they come in order."""
    marked, names = MARKED["minimax_m2"], [f"p{i:02}" for i in range(70)]
    made = grammar(marked, tool("f", "a>b", **{"a>b": TEXT}), tool("g<h"), native_world=False)
    wide = grammar(marked, tool("f", "p69", **dict.fromkeys(names, TEXT)), native_world=False)

    assert [str(note) for note in made.notes] == ["required of f.a>b"]
    assert marked.family.grammar([tool("g<h")], small().grammars) is None
    assert small().accepts(wide.whole, marked.write("f", {"p69": "x", "p00": "x", "p01": "x"}))
    assert not small().accepts(wide.whole, marked.write("f", {"p00": "x"}))
