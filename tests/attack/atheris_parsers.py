"""The parsers of all families under coverage-guided fuzzing: no exception, and their laws.

Rules of this file:
- The first byte of an input chooses a parser; the others stand for what its family writes.
- However a text is cut, its events fold to the same answer. Whole calls have a name and a JSON
  object, cut ones none. No word is lost of Qwen's; of the others, no line, for words between their
  markers are framing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from .guided import instrumented, run

with instrumented():
    from mlx_tools_server.events import Answer
    from mlx_tools_server.families import FAMILIES, Parser
    from tests.cases import CASES
    from tests.families.cases import tables
    from tests.families.reading import CODER, THINKER, TOOLS, fragments, read

# What Qwen3-Coder writes, and what stands around it.
TAGS = (
    "<tool_call>", "</tool_call>", "<function=run_cmd>", "<function=save_note>", "<function=zz>",
    "</function>", "<parameter=cmd>", "<parameter=body>", "<parameter=file>", "<parameter=mode>",
    "<parameter=zz>", "</parameter>", "<parameter name='x'>", "<think>", "</think>", "<", "</",
    "<par", "</par", "<tool_", '{"name": "run_cmd", "arguments": {"cmd": "x"}}', '{"', "}", "\n",
    "\n\n", " ", "\r\n", "12", "null", "[1]", "stop", "`", "``", "```", "<parameter>", "=", ">",
    "/",
    "\n</parameter>\n", "</parameter></function>", "\n</parameter>\n</function>\n</tool_call>",
    "<tool_call>\n<function=run_cmd>\n<parameter=cmd>\n", "<function=run_cmd}", " " * 1100, "\\",
    '"',
    "<|im_end|>", "é🙂", "\0", "true", "-1.5e3", "{'a': 1}",
)  # fmt: skip
# A byte below the number of a target's tags stands for one of them, the next for words, all others
# for letters.
WORDS = 30
BESIDE = re.compile(r"""["'](id|type|index|call_id|tool_call_id)["']""")


@dataclass(frozen=True)
class Target:
    """A parser, the texts that make up what it reads, and what of a text must not be lost."""

    make: Callable[[], Parser]
    tags: Sequence[str]
    keeps: Literal["words", "lines", ""]

    @property
    def word(self) -> str:
        """How a word with its number looks."""
        return "w{}" if self.tags is TAGS else "\nw{}\n"


def targets() -> Iterator[Target]:
    """Yield Qwen's parsers of all kinds, then those of every family."""
    yield Target(lambda: CODER.parser(TOOLS), TAGS, "words")
    yield Target(lambda: CODER.parser(TOOLS, first_call_only=True), TAGS, "")
    yield Target(lambda: CODER.parser(TOOLS, stop=("stop", "\n\nw1")), TAGS, "")
    yield Target(lambda: CODER.parser(()), TAGS, "words")
    yield Target(lambda: THINKER.parser(TOOLS), TAGS, "words")
    yield Target(lambda: CODER.parser(TOOLS, constrained=True), TAGS, "")
    yield Target(lambda: THINKER.parser(TOOLS, thought_open=True), TAGS, "words")
    for family in FAMILIES:
        tags = fragments(family)
        # gpt-oss names its channels between markers, on however many lines.
        keeps: Literal["lines", ""] = "" if family.name == "gpt_oss" else "lines"
        yield Target(partial(family.parser, TOOLS), tags, keeps)
        yield Target(partial(family.parser, TOOLS, thought_open=True), tags, keeps)
        yield Target(partial(family.parser, TOOLS, constrained=True, stop=("stop",)), tags, "")


TARGETS = tuple(targets())


def text_of(data: bytes, target: Target) -> str:
    """Return the text that these bytes stand for."""
    parts = []
    for place, byte in enumerate(data):
        if byte < len(target.tags):
            parts.append(target.tags[byte])
        elif byte < len(target.tags) + WORDS:
            parts.append(target.word.format(place))
        else:
            parts.append(chr(byte - 128) if byte >= 160 else " ")
    return "".join(parts)


def bytes_of(text: str, target: Target) -> bytes:
    """Return bytes that stand for about this text."""
    longest = sorted(target.tags, key=len, reverse=True)
    tokens = re.findall("|".join(map(re.escape, longest)) + "|.", text)
    codes = {tag: place for place, tag in enumerate(target.tags)}
    return bytes(codes.get(token, min(255, ord(token[0]) + 128)) for token in tokens)


def pieces(text: str, cuts: bytes) -> Iterator[str]:
    """Cut a text by sizes, again and again."""
    at, turn = 0, 0
    while at < len(text):
        size = cuts[turn % len(cuts)] % 40 if cuts else 0
        yield text[at : at + size]  # an empty one now and then
        at, turn = at + size, turn + 1
        if size == 0:
            yield text[at : at + 1]
            at += 1


def one(data: bytes) -> None:
    """Read one text in several cuts."""
    if len(data) < 4:
        return
    target, cut = TARGETS[data[0] % len(TARGETS)], bool(data[1] & 1)
    text = text_of(data[4:], target)
    whole = read(target.make(), [text], cut=cut)
    for cuts in (b"\1", data[2:4]):
        again = read(target.make(), pieces(text, cuts), cut=cut)
        assert again == whole, f"cut {cuts!r}: {again} is not {whole}"
    # A number or a tag that was cut is lost, and what is said of a call beside its arguments.
    judge(whole, text, "" if cut or BESIDE.search(text) else target.keeps)


def judge(answer: Answer, text: str, keeps: str) -> None:
    """Fail if a call has no name, or is not JSON just where it is whole, or if a word was lost."""
    for part in answer.parts:
        if part.kind == "tool_call":
            assert part.name, part
            assert is_object(part.text) == part.complete, part
    if keeps:
        said = "".join(part.text + part.name for part in answer.parts)
        words = re.findall(r"w\d+" if keeps == "words" else r"(?<=\n)w\d+(?=\n)", text)
        lost = [word for word in words if word not in said]
        assert not lost, f"lost {lost}"


def is_object(text: str) -> bool:
    """Return whether a text is a JSON object."""
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def seeds() -> Iterator[bytes]:
    """Yield the cases of Qwen for each of its parsers in turn, and those of the families."""
    for number, case in enumerate(CASES):
        kind = number % 7
        yield bytes((kind, number & 1, 3, 7)) + bytes_of(case.model_output, TARGETS[kind])
    names = [family.name for family in FAMILIES]
    for name, cases in tables().items():
        kind = 7 + 3 * names.index(name)
        for number, said in enumerate(cases.values()):
            place = kind + number % 3
            yield bytes((place, said.cut, 3, 7)) + bytes_of(said.text, TARGETS[place])


def main() -> None:
    """Fuzz for a set time."""
    run(one, seeds(), 400)


if __name__ == "__main__":
    main()
