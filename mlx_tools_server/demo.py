"""`demo`: a server, a client and a streamed tool call, with no download and nothing to set up.

Rules of this file:
- Everything is real: a server process, HTTP, server-sent events. What is not is said on screen.
- It needs nothing beyond the standard library, and leaves nothing behind.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .errors import StartupError

SCRIPT = """[[SCRIPT]]I will look into the folder first.

<tool_call>
<function=list_folder>
<parameter=path>
.
</parameter>
<parameter=show_hidden>
false
</parameter>
</function>
</tool_call>[[NEXT]]Done. The tool has read the folder, and its result came back.[[/SCRIPT]]"""

TOOL = {
    "type": "function",
    "function": {
        "name": "list_folder",
        "description": "List the files of a folder.",
        "parameters": {
            "type": "object",
            "properties": {"path": {"type": "string"}, "show_hidden": {"type": "boolean"}},
            "required": ["path"],
        },
    },
}


def run() -> int:
    """Show a tool loop on the screen; return the exit code."""
    print("Starting a server with the built-in model …", flush=True)
    with _server() as url:
        print(
            f"It listens on {url}/v1. The demo model is scripted: it has no weights and says what"
        )
        print("its prompt tells it to. All else is as with any model.\n")
        messages: list[dict[str, Any]] = [
            {"role": "user", "content": f"What is in this folder? {SCRIPT}"}
        ]
        print("user       What is in this folder?")
        answer = _ask(url, messages)
        calls = answer.get("tool_calls", [])
        messages.append(answer)
        for call in calls:
            result = _list_folder(json.loads(call["function"]["arguments"]))
            print(f"result     {result[:70]}")
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})
        _ask(url, messages)
    print("\nNow your own model:  python -m mlx_tools_server --model-path DIR")
    return 0 if calls else 1


@contextmanager
def _server() -> Iterator[str]:
    command = [sys.executable, "-m", "mlx_tools_server", "--demo", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if found := re.search(r"(http://\S+?)/v1", line):
                    yield found[1]
                    return
        finally:
            process.terminate()
    raise StartupError("The demo server did not start", "Its own message above says why.")


def _ask(url: str, messages: list[dict[str, Any]]) -> dict[str, Any]:
    """Send the conversation, show each delta as it comes, and return the answer."""
    body = {"model": "demo", "messages": messages, "tools": [TOOL], "stream": True}
    request = urllib.request.Request(
        f"{url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    content: list[str] = []
    calls: list[dict[str, Any]] = []
    shown = ""
    with urllib.request.urlopen(request, timeout=60) as response:
        for line in response:
            if not line.startswith(b"data: {"):
                continue
            delta = json.loads(line[6:])["choices"][0]["delta"]
            if text := delta.get("content"):
                shown = _show("assistant", text, shown)
                content.append(text)
            for piece in delta.get("tool_calls", ()):
                if "id" in piece:
                    calls.append({**piece, "function": dict(piece["function"])})
                    shown = _show("tool call", f"{piece['function']['name']} ", shown)
                elif fragment := piece["function"]["arguments"]:
                    calls[-1]["function"]["arguments"] += fragment
                    shown = _show("tool call", f"{fragment}│", shown)
    print()
    answer: dict[str, Any] = {"role": "assistant", "content": "".join(content)}
    return {**answer, "tool_calls": calls} if calls else answer


def _show(who: str, text: str, shown: str) -> str:
    """Print a delta behind the last one, or on a new line if another speaks.

    A bar shows where one fragment of a call's arguments ends.
    """
    if shown != who:
        print(f"{chr(10) if shown else ''}{who:<10} ", end="")
    print(text, end="", flush=True)
    return who


def _list_folder(arguments: dict[str, Any]) -> str:
    names = sorted(os.listdir(arguments["path"]))
    hidden = arguments.get("show_hidden", False)
    return " ".join(name for name in names if hidden or not name.startswith("."))
