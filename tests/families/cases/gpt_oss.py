"""gpt-oss: messages on channels; written after the published description of the format.

The faults are written after what is reported of these models.
"""

from __future__ import annotations

import json

from . import Said

LS = ("run_cmd", {"cmd": "ls"})
HM = "<|channel|>analysis<|message|>Hm.<|end|>"
NEXT = "<|start|>assistant"
HEAD = "<|channel|>commentary to=functions.run_cmd <|constrain|>json<|message|>"
CALL = f'{HEAD}{{"cmd": "ls"}}<|call|>'
LONG = "\n".join(f'"{i}" \\n }} <|call|><|channel|> 🙂 <|end|>' for i in range(200))

CASES = {
    "a thought and a call": Said(f"{HM}{NEXT}{CALL}", calls=[LS], reasoning="Hm."),
    "a thought and a text": Said(
        f"{HM}{NEXT}<|channel|>final<|message|>It is\n\ndone.<|return|>",
        "It is\n\ndone.",
        reasoning="Hm.",
    ),
    "a call whose end is the end": Said(CALL.removesuffix("<|call|>"), calls=[LS]),
    "a preamble and a call": Said(
        f"{HM}{NEXT}<|channel|>commentary<|message|>I look.<|end|>{NEXT}{CALL}",
        "I look.",
        [LS],
        "Hm.",
    ),
    "two calls": Said(f"{CALL}{NEXT}{CALL}", calls=[LS, LS]),
    "the recipient before the channel": Said(
        f'{HM}{NEXT} to=functions.run_cmd<|channel|>commentary json<|message|>{{"cmd": "ls"}}',
        calls=[LS],
        reasoning="Hm.",
    ),
    "the recipient at the very beginning": Said(
        ' to=functions.run_cmd<|channel|>commentary json<|message|>{"cmd": "ls"}<|call|>',
        calls=[LS],
    ),
    "a call on the channel of thoughts": Said(CALL.replace("commentary", "analysis"), calls=[LS]),
    "a long text with everything in it": Said(
        f"{HEAD}{json.dumps({'cmd': LONG})}<|call|>", calls=[("run_cmd", {"cmd": LONG})]
    ),
    "an unknown tool": Said(CALL.replace("run_cmd", "web-x.y"), calls=[("web-x.y", {"cmd": "ls"})]),
    "an answer as JSON": Said(
        '<|channel|>final <|constrain|>json<|message|>{"name": "run_cmd", "arguments": {}}',
        '{"name": "run_cmd", "arguments": {}}',
    ),
    "a message to nobody that is known": Said(
        "<|channel|>commentary to=python code<|message|>print(1)<|call|>", "print(1)"
    ),
    "a text without a header": Said("to= is a word.", "to= is a word."),
    "a name without its namespace": Said(CALL.replace("functions.", ""), calls=[LS]),
    "the channel doubled": Said(CALL.replace(" <|con", "<|channel|>commentary <|con"), calls=[LS]),
    "no constraint": Said(CALL.replace(" <|constrain|>json", ""), calls=[LS]),
    "dashes for the channel": Said(
        f"{HM}{NEXT}{CALL.replace('<|channel|>', '––')}", calls=[LS], reasoning="Hm."
    ),
    "no end before the next message": Said(
        f"{HM.removesuffix('<|end|>')}{CALL.removesuffix('<|call|>')}{CALL}",
        calls=[LS, LS],
        reasoning="Hm.",
    ),
    "no arguments": Said(f"{HEAD}<|call|>", calls=[("run_cmd", {})]),
    "arguments as a string": Said(rf'{HEAD}"{{\"cmd\": \"ls\"}}"<|call|>', calls=[LS]),
    "arguments in a fence": Said(f'{HEAD}```json\n{{"cmd": "ls"}}\n```<|call|>', calls=[LS]),
    "a text for the arguments": Said(f"{HEAD}ls -la<|call|>", "ls -la"),
    "a brace too few": Said(f'{HEAD}{{"cmd": "ls"<|call|>', calls=[LS]),
    "a brace too many": Said(f'{HEAD}{{"cmd": "ls"}}}}<|call|>', calls=[LS]),
    "a text behind the arguments": Said(f'{HEAD}{{"cmd": "ls"}} now<|call|>', " now", [LS]),
    "names without quotes": Said(f"{HEAD}{{cmd: 'ls'}}<|call|>", calls=[LS]),
    "cut in a thought": Said("<|channel|>analysis<|message|>Hm", reasoning="Hm", cut=True),
    "cut in a header": Said(f"{HM}{NEXT}<|channel|>comm", reasoning="Hm.", cut=True),
    "cut in a recipient": Said(HEAD[:30], cut=True),
    "cut before the arguments": Said(HEAD, cut=True, begun=("run_cmd", "")),
    "cut in a value": Said(f'{HEAD}{{"cmd": "l', cut=True, begun=("run_cmd", '{"cmd": "l')),
}
