"""LFM2: a list of Python calls between tokens; as the published template renders them."""

from __future__ import annotations

from . import Said

LS = ("run_cmd", {"cmd": "ls"})
CALL = '<|tool_call_start|>[run_cmd(cmd="ls")]<|tool_call_end|>'
LONG = "\n".join(f"'{i}' \\n \"q\" )] 🙂 <|tool_call_end|>" for i in range(200))


def wrapped(text: str) -> str:
    """Return a text as it stands between the tokens of calls."""
    return f"<|tool_call_start|>{text}<|tool_call_end|>"


CASES = {
    "a call": Said(CALL, calls=[LS]),
    "a call and a text": Said(f"{CALL}I look.", "I look.", [LS]),
    "two calls": Said(wrapped("[run_cmd(cmd='ls'), run_cmd(cmd='ls')]"), calls=[LS, LS]),
    "two unknown tools": Said(wrapped("[a.b(x=1), c()]"), calls=[("a.b", {"x": 1}), ("c", {})]),
    "a call behind a thought": Said(f"<think>Hm.</think>\n{CALL}", "", [LS], "Hm."),
    "a long text with everything in it": Said(
        wrapped(f"[run_cmd(cmd={LONG!r})]"), calls=[("run_cmd", {"cmd": LONG})]
    ),
    "containers as JSON": Said(
        wrapped('[run_cmd(a=[{"b": true, "c": null}], cmd="x, y")]'),
        calls=[("run_cmd", {"a": [{"b": True, "c": None}], "cmd": "x, y"})],
    ),
    "names in a tuple": Said(
        wrapped("[zz(a=(x=1, y: 2), b=(3, 4))]"),
        calls=[("zz", {"a": ["x=1", "y: 2"], "b": [3, 4]})],
    ),
    "more values than parameters": Said(
        wrapped("[run_cmd('ls', 1, [2]), zz(3, 4)]"),
        calls=[
            ("run_cmd", {"cmd": "ls", "argument_2": 1, "argument_3": [2]}),
            ("zz", {"argument_1": 3, "argument_2": 4}),
        ],
    ),
    "calls of JSON": Said(wrapped('[{"name": "run_cmd", "arguments": {"cmd": "ls"}}]'), calls=[LS]),
    "a word about the token": Said(
        "It begins with <|tool_call_start|>.", "It begins with <|tool_call_start|>."
    ),
    "the brackets forgotten": Said(wrapped('run_cmd(cmd="ls")'), calls=[LS]),
    "a bracket and the token forgotten": Said('<|tool_call_start|>[run_cmd(cmd="ls")', calls=[LS]),
    "cut in a value": Said(
        "<|tool_call_start|>[run_cmd(cmd='l\\", cut=True, begun=("run_cmd", '{"cmd": "l')
    ),
    "cut behind the call": Said(CALL[:-5], calls=[LS], cut=True),
}
