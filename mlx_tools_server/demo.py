"""`demo`: a server, a client, real tools and streamed calls, with nothing to download or set up.

Rules of this file:
- Everything is real: a server process, HTTP, server-sent events, a model with weights of its own.
- The tools work in a temporary folder, and nowhere else.
- What is on screen is what came over the wire, as it came.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .child import Answer, Child, Delta, serving, tool
from .config import PROG
from .errors import StartupError

USAGE = f"""usage: {PROG} demo [--once]

Start a server with the built-in model, and let it call real tools in a temporary folder.

  --once  end when all is shown; else, on a terminal, the server runs on until Ctrl-C"""
WISHES = (
    "Write the text 'milk and bread' into the file notes.txt.",
    "Read the file notes.txt.",
    "In notes.txt replace 'milk' with 'tea'.",
    "What is 17 plus 25?",
    "List the folder reports.",
    "Thank you!",
)
# A wish takes one call and its answer; more means that the model has lost its way.
MAX_STEPS = 4
COLOURS = {"user": 36, "assistant": 0, "tool call": 33, "result": 32, "dim": 2}


def run(arguments: Sequence[str]) -> int:
    """Play the session; return the exit code."""
    if "--help" in arguments or "-h" in arguments:
        print(USAGE)
        return 0
    unknown = [argument for argument in arguments if argument != "--once"]
    if unknown:
        raise StartupError(f"demo does not know {unknown[0]}", "It takes --once only.")
    screen = Screen(colours=sys.stdout.isatty())
    stays = "--once" not in arguments and sys.stdin.isatty() and sys.stdout.isatty()
    screen.note("Starting a server with the built-in model …")
    with serving("--demo", "--no-kv-disk") as child, tempfile.TemporaryDirectory() as folder:
        screen.note(
            f"It listens on {child.url}/v1. What follows is its own model, a very small one,"
        )
        screen.note("calling real tools in a temporary folder. A bar shows where one streamed")
        screen.note("fragment of a call's arguments ends.\n")
        called = _play(child, Tools(Path(folder)), screen)
        screen.note("Serve your own model:  python -m mlx_tools_server --model-path DIR")
        if stays:
            print(child.banner)
            screen.note("This server runs on until you press Ctrl-C.")
            _wait_for_interrupt()
    return 0 if called else 1


def _wait_for_interrupt() -> None:
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        print()


def _play(child: Child, tools: Tools, screen: Screen) -> int:
    """Play all wishes in one conversation; return how many calls were made."""
    messages: list[dict[str, Any]] = []
    called = 0
    for wish in WISHES:
        screen.line("user", wish)
        messages.append({"role": "user", "content": wish})
        for _ in range(MAX_STEPS):
            body = {"model": "demo", "messages": messages, "tools": tools.specs}
            answer = child.ask(body, screen.show)
            screen.note(_cost(answer))
            messages.append(answer.message)
            for call in answer.calls:
                called += 1
                result = tools.call(call["function"]["name"], call["function"]["arguments"])
                screen.line("result", result)
                messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})
            if not answer.calls:
                break
        print()
    return called


def _cost(answer: Answer) -> str:
    """Return what a person wants to know of the time that an answer took."""
    said, prompt = answer.usage["completion_tokens"], answer.usage["prompt_tokens"]
    return (
        f"           {said} tokens in {answer.seconds:.2f} s, the first after "
        f"{answer.first * 1000:.0f} ms; {answer.cached} of {prompt} prompt tokens were cached"
    )


# The tools.


class Tools:
    """A handful of harmless tools that work in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "reports").mkdir()
        for name in ("april.txt", "may.txt"):
            (folder / "reports" / name).write_text(f"Report of {name[:-4]}.\n")
        self._tools: dict[str, Callable[..., str]] = {
            "list_folder": self._list,
            "read_file": self._read,
            "write_file": self._write,
            "replace_text": self._replace,
            "add_numbers": self._add,
        }

    @property
    def specs(self) -> list[dict[str, Any]]:
        """The tools as a request offers them."""
        return [
            tool("list_folder", "List the files of a folder.", path="Folder"),
            tool("read_file", "Read a text file.", path="File"),
            tool("write_file", "Write a text file.", path="File", content="Text"),
            tool("replace_text", "Replace text in a file.", path="File", old="Old", new="New"),
            tool("add_numbers", "Add two numbers.", "integer", a="First", b="Second"),
        ]

    def call(self, name: str, arguments: str) -> str:
        """Return what a tool says; like any agent, say to the model what is wrong."""
        if name not in self._tools:
            return f"There is no tool {name}."
        try:
            return self._tools[name](**json.loads(arguments))
        except (OSError, TypeError, ValueError) as error:
            return f"Error: {error}"

    def _path(self, path: str) -> Path:
        found = (self._folder / path).resolve()
        if not found.is_relative_to(self._folder.resolve()):
            raise ValueError(f"{path} is outside of the demo's folder")
        return found

    def _list(self, path: str) -> str:
        return " ".join(sorted(entry.name for entry in self._path(path).iterdir())) or "empty"

    def _read(self, path: str) -> str:
        return self._path(path).read_text()

    def _write(self, path: str, content: str) -> str:
        self._path(path).write_text(content)
        return f"wrote {len(content)} characters"

    def _replace(self, path: str, old: str, new: str) -> str:
        file = self._path(path)
        text = file.read_text()
        file.write_text(text.replace(old, new))
        count = text.count(old)
        return f"{count} replacement{'s' if count != 1 else ''}"

    def _add(self, a: int, b: int) -> str:
        return str(a + b)


# The screen.


class Screen:
    """Prints who says what, coloured on a terminal and plain elsewhere."""

    def __init__(self, *, colours: bool) -> None:
        self._colours = colours
        self._speaker = ""

    def note(self, text: str) -> None:
        """Print something about the session."""
        self.end()
        print(self._coloured("dim", text), flush=True)

    def line(self, who: str, text: str) -> None:
        """Print what somebody says, at once."""
        self.end()
        print(f"{who:<10} {self._coloured(who, text)}", flush=True)

    def show(self, delta: Delta) -> None:
        """Print a piece of the model's answer behind the last one."""
        if delta.kind == "text":
            self._stream("assistant", delta.text)
        elif delta.kind == "call":
            self.end()
            self._stream("tool call", f"{delta.text} ")
        else:
            self._stream("tool call", f"{delta.text}│")

    def _stream(self, who: str, text: str) -> None:
        if self._speaker != who:
            self.end()
            print(f"{who:<10} ", end="")
            self._speaker = who
        print(self._coloured(who, text), end="", flush=True)

    def end(self) -> None:
        """End the line of whoever speaks."""
        if self._speaker:
            print()
        self._speaker = ""

    def _coloured(self, who: str, text: str) -> str:
        return f"\033[{COLOURS[who]}m{text}\033[0m" if self._colours else text
