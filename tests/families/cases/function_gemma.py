"""FunctionGemma: Gemma's form with another quote; as the published template renders it."""

from __future__ import annotations

from . import Said

LS = ("run_cmd", {"cmd": "ls"})
Q = "<escape>"


def wrapped(text: str) -> str:
    """Return a text as it stands between the tokens of a call."""
    return f"<start_function_call>{text}<end_function_call>"


CALL = wrapped(f"call:run_cmd{{cmd:{Q}ls{Q}}}")

CASES = {
    "a call": Said(CALL, calls=[LS]),
    "a text and two calls": Said(f"I look.{CALL}{CALL}", "I look.", [LS, LS]),
    "a call without arguments": Said(wrapped("call:run_cmd{}"), calls=[("run_cmd", {})]),
    "a brace and a comma in a text": Said(
        wrapped(f"call:run_cmd{{cmd:{Q}a}}, b:c{Q},x:1}}"),
        calls=[("run_cmd", {"cmd": "a}, b:c", "x": 1})],
    ),
    "an unknown tool": Said(
        wrapped("call:nope{a:1,b:true}"), calls=[("nope", {"a": 1, "b": True})]
    ),
    "a word about the token": Said("A <start_function_call>.", "A <start_function_call>."),
    "the first quote forgotten": Said(CALL.replace(f":{Q}", ":"), calls=[LS]),
    "no quotes": Said(CALL.replace(Q, ""), calls=[LS]),
    "a space for the colon": Said(CALL.replace("call:", "call "), calls=[LS]),
    "cut in a value": Said(
        f"<start_function_call>call:run_cmd{{cmd:{Q}l<esc",
        cut=True,
        begun=("run_cmd", '{"cmd": "l'),
    ),
}
