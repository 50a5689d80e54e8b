"""The one task that every client plays: read a file, edit it, run a command, say that it is done.

Rules of this file:
- The script is in the prompt, and the scripted model calls each client's own tools with it.
- A run counts as done only by what is on disk and what the client printed, not by what was sent:
  the command copies the file, so the copy is right only if the edit came first.
- The file's place holds no word that a client would read as an instruction or a mention.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.http.live import call

FILE, COPY = "hello.txt", "copy.txt"
BEFORE, AFTER = "Hello, wrold.\n", "Hello, world.\n"
OLD, NEW = "wrold", "world"
FINAL = "The three steps are done."


@dataclass(frozen=True)
class Call:
    """A tool of a client, and its arguments; `@FILE` and the like stand for the task's words."""

    name: str
    arguments: dict[str, str]


def script(calls: tuple[Call, ...], folder: Path) -> str:
    """Return the prompt that makes the model call these tools in turn and then end."""
    turns = [
        call(step.name, **{key: fill(text, folder) for key, text in step.arguments.items()})
        for step in calls
    ]
    return f"[[SCRIPT]]{'[[NEXT]]'.join([*turns, FINAL])}[[/SCRIPT]]"


def fill(text: str, folder: Path) -> str:
    """Return `text` with the task's words in it."""
    words = {
        "@FILE": str(folder / FILE),
        "@FOLDER": str(folder),
        "@COMMAND": f"cp {FILE} {COPY}",
        "@OLD": OLD,
        "@NEW": NEW,
    }
    for mark, word in words.items():
        text = text.replace(mark, word)
    return text


def lay_out(folder: Path) -> None:
    """Write the file that the task is about, and nothing else."""
    folder.mkdir(parents=True)
    (folder / FILE).write_text(BEFORE)


def undone(folder: Path, *, ran: bool = True) -> str:
    """Return what is missing in the folder, or nothing; `ran` is whether a command was asked."""
    for name in (FILE, COPY) if ran else (FILE,):
        path = folder / name
        text = path.read_text() if path.exists() else None
        if text != AFTER:
            return f"{name} holds {text!r}" if text is not None else f"{name} is missing"
    return ""
