"""Answers that follow a grammar in the generation loop: policies, batches, what is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_tools_server.engine.engine import Engine
from mlx_tools_server.engine.masks import masked, open_mask
from mlx_tools_server.engine.scripted import write_checkpoint
from mlx_tools_server.errors import BadRequest
from mlx_tools_server.events import Answer
from mlx_tools_server.jsontext import loads
from mlx_tools_server.messages import Options, OutputFormat, Sampling, ToolChoice, ToolSpec
from mlx_tools_server.templates import read_ours

from .checkpoints import write_random
from .random_calls import TOOLS, play, write_wild
from .running import READ, answer, running, script

pytestmark = pytest.mark.mlx

RUN = ToolSpec(
    "run",
    "",
    {
        "type": "object",
        "properties": {"command": {"type": "string"}, "times": {"type": "integer"}},
        "required": ["times"],
    },
)
UNPROMISED = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Return an engine of the scripted Qwen3-Coder model."""
    folder = tmp_path_factory.mktemp("plain")
    write_checkpoint(folder, chat_template=read_ours("qwen3_coder"))
    with running(folder) as made:
        yield made


def say(engine: Engine, text: str, **fields: Any) -> Answer:
    """Return the answer of a model that would say `text` if it were free."""
    fields.setdefault("tools", (READ, RUN))
    fields.setdefault("options", Options(max_tokens=200))
    return answer(engine, script(text), **fields)


def written(name: str, **arguments: str) -> str:
    """Return a call, its markers as the tokens that they are."""
    values = "".join(
        f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in arguments.items()
    )
    return f"[[tool_call]]\n<function={name}>\n{values}</function>\n[[/tool_call]]"


def made(answer: Answer) -> list[tuple[str, Any]]:
    """Return the names and arguments of an answer's calls."""
    return [(call.name, loads(call.text)) for call in answer.calls]


def test_wrong_type(engine: Engine) -> None:
    """An argument of the wrong type comes out as the type of its schema."""
    told = say(engine, written("run", times="three", command="ls"))

    ((name, arguments),) = made(told)
    assert name == "run"
    assert type(arguments["times"]) is int


def test_what_fits_is_left_alone(engine: Engine) -> None:
    """Text and calls that fit their schemas come out to the character."""
    call = written("run", command="echo '</function>' </parameter> ok", times="3")
    told = say(engine, f"I say `<tool_call>` first.\n{call}")

    assert told.joined("text") == "I say `<tool_call>` first."
    assert made(told) == [("run", {"command": "echo '</function>' </parameter> ok", "times": 3})]


def test_unknown_tool(engine: Engine) -> None:
    """A call that has begun can name only what is on offer."""
    told = say(engine, written("rub", times="1"))

    assert [name for name, _ in made(told)] in (["run"], ["read"])


def test_free_when_off(tmp_path: Path) -> None:
    """With --constrain off a call is what the model makes it."""
    write_checkpoint(tmp_path, chat_template=read_ours("qwen3_coder"))
    with running(tmp_path, constrain="off") as free:
        told = say(free, written("run", times="three"))

    assert made(told) == [("run", {"times": "three"})]


@pytest.mark.parametrize("name", ["", "read"], ids=["required", "named"])
def test_forced(engine: Engine, name: str) -> None:
    """Where a call is demanded, one comes, of the named tool if there is a name."""
    choice = ToolChoice("named", name) if name else ToolChoice("required")
    told = say(engine, "I would rather talk.", tool_choice=choice, parallel_tool_calls=False)

    assert told.joined("text").strip() == ""
    assert [part.name for part in told.parts] == ([name] if name else [told.parts[0].name])


def test_none(engine: Engine) -> None:
    """Without leave to call, the token that opens a call does not come."""
    told = say(engine, written("run", times="3"), tool_choice=ToolChoice("none"))

    assert told.calls == []
    assert "<tool_call>" not in told.joined("text")


def test_json(engine: Engine) -> None:
    """A format is kept to, whatever the model would say; calls may come in its place."""
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    form = OutputFormat(schema)

    alone = say(engine, "yes", tools=(), output_format=form)
    beside = say(engine, written("run", times="2"), output_format=form)

    assert set(loads(alone.joined("text"))) == {"ok"}
    assert made(beside) == [("run", {"times": 2})]


def test_strict(engine: Engine) -> None:
    """A schema that can't be promised is refused where the client insists on it, and named."""
    loose = ToolSpec("odd", "", UNPROMISED)
    strict = ToolSpec("odd", "", UNPROMISED, strict=True)

    assert say(engine, "fine", tools=(loose,)).joined("text") == "fine"
    with pytest.raises(BadRequest, match="uniqueItems of odd"):
        say(engine, "fine", tools=(strict,))
    with pytest.raises(BadRequest, match="response_format"):
        say(engine, "fine", tools=(), output_format=OutputFormat(UNPROMISED, strict=True))


def test_cut(engine: Engine) -> None:
    """A call that the limit cuts is not made whole."""
    told = say(engine, written("run", times="1" * 50), options=Options(max_tokens=20))

    assert told.finished is not None
    assert told.finished.reason == "length"
    assert told.calls == []


def test_many_at_once(engine: Engine) -> None:
    """Answers with and without a grammar share a batch, each as if it were alone."""
    texts = [written("run", times=str(n), command=f"c{n}") for n in range(4)]
    with ThreadPoolExecutor(8) as pool:
        guided = [pool.submit(say, engine, text) for text in texts]
        free = [pool.submit(say, engine, f"words {n}", tools=()) for n in range(4)]

        assert [made(told.result()) for told in guided] == [
            [("run", {"times": n, "command": f"c{n}"})] for n in range(4)
        ]
        assert [told.result().joined("text") for told in free] == [f"words {n}" for n in range(4)]


def test_alone(tmp_path: Path) -> None:
    """A model that serves one request at a time keeps to its grammars as well."""
    write_checkpoint(tmp_path, chat_template=read_ours("qwen3_coder"))
    with running(tmp_path, kv_bits=8, kv_group_size=32) as single:
        forced = say(single, "No.", tool_choice=ToolChoice("required"))
        wrong = say(single, written("run", times="three"))

    assert forced.calls
    assert type(made(wrong)[0][1]["times"]) is int


def test_free_answers_are_the_same(tmp_path: Path) -> None:
    """Where no call begins, an answer with tools is to the bit what it is without grammars."""
    write_random(tmp_path)
    said = []
    for constrain in ("off", "calls"):
        with running(tmp_path, constrain=constrain) as free:
            sampling = Sampling(1.0, seed=5)
            options = Options(sampling=sampling, max_tokens=60, top_logprobs=3)
            said.append(answer(free, "Go on.", tools=(READ,), options=options))

    assert said[0].logprobs == said[1].logprobs
    assert len(said[0].logprobs) > 20


def test_random_calls(tmp_path: Path) -> None:
    """What a model of random weights says under a grammar is a call that fits its schema."""
    with running(write_wild(tmp_path)) as wild:
        player = play(wild, [TOOLS], 16, seed=1)

    assert player.wrong == []
    assert player.counts["stop"] >= 10


def test_masked() -> None:
    """Only tokens whose bit is set keep their logits; those beyond the mask's row are kept out."""
    logits = mx.arange(70, dtype=mx.float32)[None]
    bits = open_mask(1, 70)
    bits[:] = 0
    bits[0, 1] = 1 << 5
    bits[0, 2] = np.int32(1)
    kept = masked(logits, bits)

    assert np.flatnonzero(np.array(kept[0]) > -1).tolist() == [37, 64]
    assert mx.array_equal(masked(logits, open_mask(1, 70)), logits)
    assert masked(logits[:, None], bits).shape == (1, 1, 70)
