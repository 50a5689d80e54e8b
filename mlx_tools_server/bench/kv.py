"""`bench kv`: what the KV cache costs by itself, without a model.

Rules of this file:
- Blocks have the form and size of a real model's, and go through the code that a server uses.
"""

from __future__ import annotations

import secrets
import statistics
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import StartupError
from ..kv import BLOCK, DiskTier, MemoryTier, Record, Store, chain, entries, seed
from ..options import Parser
from .common import REPEATS, milliseconds, no_options
from .wishes import whole

# The longest sequence on which mlx-lm's look-up ends within a minute.
STOCK_TOKENS = 20_000
# 98 KB a token, as Qwen3-Coder-30B-A3B has them.
LAYERS, HEADS, WIDTH = 48, 4, 128
FLUSH_SECONDS = 600.0
FREE = 1 << 30


def run(arguments: Sequence[str], prog: str) -> None:
    """Measure looking up, writing, checking and reading what the KV cache keeps."""
    parser = Parser(prog=prog, description=run.__doc__)
    parser.add_argument(
        "--blocks", type=whole, default=16, metavar="N", help="blocks of 256 tokens (default: 16)"
    )
    parser.add_argument(
        "--folder", metavar="DIR", help="folder of the disk to measure (default: a temporary one)"
    )
    options = parser.parse_args(arguments)
    if options.folder is not None and not Path(options.folder).is_dir():
        raise StartupError(f"There is no folder {options.folder}", "Give one that exists.")
    _look_up()
    print()
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="mlx-tools-bench-") as folder:
        _disk(Path(folder), options.blocks)


def lookup(arguments: Sequence[str], prog: str) -> None:
    """Measure how long it takes to find what is kept of a prompt."""
    no_options(arguments, prog, lookup.__doc__)
    _look_up()


def _disk(folder: Path, count: int) -> None:
    """Print how fast blocks are written, checked and read."""
    # It loads mlx, which takes a while.
    from ..engine.payloads import FileReader, write
    from ..engine.samples import random_payload

    payload = random_payload(LAYERS, HEADS, WIDTH, BLOCK)
    key = seed(secrets.token_bytes(8))
    parents = [key, *chain(key, list(range(count * BLOCK)))]
    reader = FileReader()
    tier = DiskTier(folder, seed=key, capacity=1 << 50, floor=FREE, write=write, read=reader)
    took: dict[str, list[float]] = {"write": [], "check": [], "read": []}
    for number in range(count):
        began = time.perf_counter()
        place = parents[number + 1], parents[number]
        end = (number + 1) * BLOCK
        tier.offer(Record(*place, "block", BLOCK, end, payload, payload.nbytes))
        tier.flush(FLUSH_SECONDS)
        took["write"].append(time.perf_counter() - began)
    found = sorted(entries(folder), key=lambda entry: entry.position)
    if len(found) < count:
        raise StartupError(f"{folder} took {len(found)} of {count} blocks", "Is the disk full?")
    for entry in found:
        took["check"].append(_seconds(entry.intact))
        took["read"].append(_seconds(partial(tier.get, entry.key)))
    tier.close()
    reader.close()
    size = found[0].nbytes
    print(
        f"{count} blocks of {BLOCK} tokens, {size / 1e6:.1f} MB each ({LAYERS} layers, {HEADS} "
        f"heads of {WIDTH}, 16 bits), in\n{folder.parent}; files are read from the system's cache "
        "as far as it has them. To read is to check, load\nand evaluate as mlx arrays."
    )
    print(f"{'':>8} {'ms/block':>9} {'slowest':>8} {'MB/s':>8} {'tokens/s':>9}")
    for name, times in took.items():
        each = statistics.median(times)
        print(
            f"{name:>8} {each * 1e3:>9.1f} {max(times) * 1e3:>8.1f} {size / each / 1e6:>8,.0f} "
            f"{BLOCK / each:>9,.0f}"
        )


def _seconds(work: Any) -> float:
    began = time.perf_counter()
    if not work():
        raise StartupError("A block that was just written is not intact", "Check the disk.")
    return time.perf_counter() - began


def _look_up() -> None:
    """Print how long it takes to find what is kept of a prompt."""
    # It loads mlx, which takes a while.
    from ..engine.layers import StockPromptCache

    print(
        "Look up a prompt that parts from a kept sequence at some token. Median of "
        f"{REPEATS} runs, ms;\nmlx-lm's own is quadratic, and not run on long sequences."
    )
    print(f"{'kept tokens':>12} {'parts at':>9} {'ours':>9} {'mlx-lm':>9}")
    key = seed(b"bench")
    for size in (10_000, 20_000, 100_000):
        kept = list(range(size))
        memory = MemoryTier(1 << 30)
        store = Store(key, memory)
        parents = [key, *chain(key, kept)]
        for i, parent in enumerate(parents[:-1]):
            end = (i + 1) * BLOCK
            memory.add(Record(parents[i + 1], parent, "block", BLOCK, end, None, 1))
        stock = StockPromptCache(10)
        stock.insert_cache("m", kept, [_OneByte()])
        for share in (0.0, 0.05, 0.5, 1.0):
            place = int(size * share)
            prompt = kept[:place] + [-1] * (size - place + 500)
            times = [milliseconds(partial(store.find, prompt, len(prompt) - 1))]
            if size <= STOCK_TOKENS:
                times.append(milliseconds(partial(stock.fetch_nearest_cache, "m", prompt)))
            shown = " ".join(f"{time:>9.1f}" for time in times)
            print(f"{size:>12,} {place:>9,} {shown}")


class _OneByte:
    """A layer for mlx-lm's cache, which only wants to know its size and whether it can be cut."""

    nbytes = 1

    def is_trimmable(self) -> bool:
        return True

    def trim(self, count: int) -> int:
        return count
