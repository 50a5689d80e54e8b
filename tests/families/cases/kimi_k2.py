"""Kimi K2: an id and JSON between tokens; as the published template renders it.

The faults are written after what is reported of these models, which repeat the ids that they read.
"""

from __future__ import annotations

from . import Said

LS = ("run_cmd", {"cmd": "ls"})
FIRST, LAST = "<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"


def call(name: str, arguments: str = '{"cmd": "ls"}') -> str:
    """Return a call with this id."""
    return f"<|tool_call_begin|>{name}<|tool_call_argument_begin|>{arguments}<|tool_call_end|>"


CALL = call("functions.run_cmd:0")

CASES = {
    "a call": Said(FIRST + CALL + LAST, calls=[LS]),
    "a text and two calls": Said(
        f"I look.{FIRST}{CALL}{call('functions.run_cmd:1')}{LAST}", "I look.", [LS, LS]
    ),
    "a call in a thought": Said(f"<think>Hm.{FIRST}{CALL}{LAST}", calls=[LS], reasoning="Hm."),
    "a call without arguments": Said(
        FIRST + call("functions.run_cmd:0", "{}") + LAST, calls=[("run_cmd", {})]
    ),
    "an unknown tool": Said(
        FIRST + call("functions.nope:12") + LAST, calls=[("nope", {"cmd": "ls"})]
    ),
    "a token in a value": Said(
        FIRST + call("functions.run_cmd:0", '{"cmd": "<|tool_call_end|>\\n"}') + LAST,
        calls=[("run_cmd", {"cmd": "<|tool_call_end|>\n"})],
    ),
    "a word about the token": Said(f"{FIRST} begins it.", f"{FIRST} begins it."),
    "no call between the tokens": Said(FIRST + LAST, FIRST + LAST),
    **{
        f"an id like {name}": Said(FIRST + call(name) + LAST, calls=[LS])
        for name in ("run_cmd", "run_cmd:0", "functions_run_cmd_0", "functionsrun_cmd5")
    },
    "the section forgotten": Said(CALL, calls=[LS]),
    "the section of one call": Said(
        (FIRST + CALL + LAST).replace("calls_section", "call_section"), calls=[LS]
    ),
    "the tokens of a call forgotten": Said(
        f'{FIRST}functions.run_cmd:0<|tool_call_argument_begin|>{{"cmd": "ls"}}{LAST}', calls=[LS]
    ),
    "as Python writes it": Said(
        FIRST + call("functions.run_cmd:0", "{'cmd': 'ls'}") + LAST, calls=[LS]
    ),
    "arguments as a string": Said(
        FIRST + call("functions.run_cmd:0", r'"{\"cmd\": \"ls\"}"') + LAST, calls=[LS]
    ),
    "cut in the id": Said(FIRST + CALL[:30], FIRST + CALL[:30], cut=True),
    "cut in a value": Said(
        FIRST + CALL.partition('s"}')[0], cut=True, begun=("run_cmd", '{"cmd": "l')
    ),
}
