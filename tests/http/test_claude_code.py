"""The traffic of an interactive Claude Code session: side requests cost the conversation nothing.

Rules of this file:
- Shapes are those that Claude Code sends, with words of our own: a header line that differs from
  request to request, text as a string here and as a block there, `cache_control` that moves.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from .live import Live, call, serve, user

pytestmark = pytest.mark.mlx

BEHAVIOUR = "You are an agent for work on code. " + "Read before you write. " * 120
SURROUNDINGS = "You are in /work. " + "Agents, skills and dates stand here. " * 60


def defined(name: str, **fields: Any) -> dict[str, Any]:
    """Return a tool with a long description."""
    schema = {"type": "object", "properties": {"command": {"type": "string"}}}
    about = f"{name} does one thing. " * 20
    return {"name": name, "description": about, "input_schema": schema, **fields}


LISTED = [defined(name) for name in ("Bash", "Edit", "Read", "ToolSearch", "Write")]
PLACEHOLDER = defined("DeferredToolPlaceholder", defer_loading=True)


@dataclass
class Session:
    """The main conversation, as the client keeps it."""

    live: Live
    script: str
    messages: list[dict[str, Any]] = field(default_factory=list)
    tools: list[dict[str, Any]] = field(default_factory=lambda: [*LISTED, PLACEHOLDER])
    requests: int = 0
    history: int = 0
    shares: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.messages = [
            {"role": "user", "content": [block(user(self.script)["content"], cached=True)]},
            {"role": "system", "content": [block(SURROUNDINGS, cached=True)]},
        ]

    def ask(self, *, history: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        """Send the conversation, take in its answer, and note how much of it was cached."""
        answer = self._post(history or self.messages, self.tools)
        usage = answer["usage"]
        if self.history:
            self.shares.append(usage["cache_read_input_tokens"] / self.history)
        prompt = usage["input_tokens"] + usage["cache_read_input_tokens"]
        self.history = prompt + usage["output_tokens"]
        if history is None:
            self._settle()
            self.messages.append({"role": "assistant", "content": answer["content"]})
        return answer

    def _settle(self) -> None:
        """Write the history as this client does from the second time on."""
        for message in self.messages:
            for part in message["content"] if isinstance(message["content"], list) else ():
                part.pop("cache_control", None)
            if message["role"] == "system" and isinstance(message["content"], list):
                message["content"] = message["content"][0]["text"]

    def result(self, answer: dict[str, Any], content: Any) -> None:
        """Send back what the answer's call gave, after writing its input anew."""
        made = next(part for part in answer["content"] if part["type"] == "tool_use")
        made["input"] = rewritten(made["input"])
        given = {"type": "tool_result", "tool_use_id": made["id"], "content": content}
        self.messages.append({"role": "user", "content": [{**given, **CACHED}]})

    def side(self, system: str, text: str, **fields: Any) -> dict[str, Any]:
        """Ask something beside the conversation."""
        messages = [{"role": "user", "content": text}]
        return self._post(messages, fields.pop("tools", []), system=system, **fields)

    def _post(self, messages: Any, tools: Any, system: str = BEHAVIOUR, **fields: Any) -> Any:
        self.requests += 1
        billing = f"x-anthropic-billing-header: cc_version=2.1.{self.requests}; cc_entrypoint=cli;"
        body = {
            "model": "claude-opus-5-5",
            "max_tokens": 128000,
            "system": [block(billing), block("You are Claude Code."), block(system, cached=True)],
            "messages": copy.deepcopy(messages),
            "tools": copy.deepcopy(tools),
            "metadata": {"user_id": json.dumps({"session_id": "s"})},
            "thinking": {"type": "adaptive", "display": "omitted"},
            "context_management": {"edits": []},
            **fields,
        }
        response = self.live.post("/v1/messages?beta=true", body)
        assert response.status_code == 200, response.text
        return response.json()


CACHED = {"cache_control": {"type": "ephemeral"}}


def block(text: str, *, cached: bool = False) -> dict[str, Any]:
    """Return a block of text."""
    return {"type": "text", "text": text, **(CACHED if cached else {})}


def rewritten(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the input of a call as this client keeps it: without a `cd` to where it is anyway."""
    command = arguments["command"].removeprefix("cd /work && ")
    return {**arguments, "command": command}


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "hybrid"])
def server(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Live]:
    """Return a server whose model's layers can, or can't, be cut back."""
    with serve(tmp_path_factory.mktemp("claude"), hybrid=request.param) as live:
        yield live


def test_session(server: Live) -> None:
    """Title, warm-up, subagent, tool search and compaction leave the prefix in the cache."""
    steps = [
        "I look around.\n" + call("Bash", command="cd /work && ls"),
        call("ToolSearch", command="select:Alarm"),
        call("Alarm", command="ring"),
        "It rang.",
        "A summary of all that.",
    ]
    session = Session(server, "[[NEXT]]".join(steps))
    with ThreadPoolExecutor(3) as pool:
        title = pool.submit(
            session.side,
            "Write a title.",
            user('{"title": "Bells"}')["content"],
            model="claude-haiku-5-5",
            output_config={"format": {"type": "json_schema", "schema": {"type": "object"}}},
        )
        warm = pool.submit(session.side, BEHAVIOUR, user("Warmup")["content"], tools=LISTED)
        first = session.ask()
        helper = user("Found it.")["content"]
        subagent = pool.submit(session.side, "You are a helper. " * 80, helper, tools=LISTED[:2])
        session.result(first, "a.py\nb.py")
        second = session.ask()
        for other in (title, warm, subagent):
            assert other.result()["stop_reason"] == "end_turn"

    session.result(second, [{"type": "tool_reference", "tool_name": "Alarm"}])
    session.tools = [defined("Alarm", defer_loading=True), *session.tools]
    third = session.ask()
    assert [part["name"] for part in third["content"]] == ["Alarm"]
    session.result(third, "ringing")
    assert session.ask()["content"][0]["text"] == "It rang."

    compaction = {"role": "user", "content": "Respond with TEXT ONLY. Do NOT call any tools."}
    summary = session.ask(history=[*session.messages, compaction])
    assert summary["content"][0]["text"] == "A summary of all that."

    assert len(session.shares) == 4
    assert min(session.shares) >= 0.99, session.shares
