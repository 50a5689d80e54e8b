"""Gemma 4: names without quotes and strings between tokens; as the published template renders it.

The faults are written after the format, and after what is reported of these models.
"""

from __future__ import annotations

from . import Said

LS = ("run_cmd", {"cmd": "ls"})
Q = '<|"|>'
LONG = "\n".join(f'"{i}" \\n }} <tool_call|> 🙂 {{a:1}}' for i in range(200))


def wrapped(text: str) -> str:
    """Return a text as it stands between the tokens of a call."""
    return f"<|tool_call>{text}<tool_call|>"


CALL = wrapped(f"call:run_cmd{{cmd:{Q}ls{Q}}}")

CASES = {
    "a call": Said(CALL, calls=[LS]),
    "a text and two calls": Said(f"I look.{CALL}{CALL}", "I look.", [LS, LS]),
    "a thought and a call": Said(
        f"<|channel>thought\nHm.<channel|>{CALL}", calls=[LS], reasoning="Hm."
    ),
    "a call without arguments": Said(wrapped("call:run_cmd{}"), calls=[("run_cmd", {})]),
    "values of all kinds": Said(
        wrapped(f"call:nope{{a:[1,{Q}x, y{Q},null],b:{{c:true,d:{Q}{Q}}},e:-2.5}}"),
        calls=[("nope", {"a": [1, "x, y", None], "b": {"c": True, "d": ""}, "e": -2.5})],
    ),
    "a long text with everything in it": Said(
        wrapped(f"call:run_cmd{{cmd:{Q}{LONG}{Q}}}"), calls=[("run_cmd", {"cmd": LONG})]
    ),
    "a word about the token": Said("It is <|tool_call> here.", "It is <|tool_call> here."),
    "two calls between the tokens": Said(
        wrapped(f"call:run_cmd{{cmd:{Q}ls{Q}}}" * 2), calls=[LS, LS]
    ),
    "two unknown tools between the tokens": Said(
        wrapped("call:a{x:1}call:b{}"), calls=[("a", {"x": 1}), ("b", {})]
    ),
    "parentheses": Said(wrapped(f"call:run_cmd(cmd:{Q}ls{Q})"), calls=[LS]),
    "names of several words": Said(
        wrapped("call:run_cmd{cmd:1,o:{max width:1,f(x):[2],-n:null}}"),
        calls=[("run_cmd", {"cmd": "1", "o": {"max width": 1, "f(x)": [2], "-n": None}})],
    ),
    "keywords in parentheses": Said(wrapped(f"call:run_cmd(cmd={Q}ls{Q})"), calls=[LS]),
    "the first quote forgotten": Said(
        wrapped(f"call:find_text{{needle:Paris, or so{Q},depth:5}}"),
        calls=[("find_text", {"needle": "Paris, or so", "depth": 5})],
    ),
    "usual quotes": Said(
        wrapped('call:run_cmd{cmd:"a } \\"b\\"",x:\'c\'}'),
        calls=[("run_cmd", {"cmd": 'a } "b"', "x": "c"})],
    ),
    "as JSON": Said(wrapped('call:run_cmd{"cmd": "ls"}'), calls=[LS]),
    "a namespace": Said(CALL.replace("run_cmd", "shell:run_cmd"), calls=[LS]),
    "without `call`": Said(CALL.replace("call:", ""), calls=[LS]),
    "a brace too few": Said(CALL.replace("}", ""), calls=[LS]),
    "the last token forgotten": Said(CALL.removesuffix("<tool_call|>"), calls=[LS]),
    "cut in the name": Said("<|tool_call>call:ru", "<|tool_call>call:ru", cut=True),
    "cut in a value": Said(
        f"<|tool_call>call:run_cmd{{cmd:{Q}l", cut=True, begun=("run_cmd", '{"cmd": "l')
    ),
    "cut in the last quote": Said(
        f"<|tool_call>call:run_cmd{{cmd:{Q}l<|", cut=True, begun=("run_cmd", '{"cmd": "l')
    ),
}
