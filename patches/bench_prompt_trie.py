"""Time PromptTrie.search for a new prompt that shares 50 tokens with one cached prompt.

Rules of this file:
- It stands alone: it needs mlx-lm and nothing of ours, so that it can be shown upstream as it is.
- It measures the mlx_lm that Python finds first; run it once for each tree to compare them:
  `PYTHONPATH=/path/to/mlx-lm python bench_prompt_trie.py`.
"""

import argparse
import time

from mlx_lm.models import cache


def seconds(tokens: int) -> float:
    """Return how long one search takes when a prompt of this many tokens is cached."""
    trie = cache.PromptTrie()
    trie.add("model", list(range(tokens)), "value")
    prompt = [*range(50), tokens]
    start = time.perf_counter()
    result = trie.search("model", prompt)
    taken = time.perf_counter() - start
    assert result.longer == list(range(tokens))
    assert result.common_prefix == 50
    return taken


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Time PromptTrie.search.")
    parser.add_argument("--tokens", type=int, nargs="+", default=[10_000, 20_000, 40_000, 80_000])
    args = parser.parse_args()
    print(cache.__file__)
    for tokens in args.tokens:
        print(f"{tokens:>8} cached tokens: {seconds(tokens):8.3f} s")


if __name__ == "__main__":
    main()
