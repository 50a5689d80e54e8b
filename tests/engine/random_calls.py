"""Calls of a model that speaks at random, held to its grammars.

`python -m tests.engine.random_calls` plays as many as are wanted.

Rules of this file:
- The model has random weights and draws at temperature 1; tokens that end things are likelier, so
  that most answers end. What it says would never be a call without a grammar.
- A finished call must name a tool on offer and fit its schema; an answer that is cut is counted.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlx_tools_server.engine.engine import Engine
from mlx_tools_server.jsontext import loads
from mlx_tools_server.messages import (
    ChatRequest,
    Message,
    Options,
    OutputFormat,
    Sampling,
    ToolChoice,
    ToolSpec,
)
from mlx_tools_server.schema import problem

from .checkpoints import write_random
from .running import answer, running

# Requests at once, and tokens of the longest answer.
TOGETHER = 8
LONGEST = 700
# Tokens that end things, and how much likelier they are than others.
WORDS = ("\n</parameter>\n</function>\n", "\n</parameter>\n<parameter=")
ENDS = {WORDS[0]: 40.0, WORDS[1]: 35.0, '"': 20.0, "}": 30.0, "]": 30.0}


def _tool(name: str, *required: str, **properties: Any) -> ToolSpec:
    parameters = {"type": "object", "properties": properties, "required": list(required)}
    return ToolSpec(name, f"It is for {name}.", parameters)


TEXT = {"type": "string"}
WHOLE = {"type": "integer", "minimum": 0}
TOOLS = (
    _tool("Read", "file_path", file_path=TEXT, offset=WHOLE, limit=WHOLE),
    _tool("Write", "file_path", "content", file_path=TEXT, content=TEXT),
    _tool(
        "Edit",
        "file_path",
        "old_string",
        "new_string",
        file_path=TEXT,
        old_string=TEXT,
        new_string=TEXT,
        replace_all={"type": "boolean", "default": False},
    ),
    _tool("Bash", "command", command=TEXT, timeout={"type": "number"}, run_in_background={
        "type": "boolean"}),
    _tool("Grep", "pattern", pattern=TEXT, output_mode={
        "enum": ["content", "files_with_matches", "count"]}, head_limit=WHOLE),
    _tool("TodoWrite", "todos", todos={"type": "array", "maxItems": 2, "items": {
        "type": "object", "required": ["content", "status"], "additionalProperties": False,
        "properties": {"content": {"type": "string", "maxLength": 20},
                       "status": {"enum": ["pending", "in_progress", "completed"]}}}}),
    _tool("WebSearch", "query", query={"type": "string", "minLength": 2},
          allowed_domains={"type": "array", "items": {"type": "string"}, "maxItems": 2}),
    _tool("Level", "level", level={"anyOf": [{"type": "integer"}, {"type": "null"}]}),
    _tool("Day", "day", day={"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"}),
    _tool("Now"),
)  # fmt: skip
FORMAT = {
    "type": "object",
    "properties": {"title": {"type": "string", "maxLength": 30}, "count": {"type": "integer"}},
    "required": ["title"],
    "additionalProperties": False,
}


def bfcl_tools(folder: Path) -> Iterator[tuple[ToolSpec, ...]]:
    """Yield the tool lists of BFCL's questions, found anywhere in this folder."""
    kinds = {"dict": "object", "float": "number", "tuple": "array", "any": "string"}

    def plain(node: Any) -> Any:
        if isinstance(node, list):
            return [plain(item) for item in node]
        if not isinstance(node, dict):
            return node
        made = {key: plain(value) for key, value in node.items()}
        if isinstance(made.get("type"), str):
            made["type"] = kinds.get(made["type"], made["type"])
        if made.get("type") == "boolean":
            made.pop("enum", None)  # some list words, which no boolean can be
        return made

    for path in sorted(folder.rglob("BFCL_v*.json")):
        for line in path.read_text().splitlines():
            try:
                functions = json.loads(line).get("function") or ()
            except ValueError:  # some files are not one question a line
                break
            tools = [
                ToolSpec(one["name"], one.get("description", ""), plain(one["parameters"]))
                for one in functions
                if isinstance(one, dict) and "name" in one
            ]
            if tools:
                yield tuple(tools)


def write_wild(folder: Path) -> Path:
    """Write a model that speaks at random and can end a value and what follows with one token."""
    return write_random(folder, words=WORDS)


class Player:
    """Asks one engine for calls, and judges what comes."""

    def __init__(self, engine: Engine, seed: int) -> None:
        self._engine = engine
        self._random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        vocabulary = json.loads(engine.model.encoder.description or "")["model"]["vocab"]
        bias = {
            vocabulary[text.replace("\n", "\u010a")]: strength for text, strength in ENDS.items()
        }
        self._bias = {**bias, **dict.fromkeys(engine.model.eos, 90.0)}

    def request(self, tools: Sequence[ToolSpec]) -> ChatRequest:
        """Return a request that forces a call of one of these tools, or an answer of a format."""
        kind = self._random.choice(["required", "required", "named", "format"])
        sampling = Sampling(1.0, logit_bias=self._bias, seed=self._random.getrandbits(60))
        made = ChatRequest(
            (Message("user", "Go on."),),
            tools=tuple(tools),
            tool_choice=ToolChoice("required"),
            parallel_tool_calls=self._random.random() < 0.3,
            options=Options(sampling=sampling, max_tokens=LONGEST),
        )
        if kind == "named":
            name = self._random.choice(tools).name
            return replace(made, tool_choice=ToolChoice("named", name))
        if kind == "format":
            form = OutputFormat(FORMAT)
            return replace(made, tool_choice=ToolChoice(), tools=(), output_format=form)
        return made

    def play(self, request: ChatRequest) -> None:
        """Ask once, and judge the answer."""
        told = answer(self._engine, "", **{
            name: getattr(request, name)
            for name in ("tools", "tool_choice", "parallel_tool_calls", "output_format", "options")
        })  # fmt: skip
        reason = told.finished.reason if told.finished else "failed"
        self.counts[reason] += 1
        if reason == "failed":
            self.wrong.append(str(told.failed))
        elif reason == "stop":
            self.wrong += self._judged(request, told)

    def _judged(self, request: ChatRequest, told: Any) -> Iterator[str]:
        if request.output_format is not None:
            if found := _json_problem(told.joined("text"), FORMAT):
                yield f"{told.joined('text')!r}: {found}"
            return
        schemas = {tool.name: tool.parameters for tool in request.tools}
        self.counts["calls"] += len(told.calls)
        if not told.calls or told.joined("text").strip():
            yield f"no call alone: {[(part.kind, part.text) for part in told.parts]}"
        for call in told.calls:
            if request.tool_choice.name not in ("", call.name) or call.name not in schemas:
                yield f"{call.name} was not asked for"
            elif found := _json_problem(call.text, schemas[call.name]):
                yield f"{call.name} {call.text}: {found}"


def _json_problem(text: str, schema: Mapping[str, Any]) -> str | None:
    try:
        return problem(loads(text), schema)
    except ValueError as error:
        return f"no JSON: {error}"


def play(engine: Engine, lists: Sequence[Sequence[ToolSpec]], count: int, seed: int) -> Player:
    """Ask this many times, some at once, and return what came of it."""
    player = Player(engine, seed)
    requests = [player.request(lists[number % len(lists)]) for number in range(count)]
    with ThreadPoolExecutor(TOGETHER) as pool:
        list(pool.map(player.play, requests))
    return player


def main() -> None:
    """Play, and print the counts and what was wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--bfcl", type=Path, help="a folder with an unpacked bfcl-eval")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    lists = list(bfcl_tools(args.bfcl)) if args.bfcl else [TOOLS]
    random.Random(args.seed).shuffle(lists)
    with (
        tempfile.TemporaryDirectory() as folder,
        running(write_wild(Path(folder) / "model")) as engine,
    ):
        player = play(engine, lists, args.count, args.seed)
        print(dict(player.counts), engine.guided)
    print(f"{len(player.wrong)} wrong", *player.wrong[:20], sep="\n")


if __name__ == "__main__":
    main()
