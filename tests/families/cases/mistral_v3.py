"""Mistral of 2024: a list of JSON objects behind a token; as the published templates render it."""

from __future__ import annotations

from . import Said

LS = ("run_cmd", {"cmd": "ls"})
OBJECT = '{"name": "run_cmd", "arguments": {"cmd": "ls"}}'
CALL = f"[TOOL_CALLS] [{OBJECT}]"

CASES = {
    "a call": Said(CALL, calls=[LS]),
    "two calls with ids": Said(
        f'[TOOL_CALLS] [{OBJECT[:-1]}, "id": "a1b2c3d4e"}}, {OBJECT[:-1]}, "id": "b1b2c3d4e"}}]',
        calls=[LS, LS],
    ),
    "a text and a call": Said(f"I look.{CALL}", "I look.", [LS]),
    "an unknown tool": Said(CALL.replace("run_cmd", "nope"), calls=[("nope", {"cmd": "ls"})]),
    "a word about the token": Said("Say [TOOL_CALLS] first.", "Say [TOOL_CALLS] first."),
    "an empty list": Said("[TOOL_CALLS] []", "[TOOL_CALLS] []"),
    "a list of other things": Said('[TOOL_CALLS] ["x"]', '[TOOL_CALLS] ["x"]'),
    "the token forgotten": Said(f"[{OBJECT}]", f"[{OBJECT}]"),
    "the list forgotten": Said(f"[TOOL_CALLS]{OBJECT}", calls=[LS]),
    "a name and arguments, as newer ones write": Said(
        '[TOOL_CALLS]run_cmd[ARGS]{"cmd": "ls"}', calls=[LS]
    ),
    "the bracket forgotten": Said(CALL[:-1], calls=[LS]),
    "arguments as a string": Said(
        r'[TOOL_CALLS] [{"name": "run_cmd", "arguments": "{\"cmd\": \"ls\"}"}]', calls=[LS]
    ),
    "as Python writes it": Said(CALL.replace('"', "'"), calls=[LS]),
    "a text behind a call": Said(f"{CALL}\nDone.", "\nDone.", [LS]),
    "cut in the name": Said('[TOOL_CALLS] [{"na', '[TOOL_CALLS] [{"na', cut=True),
    "cut in a value": Said(CALL[:-5], cut=True, begun=("run_cmd", '{"cmd": "l')),
    "cut in the second call": Said(f"[TOOL_CALLS] [{OBJECT}, ", ", ", [LS], cut=True),
}
