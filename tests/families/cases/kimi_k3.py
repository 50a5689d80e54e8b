"""Kimi K3: written after its template, with the marks around thoughts and texts."""

from __future__ import annotations

from . import Said

LS = ("run_cmd", {"cmd": "ls"})
OPEN, CLOSE = "<|open|>tools<|sep|>", "<|close|>tools<|sep|>"
HEAD = '<|open|>call tool="run_cmd" index="1"<|sep|>'
KEY = '<|open|>argument key="cmd" type="string"<|sep|>'
END = "<|close|>argument<|sep|>"
DONE = "<|close|>call<|sep|>"
RUN = f"{HEAD}{KEY}ls{END}{DONE}"
CALL = f"{OPEN}{RUN}{CLOSE}"
SAID, SAID_END = "<|open|>response<|sep|>", "<|close|>response<|sep|>"
OVER = "<|close|>message<|sep|>"

CASES = {
    "a call": Said(f"{CALL}{OVER}", calls=[LS]),
    "a thought, a text and a call": Said(
        f"Hm.<|close|>think<|sep|>{SAID}On it.{SAID_END}{CALL}{OVER}",
        "On it.",
        [LS],
        "Hm.",
        thought_open=True,
    ),
    "a thought of the model's own": Said(
        f"<|open|>think<|sep|>Hm.<|close|>think<|sep|>{SAID}Yes.{SAID_END}{OVER}",
        "Yes.",
        reasoning="Hm.",
    ),
    "a text alone": Said(f"Yes.{SAID_END}{OVER}", "Yes."),
    "two calls": Said(
        f"{OPEN}{RUN}{RUN.replace('1', '2')}{CLOSE}", calls=[LS, LS]
    ),
    "a call without arguments": Said(f"{OPEN}{HEAD}{DONE}{CLOSE}", calls=[("run_cmd", {})]),
    "types that no schema knows": Said(
        f"{OPEN}{HEAD}"
        + "".join(
            f'<|open|>argument key="{kind}" type="{kind}"<|sep|>{text}{END}'
            for kind, text in {"number": "1", "boolean": "true", "null": "null", "array": "[1]",
                               "string": "1"}.items()
        )
        + f"{DONE}{CLOSE}",
        calls=[
            ("run_cmd", {"number": 1, "boolean": True, "null": None, "array": [1], "string": "1"})
        ],
    ),
    "the arguments in one block": Said(
        f'{OPEN}{HEAD}<|open|>json type="object"<|sep|>{{"cmd": "ls"}}<|close|>json<|sep|>'
        f"{DONE}{CLOSE}",
        calls=[LS],
    ),
    "a closer in a text": Said(
        CALL.replace(">ls<", f">a{END}b<"), calls=[("run_cmd", {"cmd": f"a{END}b"})]
    ),
    "the section forgotten": Said(RUN, calls=[LS]),
    "the closer of the section forgotten": Said(f"{OPEN}{RUN}", calls=[LS]),
    "the closer of a call forgotten": Said(CALL.replace(DONE, ""), calls=[LS]),
    "single quotes, and no index": Said(
        CALL.replace('"run_cmd" index="1"', "'run_cmd'"), calls=[LS]
    ),
    "cut in a value": Said(f"{OPEN}{HEAD}{KEY}l", cut=True, begun=("run_cmd", '{"cmd": "l')),
    "cut in a closer": Said(
        f"{OPEN}{HEAD}{KEY}l<|close|>arg", cut=True, begun=("run_cmd", '{"cmd": "l')
    ),
}  # fmt: skip
