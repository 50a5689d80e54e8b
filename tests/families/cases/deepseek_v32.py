"""DeepSeek 3.2 and 4: written after the encoder that is published with 3.2, faults after
reports."""

from __future__ import annotations

from . import Said

LS = ("run_cmd", {"cmd": "ls"})
OPEN, CLOSE = "<｜DSML｜function_calls>\n", "\n</｜DSML｜function_calls>"
KEY = '<｜DSML｜parameter name="cmd" string="true">'
RUN = f'<｜DSML｜invoke name="run_cmd">\n{KEY}ls</｜DSML｜parameter>\n</｜DSML｜invoke>'
CALL = f"{OPEN}{RUN}{CLOSE}"
END = f"</｜DSML｜parameter>\n</｜DSML｜invoke>{CLOSE}"

CASES = {
    "a call": Said(CALL, calls=[LS]),
    "a thought, a text and a call": Said(
        f"Hm.</think>On it.\n\n{CALL}", "On it.", [LS], "Hm.", thought_open=True
    ),
    "two calls in one section": Said(f"{OPEN}{RUN}\n{RUN}{CLOSE}", calls=[LS, LS]),
    "a call without arguments": Said(
        f'{OPEN}<｜DSML｜invoke name="run_cmd">\n\n</｜DSML｜invoke>{CLOSE}',
        calls=[("run_cmd", {})],
    ),
    "values that no schema knows": Said(
        CALL.replace('"cmd" string="true">ls', '"a" string="false">[1]</｜DSML｜parameter>\n'
                     '<｜DSML｜parameter name="b" string="true">[1]'),
        calls=[("run_cmd", {"a": [1], "b": "[1]"})],
    ),
    "a string that is said to be none": Said(
        CALL.replace('"true">ls', '"false">12'), calls=[("run_cmd", {"cmd": "12"})]
    ),
    "a closer in a text": Said(
        f'{OPEN}<｜DSML｜invoke name="run_cmd">\n{KEY}a</｜DSML｜parameter>b{END}',
        calls=[("run_cmd", {"cmd": "a</｜DSML｜parameter>b"})],
    ),
    "the section of the next version": Said(
        CALL.replace("function_calls", "tool_calls"), calls=[LS]
    ),
    "the section forgotten": Said(RUN, calls=[LS]),
    "the closer of the section forgotten": Said(f"{OPEN}{RUN}", calls=[LS]),
    "the attribute of the type forgotten": Said(CALL.replace(' string="true"', ""), calls=[LS]),
    "a word about calls": Said("The <｜DSML｜ mark.", "The <｜DSML｜ mark."),
    "cut in a value": Said(
        f'{OPEN}<｜DSML｜invoke name="run_cmd">\n{KEY}l', cut=True, begun=("run_cmd", '{"cmd": "l')
    ),
}  # fmt: skip
