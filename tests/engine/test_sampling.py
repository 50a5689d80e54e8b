"""Drawing tokens, with the logits of a real architecture: what a seed and a batch change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from mlx_tools_server.engine.engine import Engine
from mlx_tools_server.messages import Options, Sampling

from .checkpoints import write_random
from .running import answer, running, together

pytestmark = pytest.mark.mlx

WARM = Sampling(temperature=1.5, seed=7)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Return an engine of a tiny Qwen3 that speaks at random."""
    with running(write_random(tmp_path_factory.mktemp("random"))) as made:
        yield made


def say(engine: Engine, sampling: Sampling, prompt: str = "hello") -> str:
    options = Options(sampling=sampling, max_tokens=24)
    got = answer(engine, prompt, options=options)
    assert got.finished is not None
    return got.joined("text")


SETTINGS: dict[str, dict[str, Any]] = {
    "temperature": {},
    "top_p": {"top_p": 0.7},
    "top_k": {"top_k": 20},
    "top_k_all": {"top_k": 1 << 20},
    "min_p": {"min_p": 0.01},
    "xtc": {"xtc_probability": 0.5, "xtc_threshold": 0.01},
    "repetition": {"repetition_penalty": 1.3},
    "presence": {"presence_penalty": 1.0, "frequency_penalty": 0.5},
    "bias": {"logit_bias": {100: 5.0, 101: -100.0}},
    "all": {"top_p": 0.9, "top_k": 50, "min_p": 0.001, "presence_penalty": 0.5},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_seed(engine: Engine, settings: dict[str, Any]) -> None:
    """A seed gives the same answer again, alone and among others, another seed another."""
    warm = replace(WARM, **settings)
    first = say(engine, warm)
    others = [lambda n=n: say(engine, replace(warm, seed=n), f"{n} " * n) for n in (1, 2, 3)]

    among_others = together(lambda: say(engine, warm), *others, lambda: say(engine, warm))

    assert among_others[0] == among_others[-1] == first
    assert say(engine, replace(warm, seed=8)) != first


def test_no_seed(engine: Engine) -> None:
    """Without a seed the same request is answered differently."""
    answers = {say(engine, replace(WARM, seed=None)) for _ in range(4)}

    assert len(answers) > 1


def test_greedy(engine: Engine) -> None:
    """At temperature 0 an answer is the same alone and in a batch of other lengths."""
    prompts = [f"{number} " * (1 + 7 * number) for number in range(8)]
    alone = [say(engine, Sampling(), prompt) for prompt in prompts]

    batch = together(*[lambda p=prompt: say(engine, Sampling(), p) for prompt in prompts])

    assert alone == batch


def test_mixed_batch(engine: Engine) -> None:
    """Greedy, seeded and unseeded requests in one batch don't change each other."""
    greedy, seeded = say(engine, Sampling()), say(engine, WARM)

    mixed = together(
        lambda: say(engine, Sampling()),
        lambda: say(engine, WARM),
        lambda: say(engine, replace(WARM, seed=None)),
        lambda: say(engine, Sampling()),
    )

    assert [mixed[0], mixed[1], mixed[3]] == [greedy, seeded, greedy]


def test_cached_prompt_gives_the_same(engine: Engine) -> None:
    """An answer is the same from a cold prompt and from one in the cache."""
    prompt = "cold or warm? " * 20
    cold = say(engine, Sampling(), prompt)

    assert [say(engine, Sampling(), prompt) for _ in range(3)] == [cold] * 3


def test_bias_decides(engine: Engine) -> None:
    """A large bias makes a token certain."""
    token = engine.model_provider.tokenizer.convert_tokens_to_ids("x")

    assert say(engine, replace(WARM, logit_bias={token: 1000.0})) == "x" * 24
