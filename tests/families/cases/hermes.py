"""Hermes and Qwen 2.5 to 3: one JSON object in tags.

The calls as they should be are as the published templates render them; the faults are written after
the format, and after what is reported of these models.
"""

from __future__ import annotations

import json

from . import Said

LS = ("run_cmd", {"cmd": "ls"})
OBJECT = '{"name": "run_cmd", "arguments": {"cmd": "ls"}}'
CALL = f"<tool_call>\n{OBJECT}\n</tool_call>"
LONG = "\n".join(
    f'print("{i}:\t\\"é🙂\\"") # </tool_call> {{\'a\': 1}}, "b": ]' for i in range(200)
)


def wrapped(text: str) -> str:
    """Return a text as it stands in the tags of a call."""
    return f"<tool_call>\n{text}\n</tool_call>"


def run(arguments: str) -> str:
    """Return a call of `run_cmd` with these arguments."""
    return wrapped(f'{{"name": "run_cmd", "arguments": {arguments}}}')


CASES = {
    "a call": Said(CALL, calls=[LS]),
    "a text and two calls": Said(f"I look.\n{CALL}\n{CALL}", "I look.", [LS, LS]),
    "a thought, a text and a call": Said(
        f"<think>\nHm.\n</think>\n\nOn it.\n{CALL}", "On it.", [LS], "Hm."
    ),
    "a call in the thought that the prompt has opened": Said(
        f"Hm.\n{CALL}", calls=[LS], reasoning="Hm.", thought_open=True
    ),
    "a call without arguments": Said(run("{}"), calls=[("run_cmd", {})]),
    "a long text with everything in it": Said(
        run(json.dumps({"cmd": LONG})), calls=[("run_cmd", {"cmd": LONG})]
    ),
    "the tag in a value, behind an escaped quote": Said(
        run(r'{"cmd": "say \"</tool_call>\", \"x\": now"}'),
        calls=[("run_cmd", {"cmd": 'say "</tool_call>", "x": now'})],
    ),
    "names with escapes and long ones": Said(
        run(json.dumps({'a"b': "x", "k" * 500: "y", "é\n": {'"': "z", "w" * 500: 1}})),
        calls=[("run_cmd", {'a"b': "x", "k" * 500: "y", "é\n": {'"': "z", "w" * 500: 1}})],
    ),
    "an unknown tool": Said(
        wrapped('{"name": "nope", "arguments": {"a": [1, null]}}'),
        calls=[("nope", {"a": [1, None]})],
    ),
    "a word about the tags": Said(
        "Put it in <tool_call> and </tool_call>.", "Put it in <tool_call> and </tool_call>."
    ),
    "a call in a code span": Said(f"`<tool_call>{OBJECT}`", f"`<tool_call>{OBJECT}`"),
    "an answer as JSON": Said('{"name": "Ada", "age": 36}', '{"name": "Ada", "age": 36}'),
    "the description of a tool": Said(
        '{"name": "run_cmd", "description": "Runs.", "parameters": {"type": "object"}}',
        '{"name": "run_cmd", "description": "Runs.", "parameters": {"type": "object"}}',
    ),
    "a thought that weighs a call": Said(
        f"<think>\nI could say\n{OBJECT}\nor not.\n</think>\nNo.",
        "No.",
        reasoning=f"I could say\n{OBJECT}\nor not.",
    ),
    "an object in the tags that is no call": Said(
        wrapped('{"cmd": "ls"}'), wrapped('{"cmd": "ls"}')
    ),
    "without its tags": Said(f"On it.\n{OBJECT}", "On it.", [LS]),
    "the opener forgotten": Said(f"{OBJECT}\n</tool_call>", calls=[LS]),
    "the closer forgotten": Said(f"<tool_call>\n{OBJECT}", calls=[LS]),
    "the closer forgotten before another call": Said(
        f"<tool_call>\n{OBJECT}\n{CALL}", calls=[LS, LS]
    ),
    "tags doubled": Said(wrapped(CALL), calls=[LS]),
    "two objects in one wrapper": Said(wrapped(f"{OBJECT}\n{OBJECT}"), calls=[LS, LS]),
    "a list of calls": Said(wrapped(f"[{OBJECT}, {OBJECT}]"), calls=[LS, LS]),
    "arguments as a string": Said(run(r'"{\"cmd\": \"ls\"}"'), calls=[LS]),
    "words behind arguments as a string": Said(
        run(r'"{\"cmd\": \"ls\"}} and so on"'), "and so on", [LS]
    ),
    "parameters for arguments": Said(CALL.replace("arguments", "parameters"), calls=[LS]),
    "arguments before the name": Said(
        wrapped('{"arguments": {"cmd": "ls"}, "name": "run_cmd"}'), calls=[LS]
    ),
    "the form of the API": Said(
        wrapped(f'{{"id": "x", "type": "function", "function": {OBJECT}}}'), calls=[LS]
    ),
    "arguments beside the name": Said(wrapped('{"name": "run_cmd", "cmd": "ls"}'), calls=[LS]),
    "no arguments": Said(wrapped('{"name": "run_cmd"}'), calls=[("run_cmd", {})]),
    "null for no arguments": Said(run("null"), calls=[("run_cmd", {})]),
    "as Python writes it": Said(
        wrapped("{'name': 'run_cmd', 'arguments': {'cmd': \"it's\", 'a': True, 'b': None}}"),
        calls=[("run_cmd", {"cmd": "it's", "a": True, "b": None})],
    ),
    "names without quotes": Said(wrapped('{name: "run_cmd", arguments: {cmd: "ls"}}'), calls=[LS]),
    "a value without quotes": Said(run('{"cmd": ls -la}'), calls=[("run_cmd", {"cmd": "ls -la"})]),
    "quotes without escapes": Said(
        run('{"cmd": "echo "a, b" and "c": d"}'),
        calls=[("run_cmd", {"cmd": 'echo "a, b" and "c": d'})],
    ),
    "raw line breaks and tabs": Said(
        run('{"cmd": "a\n\tb\n"}'), calls=[("run_cmd", {"cmd": "a\n\tb\n"})]
    ),
    "escapes that are none": Said(
        run(r'{"cmd": "grep \d+ C:\q \u00"}'), calls=[("run_cmd", {"cmd": r"grep \d+ C:\q \u00"})]
    ),
    "commas too many": Said(wrapped(f"{OBJECT[:-2]},}},}}"), calls=[LS]),
    "commas and colons forgotten": Said(
        wrapped('{"name": "run_cmd" "arguments": {"cmd" "ls"}}'), calls=[LS]
    ),
    "a brace too few": Said(wrapped(OBJECT[:-1]), calls=[LS]),
    "two braces too few": Said(wrapped(OBJECT[:-2]), calls=[LS]),
    "a brace too many": Said(wrapped(f"{OBJECT}}}"), calls=[LS]),
    "doubled braces": Said(wrapped(f"{{{OBJECT}}}"), calls=[LS]),
    "doubled braces around the arguments": Said(run('{{"cmd": "ls"}}'), calls=[LS]),
    "other types than the schema has": Said(
        wrapped('{"name": "save_note", "arguments": {"file": 5, "body": {"a": 1}, "mode": "2"}}'),
        calls=[("save_note", {"file": "5", "body": '{"a": 1}', "mode": 2})],
    ),
    "a fence in the tags": Said(wrapped(f"```json\n{OBJECT}\n```"), calls=[LS]),
    "a fence around the tags": Said(f"```\n{CALL}\n```", "```\n```", [LS]),
    "the name before an object": Said(wrapped('run_cmd\n{"cmd": "ls"}'), calls=[LS]),
    "as a function is called": Said(wrapped('run_cmd({"cmd": "ls"})'), calls=[LS]),
    "with a namespace": Said(CALL.replace("run_cmd", "functions.run_cmd"), calls=[LS]),
    "more in the object": Said(
        wrapped('{"name": "run_cmd", "why": "to see", "arguments": {"cmd": "ls"}}'),
        '"why": "to see"',
        [LS],
    ),
    "cut in the tag": Said("I look.\n<tool_c", "I look.\n<tool_c", cut=True),
    "cut in the name": Said('<tool_call>\n{"name": "run_', '<tool_call>\n{"name": "run_', cut=True),
    "cut before the arguments": Said(
        '<tool_call>\n{"name": "run_cmd", "arg',
        '<tool_call>\n{"name": "run_cmd", "arg',
        cut=True,
    ),
    "cut in a value": Said(
        '<tool_call>\n{"name": "run_cmd", "arguments": {"cmd": "l\\u00e',
        cut=True,
        begun=("run_cmd", '{"cmd": "l'),
    ),
    "cut in a number": Said(
        '<tool_call>\n{"name": "find_text", "arguments": {"depth": 1',
        cut=True,
        begun=("find_text", '{"depth": '),
    ),
    "cut behind the arguments": Said(CALL[:-14], calls=[LS], cut=True),
    "cut in the closer": Said(CALL[:-4], calls=[LS], cut=True),
}
