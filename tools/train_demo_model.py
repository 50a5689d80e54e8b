# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.13.0", "numpy", "tokenizers", "jinja2", "safetensors"]
# ///
"""Train the demo model from scratch, and write it as an mlx-lm checkpoint.

Rules of this file:
- PyTorch is a dependency of this tool alone, declared above; nothing is downloaded beside it.
- Seeds are fixed; the state is saved as it goes, so that `train` continues where it stopped.
- What the model is trained on is in `demo_data`; how it is measured, in `eval_demo_model`.

Run in the repository, in an environment of its own (`pip install torch==2.13.0 numpy tokenizers
jinja2 safetensors`): `python -m tools.train_demo_model {data,train,export} [--state DIR] …`.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from tokenizers import Tokenizer
from torch import Tensor

from tools import demo_tokenizer
from tools.demo_data import Dialogue, Writer
from tools.demo_network import Network, Shape
from tools.export_demo_model import export

NAME_WEIGHT = 2.0
PROMPT_WEIGHT = 0.3
PROMPT_SHARE = 0.12
MAX_LENGTH = 900
POOL = 400
# Share of short dialogues in what is drawn, while fewer than so many have been drawn.
STAGES = ((14_000, 0.7), (10**9, 0.1))


@dataclass(frozen=True, slots=True)
class Sample:
    """A dialogue as token ids, and how much each of them counts in the loss."""

    ids: list[int]
    weights: list[float]


class Encoder:
    """Turns dialogues into samples."""

    def __init__(self, tokenizer: Tokenizer, seed: int) -> None:
        self.tokenizer = tokenizer
        self.rng = random.Random(seed)
        self.start, self.end = self.token("<|im_start|>"), self.token("<|im_end|>")
        self.pad = self.token("<|endoftext|>")
        self.assistant = tokenizer.encode("assistant\n", add_special_tokens=False).ids[0]
        size = tokenizer.get_vocab_size()
        said = [tokenizer.decode([i], skip_special_tokens=False) for i in range(size)]
        self.opens = {
            i for i, text in enumerate(said) if text.endswith(("function=", "parameter="))
        }
        later = tokenizer.encode("\n<parameter=", add_special_tokens=False).ids
        self.opening = later if len(later) > 1 else []
        self.closes = {i for i, text in enumerate(said) if text.startswith(">")}

    def token(self, text: str) -> int:
        found: int | None = self.tokenizer.token_to_id(text)
        assert found is not None, text
        return found

    def samples(self, dialogues: list[Dialogue], *, prompts: bool) -> list[Sample]:
        """Return the dialogues as samples; with `prompts` some of the prompt counts as well."""
        texts = demo_tokenizer.texts(dialogues)
        encodings = self.tokenizer.encode_batch(texts, add_special_tokens=False)
        found = (encoding.ids for encoding in encodings if len(encoding.ids) <= MAX_LENGTH)
        return [Sample(ids, self.weights(ids, prompts=prompts)) for ids in found]

    def opened(self, before: list[int]) -> bool:
        """Return whether a name stands behind these tokens: of a tool or of a parameter."""
        size = len(self.opening)
        return before[-1] in self.opens or (size > 0 and before[-size:] == self.opening)

    def weights(self, ids: list[int], *, prompts: bool) -> list[float]:
        """Weigh what the assistant says 1, names in its calls more, some of the rest less."""
        weights: list[float] = []
        speaks = named = False
        for i, token in enumerate(ids):
            if speaks:
                named = (named or self.opened(ids[:i][-9:])) and token not in self.closes
                weights.append(NAME_WEIGHT if named else 1.0)
            else:
                counted = prompts and self.rng.random() < PROMPT_SHARE
                weights.append(PROMPT_WEIGHT if counted else 0.0)
            if token == self.end:
                speaks = False
            elif token == self.assistant and i and ids[i - 1] == self.start:
                speaks = True
        return weights


def batches(samples: list[Sample], tokens: int, rng: random.Random, pad: int) -> Iterator[Any]:
    """Yield (ids, weights) of samples of like length, about `tokens` of them, in random order."""
    ordered = sorted(samples, key=lambda sample: len(sample.ids) + rng.random() * 20)
    groups: list[list[Sample]] = [[]]
    for sample in ordered:
        if (len(groups[-1]) + 1) * len(sample.ids) > tokens and groups[-1]:
            groups.append([])
        groups[-1].append(sample)
    rng.shuffle(groups)
    for group in groups:
        length = max(len(sample.ids) for sample in group)
        ids = torch.tensor([s.ids + [pad] * (length - len(s.ids)) for s in group])
        weights = torch.tensor([s.weights + [0.0] * (length - len(s.ids)) for s in group])
        yield ids, weights


def loss_of(network: Network, ids: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean loss of a batch; scores are computed where they count only."""
    hidden = network(ids[:, :-1])
    targets, counted = ids[:, 1:], weights[:, 1:]
    where = counted > 0
    scores = network.logits(hidden[where])
    losses = F.cross_entropy(scores, targets[where], reduction="none")
    share = counted[where]
    return (losses * share).sum() / share.sum()


def exactness(network: Network, samples: list[Sample], encoder: Encoder) -> dict[str, float]:
    """Return the loss, and the shares of calls and of their names that greedy decoding copies."""
    total, counts = 0.0, Counter[str]()
    call = encoder.token("<tool_call>")
    for ids, weights in batches(samples, 8000, random.Random(0), encoder.pad):
        with torch.no_grad():
            best = network.logits(network(ids)).argmax(-1)
            total += float(loss_of(network, ids, weights)) * len(ids)
        right = best[:, :-1] == ids[:, 1:]
        for row, good, weight in zip(ids, right, weights, strict=True):
            count_turns(row.tolist(), [True, *good.tolist()], weight.tolist(), call, counts)
    shares = {k: counts[k + " right"] / max(1, counts[k]) for k in ("call", "text", "name")}
    return {"loss": total / len(samples), **shares}


def count_turns(
    ids: list[int], good: list[bool], weights: list[float], call: int, counts: Counter[str]
) -> None:
    """Count the assistant turns of a row, by whether all of their tokens would be chosen."""
    i = 0
    while i < len(ids):
        end = i
        while end < len(ids) and weights[end]:
            end += 1
        if end > i:
            kind = "call" if ids[i] == call else "text"
            counts[kind] += 1
            counts[f"{kind} right"] += all(good[i:end])
            if kind == "call":
                names = [good[j] for j in range(i, end) if weights[j] > 1]
                counts["name"] += 1
                counts["name right"] += all(names)
        i = end + 1


def optimizers(network: Network, options: argparse.Namespace) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices of the layers, and AdamW for all else."""
    matrices = [p for n, p in network.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in network.named_parameters() if p.ndim != 2 or "embed" in n]
    return [
        torch.optim.Muon(matrices, lr=options.muon_rate, weight_decay=0.05, momentum=0.95),
        torch.optim.AdamW(others, lr=options.adam_rate, weight_decay=0.0, betas=(0.9, 0.98)),
    ]


class Trainer:
    """A run, with all that has to be saved for it to continue."""

    def __init__(self, options: argparse.Namespace) -> None:
        torch.manual_seed(options.seed)
        self.options = options
        self.folder: Path = options.state
        tokenizer = demo_tokenizer.load(self.folder / "tokenizer.json")
        self.encoder = Encoder(tokenizer, options.seed)
        self.network = Network(Shape(vocab_size=tokenizer.get_vocab_size()))
        self.optimizers = optimizers(self.network, options)
        self.rates = [options.muon_rate, options.adam_rate]
        self.step = self.drawn = 0
        if (self.folder / "state.pt").exists():
            self.restore()
        self.first_step = self.step
        held = Writer(options.seed + 1, held_out=True)
        self.test = self.encoder.samples([held.dialogue() for _ in range(60)], prompts=False)

    def restore(self) -> None:
        """Take up a saved run."""
        state = torch.load(self.folder / "state.pt", weights_only=True)
        self.network.load_state_dict(state["net"])
        for optimizer, key in zip(self.optimizers, ("muon", "adam"), strict=True):
            optimizer.load_state_dict(state[key])
        self.step, self.drawn = state["step"], state["drawn"]

    def save(self) -> None:
        """Save the run; a run cut off while saving loses nothing."""
        muon, adam = (optimizer.state_dict() for optimizer in self.optimizers)
        state = {"net": self.network.state_dict(), "muon": muon, "adam": adam}
        counts = {"step": self.step, "drawn": self.drawn}
        torch.save({**state, **counts}, self.folder / "state.tmp")
        (self.folder / "state.tmp").replace(self.folder / "state.pt")

    def share(self) -> float:
        """Return the share of the full rate: warm-up, then flat, then down to nothing."""
        options = self.options
        cooling = options.cooling * (options.steps - self.first_step)
        left = (options.steps - self.step) / max(1.0, cooling)
        share: float = options.peak * min(1.0, (self.step + 1) / 100) * min(1.0, left)
        return share

    def pool(self) -> list[Sample]:
        """Return fresh dialogues: mostly short ones first, mixed ones later."""
        simple = next(share for end, share in STAGES if self.drawn < end)
        writer = Writer(self.options.seed + 1000 + self.drawn)
        dialogues = [writer.dialogue(simple=writer.chance(simple)) for _ in range(POOL)]
        self.drawn += POOL
        return self.encoder.samples(dialogues, prompts=True)

    def run(self) -> None:
        """Train up to the last step; checks and saves on the way."""
        options, rng = self.options, random.Random(self.options.seed + self.step)
        started, smooth = time.monotonic(), 0.0
        while self.step < options.steps:
            for ids, weights in batches(self.pool(), options.tokens, rng, self.encoder.pad):
                loss = self.update(ids, weights)
                smooth = 0.95 * smooth + 0.05 * loss if smooth else loss
                minutes = f"{(time.monotonic() - started) / 60:6.1f} min  step {self.step:5d}  "
                if self.step % 25 == 0:
                    print(f"{minutes}loss {smooth:.3f}  rate {self.share():.3f}", flush=True)
                if self.step % options.every == 0 or self.step == options.steps:
                    found = exactness(self.network, self.test, self.encoder)
                    said = "  ".join(f"{name} {value:.3f}" for name, value in found.items())
                    print(f"{minutes}held out: {said}", flush=True)
                    self.save()
                if self.step == options.steps:
                    break

    def update(self, ids: Tensor, weights: Tensor) -> float:
        """Take one step and return its loss."""
        loss = loss_of(self.network, ids, weights)
        for optimizer, rate in zip(self.optimizers, self.rates, strict=True):
            optimizer.zero_grad(set_to_none=True)
            for group in optimizer.param_groups:
                group["lr"] = rate * self.share()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        value = float(loss.detach())
        assert math.isfinite(value), "the loss is not finite"
        return value


def make_data(options: argparse.Namespace) -> None:
    """Learn the tokenizer, and print a few dialogues."""
    writer = Writer(options.seed)
    texts = demo_tokenizer.texts(writer.dialogue() for _ in range(6000))
    options.state.mkdir(parents=True, exist_ok=True)
    content = json.dumps(demo_tokenizer.train(texts), ensure_ascii=False, indent=0)
    (options.state / "tokenizer.json").write_text(content + "\n", encoding="utf-8")
    for text in texts[: options.show]:
        print(text, "\n" + "=" * 80)


def train(options: argparse.Namespace) -> None:
    """Train, or continue to train, up to a number of steps."""
    torch.set_num_threads(options.threads)
    if not (options.state / "tokenizer.json").exists():
        make_data(options)
    Trainer(options).run()


def write(options: argparse.Namespace) -> None:
    """Write the trained model as an mlx-lm checkpoint."""
    state = torch.load(options.state / "state.pt", weights_only=True)
    tokenizer = options.state / "tokenizer.json"
    export(
        state["net"],
        Shape(vocab_size=len(state["net"]["embed_tokens.weight"])),
        tokenizer,
        options.out,
    )


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    top = argparse.ArgumentParser(description="Train the demo model.")
    top.add_argument("--state", type=Path, default=Path("build/demo_model"))
    top.add_argument("--seed", type=int, default=1)
    commands = top.add_subparsers(required=True)
    data = commands.add_parser("data", help=make_data.__doc__)
    data.add_argument("--show", type=int, default=0, help="dialogues to print")
    data.set_defaults(run=make_data)
    learn = commands.add_parser("train", help=train.__doc__)
    learn.add_argument("--steps", type=int, default=2000, help="in all, those of earlier runs too")
    learn.add_argument("--cooling", type=float, default=0.4, help="share of steps, rate falls")
    learn.add_argument("--peak", type=float, default=1.0, help="factor of both rates")
    learn.add_argument("--muon-rate", type=float, default=0.02)
    learn.add_argument("--adam-rate", type=float, default=4e-3)
    learn.add_argument("--tokens", type=int, default=6000, help="in a batch")
    learn.add_argument("--every", type=int, default=250, help="steps between checks")
    learn.add_argument("--threads", type=int, default=2)
    learn.set_defaults(run=train, show=0)
    out = commands.add_parser("export", help=write.__doc__)
    out.add_argument("--out", type=Path, default=Path("mlx_tools_server/demo_model"))
    out.set_defaults(run=write)
    return top


def main() -> None:
    """Do what the command line asks for."""
    options = parser().parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
