"""Formats that mlx-lm parses and we have no shape for: what it reads reaches the client whole.

Rules of this file:
- The templates show no calls; the tokenizer names the parser that mlx-lm is to use. That of a
  format of ours only tells which it is.
- The formats without a shape are made up, with parsers that the checkpoint brings along.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from mlx_tools_server.engine.scripted import write_checkpoint

from ..engine.checkpoints import write_made_up
from .folders import banner, serve_folders
from .live import Live, tool

pytestmark = pytest.mark.mlx

READ = tool("read", path="string", lines="integer")
TURNS = (
    "{%- for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{%- if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Foreign:
    """A format: the name of mlx-lm's parser, a call, and what is no call; `ours` is our name."""

    parser: str
    call: str
    two: str
    broken: str
    opener: str
    closer: str
    ours: str = ""


# With its control tokens, as the scripted model plays them.
HERMES_OBJECT = '{"name": "read", "arguments": {"path": "a b", "lines": 3}}'
HERMES = f"[[tool_call]]\n{HERMES_OBJECT}\n[[/tool_call]]"
MADE_UP = 'read {"path": "a b", "lines": 3}'
FAMILIES = [
    Foreign(
        "made_up_closed",
        f"<<call>>{MADE_UP}<<end>>",
        f"<<call>>{MADE_UP}<<end>>\n<<call>>{MADE_UP}<<end>>",
        "<<call>>read it<<end>>",
        "<<call>>",
        "<<end>>",
    ),
    Foreign(
        "made_up_open",
        f"<<call>>{MADE_UP}",
        f"<<call>>{MADE_UP} {MADE_UP}",
        '<<call>>read {"path": ',
        "<<call>>",
        "",
    ),
]
# Formats that we have shapes for, and know by the names of mlx-lm's parsers.
OURS = [
    Foreign(
        "json_tools",
        HERMES,
        f"{HERMES}\n{HERMES}",
        "<tool_call>\n{'name': read}\n</tool_call>",
        "[[tool_call]]",
        "[[/tool_call]]",
        "hermes",
    ),
    Foreign(
        "pythonic",
        '<|tool_call_start|>[read(path="a b", lines=3)]<|tool_call_end|>',
        '<|tool_call_start|>[read(path="a b", lines=3), read(path="a b", lines=3)]'
        "<|tool_call_end|>",
        "<|tool_call_start|>read it<|tool_call_end|>",
        "<|tool_call_start|>",
        "<|tool_call_end|>",
        "lfm2",
    ),
]
EXPECTED = {"path": "a b", "lines": 3}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Live]]:
    """Return a server for each format, and one of a model that thinks and writes Hermes calls."""
    folder = tmp_path_factory.mktemp("foreign")
    folders = {
        family.parser: write_made_up(
            folder / family.parser, family.parser.removeprefix("made_up_"), TURNS
        )
        for family in FAMILIES
    }
    for family in OURS:
        folders[family.parser] = write_checkpoint(
            folder / family.parser, chat_template=TURNS, tool_parser=family.parser
        )
    folders["thinking"] = write_checkpoint(
        folder / "thinking", chat_template=TURNS, tool_parser="json_tools", thinking=True
    )
    with serve_folders(folders) as found:
        yield found


@pytest.fixture(params=FAMILIES, ids=lambda family: family.parser)
def family(request: pytest.FixtureRequest) -> Foreign:
    """Return a format."""
    found: Foreign = request.param
    return found


@pytest.fixture
def server(family: Foreign, servers: dict[str, Live]) -> Live:
    """Return a server of a model whose template belongs to the family."""
    return servers[family.parser]


@pytest.fixture
def thinking(servers: dict[str, Live]) -> Live:
    """Return the server of the model that thinks."""
    return servers["thinking"]


def both(server: Live, script: str, **fields: Any) -> dict[str, Any]:
    """Return the answer as text, thought, calls and reason; streamed and whole are the same."""
    choice = server.chat(script, **fields)["choices"][0]
    message = choice["message"]
    whole = {
        "text": message["content"] or "",
        "thought": message.get("reasoning_content", ""),
        "calls": [
            (call["function"]["name"], json.loads(call["function"]["arguments"]))
            for call in message.get("tool_calls", ())
        ],
        "finish": choice["finish_reason"],
    }
    heard = server.stream(script, **fields)
    streamed = {
        "text": heard.content,
        "thought": heard.reasoning,
        "calls": [(call["name"], json.loads(call["text"])) for call in heard.calls],
        "finish": heard.finish,
    }
    assert heard.done
    assert whole == streamed
    return whole


ALL = pytest.mark.parametrize(
    "family", [*FAMILIES, *OURS], ids=lambda family: family.parser, indirect=True
)


@ALL
def test_family_is_detected(family: Foreign, server: Live) -> None:
    """The banner names mlx-lm's parser, or the family that we know it as."""
    assert (family.ours or f"mlx-lm's {family.parser}") in banner(server)


@ALL
def test_call(family: Foreign, server: Live) -> None:
    """A call arrives as mlx-lm reads it."""
    got = both(server, family.call, tools=[READ])

    assert got["calls"] == [("read", EXPECTED)]
    assert (got["text"], got["finish"]) == ("", "tool_calls")


@pytest.mark.parametrize("family", OURS, ids=lambda family: family.parser)
def test_as_mlx_lm(family: Foreign) -> None:
    """A call of a format of ours is to mlx-lm's parser what it is to us."""
    module = importlib.import_module(f"mlx_lm.tool_parsers.{family.parser}")
    inner = family.call.removeprefix(family.opener).removesuffix(family.closer)

    assert module.parse_tool_call(inner, [READ]) in (
        {"name": "read", "arguments": EXPECTED},
        [{"name": "read", "arguments": EXPECTED}],
    )


@ALL
def test_text_before_and_after(family: Foreign, server: Live) -> None:
    """What stands around a call stays text; white space that touches the call is framing."""
    script = f"Let me see.\n\n{family.call}"
    if family.closer:
        script += "\nThat was it."

    got = both(server, script, tools=[READ])

    assert got["calls"] == [("read", EXPECTED)]
    assert got["text"].split() == script.replace(family.call, "").split()
    assert got["finish"] == "tool_calls"


@ALL
def test_two_calls(family: Foreign, server: Live) -> None:
    """Several calls arrive in their order, or only the first where one is allowed."""
    two = both(server, family.two, tools=[READ])
    one = both(server, family.two + " more", tools=[READ], parallel_tool_calls=False)

    assert two["calls"] == [("read", EXPECTED)] * 2
    assert one["calls"] == [("read", EXPECTED)]
    assert (two["text"], one["text"]) == ("", "")


@ALL
def test_broken_call(family: Foreign, server: Live) -> None:
    """A call that mlx-lm can't read becomes text, markers included."""
    got = both(server, f"See: {family.broken}", tools=[READ])

    assert got == {"text": f"See: {family.broken}", "thought": "", "calls": [], "finish": "stop"}


def test_length_inside_a_call(family: Foreign, server: Live) -> None:
    """A call that is cut becomes text, and the reason stays `length`."""
    got = both(server, f"Now {family.call}", tools=[READ], max_tokens=6)

    assert got["calls"] == []
    assert got["finish"] == "length"
    assert f"Now {family.call}".startswith(got["text"])
    assert got["text"].startswith("Now " + family.opener[:3])


def test_length_at_the_end_of_a_call(family: Foreign, server: Live) -> None:
    """A call that is whole when the tokens run out is a call where its closer proves it."""
    tokens = server.chat(family.call, tools=[READ])["usage"]["completion_tokens"]

    got = both(server, family.call, tools=[READ], max_tokens=tokens)

    assert got["finish"] == "length"
    assert got["calls"] == ([("read", EXPECTED)] if family.closer else [])
    assert got["text"] == ("" if family.closer else family.call)


def test_no_tools_offered(family: Foreign, server: Live) -> None:
    """Without tools, or with tool_choice none, a call is text."""
    assert both(server, f"a {family.call}")["text"] == f"a {family.call}"
    none = both(server, f"a {family.call}", tools=[READ], tool_choice="none")
    assert (none["text"], none["finish"]) == (f"a {family.call}", "stop")


def test_marker_that_begins_no_call(family: Foreign, server: Live) -> None:
    """The start of a marker at the end of an answer is not lost."""
    script = f"a {family.opener[:-1]}"

    assert both(server, script, tools=[READ])["text"] == script


def test_stop_string(family: Foreign, server: Live) -> None:
    """A stop string ends text, and is payload inside a call."""
    text = both(server, f"Let me see. {family.call}", tools=[READ], stop=["see"])
    call = both(server, family.call, tools=[READ], stop=["a b", "read"])

    assert (text["text"], text["calls"], text["finish"]) == ("Let me ", [], "stop")
    assert call["calls"] == [("read", EXPECTED)]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("hm\n[[/think]]\n\nhello", ("hm", "hello", 0, "stop")),
        (f"hm\n[[/think]]\n\n{HERMES}", ("hm", "", 1, "tool_calls")),
        (f"hm\n[[/think]]\n\nso: {HERMES}", ("hm", "so: ", 1, "tool_calls")),
        ("only thinking", ("only thinking", "", 0, "stop")),
    ],
    ids=["text", "call", "text-and-call", "open-thought"],
)
def test_thinking(script: str, expected: tuple[Any, ...], thinking: Live) -> None:
    """Thoughts, text and calls of a family that thinks are told apart."""
    got = both(thinking, script, tools=[READ])

    thought, text, calls, finish = expected
    assert (got["thought"], got["text"].strip(), len(got["calls"]), got["finish"]) == (
        thought,
        text.strip(),
        calls,
        finish,
    )


@pytest.mark.parametrize("model", ["json_tools", "thinking"])
def test_forced_hermes_calls(model: str, servers: dict[str, Live]) -> None:
    """Where a call is demanded of a Hermes model, one comes, of its schema."""
    thought = "Hm.[[/think]]\n\n" if model == "thinking" else ""
    wrong = HERMES.replace("3", '"three"')
    told = both(
        servers[model],
        f"{thought}{wrong}",
        tools=[READ],
        tool_choice="required",
        parallel_tool_calls=False,
        max_tokens=200,
    )

    ((name, arguments),) = told["calls"]
    assert (name, arguments["path"], type(arguments["lines"])) == ("read", "a b", int)
