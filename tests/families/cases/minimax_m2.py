"""MiniMax M2 and its successors up to 2.7: written after their template, and faults after
reports."""

from __future__ import annotations

from . import Said

LS, NOTE = ("run_cmd", {"cmd": "ls"}), ("save_note", {"file": "a", "body": "x"})
OPEN, CLOSE = "<minimax:tool_call>\n", "\n</minimax:tool_call>"
RUN = '<invoke name="run_cmd">\n<parameter name="cmd">ls</parameter>\n</invoke>'
CALL = f"{OPEN}{RUN}{CLOSE}"
BODY = (
    f'{OPEN}<invoke name="save_note">\n<parameter name="file">a</parameter>\n'
    '<parameter name="body">'
)
END = f"</parameter>\n</invoke>{CLOSE}"


def note(body: str) -> tuple[str, dict[str, str]]:
    """Return the call of a note with this body."""
    return "save_note", {"file": "a", "body": body}


CASES = {
    "a call": Said(CALL, calls=[LS]),
    "a thought, a text and a call": Said(
        f"Hm.\n</think>\n\nOn it.\n{CALL}", "On it.", [LS], "Hm.", thought_open=True
    ),
    "two calls in one section": Said(f"{OPEN}{RUN}\n{RUN}{CLOSE}", calls=[LS, LS]),
    "two sections": Said(f"{CALL}\n{CALL}\nDone.", "\nDone.", [LS, LS]),
    "a call in one line": Said(CALL.replace("\n", ""), calls=[LS]),
    "a call without arguments": Said(
        f'{OPEN}<invoke name="run_cmd">\n</invoke>{CLOSE}', calls=[("run_cmd", {})]
    ),
    "a number, and text that looks like one": Said(
        f'{BODY}12</parameter>\n<parameter name="mode">12{END}',
        calls=[("save_note", {"file": "a", "body": "12", "mode": 12})],
    ),
    "white space of a text": Said(f"{BODY}\n  x\n{END}", calls=[note("\n  x\n")]),
    "a tool that is not on offer": Said(
        CALL.replace("run_cmd", "elsewhere"), calls=[("elsewhere", {"cmd": "ls"})]
    ),
    "a parameter that is not declared": Said(
        CALL.replace('"cmd"', '"zz"'), calls=[("run_cmd", {"zz": "ls"})]
    ),
    "a closer in a text": Said(
        f"{BODY}<parameter>\n<a></a>\n</parameter>\n<b/>{END}",
        calls=[note("<parameter>\n<a></a>\n</parameter>\n<b/>")],
    ),
    "the closer of the section in a text": Said(
        f"{BODY}say </minimax:tool_call> last{END}",
        calls=[note("say </minimax:tool_call> last")],
    ),
    "a whole call in a text": Said(
        f"{BODY}See:\n{CALL}\nDone.{END}", calls=[note(f"See:\n{CALL}\nDone.")]
    ),
    "a word about calls": Said(
        "Use `<minimax:tool_call>` and <invoke name=…>.",
        "Use `<minimax:tool_call>` and <invoke name=…>.",
    ),
    "a section that holds none": Said(
        "<minimax:tool_call> opens a call.", "<minimax:tool_call> opens a call."
    ),
    "a call in a thought": Said(
        f"Hm.\n{CALL}\n</think>\n\nDone.", "\n\nDone.", [LS], "Hm.", thought_open=True
    ),
    "the section forgotten": Said(f"On it.\n{RUN}\nDone.", "On it.\nDone.", [LS]),
    "the section forgotten, of an unknown tool": Said(
        RUN.replace("run_cmd", "zz"), RUN.replace("run_cmd", "zz")
    ),
    "the section twice": Said(f"{OPEN}{CALL}{CLOSE}", calls=[LS]),
    "the closer of the section forgotten": Said(f"{OPEN}{RUN}", calls=[LS]),
    "the closer of a call forgotten": Said(CALL.replace("\n</invoke>", ""), calls=[LS]),
    "the closer of a call forgotten before another": Said(
        f"{OPEN}{RUN.removesuffix('</invoke>')}{RUN}{CLOSE}", calls=[LS, LS]
    ),
    "the closer of a value forgotten": Said(CALL.replace("</parameter>", ""), calls=[LS]),
    "the closer of a value forgotten before another": Said(
        f'{OPEN}<invoke name="save_note"><parameter name="file">a\n<parameter name="body">x{END}',
        calls=[NOTE],
    ),
    "the closer of a value twice": Said(
        CALL.replace("</parameter>", "</parameter></parameter>"), calls=[LS]
    ),
    "quotes missing, or single": Said(
        CALL.replace('"run_cmd"', "run_cmd").replace('"cmd"', "'cmd'"), calls=[LS]
    ),
    "blanks around names": Said(
        CALL.replace('"run_cmd"', '" run_cmd "').replace('="cmd"', ' = "cmd"'), calls=[LS]
    ),
    "the arguments as JSON": Said(
        f'{OPEN}<invoke name="run_cmd">\n{{"cmd": "ls"}}\n</invoke>{CLOSE}', calls=[LS]
    ),
    "a call as JSON": Said(
        f'{OPEN}{{"name": "run_cmd", "arguments": {{"cmd": "ls"}}}}{CLOSE}', calls=[LS]
    ),
    "cut in a value": Said(BODY + "x", cut=True, begun=("save_note", '{"file": "a", "body": "x')),
    "cut in a closer": Said(
        BODY + "x</param", cut=True, begun=("save_note", '{"file": "a", "body": "x')
    ),
    "cut behind a call": Said(f"{OPEN}{RUN}\n</mini", calls=[LS], cut=True),
}
