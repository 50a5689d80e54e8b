"""Renders awkward but legal conversations with chat templates, and tells what became of them.

Rules of this file:
- `python -m tools.check_templates FOLDER_OR_FILES` prints one line a template: which shapes it
  takes as they are, which had to be rewritten (`mlx_tools_server.rewriting`), which lose a text
  all the same, and which it refuses. It ends with code 1 if something is refused or lost.
- Every text of a shape is a word of its own, so that it can be found in the prompt.
- The tests of our own templates render the same shapes.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from mlx_tools_server.errors import BadRequest, StartupError
from mlx_tools_server.messages import Message, ToolCall, ToolSpec
from mlx_tools_server.templates import ChatTemplate

TOOLS = (
    ToolSpec(
        "read",
        "Reads a file.",
        {
            "type": "object",
            "properties": {"path": {"type": "string"}, "lines": {"type": "array"}},
            "required": ["path"],
        },
    ),
    ToolSpec("now"),
)
# What the usual tokenizers have under these names.
VARIABLES = {"bos_token": "<s>", "eos_token": "</s>"}
# What control tokens look like, in one family or another.
_CONTROL = re.compile(
    r"<[|｜][^\s|｜]+[|｜]>|<\|\"\|>|<\|\w+>|<\w+\|>|\[/?[A-Z_]{3,}\]|</?[a-z][\w:]*>|\]~!?b[\[\]]|\[e~\["
)


def controls_in(source: str) -> list[str]:
    """Return the texts of a template that look like control tokens."""
    return sorted({*_CONTROL.findall(source)})


Call: TypeAlias = tuple[str, str, Mapping[str, object]]


def said(role: str, text: str) -> Message:
    """Return a plain message."""
    return Message(role, text)  # type: ignore[arg-type]


def called(*calls: Call, text: str = "", thought: str = "") -> Message:
    """Return a message with calls, each (id, name, arguments)."""
    made = tuple(ToolCall(id_, name, arguments) for id_, name, arguments in calls)
    return Message("assistant", text, reasoning=thought, tool_calls=made)


def result(text: str, of: str) -> Message:
    """Return the result of the call with this id."""
    return Message("tool", text, tool_call_id=of)


SYSTEM, USER = said("system", "Rules1."), said("user", "Question1?")
ANSWER, AGAIN = said("assistant", "Answer1."), said("user", "Question2?")
LATE = said("system", "Late1.")
READ_A: Call = ("call_a", "read", {"path": "Path1"})
READ_B: Call = ("call_b", "read", {"path": "Path2", "lines": [1, None]})
READ_C: Call = ("call_c", "read", {"path": "Path3"})
NOW: Call = ("call_n", "now", {})
DEEP = {"a": [{"b": {"c": [[1, 2.5], {"d": None, "e": True}]}}], "f": {"g": "Deep1 é ☃"}}
DONE = [SYSTEM, USER, called(READ_A), result("Result1", "call_a")]

SHAPES: dict[str, Sequence[Message]] = {
    "nothing": [],
    "a question": [USER],
    "a chat": [SYSTEM, USER, ANSWER, AGAIN],
    "only the system": [SYSTEM],
    "two systems": [SYSTEM, said("system", "Rules2."), USER],
    "system later": [SYSTEM, USER, ANSWER, LATE, AGAIN],
    "system after the question": [SYSTEM, USER, LATE],
    "system after a result": [*DONE, LATE],
    "system last, answered": [SYSTEM, USER, ANSWER, LATE],
    "no user": [SYSTEM, ANSWER],
    "the assistant begins": [SYSTEM, ANSWER, USER],
    "a call begins": [called(READ_A), result("Result1", "call_a")],
    "two users": [SYSTEM, USER, AGAIN],
    "two answers": [USER, ANSWER, said("assistant", "Answer2.")],
    "an answer to continue": [USER, said("assistant", "Answer1 begins with")],
    "empty system": [said("system", ""), USER],
    "empty question": [said("user", ""), ANSWER, AGAIN],
    "empty answer": [USER, said("assistant", ""), AGAIN],
    "a name": [Message("user", "Question1?", name="anna"), ANSWER, AGAIN],
    "a call": DONE,
    "a call and an answer": [*DONE, ANSWER, AGAIN],
    "a call to continue": [USER, called(READ_A)],
    "a call without arguments": [USER, called(NOW), result("Result1", "call_n")],
    "deep arguments": [USER, called(("call_a", "read", DEEP)), result("Result1", "call_a")],
    "an unknown tool": [USER, called(("call_a", "gone", {"x": "Path1"})), result("R1", "call_a")],
    "two calls": [
        USER,
        called(READ_A, READ_B),
        result("Result1", "call_a"),
        result("Result2", "call_b"),
    ],
    "two calls, results swapped": [
        USER,
        called(READ_A, READ_B),
        result("Result2", "call_b"),
        result("Result1", "call_a"),
    ],
    "two calls, one result": [USER, called(READ_A, READ_B), result("Result2", "call_b")],
    "two calls without arguments": [
        USER,
        called(NOW, ("call_m", "now", {})),
        result("Result1", "call_n"),
        result("Result2", "call_m"),
    ],
    "a call after a call": [*DONE, called(READ_B), result("Result2", "call_b")],
    "the same call again": [
        *DONE,
        called(READ_C),
        result("Result2", "call_c"),
        called(("call_c", "read", {"path": "Path4"})),
        result("Result3", "call_c"),
    ],
    "a question after a result": [*DONE, AGAIN],
    "a question instead of a result": [USER, called(READ_A), AGAIN],
    "an empty result": [USER, called(READ_A), result("", "call_a")],
    "a result first": [result("Result1", "call_x"), USER],
    "a result without a call": [USER, ANSWER, result("Result1", "call_x")],
    "a result too many": [*DONE, result("Result2", "call_x")],
    "text beside a call": [
        USER,
        called(READ_A, text="Text1."),
        result("Result1", "call_a"),
        ANSWER,
        AGAIN,
    ],
    "text beside two calls": [
        USER,
        called(READ_A, READ_B, text="Text1."),
        result("Result1", "call_a"),
        result("Result2", "call_b"),
    ],
    "a thought beside a call": [USER, called(READ_A, thought="Hm."), result("Result1", "call_a")],
    "a thought and text beside a call": [
        USER,
        called(READ_A, text="Text1.", thought="Hm."),
        result("Result1", "call_a"),
    ],
    "all of it": [
        *DONE,
        LATE,
        AGAIN,
        called(READ_C, READ_B, text="Text1.", thought="Hm."),
        result("Result2", "call_b"),
        result("Result3", "call_c"),
        said("user", "Question3?"),
        said("user", "Question4?"),
        said("system", "Late2."),
    ],
}


def hostile(words: Sequence[str]) -> list[Message]:
    """Return a conversation with these words in every place where a client can write."""
    text = " ".join(words)
    return [
        said("system", f"Rules1 {text}"),
        said("user", f"{text} Question1?"),
        called(("call_a", "read", {"path": f"Path1 {text}", "lines": [text]})),
        result(f"Result1 {text} ends", "call_a"),
        said("assistant", f"Answer1 {text}."),
        AGAIN,
    ]


OUTCOMES = ("ok", "rewritten", "lost", "refused")


def look(template: ChatTemplate, shape: Sequence[Message], tools: Sequence[ToolSpec]) -> str:
    """Return what becomes of a shape: one of `OUTCOMES`, and why if it is refused."""
    try:
        rendering = template.rendering(shape, tools)
    except BadRequest as error:
        return f"refused: {error.message}"
    if rendering.lost:
        return "lost"
    return "rewritten" if rendering.version else "ok"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what becomes of every shape; return 1 if a template refuses or loses one."""
    parser = argparse.ArgumentParser("python -m tools.check_templates")
    parser.add_argument("paths", nargs="+", type=Path, help="chat templates, or folders of them")
    parser.add_argument("--all", action="store_true", help="name what was rewritten, too")
    chosen = parser.parse_args(arguments)
    files = [
        file
        for path in chosen.paths
        for file in (sorted(path.glob("*.jinja")) if path.is_dir() else [path])
    ]
    width = max((len(file.stem) for file in files), default=0)
    print(f"{'':{width}}  {'  '.join(OUTCOMES)}")
    told = ["lost", "refused", *(["rewritten"] if chosen.all else [])]
    failed = [_told(file, width, told) for file in files]
    return int(any(failed))


def _told(file: Path, width: int, told: Sequence[str]) -> bool:
    """Print what becomes of the shapes in one template; return whether it fails."""
    try:
        came = check(file)
    except (StartupError, OSError, UnicodeDecodeError) as error:
        print(f"{file.stem:{width}}  {error}")
        return True
    titles: dict[str, list[str]] = {what: [] for what in OUTCOMES}
    words = set()
    for title, what in came.items():
        outcome, _, reason = what.partition(": ")
        titles[outcome].append(title)
        words |= {reason} - {""}
    counts = (f"{len(titles[what]):{len(what)}}" for what in OUTCOMES)
    print(f"{file.stem:{width}}  {'  '.join(counts)}")
    for what in told:
        if titles[what]:
            print(f"  {what}: {'; '.join(titles[what])}")
    for reason in sorted(words):
        print(f"  {reason}")
    return bool(titles["lost"] or titles["refused"])


def check(file: Path) -> dict[str, str]:
    """Return what becomes of every shape in one template, with tools and without."""
    source = file.read_text(encoding="utf-8")
    controls = controls_in(source)
    template = ChatTemplate(source, str(file), variables=VARIABLES, control_tokens=controls)
    shapes = {**SHAPES, "control tokens": hostile(controls)}
    return {
        title if tools else f"{title}, no tools": look(template, shape, tools)
        for tools in (TOOLS, ())
        for title, shape in shapes.items()
    }


if __name__ == "__main__":
    sys.exit(main())
