"""The tools of the built-in traffic, as a coding agent offers them.

Rules of this file:
- Schemas have what real ones have: optional parameters, enums, bounds, lists, nested objects.
- The first ones are enough for an agent; the smaller the traffic, the fewer are offered, and
  very small traffic has them without what is optional.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .conversation import Tool

FEWEST = 4
PLAIN = 0.1


def _text(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": description, **more}


def _whole(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "integer", "description": description, **more}


def _flag(description: str) -> dict[str, Any]:
    return {"type": "boolean", "description": description, "default": False}


def _tool(name: str, description: str, required: int, **properties: Mapping[str, Any]) -> Tool:
    schema = {
        "type": "object",
        "properties": properties,
        "required": [*properties][:required],
        "additionalProperties": False,
    }
    return Tool(name, description, schema)


_PLAN = {
    "type": "array",
    "description": "All steps in their order, also those that are done",
    "minItems": 1,
    "items": {
        "type": "object",
        "properties": {
            "text": _text("What is to be done, in a few words"),
            "state": {"type": "string", "enum": ["open", "active", "done"]},
        },
        "required": ["text", "state"],
    },
}

TOOLS = (
    _tool(
        "read_file",
        "Read a text file. Long files come in parts: ask for the next one by its first line.",
        1,
        path=_text("File to read, from the root of the project"),
        first_line=_whole("Line to begin with, counted from 1", minimum=1),
        lines=_whole("How many lines to read at most", minimum=1, maximum=2000),
    ),
    _tool(
        "write_file",
        "Write a text file, and make its folder if need be. What the file held before is gone: "
        "read it first, and change only parts of it with replace_text.",
        2,
        path=_text("File to write, from the root of the project"),
        content=_text("All that the file shall hold"),
    ),
    _tool(
        "list_folder",
        "List the files and folders in a folder, with their sizes.",
        1,
        path=_text("Folder to list, from the root of the project"),
        depth=_whole("How many levels of folders to go down", minimum=1, maximum=5),
        hidden=_flag("Whether names with a leading dot are listed too"),
    ),
    _tool(
        "replace_text",
        "Replace a text in a file. The old text must be there exactly once, indentation "
        "included, unless all places are meant.",
        3,
        path=_text("File to change"),
        old=_text("Text that is there, to the character"),
        new=_text("Text to put in its place"),
        all=_flag("Whether each place is changed"),
    ),
    _tool(
        "search_text",
        "Search all files for a regular expression. Files that git ignores are left out.",
        1,
        pattern=_text("Regular expression to look for", minLength=1),
        path=_text("Folder to search in; all of the project if left out"),
        files=_text("Names to look at, such as *.py"),
        show=_text("What to return", enum=["lines", "files", "count"], default="lines"),
        around=_whole("Lines to show before and after each match", minimum=0, maximum=20),
    ),
    _tool(
        "run_command",
        "Run a command in a shell at the root of the project, and return its output. Don't use "
        "it for what another tool does, nor for commands that wait for somebody to type.",
        1,
        command=_text("Command line, as for bash"),
        seconds=_whole("Time after which it is ended", minimum=1, maximum=600, default=120),
        background=_flag("Whether to go on while it runs; read its output later"),
        reason=_text("What it is for, in five to ten words"),
    ),
    _tool(
        "find_files",
        "Find files by their names; the last ones changed come first.",
        1,
        pattern=_text("Pattern of names, such as src/**/*.ts"),
        most=_whole("How many names to return at most", minimum=1, maximum=500),
    ),
    _tool(
        "update_plan",
        "Write down the steps of a longer task, and how far they are.",
        1,
        steps=_PLAN,
    ),
    _tool(
        "show_changes",
        "Show what has changed in the project since the last commit, as a diff.",
        0,
        path=_text("File or folder to look at; all of the project if left out"),
        staged=_flag("Whether to show only what the next commit would have"),
    ),
    _tool(
        "move_file",
        "Move or rename a file. It fails if there is a file of that name.",
        2,
        source=_text("File to move"),
        target=_text("Where it shall be, with its name"),
    ),
    _tool(
        "fetch_page",
        "Fetch a page of documentation and return its text.",
        1,
        address=_text("Address of the page", format="uri"),
        question=_text("What to look for on the page"),
    ),
    _tool(
        "ask_user",
        "Ask the user something that can't be found out otherwise.",
        1,
        question=_text("One question, in one sentence"),
        choices={
            "type": "array",
            "description": "Answers to choose from, if there are but a few",
            "items": {"type": "string"},
            "maxItems": 4,
        },
    ),
)


def tools(scale: float) -> tuple[Tool, ...]:
    """Return the tools of traffic of this scale: all of them from a third of its full size on."""
    offered = TOOLS[: max(FEWEST, min(len(TOOLS), round(len(TOOLS) * scale * 3)))]
    return tuple(map(_plain, offered)) if scale < PLAIN else offered


def _plain(tool: Tool) -> Tool:
    """Return a tool with what it can't do without."""
    properties, required = tool.parameters["properties"], tool.parameters["required"]
    schema = {
        "type": "object",
        "properties": {name: properties[name] for name in required},
        "required": required,
    }
    return Tool(tool.name, f"{tool.description.partition('.')[0]}.", schema)
