"""`bench overhead`: what serving costs beside the model, a token.

Rules of this file:
- The same prompts go to mlx-lm's batches in a process of their own and to a server of ours over
  HTTP, in turns; the prompt does not count, on either side.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial

from ..child import Child, serving
from ..chosen import DEMO_MODEL
from ..errors import StartupError
from ..options import Parser
from .common import REPEATS, unseen
from .wishes import whole

STREAMS = (1, 4, 16)
TOKENS = 256

# Takes the prompts and how many tokens each answer has; returns seconds.
Decode = Callable[[Sequence[str], int], float]


def run(arguments: Sequence[str], prog: str) -> None:
    """Measure what a token takes over HTTP, and what of it is not mlx-lm's own batches."""
    parser = Parser(prog=prog, description=run.__doc__)
    parser.add_argument(
        "--model-path", default=str(DEMO_MODEL), help="folder of the model (default: the demo's)"
    )
    parser.add_argument(
        "--rounds", type=whole, default=REPEATS, help=f"pairs to measure (default: {REPEATS})"
    )
    parser.add_argument(
        "--tokens", type=whole, default=TOKENS, help=f"tokens of an answer (default: {TOKENS})"
    )
    options = parser.parse_args(arguments)
    print(
        f"Continue texts by {options.tokens} tokens, by mlx-lm's batches alone and over HTTP, in "
        "turns.\nMicroseconds a step, which is a token of each stream: medians, and what HTTP took "
        "more, pair by pair."
    )
    print(f"{'streams':>8} {'batches':>9} {'HTTP':>9} {'more':>7} {'least':>7} {'most':>7}")
    flags = ("--model-path", options.model_path, "--no-kv-disk", "--runaway-tokens", "0")
    with ExitStack() as stack:
        alone = stack.enter_context(_batches(options.model_path))
        child = stack.enter_context(serving(*flags))
        pool = stack.enter_context(ThreadPoolExecutor(max(STREAMS)))
        for streams in STREAMS:
            served = partial(_served, child, pool)
            print(_row(streams, options.rounds, options.tokens, alone, served))


def _row(streams: int, rounds: int, tokens: int, alone: Decode, served: Decode) -> str:
    pairs = []
    step = 1e6 / max(1, tokens - 1)
    for turn in range(rounds + 1):
        texts = [f"Write {turn * 100 + i} words: river, stone," for i in range(streams)]
        pair = alone(texts, tokens) * step, served(texts, tokens) * step
        if turn:  # the first one warms up
            pairs.append(pair)
    more = sorted(second - first for first, second in pairs)
    medians = [statistics.median(column) for column in zip(*pairs, strict=True)]
    return (
        f"{streams:>8} {medians[0]:>9,.0f} {medians[1]:>9,.0f} {statistics.median(more):>7,.0f} "
        f"{more[0]:>7,.0f} {more[-1]:>7,.0f}"
    )


def _served(child: Child, pool: ThreadPoolExecutor, texts: Sequence[str], tokens: int) -> float:
    """Return the seconds from the first token of any answer to the last of all."""
    bodies = [{"prompt": text, "max_tokens": tokens, "temperature": 0} for text in texts]
    answers = list(pool.map(lambda body: child.ask(body, unseen, "/v1/completions"), bodies))
    if any(answer.usage["completion_tokens"] < tokens for answer in answers):
        raise StartupError("The model ended its answer early", "Measure another model.")
    return max(answer.seconds for answer in answers) - min(answer.first for answer in answers)


@contextmanager
def _batches(model: str) -> Iterator[Decode]:
    """Run mlx-lm's batches in a process of their own until the block ends."""
    command = [sys.executable, "-m", "mlx_tools_server.engine.raw", model]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        asked, said = process.stdin, process.stdout
        assert asked is not None
        assert said is not None

        def decode(texts: Sequence[str], tokens: int) -> float:
            print(json.dumps([texts, tokens]), file=asked, flush=True)
            return float(json.loads(said.readline()))

        try:
            yield decode
        finally:
            asked.close()
