"""LongCat: the tags of GLM with a prefix; written after descriptions of the format and reports."""

from __future__ import annotations

from . import Said

LS = ("run_cmd", {"cmd": "ls"})
KEY = "<longcat_arg_key>cmd</longcat_arg_key>"
VALUE = "<longcat_arg_value>ls</longcat_arg_value>"
CALL = f"<longcat_tool_call>run_cmd\n{KEY}\n{VALUE}\n</longcat_tool_call>"
HEAD = f"<longcat_tool_call>run_cmd\n{KEY}\n<longcat_arg_value>"

CASES = {
    "a call": Said(CALL, calls=[LS]),
    "a call in one line": Said(CALL.replace("\n", ""), calls=[LS]),
    "a thought, a text and two calls": Said(
        f"<longcat_think>Hm.</longcat_think>\nOn it.\n{CALL}\n{CALL}", "On it.", [LS, LS], "Hm."
    ),
    "a call without arguments": Said(
        "<longcat_tool_call>run_cmd\n</longcat_tool_call>", calls=[("run_cmd", {})]
    ),
    "tags of GLM in a text": Said(
        f"{HEAD}x</arg_value></tool_call></longcat_arg_value>\n</longcat_tool_call>",
        calls=[("run_cmd", {"cmd": "x</arg_value></tool_call>"})],
    ),
    "a word about calls": Said(
        "The tag <longcat_tool_call> calls.", "The tag <longcat_tool_call> calls."
    ),
    "a call as JSON": Said(
        '<longcat_tool_call>{"name": "run_cmd", "arguments": {"cmd": "ls"}}</longcat_tool_call>',
        calls=[LS],
    ),
    "the closer of a key forgotten": Said(CALL.replace("</longcat_arg_key>\n", " "), calls=[LS]),
    "the closers of a value and the key forgotten": Said(
        CALL.replace("</longcat_arg_key>", "").replace("</longcat_arg_value>", ""), calls=[LS]
    ),
    "the closer of the call forgotten": Said(CALL.removesuffix("</longcat_tool_call>"), calls=[LS]),
    "cut in a value": Said(f"{HEAD}l", cut=True, begun=("run_cmd", '{"cmd": "l')),
}
