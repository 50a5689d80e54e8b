"""How long an answer may think, in the generation loop, and whether it does by default."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlx_tools_server.config import ServerConfig
from mlx_tools_server.engine.engine import Engine
from mlx_tools_server.engine.prompts import Prompts
from mlx_tools_server.engine.scripted import write_checkpoint
from mlx_tools_server.events import Answer
from mlx_tools_server.jsontext import loads
from mlx_tools_server.messages import Options, OutputFormat, Sampling, ThinkingWish, ToolChoice
from mlx_tools_server.templates import read_ours

from .checkpoints import write_random
from .running import CALL, READ, answer, chat, running, script

pytestmark = pytest.mark.mlx

LONGER = "a b c d e f g h i j k l m\n[[/think]]\n\nDone."


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Return an engine of a scripted model that begins each answer in a thought."""
    folder = tmp_path_factory.mktemp("thinker")
    write_checkpoint(folder, chat_template=read_ours("qwen3_5"))
    with running(folder) as made:
        yield made


def think(engine: Engine, text: str, budget: int | None = None, **fields: Any) -> Answer:
    """Return the answer of a model that would say `text`, with this budget for its thought."""
    fields.setdefault("options", Options(max_tokens=200))
    return answer(engine, script(text), thinking=ThinkingWish(budget=budget), **fields)


def parts(told: Answer) -> tuple[str, str, int]:
    """Return an answer's thought and text, and how many tokens were thought."""
    assert told.finished is not None
    usage = told.finished.usage
    return told.joined("reasoning"), told.joined("text"), usage.reasoning_tokens


@pytest.mark.parametrize(
    ("budget", "thought", "text", "count"),
    [
        (1, "", "b c d eYes.", 1),
        (2, "a", "c d eYes.", 2),
        (4, "a b c", "eYes.", 4),
        (6, "a b c d e", "Yes.", 6),
        (9, "a b c d e", "Yes.", 6),
        (None, "a b c d e", "Yes.", 6),
    ],
)
def test_budget(engine: Engine, budget: int | None, thought: str, text: str, count: int) -> None:
    """A thought ends at its budget, which counts its end, and what follows is the answer."""
    told = think(engine, "a b c d e[[/think]]Yes.", budget)
    reasoning, said, tokens = parts(told)

    assert reasoning == thought
    assert said.strip().replace("</think>", "") == text
    assert tokens == count
    assert told.finished is not None
    assert told.finished.reason == "stop"


def test_call_behind_the_budget(engine: Engine) -> None:
    """A call behind a thought that was ended is a call like any other."""
    cut = think(engine, f"a b [[/think]]{CALL}", 3, tools=(READ,))

    assert cut.joined("reasoning") == "a b"
    assert [(call.name, loads(call.text)) for call in cut.calls] == [("read", {"path": "a.txt"})]


def test_call_in_a_thought(engine: Engine) -> None:
    """A call ends the thought that it stands in: no budget ends it within."""
    told = think(engine, f"Hm.\n{CALL}", 20, tools=(READ,))

    assert told.joined("reasoning") == "Hm."
    assert [call.name for call in told.calls] == ["read"]


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": (READ,), "tool_choice": ToolChoice("required")},
        {"output_format": OutputFormat({"type": "object", "required": ["ok"],
            "properties": {"ok": {"type": "boolean"}}, "additionalProperties": False})},
    ],
    ids=["a forced call", "a format"],
)  # fmt: skip
def test_budget_beside_a_grammar(engine: Engine, fields: dict[str, Any]) -> None:
    """A grammar of the whole answer has its thought ended too, and goes on behind it."""
    told = think(engine, LONGER, 4, **fields)

    assert told.joined("reasoning") == "a b c"
    if told.calls:
        assert told.joined("text").strip() == ""
    else:
        assert set(loads(told.joined("text"))) == {"ok"}


def test_many_at_once(engine: Engine) -> None:
    """Each answer of a batch keeps to its own budget, and those without one to none."""
    budgets = [None, 2, 3, 4, 5, 6]
    with ThreadPoolExecutor(len(budgets)) as pool:
        told = [pool.submit(think, engine, LONGER, budget) for budget in budgets]
        counts = [parts(one.result())[2] for one in told]

    assert counts[1:] == [2, 3, 4, 5, 6]
    assert counts[0] > 10


def test_end_of_several_tokens(tmp_path: Path) -> None:
    """Where the end of a thought is several tokens, they come one after the other."""
    write_checkpoint(tmp_path, chat_template=read_ours("qwen3_5"))
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    for token in tokenizer["added_tokens"]:
        token["content"] = token["content"].replace("</think>", "</other>")
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    with running(tmp_path) as made:
        size = len(made.model.thought_closer)
        told = [parts(think(made, "a b c d e f g h i j k l", size + more)) for more in (-1, 0, 2)]

    assert size > 1
    assert [(thought, tokens) for thought, _, tokens in told] == [
        ("", size), ("", size), ("a b", size + 2)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("closer", "reason"), [((), "not known how this model ends"), ((1,), "with a draft model")]
)
def test_ignored_budget(
    closer: tuple[int, ...], reason: str, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """A budget that can't be kept to is ignored, and the log says once why."""
    model = replace(engine.model, thought_closer=closer)
    prompts = Prompts(model, ServerConfig(), plans=None, guard=None, marks_system=False)
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            prompt = prompts.chat(chat("hi", thinking=ThinkingWish(budget=5)))

            assert prompt.reader.thought_budget is None

    assert caplog.text.count("budgets are ignored") == caplog.text.count(reason) == 1


def test_settings(tmp_path: Path) -> None:
    """Where a client says nothing, --thinking-budget and --reasoning off do, one at a time too."""
    write_checkpoint(tmp_path, chat_template=read_ours("qwen3_5"))
    settings = {"thinking_budget": 3, "reasoning": "off", "kv_bits": 8, "kv_group_size": 32}
    with running(tmp_path, **settings) as alone:
        counts = [
            parts(answer(alone, script(LONGER), thinking=wish))[2]
            for wish in (ThinkingWish(True), ThinkingWish(True, budget=5), ThinkingWish())
        ]

    assert counts == [3, 5, 0]


def test_random_weights(tmp_path: Path) -> None:
    """A model that speaks at random ends its thought where the budget says, whatever it thinks."""
    write_random(tmp_path)
    (tmp_path / "chat_template.jinja").write_text(read_ours("qwen3_5"))
    with running(tmp_path) as wild:
        for seed in range(2):
            options = Options(sampling=Sampling(1.0, seed=seed), max_tokens=40)
            told = think(wild, "", 12, options=options)

            assert parts(told)[2] <= 12
            assert told.finished is not None
            assert told.finished.usage.completion_tokens > 12
