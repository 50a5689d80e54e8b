"""The readers of request bodies under coverage-guided fuzzing: a request in range, or an error."""

from __future__ import annotations

import json
from random import Random

from .guided import instrumented, run

with instrumented():
    from .bodies import PATHS, good_body, mutated, written
    from .test_normaliser import check

DIALECTS = tuple(PATHS)


def one(data: bytes) -> None:
    """Read one body: these very bytes, or a good body that they change."""
    if not data:
        return
    dialect = DIALECTS[data[0] % len(DIALECTS)]
    if data[0] & 128:
        rng = Random(data)
        check(written(rng, mutated(rng, good_body(dialect), dialect)), dialect)
    else:
        check(data[1:], dialect)


def main() -> None:
    """Fuzz for a set time."""
    seeds = [bytes((n,)) + json.dumps(good_body(name)).encode() for n, name in enumerate(DIALECTS)]
    run(one, [*seeds, *(bytes((128 + n,)) for n in range(len(DIALECTS)))], 6000)


if __name__ == "__main__":
    main()
