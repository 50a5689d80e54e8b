"""`bench compare`: the same traffic against several servers, in turns.

Rules of this file:
- Each request is played to all servers before the next one, in an order that moves on each round.
- Ratios are made pair by pair, to the first server: least, median and most.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..errors import StartupError
from ..options import Parser
from . import documents, tables, wishes
from .figures import FIGURES, Row, median, ratio, spread, summary, throughput
from .players import Player, Target, Traffic, nonce, player
from .turns import finish, what

THROUGHPUT = "throughput_tokens_per_s"


def run(arguments: Sequence[str], prog: str) -> None:
    """Play the traffic to all servers in turns, and show how their figures compare."""
    parser = Parser(
        prog=prog,
        description="Play the same conversation to several servers in turns, and compare them. "
        "Each has a name; what one of them needs of its own stands behind its address: "
        "NAME=URL#dialect=messages,model=foo,key=KEY.",
    )
    parser.add_argument("servers", nargs="+", metavar="NAME=URL", help="the first is what others "
                        "are compared with")  # fmt: skip
    wishes.add_options(parser, "rounds", 3)
    options = parser.parse_args(arguments)
    wishes.check_files(options)
    wanted = [wishes.named(text) for text in options.servers]
    if len({name for name, _, _ in wanted}) < len(wanted):
        raise StartupError("Two servers have one name", "Name each in its own way.")
    found, abouts = wishes.targets(wanted, options)
    traffic = wishes.traffic(options, abouts)
    print(
        f"{traffic.steps} requests to {', '.join(each.name for each in found)} in turns, "
        f"{options.rounds} rounds, {options.streams} at once; {what(options, traffic)}."
    )
    rows = _rounds(found, traffic, options)
    document = {
        "kind": "compare",
        **documents.head(options, traffic),
        "servers": documents.servers(found, abouts),
        **compared([each.name for each in found], rows),
        "rows": [row.json() for row in rows],
    }
    print(tables.comparison(document))
    for error, times in sorted(_errors(rows).items()):
        print(f"{times} x {error}")
    print(f"Ratios: least-median-most (pairs), to {found[0].name}.")
    finish(options, document)


def _rounds(targets: Sequence[Target], traffic: Traffic, options: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    with ThreadPoolExecutor(options.streams) as pool:
        for number in range(1, options.rounds + 1):
            mark = nonce(options.nonce, number)
            sides: list[list[Player]] = [
                [player(target, traffic, own, number, at) for at in range(options.streams)]
                for target, own in zip(targets, marks(mark, targets), strict=True)
            ]
            for step in range(traffic.steps):
                first = (number - 1) % len(sides)
                for side in (*sides[first:], *sides[:first]):
                    rows += pool.map(lambda each, step=step: each.play(step), side)
            print(f"round {number} of {options.rounds} done", file=sys.stderr)
    return rows


def marks(mark: str, targets: Sequence[Target]) -> list[str]:
    """Return the word of a round for each target; one server under two names has two of them."""
    urls = [target.endpoint.url for target in targets]
    before = (urls[:at].count(url) for at, url in enumerate(urls))
    # Else one name would find in the cache what the other let the server compute.
    return [f"{mark}.{times}" if times and mark else mark for times in before]


def compared(names: Sequence[str], rows: Sequence[Row]) -> dict[str, Any]:
    """Return the figures of all servers, and their ratios to the first."""
    of = {name: [row for row in rows if row.server == name] for name in names}
    first, others = names[0], names[1:]
    figures: dict[str, Any] = {
        each.name: {
            "title": each.title,
            "better": each.better,
            "medians": {name: median(getattr(row, each.name) for row in of[name]) for name in of},
            "ratios": {
                name: tables.as_json(ratio(each.name, of[first], of[name])) for name in others
            },
        }
        for each in FIGURES
    }
    rounds = sorted({row.round for row in rows})
    speeds = {
        name: [throughput([row for row in found if row.round == one]) for one in rounds]
        for name, found in of.items()
    }
    figures[THROUGHPUT] = {
        "title": "tokens/s of all streams",
        "better": "higher",
        "medians": {name: median(found) for name, found in speeds.items()},
        "ratios": {
            name: tables.as_json(spread(zip(speeds[name], speeds[first], strict=True)))
            for name in others
        },
    }
    return {"figures": figures, "sums": {name: summary(found) for name, found in of.items()}}


def _errors(rows: Sequence[Row]) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in rows:
        if row.error is not None:
            shown = f"{row.server}: {row.error.splitlines()[0][:150]}"
            found[shown] = found.get(shown, 0) + 1
    return found
