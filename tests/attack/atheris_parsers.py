"""The parsers of all families under coverage-guided fuzzing: no exception, and their laws.

However a text is cut, its events fold to the same answer, and no word of it is lost.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from .guided import instrumented, run

with instrumented():
    from mlx_tools_server.events import Answer
    from mlx_tools_server.families import Parser
    from tests.cases import CASES
    from tests.families.reading import CODER, THINKER, TOOLS, read

# A byte below their number stands for one of these, the next for words, all others for letters.
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
WORDS = 30
_KINDS = 7


def parser(kind: int) -> Parser:
    """Return a fresh parser of this kind."""
    match kind % _KINDS:
        case 0:
            return CODER.parser(TOOLS)
        case 1:
            return CODER.parser(TOOLS, first_call_only=True)
        case 2:
            return CODER.parser(TOOLS, stop=("stop", "\n\nw1"))
        case 3:
            return CODER.parser(())
        case 4:
            return THINKER.parser(TOOLS)
        case 5:
            return CODER.parser(TOOLS, constrained=True)
        case _:
            return THINKER.parser(TOOLS, thought_open=True)


def text_of(data: bytes) -> str:
    """Return the text that these bytes stand for."""
    parts = []
    for place, byte in enumerate(data):
        if byte < len(TAGS):
            parts.append(TAGS[byte])
        elif byte < len(TAGS) + WORDS:
            parts.append(f"w{place}")
        else:
            parts.append(chr(byte - 128) if byte >= 160 else " ")
    return "".join(parts)


def bytes_of(text: str) -> bytes:
    """Return bytes that stand for about this text."""
    tokens = re.findall(
        "|".join(re.escape(tag) for tag in sorted(TAGS, key=len)[::-1]) + "|.", text
    )
    codes = {tag: place for place, tag in enumerate(TAGS)}
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
    kind, cut, text = data[0], bool(data[1] & 1), text_of(data[4:])
    whole = read(parser(kind), [text], cut=cut)
    for cuts in (b"\1", data[2:4]):
        again = read(parser(kind), pieces(text, cuts), cut=cut)
        assert again == whole, f"cut {cuts!r}: {again} is not {whole}"
    judge(whole, text, kind)


def judge(answer: Answer, text: str, kind: int) -> None:
    """Fail if a whole call is no JSON object, or if a word was lost."""
    for call in answer.calls:
        assert isinstance(json.loads(call.text or "{}"), dict), call
    if kind % _KINDS in (0, 3, 4, 6):
        said = "".join(part.text + part.name for part in answer.parts)
        lost = [word for word in re.findall(r"w\d+", text) if word not in said]
        assert not lost, f"lost {lost}"


def main() -> None:
    """Fuzz for a set time."""
    seeds = [bytes((n % _KINDS, n & 1, 3, 7)) + bytes_of(case.model_output)
             for n, case in enumerate(CASES)]  # fmt: skip
    run(one, seeds, 400)


if __name__ == "__main__":
    main()
