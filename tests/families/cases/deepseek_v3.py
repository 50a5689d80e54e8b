"""DeepSeek V3 and R1: JSON in a fence between tokens; as the published template renders it."""

from __future__ import annotations

import json

from . import Said

LS = ("run_cmd", {"cmd": "ls"})
BEGIN, END, SEP = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>"
FIRST, LAST = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
LONG = "\n".join(f'"{i}" \\n }} ```json 🙂 {END}' for i in range(200))


def call(arguments: str) -> str:
    """Return a call of `run_cmd` with these arguments."""
    return f"{BEGIN}function{SEP}run_cmd\n```json\n{arguments}\n```{END}"


CALL = call('{"cmd": "ls"}')

CASES = {
    "a call": Said(FIRST + CALL + LAST, calls=[LS]),
    "a text and two calls": Said(f"I look.{FIRST}{CALL}\n{CALL}{LAST}", "I look.", [LS, LS]),
    "a thought and a call": Said(
        f"Hm.</think>{FIRST}{CALL}{LAST}", calls=[LS], reasoning="Hm.", thought_open=True
    ),
    "a long text with everything in it": Said(
        FIRST + call(json.dumps({"cmd": LONG})) + LAST, calls=[("run_cmd", {"cmd": LONG})]
    ),
    "a word about the token": Said(f"{BEGIN} begins it.", f"{BEGIN} begins it."),
    "no call between the tokens": Said(FIRST + LAST, FIRST + LAST),
    "the outer tokens forgotten": Said(CALL, calls=[LS]),
    "the last tokens forgotten": Said(FIRST + CALL.removesuffix(END), calls=[LS]),
    "the fence forgotten": Said(
        f'{FIRST}{BEGIN}function{SEP}run_cmd\n{{"cmd": "ls"}}{END}', "", [LS]
    ),
    "the end of the fence forgotten": Said(FIRST + CALL.replace("\n```<", "<") + LAST, calls=[LS]),
    "as newer ones write": Said(f'{FIRST}{BEGIN}run_cmd{SEP}{{"cmd": "ls"}}{END}{LAST}', "", [LS]),
    "a brace too few": Said(FIRST + call('{"cmd": "ls"') + LAST, calls=[LS]),
    "cut in the name": Said(FIRST + CALL[:33], FIRST + CALL[:33], cut=True),
    "cut in a value": Said(
        FIRST + CALL.partition('s"}')[0], cut=True, begun=("run_cmd", '{"cmd": "l')
    ),
    "cut in the last token": Said(FIRST + CALL[:-4], calls=[LS], cut=True),
}
