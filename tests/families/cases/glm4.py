"""GLM 4.5 and later, and Laguna: written after the templates of 4.6 and 4.7, and faults after
reports about GLM 4.6, 4.7 and 5."""

from __future__ import annotations

from . import Said

LS = ("run_cmd", {"cmd": "ls"})
CALL = "<tool_call>run_cmd\n<arg_key>cmd</arg_key>\n<arg_value>ls</arg_value>\n</tool_call>"
# Since 4.7 without newlines.
LINE = CALL.replace("\n", "")
NOTE = "<tool_call>save_note<arg_key>file</arg_key><arg_value>a</arg_value>"
BODY = f"{NOTE}<arg_key>body</arg_key><arg_value>"
END = "</arg_value></tool_call>"

CASES = {
    "a call": Said(CALL, calls=[LS]),
    "a call in one line": Said(LINE, calls=[LS]),
    "a call right behind a sentence": Said(f"On it.{LINE}", "On it.", [LS]),
    "a thought, a text and a call": Said(
        f"<think>Hm.</think>\nOn it.\n{CALL}", "On it.", [LS], "Hm."
    ),
    "a thought that the prompt opened": Said(
        f"Hm.</think>{LINE}", calls=[LS], reasoning="Hm.", thought_open=True
    ),
    "two calls": Said(f"{CALL}\n{CALL}", calls=[LS, LS]),
    "two calls in one line": Said(LINE + LINE, calls=[LS, LS]),
    "a call without arguments": Said("<tool_call>run_cmd</tool_call>", calls=[("run_cmd", {})]),
    "a number, and text that looks like one": Said(
        f"{NOTE}<arg_key>mode</arg_key><arg_value>7</arg_value><arg_key>body</arg_key>"
        f"<arg_value>7{END}",
        calls=[("save_note", {"file": "a", "mode": 7, "body": "7"})],
    ),
    "white space of a text": Said(
        f"{BODY}\n  x\n\n{END}", calls=[("save_note", {"file": "a", "body": "\n  x\n\n"})]
    ),
    "a tool that is not on offer": Said(
        LINE.replace("run_cmd", "elsewhere"), calls=[("elsewhere", {"cmd": "ls"})]
    ),
    "a parameter that is not declared": Said(
        LINE.replace("cmd</arg_key>", "zz</arg_key>"), calls=[("run_cmd", {"zz": "ls"})]
    ),
    "a closer in a text": Said(
        f"{BODY}a</arg_value>b{END}",
        calls=[("save_note", {"file": "a", "body": "a</arg_value>b"})],
    ),
    "a whole call in a text": Said(
        f"{BODY}See {LINE}.{END}", calls=[("save_note", {"file": "a", "body": f"See {LINE}."})]
    ),
    "an opener in a text": Said(
        f"{BODY}Write <arg_value> first{END} Done.",
        " Done.",
        [("save_note", {"file": "a", "body": "Write <arg_value> first"})],
    ),
    "a word about calls": Said(
        "A <tool_call> tag, as in `<tool_call>x</tool_call>`, calls.",
        "A <tool_call> tag, as in `<tool_call>x</tool_call>`, calls.",
    ),
    "a line that begins with the opener": Said(
        "<tool_call> is the opener.", "<tool_call> is the opener."
    ),
    "a call in a thought": Said(f"Hm.{LINE}</think>Done.", "Done.", [LS], "Hm.", thought_open=True),
    "the arguments as JSON": Said('<tool_call>run_cmd\n{"cmd": "ls"}\n</tool_call>', calls=[LS]),
    "a call as JSON": Said(
        '<tool_call>{"name": "run_cmd", "arguments": {"cmd": "ls"}}</tool_call>\nDone.',
        "\nDone.",
        [LS],
    ),
    "the opener of a key forgotten": Said(LINE.replace("<arg_key>", ""), calls=[LS]),
    "the opener of a call instead of a key's": Said(
        LINE.replace("<arg_key>", "<tool_call>"), calls=[LS]
    ),
    "the closer of a key forgotten": Said(LINE.replace("</arg_key>", ""), calls=[LS]),
    "the opener of a value forgotten": Said(LINE.replace("<arg_value>", ""), calls=[LS]),
    "the closer of a value forgotten": Said(CALL.replace("</arg_value>", ""), calls=[LS]),
    "the closer of a value forgotten before a key": Said(
        f"{NOTE.removesuffix('</arg_value>')}\n<arg_key>body</arg_key>\n<arg_value>x{END}",
        calls=[("save_note", {"file": "a", "body": "x"})],
    ),
    "the closer of a value twice": Said(
        LINE.replace("</arg_value>", "</arg_value></arg_value>"), calls=[LS]
    ),
    "the closer of a call forgotten": Said(CALL.removesuffix("</tool_call>"), calls=[LS]),
    "the closer forgotten before another call": Said(
        f"{LINE.removesuffix('</tool_call>')}\n{CALL}", calls=[LS, LS]
    ),
    "the opener and the closer of a call twice": Said(
        f"<tool_call>\n{CALL}\n</tool_call>\nDone.", "\nDone.", [LS]
    ),
    "blanks around names": Said(
        "<tool_call> run_cmd <arg_key> cmd </arg_key><arg_value>ls</arg_value></tool_call>",
        calls=[LS],
    ),
    "quotes around a name": Said(LINE.replace("run_cmd", '"run_cmd"'), calls=[LS]),
    "cut in a value": Said(BODY + "x", cut=True, begun=("save_note", '{"file": "a", "body": "x')),
    "cut in a closer": Said(
        BODY + "x</arg_", cut=True, begun=("save_note", '{"file": "a", "body": "x')
    ),
    "words in place of a call": Said(
        "<tool_call>look at it</tool_call>", "<tool_call>look at it</tool_call>"
    ),
    "cut behind a name": Said("<tool_call>run_cmd\n<arg", cut=True, begun=("run_cmd", "")),
    "cut in a name": Said("<tool_call>run", "<tool_call>run", cut=True),
}
