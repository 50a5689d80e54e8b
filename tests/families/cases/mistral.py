"""Mistral since 2025: a name and JSON behind a token; as the published templates render them.

The faults are written after the format, and after what is reported of these models.
"""

from __future__ import annotations

import json

from . import Said

LS = ("run_cmd", {"cmd": "ls"})
CALL = '[TOOL_CALLS]run_cmd[ARGS]{"cmd": "ls"}'
LONG = "\n".join(f'"{i}" \\n }} [TOOL_CALLS]run_cmd[ARGS]{{}} 🙂' for i in range(200))

CASES = {
    "a call": Said(CALL, calls=[LS]),
    "two calls": Said(CALL + CALL, calls=[LS, LS]),
    "a text and a call": Said(f"I look.{CALL}", "I look.", [LS]),
    "a thought and a call": Said(f"[THINK]Hm.[/THINK]{CALL}", calls=[LS], reasoning="Hm."),
    "a call in a thought": Said(f"[THINK]Hm.{CALL}", calls=[LS], reasoning="Hm."),
    "a call with its id": Said(CALL.replace("[ARGS]", "[CALL_ID]a1b2c3d4e[ARGS]"), calls=[LS]),
    "a call without arguments": Said("[TOOL_CALLS]run_cmd[ARGS]{}", calls=[("run_cmd", {})]),
    "a long text with everything in it": Said(
        f"[TOOL_CALLS]run_cmd[ARGS]{json.dumps({'cmd': LONG})}",
        calls=[("run_cmd", {"cmd": LONG})],
    ),
    "an unknown tool": Said("[TOOL_CALLS]no-pe[ARGS]{}", calls=[("no-pe", {})]),
    "a word about the token": Said("Say [TOOL_CALLS] first.", "Say [TOOL_CALLS] first."),
    "links": Said("[a](b) and [TOOL_CALLS](c)", "[a](b) and [TOOL_CALLS](c)"),
    "the token forgotten": Said(CALL[12:], CALL[12:]),
    "a list of objects, as older ones write": Said(
        '[TOOL_CALLS] [{"name": "run_cmd", "arguments": {"cmd": "ls"}}]', calls=[LS]
    ),
    "an object": Said('[TOOL_CALLS]{"name": "run_cmd", "arguments": {"cmd": "ls"}}', calls=[LS]),
    "the token of arguments forgotten": Said(CALL.replace("[ARGS]", " "), calls=[LS]),
    "arguments as a string": Said(r'[TOOL_CALLS]run_cmd[ARGS]"{\"cmd\": \"ls\"}"', calls=[LS]),
    "as a function is called": Said('[TOOL_CALLS]run_cmd(cmd="ls")', calls=[LS]),
    "a call in the line of another": Said(f'{CALL}, run_cmd[ARGS]{{"cmd": "ls"}}', calls=[LS, LS]),
    "a brace too many": Said(f"{CALL}}}", calls=[LS]),
    "a brace too few": Said(f"{CALL[:-1]}{CALL}", calls=[LS, LS]),
    "the token doubled": Said(f"[TOOL_CALLS]{CALL}", calls=[LS]),
    "a text behind a call": Said(f"{CALL}\nThen I look.", "\nThen I look.", [LS]),
    "cut in the name": Said("[TOOL_CALLS]run_c", "[TOOL_CALLS]run_c", cut=True),
    "cut in a value": Said(CALL[:-3], cut=True, begun=("run_cmd", '{"cmd": "l')),
    "cut in an escape": Said(
        '[TOOL_CALLS]run_cmd[ARGS]{"cmd": "l\\', cut=True, begun=("run_cmd", '{"cmd": "l')
    ),
}
