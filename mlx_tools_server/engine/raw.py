"""mlx-lm's batches by themselves: what serving is measured against.

Rules of this file:
- Nothing of ours takes part. It is run in a process of its own, for its memory and its lock.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from mlx_lm import load
from mlx_lm.generate import BatchGenerator


def decode(model: Any, prompts: list[list[int]], tokens: int) -> float:
    """Return the seconds between the first and the last tokens of these answers."""
    batch = BatchGenerator(model, completion_batch_size=len(prompts))
    batch.insert(prompts, [tokens] * len(prompts))
    left, began = tokens * len(prompts), 0.0
    while left:
        answers = batch.next()[1]
        if answers and not began:
            began = time.perf_counter()
        left -= len(answers)
    batch.close()
    return time.perf_counter() - began


def main() -> None:
    """Answer lines of JSON (prompts as texts, and how many tokens) with seconds."""
    model, tokenizer = load(sys.argv[1])[:2]
    for line in sys.stdin:
        texts, tokens = json.loads(line)
        seconds = decode(model, [tokenizer.encode(text) for text in texts], tokens)
        sys.stdout.write(f"{json.dumps(seconds)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
