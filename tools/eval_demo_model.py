"""Measure the demo model on dialogues that it has not seen: `python -m tools.eval_demo_model`.

Rules of this file:
- It needs the project's own environment only: the checkpoint runs in mlx-lm, decoded greedily.
- A turn counts as right if its text is, to the character, the expected one (calls, small talk),
  if it is a refusal without a call, or if it quotes every result whole (final answers).
- Every turn follows the expected history; tool names and words of values are held out.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_lm import load
from mlx_lm.models.cache import make_prompt_cache, trim_prompt_cache

from tools.demo_data import Dialogue, Turn, Writer
from tools.demo_phrases import REFUSALS
from tools.demo_tokenizer import render

FOLDER = Path(__file__).resolve().parent.parent / "mlx_tools_server" / "demo_model"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
KINDS = {
    "single": "one call",
    "parallel": "several calls at once",
    "answer": "final answer quotes the result",
    "refusal": "no tool fits: no call",
    "chat": "small talk: no call",
}


@dataclass(frozen=True, slots=True)
class Case:
    """A turn to play: the prompt, what is expected, and what the answer may be instead."""

    turn: Turn
    prompt: str
    expected: str

    def right(self, said: str) -> bool:
        """Return whether the model said what it should."""
        if self.turn.kind == "answer":
            return "<tool_call>" not in said and all(quote in said for quote in self.turn.quotes)
        if self.turn.kind == "refusal":
            return said in REFUSALS
        return said == self.expected


def cases(dialogue: Dialogue) -> list[Case]:
    """Return a case for each assistant turn of the dialogue."""
    found = []
    for turn in dialogue.turns:
        before = dialogue.messages[: turn.before]
        prompt = render(before, dialogue.tools, prompt=True)
        whole = render(dialogue.messages[: turn.before + 1], dialogue.tools)
        expected = whole[len(prompt) :].removesuffix("\n").removesuffix("<|im_end|>")
        found.append(Case(turn, prompt, expected))
    return found


class Player:
    """Decodes greedily; what a prompt shares with the one before it is not computed again."""

    def __init__(self, folder: Path) -> None:
        self.model, tokenizer = load(str(folder))[:2]
        self.tokenizer: Any = tokenizer
        self.cache = make_prompt_cache(self.model)
        self.known: list[int] = []
        self.tokens = 0

    def say(self, prompt: str, limit: int = 300) -> str:
        """Return what the model says next."""
        ids = self.tokenizer.encode(prompt, add_special_tokens=False)
        shared = 0
        for mine, theirs in zip(self.known, ids[:-1], strict=False):
            if mine != theirs:
                break
            shared += 1
        trim_prompt_cache(self.cache, len(self.known) - shared)
        self.known = ids
        said: list[int] = []
        new = ids[shared:]
        while len(said) < limit:
            scores = self.model(mx.array([new]), cache=self.cache)[0, -1]
            token: Any = mx.argmax(scores).item()
            if token in self.tokenizer.eos_token_ids:
                break
            said.append(token)
            new = [token]
        self.known = ids + said[: limit - 1 if len(said) == limit else None]
        self.tokens += len(said)
        text: str = self.tokenizer.decode(said)
        return text


def table(right: Counter[str], total: Counter[str]) -> str:
    """Return the figures as a table in Markdown."""
    lines = ["| turn | cases | right | share |", "| --- | ---: | ---: | ---: |"]
    calls, rest = ("single", "parallel"), ("answer", "refusal", "chat")
    groups = [(f"**{name}**", kinds) for name, kinds in (("all calls", calls),)]
    rows = [(KINDS[kind], (kind,)) for kind in calls] + groups
    rows += [(KINDS[kind], (kind,)) for kind in rest]
    for name, kinds in rows:
        hits, count = (sum(counter[kind] for kind in kinds) for counter in (right, total))
        lines.append(f"| {name} | {count} | {hits} | {hits / max(1, count):.1%} |")
    return "\n".join(lines)


def fill_card(card: Path, figures: str) -> None:
    """Replace the figures in the model card."""
    before, rest = card.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    card.write_text(f"{before}{BEGIN}\n{figures}\n{END}{after}", encoding="utf-8")


def main() -> None:
    """Play the dialogues and print the figures."""
    parser = argparse.ArgumentParser(description="Measure the demo model.")
    parser.add_argument("--model", type=Path, default=FOLDER)
    parser.add_argument("--dialogues", type=int, default=500)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--seen", action="store_true", help="draw names as in training")
    parser.add_argument("--failures", type=int, default=0, help="how many to print")
    parser.add_argument("--card", action="store_true", help="put the figures into the card")
    options = parser.parse_args()
    writer = Writer(options.seed, held_out=not options.seen)
    player = Player(options.model)
    started = time.monotonic()
    dialogues = (writer.dialogue() for _ in range(options.dialogues))
    played = [(case, player.say(case.prompt)) for d in dialogues for case in cases(d)]
    seconds = time.monotonic() - started
    right, total, shown = Counter[str](), Counter[str](), 0
    for case, text in played:
        good = case.right(text)
        total[case.turn.kind] += 1
        right[case.turn.kind] += good
        if not good and shown < options.failures:
            shown += 1
            print(
                f"--- {case.turn.kind}\n{case.prompt[-300:]}\nEXPECTED {case.expected}\nSAID {text}"
            )
    figures = (
        f"{table(right, total)}\n\n{options.dialogues} dialogues, {len(played)} turns, "
        f"seed {options.seed}, greedy; {player.tokens} tokens said in {seconds:.0f} s."
    )
    print(figures)
    if options.card:
        fill_card(options.model / "README.md", figures)


if __name__ == "__main__":
    main()
