"""`bench tokens` and `bench restart`: how fast a server of ours answers, and after a restart.

Rules of this file:
- The server is the one that a user starts, with the flags that are given.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..child import Answer, Child, serving, tool
from ..errors import StartupError
from ..kv import entries
from ..places import KV_FILES
from .common import rate, server_flags, server_name, unseen

REQUESTS = 20
RESTART_WORDS = 1_000


def tokens(arguments: Sequence[str], prog: str) -> None:
    """Measure how fast a server answers: the demo model's, or that of the flags given."""
    flags = server_flags(arguments, prog, tokens.__doc__)
    offered = [
        tool("read_file", "Read a file.", path="File"),
        tool("write_file", "Write a file.", path="File", content="Text"),
    ]
    print(
        f"Ask {server_name(flags)} for {REQUESTS} tool calls in turn, streamed over HTTP. Medians."
    )
    rates, firsts = [], []
    with serving("--no-kv-disk", *(flags or ["--demo"])) as child:
        for i in range(REQUESTS + 1):
            text = " ".join(f"river{i} stone" for _ in range(8))
            wish = {"role": "user", "content": f'Write "{text}" to notes{i}.txt'}
            body = {"model": "m", "messages": [wish], "tools": offered, "max_tokens": 100}
            answer = child.ask(body, unseen)
            # The first request warms up.
            if i and answer.usage["completion_tokens"] > 1:
                rates.append(rate(answer))
                firsts.append(answer.first)
    if not rates:
        raise StartupError("The model said nothing", "Measure another one.")
    print(f"{'tokens/s':>12} {'first token ms':>15}")
    print(f"{statistics.median(rates):>12.0f} {statistics.median(firsts) * 1e3:>15.0f}")


def restart(arguments: Sequence[str], prog: str) -> None:
    """Measure the time to the first token: cold, hot, and after a restart of the server."""
    flags = server_flags(arguments, prog, restart.__doc__)
    print(
        f"Ask {server_name(flags)} about {RESTART_WORDS:,} words, and then again, before and "
        "after a restart."
    )
    words = " ".join(f"river{i % 7} stone" for i in range(RESTART_WORDS // 2))
    first = [{"role": "system", "content": words}, {"role": "user", "content": "Hello"}]
    flags = flags or ["--demo"]

    def ask(child: Child, messages: Sequence[Mapping[str, Any]]) -> Answer:
        body = {"model": "m", "messages": messages, "max_tokens": 20}
        return child.ask(body, unseen)

    with tempfile.TemporaryDirectory() as folder:
        with serving(*flags, "--kv-dir", folder) as child:
            cold = ask(child, first)
        then = [*first, cold.message, {"role": "user", "content": "Thanks"}]
        with serving(*flags, "--kv-dir", folder) as child:
            restarted = ask(child, then)
        kept = sum(entry.nbytes for entry in entries(Path(folder) / KV_FILES))
    with serving(*flags, "--no-kv-disk") as child:
        ask(child, first)
        hot = ask(child, then)
    print(f"{'':>14} {'first token ms':>15} {'cached tokens':>14} {'prompt':>9}")
    for label, answer in (("cold", cold), ("hot", hot), ("restarted", restarted)):
        prompt = answer.usage["prompt_tokens"]
        print(f"{label:>14} {answer.first * 1e3:>15.0f} {answer.cached:>14,} {prompt:>9,}")
    print(f"{kept / 1e6:.1f} MB of it are on disk.")
