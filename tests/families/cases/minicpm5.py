"""MiniCPM5: written after what its template asks for, which is valid XML with CDATA."""

from __future__ import annotations

from . import Said

LS = ("run_cmd", {"cmd": "ls"})
CALL = '<function name="run_cmd"><param name="cmd">ls</param></function>'
HEAD = '<function name="run_cmd"><param name="cmd">'
CDATA = f"{HEAD}<![CDATA["
END = "]]></param></function>"

CASES = {
    "a call": Said(CALL, calls=[LS]),
    "a thought, a text and two calls": Said(
        f"<think>Hm.</think>\n\nOn it.\n{CALL}\n{CALL}", "On it.", [LS, LS], "Hm."
    ),
    "a call without arguments": Said(
        '<function name="run_cmd"></function>', calls=[("run_cmd", {})]
    ),
    "a text in CDATA": Said(
        f"{CDATA}a < b\n& c\n{END}", calls=[("run_cmd", {"cmd": "a < b\n& c\n"})]
    ),
    "CDATA on lines of its own": Said(
        f"{HEAD}\n<![CDATA[x]]>\n</param>\n</function>", calls=[("run_cmd", {"cmd": "x"})]
    ),
    "closers in CDATA": Said(
        f"{CDATA}a]]></b></param></function>]{END}",
        calls=[("run_cmd", {"cmd": "a]]></b></param></function>]"})],
    ),
    "special characters without CDATA": Said(
        f"{HEAD}a < b\n& c</param></function>", calls=[("run_cmd", {"cmd": "a < b\n& c"})]
    ),
    "a tool that is not on offer": Said(
        CALL.replace("run_cmd", "zz"), calls=[("zz", {"cmd": "ls"})]
    ),
    "a word about calls": Said("A <function> has a name.", "A <function> has a name."),
    "the end of CDATA forgotten": Said(f"{CDATA}ls</param></function>", calls=[
        ("run_cmd", {"cmd": "ls</param></function>"})]),
    "the closer behind CDATA forgotten": Said(f"{CDATA}ls]]></function>", calls=[LS]),
    "the closer of a call forgotten": Said(CALL.removesuffix("</function>"), calls=[LS]),
    "single quotes": Said(CALL.replace('"', "'"), calls=[LS]),
    "cut in CDATA": Said(f"{CDATA}l]]", cut=True, begun=("run_cmd", '{"cmd": "l')),
}  # fmt: skip
