"""Muse Spark: written after its description of calls, and its headers as they were recorded."""

from __future__ import annotations

from . import Said

LS = ("run_cmd", {"cmd": "ls"})
OPEN, CLOSE = "<atem:function_calls>\n", "\n</atem:function_calls>"
RUN = '<atem:invoke name="run_cmd">\n<atem:parameter name="cmd">ls</atem:parameter>\n</atem:invoke>'
CALL = f"{OPEN}{RUN}{CLOSE}"
THOUGHT = " to=self<|message|>Hm.<|eom|><|start|>assistant"

CASES = {
    "a call": Said(CALL, calls=[LS]),
    "a thought and a call": Said(
        f"{THOUGHT} to=run_cmd<|message|>{CALL}", calls=[LS], reasoning="Hm."
    ),
    "a thought and an answer": Said(
        f"{THOUGHT} to=user<|message|>391<|eot|>", "391", reasoning="Hm."
    ),
    "an answer without a thought": Said(" to=user<|message|>391", "391"),
    "calls in two messages": Said(
        f" to=run_cmd<|message|>{CALL}<|eom|><|start|>assistant to=run_cmd<|message|>{CALL}",
        calls=[LS, LS],
    ),
    "two calls in one section": Said(f"{OPEN}{RUN}\n{RUN}{CLOSE}", calls=[LS, LS]),
    "blanks of a text": Said(
        CALL.replace(">ls<", "> ls\n<"), calls=[("run_cmd", {"cmd": " ls\n"})]
    ),
    "a closer in a text": Said(
        CALL.replace(">ls<", ">a</atem:parameter>b<"),
        calls=[("run_cmd", {"cmd": "a</atem:parameter>b"})],
    ),
    "a name with a quote": Said(
        CALL.replace('"cmd"', '"a&quot;b"'), calls=[("run_cmd", {'a"b': "ls"})]
    ),
    "the section forgotten": Said(RUN, calls=[LS]),
    "the closers forgotten": Said(f"{OPEN}{RUN.removesuffix('</atem:invoke>')}", calls=[LS]),
    "a word about calls": Said(
        " to=user<|message|>Use <atem:invoke>.", "Use <atem:invoke>."
    ),
    "cut in a value": Said(
        f'{OPEN}<atem:invoke name="run_cmd">\n<atem:parameter name="cmd">l',
        cut=True,
        begun=("run_cmd", '{"cmd": "l'),
    ),
}  # fmt: skip
