"""`bench turns`: an agent's conversation with any server, turn by turn.

Rules of this file:
- Each stream plays for itself, as agents do; nothing waits for another.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from ..child import serving
from ..options import Parser
from . import documents, tables, wishes
from .figures import Row, summary
from .players import Player, Target, Traffic, nonce, player

# The built-in model knows no long contexts: its own traffic is short.
DEMO_SCALE = 0.02
DEMO_MAX_TOKENS = 100


def run(arguments: Sequence[str], prog: str) -> None:
    """Play the traffic to one server, and show what each turn came to."""
    parser = Parser(
        prog=prog,
        description="Play an agent's conversation to a server of any make, and show what each turn "
        "came to.",
    )
    parser.add_argument(
        "url", nargs="?", metavar="URL", help="the server (default: one of the demo model)"
    )
    wishes.add_options(parser, "repeats", 1)
    options = parser.parse_args(arguments)
    wishes.check_files(options)
    with ExitStack() as stack:
        if options.url is None:
            options.url = stack.enter_context(serving("--demo", "--no-kv-disk")).url
            options.scale = options.scale or DEMO_SCALE
            options.max_tokens = options.max_tokens or DEMO_MAX_TOKENS
        found, abouts = wishes.targets([("server", options.url, {})], options)
        traffic = wishes.traffic(options, abouts)
        target = found[0]
        print(
            f"{traffic.steps} requests to {target.endpoint.url} ({target.dialect}, "
            f"{target.model}), {options.rounds} x, {options.streams} at once; "
            f"{what(options, traffic)}."
        )
        rows = _rounds(target, traffic, options)
    together = summary(rows)
    print(tables.turns(rows))
    speed = tables.number(together["throughput_tokens_per_s"], 1)
    print(f"All streams together: {speed} tokens/s.\n{tables.LEGEND}")
    document: dict[str, Any] = {
        "kind": "turns",
        **documents.head(options, traffic),
        "servers": documents.servers(found, abouts),
        "summary": together,
        "rows": [row.json() for row in rows],
    }
    finish(options, document)


def what(options: argparse.Namespace, traffic: Traffic) -> str:
    """Return in words what is played."""
    if traffic.recording is not None:
        return f"recorded in {options.traffic}"
    return f"an agent's traffic at scale {traffic.scale:.3g}"


def finish(options: argparse.Namespace, document: dict[str, Any]) -> None:
    """Write the files that were asked for."""
    if options.json:
        documents.write(options.json, document)
    if options.plot:
        from .plots import draw

        draw(document, options.plot)


def _rounds(target: Target, traffic: Traffic, options: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    with ThreadPoolExecutor(options.streams) as pool:
        for number in range(1, options.rounds + 1):
            mark = nonce(options.nonce, number)
            players = [
                player(target, traffic, mark, number, stream) for stream in range(options.streams)
            ]
            for played in pool.map(lambda each: _all(each, traffic.steps), players):
                rows += played
    return rows


def _all(one: Player, count: int) -> list[Row]:
    return [one.play(number) for number in range(count)]
