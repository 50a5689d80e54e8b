"""Llama 3.1 to 3.3: a bare JSON object with `parameters`.

Written after the published prompt format, and after what is reported of these models.
"""

from __future__ import annotations

import json

from . import Said

LS = ("run_cmd", {"cmd": "ls"})
CALL = '{"name": "run_cmd", "parameters": {"cmd": "ls"}}'
LONG = "\n".join(f'"{i}" \\n {{"name": "run_cmd"}}; 🙂 </function>' for i in range(200))

CASES = {
    "a call": Said(CALL, calls=[LS]),
    "a call over many lines": Said(json.dumps(json.loads(CALL), indent=2), calls=[LS]),
    "a call behind the tag of Python": Said(f"<|python_tag|>{CALL}<|eom_id|>", calls=[LS]),
    "two calls": Said(f"{CALL}; {CALL}", calls=[LS, LS]),
    "two calls in two lines": Said(f"{CALL}\n{CALL}", calls=[LS, LS]),
    "a call as the other prompt has it": Said(
        '<function=run_cmd>{"cmd": "ls"}</function>', calls=[LS]
    ),
    "a call without arguments": Said(
        '{"name": "run_cmd", "parameters": {}}', calls=[("run_cmd", {})]
    ),
    "a long text with everything in it": Said(
        json.dumps({"name": "run_cmd", "parameters": {"cmd": LONG}}),
        calls=[("run_cmd", {"cmd": LONG})],
    ),
    "a text before and behind": Said(f"On it.\n{CALL}\nDone.", "On it.\nDone.", [LS]),
    "a call in a line of text": Said(f"The call is {CALL}.", f"The call is {CALL}."),
    "a call in a code span": Said(f"`{CALL}`", f"`{CALL}`"),
    "an answer as JSON": Said('{"name": "Ada", "age": 36}', '{"name": "Ada", "age": 36}'),
    "a list as JSON": Said('[{"name": "Ada"}, {"x": 1}]', '[{"name": "Ada"}, {"x": 1}]'),
    "an answer with the name of a tool": Said(
        '{"name": "run_cmd", "result": "ok"}', '{"name": "run_cmd", "result": "ok"}'
    ),
    "the description of a tool": Said(
        '{"name": "run_cmd", "description": "Runs.", "parameters": {"type": "object"}}',
        '{"name": "run_cmd", "description": "Runs.", "parameters": {"type": "object"}}',
    ),
    "an unknown tool": Said(CALL.replace("run_cmd", "nope"), CALL.replace("run_cmd", "nope")),
    "an unknown tool behind the tag": Said(
        f"<|python_tag|>{CALL.replace('run_cmd', 'nope')}", calls=[("nope", {"cmd": "ls"})]
    ),
    "code behind the tag": Said("<|python_tag|>print(1)", "<|python_tag|>print(1)"),
    "a list of calls": Said(f"[{CALL}, {CALL}]", calls=[LS, LS]),
    "arguments for parameters": Said(CALL.replace("parameters", "arguments"), calls=[LS]),
    "the type of a call before it": Said(f'{{"type": "function", {CALL[1:]}', calls=[LS]),
    "function for name": Said(CALL.replace("name", "function"), calls=[LS]),
    "parameters as a string": Said(
        r'{"name": "run_cmd", "parameters": "{\"cmd\": \"ls\"}"}', calls=[LS]
    ),
    "as the built-in tools are called": Said('<|python_tag|>run_cmd.call(cmd="ls")', calls=[LS]),
    "a string for an integer": Said(
        '{"name": "find_text", "parameters": {"needle": "a", "depth": "5"}}',
        calls=[("find_text", {"needle": "a", "depth": 5})],
    ),
    "quotes without escapes": Said(
        '{"name": "run_cmd", "parameters": {"cmd": "echo "hi""}}',
        calls=[("run_cmd", {"cmd": 'echo "hi"'})],
    ),
    "a brace too few": Said(CALL[:-1], calls=[LS]),
    "cut in the name": Said(CALL[:13], CALL[:13], cut=True),
    "cut in a value": Said(CALL[:-4], cut=True, begun=("run_cmd", '{"cmd": "l')),
    "cut in the second call": Said(
        f"{CALL}; {CALL[:-4]}", calls=[LS], cut=True, begun=("run_cmd", '{"cmd": "l')
    ),
}
