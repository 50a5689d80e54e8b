"""DeepSeek V3.1: a name and JSON between tokens; as the published template renders it."""

from __future__ import annotations

from . import Said

LS = ("run_cmd", {"cmd": "ls"})
BEGIN, END, SEP = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>"
FIRST, LAST = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
CALL = f'{BEGIN}run_cmd{SEP}{{"cmd": "ls"}}{END}'

CASES = {
    "a call": Said(FIRST + CALL + LAST, calls=[LS]),
    "a text and two calls": Said(f"I look.{FIRST}{CALL}{CALL}{LAST}", "I look.", [LS, LS]),
    "a call in a thought": Said(
        f"Hm.{FIRST}{CALL}{LAST}", calls=[LS], reasoning="Hm.", thought_open=True
    ),
    "an unknown tool": Said(
        FIRST + CALL.replace("run_cmd", "nope") + LAST, calls=[("nope", {"cmd": "ls"})]
    ),
    "a call without arguments": Said(
        f"{FIRST}{BEGIN}run_cmd{SEP}{{}}{END}{LAST}", calls=[("run_cmd", {})]
    ),
    "a word about the token": Said(f"{FIRST} begins it.", f"{FIRST} begins it."),
    "as older ones write": Said(
        f'{FIRST}{BEGIN}function{SEP}run_cmd\n```json\n{{"cmd": "ls"}}\n```{END}{LAST}', calls=[LS]
    ),
    "the separator forgotten": Said(FIRST + CALL.replace(SEP, "\n") + LAST, calls=[LS]),
    "the arguments forgotten": Said(
        f"{FIRST}{BEGIN}run_cmd{SEP}{END}{LAST}", calls=[("run_cmd", {})]
    ),
    "an object with the name": Said(
        f'{FIRST}{BEGIN}{{"name": "run_cmd", "arguments": {{"cmd": "ls"}}}}{END}{LAST}', calls=[LS]
    ),
    "arguments as a string": Said(
        rf'{FIRST}{BEGIN}run_cmd{SEP}"{{\"cmd\": \"ls\"}}"{END}{LAST}', calls=[LS]
    ),
    "a brace too few": Said(FIRST + CALL.replace("}", "") + LAST, calls=[LS]),
    "the last tokens forgotten": Said(FIRST + CALL, calls=[LS]),
    "cut in the name": Said(FIRST + BEGIN + "run", FIRST + BEGIN + "run", cut=True),
    "cut in a value": Said(
        FIRST + CALL.partition('s"}')[0], cut=True, begun=("run_cmd", '{"cmd": "l')
    ),
}
