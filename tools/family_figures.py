"""What each model family can do, by trying it: pieces of an argument, cases, templates.

Rules of this file:
- The figures are the tests' own tables and parsers, so the page can't promise what no test holds.
- They are the same on every machine: nothing is timed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from mlx_tools_server.events import PartDelta, PartStarted
from mlx_tools_server.families import FAMILIES, Family
from tests.cases import CASES
from tests.families.cases import tables
from tests.families.reading import TOOLS, calls_of, pieces, read
from tests.families.test_cases import SIZES, read_case
from tools.check_templates import check

ROOT = Path(__file__).parents[1]
TEMPLATES = (ROOT / "chat_templates", ROOT / "tests" / "data" / "chat_templates")
# Tokens of the argument that is streamed.
TOKENS = 500
# What becomes of a conversation, and how the page says it.
OUTCOMES = {"ok": "as they are", "rewritten": "rewritten", "lost": "lost", "refused": "refused"}
_MARK = "\ue000"


def streamed(family: Family) -> int:
    """Return in how many pieces an argument of 500 tokens leaves."""
    before, _, behind = family.shape.write("run_cmd", {"cmd": _MARK}).partition(_MARK)
    parser, count, inside = family.parser(TOOLS), 0, False
    for text in (before, *(f"word{i} " for i in range(TOKENS)), behind):
        for event in parser.feed(text):
            inside = inside or (isinstance(event, PartStarted) and event.kind == "tool_call")
            count += inside and isinstance(event, PartDelta) and "word" in event.text
    return count


def cases(family: Family) -> tuple[int, int]:
    """Return how many of a family's cases are read right, however they are cut, and of how many."""
    checks = list(_checks(family))
    return sum(all(check(size) for size in SIZES) for check in checks), len(checks)


def _checks(family: Family) -> Iterator[Callable[[int], bool]]:
    thinks = family.thinking is not None
    if family.template:  # Qwen3-Coder's cases, which serve both families of its form
        for case in CASES:
            if bool(case.options.get("thinking")) is thinks:
                yield lambda size, case=case: (  # type: ignore[misc]
                    [(call["name"], call["arguments"]) for call in case.expected_calls]
                    == calls_of(read_case(case, size))
                )
    for said in tables().get(family.name, {}).values():
        yield lambda size, said=said: (  # type: ignore[misc]
            [*said.calls]
            == calls_of(
                read(
                    family.parser(TOOLS, thought_open=said.thought_open),
                    pieces(said.text, size),
                    cut=said.cut,
                )
            )
        )


def conversations(family: Family) -> Counter[str]:
    """Return what became of how many awkward conversations in a family's chat template."""
    for folder in TEMPLATES:
        if (path := folder / f"{family.name}.jinja").is_file():
            return Counter(came.partition(":")[0] for came in check(path).values())
    return Counter()


def main() -> None:
    """Print the figures as JSON."""
    for family in FAMILIES:
        print(json.dumps([family.name, streamed(family), cases(family), conversations(family)]))


if __name__ == "__main__":
    main()
