"""Llama 4: a list of Python calls; written after the published prompt format."""

from __future__ import annotations

from . import Said

LS = ("run_cmd", {"cmd": "ls"})
CALL = '[run_cmd(cmd="ls")]'
LONG = "\n".join(f"'{i}' \\n \"q\" )] 🙂 [run_cmd(cmd='x')]" for i in range(200))

CASES = {
    "a call": Said(CALL, calls=[LS]),
    "two calls": Said(
        "[run_cmd(cmd='ls'), find_text(needle='a', depth=3)]",
        calls=[LS, ("find_text", {"needle": "a", "depth": 3})],
    ),
    "a call in its tags": Said(f"<|python_start|>{CALL}<|python_end|>", calls=[LS]),
    "a text before and behind": Said(f"On it.\n{CALL}\nDone.", "On it.\nDone.", [LS]),
    "a call without arguments": Said("[run_cmd()]", calls=[("run_cmd", {})]),
    "values of all kinds": Said(
        "[run_cmd(a=[1, -2.5], b={'c': (True, None)}, cmd='it\\'s', d=1_000, e={'f': False,},)]",
        calls=[
            (
                "run_cmd",
                {
                    "a": [1, -2.5],
                    "b": {"c": [True, None]},
                    "cmd": "it's",
                    "d": 1000,
                    "e": {"f": False},
                },
            )
        ],
    ),
    "a long text with everything in it": Said(
        f"[run_cmd(cmd={LONG!r})]", calls=[("run_cmd", {"cmd": LONG})]
    ),
    "a text in three quotes": Said(
        '[run_cmd(cmd="""a\n"b", \'c\')\n""")]', calls=[("run_cmd", {"cmd": "a\n\"b\", 'c')\n"})]
    ),
    "escapes": Said(
        r"[run_cmd(cmd='\x41\u00e9\U0001F600\n')]", calls=[("run_cmd", {"cmd": "Aé😀\n"})]
    ),
    "escapes in names": Said(
        r"""[run_cmd(a={'it\'s\x41"': 1, "\n\"": 'b'})]""",
        calls=[("run_cmd", {"a": {"it'sA\"": 1, '\n"': "b"}})],
    ),
    "a raw string": Said(r"[run_cmd(cmd=r'\d+\'')]", calls=[("run_cmd", {"cmd": r"\d+\'"})]),
    "strings that Python joins": Said(
        "[run_cmd(cmd='a, '\n 'b' \"c\")]", calls=[("run_cmd", {"cmd": "a, bc"})]
    ),
    "a link": Said("[run_cmd](https://a.b/c) runs.", "[run_cmd](https://a.b/c) runs."),
    "a footnote": Said("[1] and [run_cmd]", "[1] and [run_cmd]"),
    "a list": Said("[1, 2, 3]", "[1, 2, 3]"),
    "a call in a line of text": Said(f"Say {CALL}.", f"Say {CALL}."),
    "an unknown tool": Said("[nope(a=1)]", "[nope(a=1)]"),
    "a value without its name": Said('[run_cmd("ls")]', calls=[LS]),
    "an object for the arguments": Said('[run_cmd({"cmd": "ls"})]', calls=[LS]),
    "as JSON": Said('[{"name": "run_cmd", "parameters": {"cmd": "ls"}}]', calls=[LS]),
    "a value without quotes": Said("[run_cmd(cmd=ls -la)]", calls=[("run_cmd", {"cmd": "ls -la"})]),
    "quotes without escapes": Said(
        '[run_cmd(cmd="echo "hi" x")]', calls=[("run_cmd", {"cmd": 'echo "hi" x'})]
    ),
    "the bracket forgotten": Said(CALL[:-1], calls=[LS]),
    "a comma too many": Said('[run_cmd(cmd="ls"),\n]', calls=[LS]),
    "cut in the name": Said("[run_c", "[run_c", cut=True),
    "cut in a value": Said('[run_cmd(cmd="l', cut=True, begun=("run_cmd", '{"cmd": "l')),
    "cut before a value": Said("[run_cmd(cmd=", cut=True, begun=("run_cmd", '{"cmd": ')),
}
