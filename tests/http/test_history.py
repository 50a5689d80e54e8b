"""Agents' conversations: no token of the history is computed twice, however the model wrote it.

Rules of this file:
- A client here does what real ones do: it parses arguments and sends them back as its own JSON.
- History is what the requests before have put into the context: prompts and answers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from .live import Live, serve, tool, user
from .live import call as plain_call

pytestmark = pytest.mark.mlx

BASH = tool("Bash", command="string", background="boolean")
EDIT = tool("Edit", path="string", old="string", new="string")
TODO = tool("Todo", items="array")
TOOLS = [BASH, EDIT, TODO]
USER_TURNS = 5
CALLS = 3


def call(name: str, **arguments: str) -> str:
    """Return a call as the model writes it, with its control tokens."""
    text = plain_call(name, **arguments)
    return text.replace("<tool_call>", "[[tool_call]]").replace("</tool_call>", "[[/tool_call]]")


PLAIN = call("Bash", command="ls -la\ncat a.py", background="false")
RE_SPLIT = PLAIN.replace("ls -la", "l[[CUT]]s -[[CUT]]la").replace("cat", "c[[CUT]]at")


@dataclass(frozen=True)
class Style:
    """How a model writes a call, and what a client does to it before it sends it back."""

    said: str
    rewrite: Callable[[dict[str, Any]], dict[str, Any]] = dict
    final: str = "Done with it."
    keeps_text: bool = True


STYLES = {
    "the template's form": Style("I look.\n\n" + PLAIN),
    "a boolean": Style(call("Bash", command="ls", background="True")),
    "compact JSON": Style(call("Todo", items='[{"text":"a","done":true},{"text":"b"}]')),
    "one newline": Style("I look.\n" + PLAIN),
    "no newline": Style("I look." + PLAIN),
    "two calls": Style("I look.\n\n" + PLAIN + PLAIN),
    "other token boundaries": Style("I l[[CUT]]ook.\n\n" + RE_SPLIT, final="Do[[CUT]]ne."),
    "no closers": Style("<function=Bash>\n<parameter=command>\nls\n</function>"),
    "white space around": Style("I look.\n\n" + PLAIN + "\n", final="Done.\n\n"),
    "Claude Code drops cd": Style(
        call("Bash", command="cd /tmp/w && ls"), lambda args: {**args, "command": "ls"}
    ),
    "Claude Code adds a default": Style(
        call("Edit", path="a", old="b", new="c"), lambda args: {"replace_all": False, **args}
    ),
    "a client sorts keys": Style(
        call("Edit", path="a", old="b", new="c"), lambda args: dict(sorted(args.items()))
    ),
    "anyclaude drops the text": Style("I look.\n\n" + PLAIN, keeps_text=False),
}


@dataclass
class Conversation:
    """A client's side of a conversation, and what it cost."""

    live: Live
    style: Style
    fields: dict[str, Any] = field(default_factory=dict)
    messages: list[dict[str, Any]] = field(default_factory=list)
    history: int = 0
    lost: int = 0
    total: int = 0
    prompts: list[int] = field(default_factory=list)

    @property
    def growth(self) -> list[int]:
        """By how many tokens the prompt grew from each request to the next."""
        return [now - before for before, now in pairwise(self.prompts)]

    def play(self) -> None:
        """Play all user turns: in each some calls with their results, then a text."""
        for _ in range(USER_TURNS):
            self.turn()

    def turn(self) -> None:
        """Play one user turn."""
        said = "[[NEXT]]".join([*[self.style.said] * CALLS, self.style.final])
        self.messages.append(user(said))
        for _ in range(CALLS):
            self.ask()
        assert not self.ask()

    def ask(self) -> bool:
        """Send one request and take in its answer; return whether it made calls."""
        body = {"model": "m", "messages": self.messages, "tools": TOOLS, **self.fields}
        answer = self.live.post("/v1/chat/completions", body).json()
        usage = answer["usage"]
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        self.lost += max(0, self.history - cached)
        self.total += self.history
        self.history = usage["prompt_tokens"] + usage["completion_tokens"]
        self.prompts.append(usage["prompt_tokens"])
        message = answer["choices"][0]["message"]
        calls = message.get("tool_calls") or []
        for made in calls:
            arguments = self.style.rewrite(json.loads(made["function"]["arguments"]))
            made["function"]["arguments"] = json.dumps(arguments, separators=(",", ":"))
        if calls and not self.style.keeps_text:
            message["content"] = None
        message.pop("reasoning_content", None)
        self.messages.append(message)
        for made in calls:
            result = {"role": "tool", "tool_call_id": made["id"], "content": "a.py\nb.py"}
            self.messages.append(result)
        return bool(calls)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Return a server whose model may write its calls in any style."""
    with serve(tmp_path_factory.mktemp("plain"), "--constrain", "off") as server:
        yield server


@pytest.fixture(scope="module")
def hybrid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Return a server of a model whose layers can't be cut back."""
    with serve(tmp_path_factory.mktemp("hybrid"), "--constrain", "off", hybrid=True) as server:
        yield server


@pytest.mark.parametrize("model", ["plain", "hybrid"])
@pytest.mark.parametrize("style", STYLES)
def test_nothing_is_computed_twice(style: str, model: str, request: pytest.FixtureRequest) -> None:
    """In twenty requests of tool use all of the history comes from the KV cache."""
    conversation = Conversation(request.getfixturevalue(model), STYLES[style])
    conversation.play()

    assert len(conversation.prompts) == USER_TURNS * (CALLS + 1)
    assert conversation.lost == 0


@pytest.mark.parametrize("model", ["plain", "hybrid"])
def test_two_agents(model: str, request: pytest.FixtureRequest) -> None:
    """Two conversations that take turns lose nothing by each other."""
    server = request.getfixturevalue(model)
    agents = [Conversation(server, STYLES[style]) for style in ("one newline", "compact JSON")]
    for _ in range(USER_TURNS):
        for agent in agents:
            agent.turn()

    assert [agent.lost for agent in agents] == [0, 0]


@pytest.mark.parametrize("model", ["plain", "hybrid"])
def test_side_requests(model: str, request: pytest.FixtureRequest) -> None:
    """A title is asked for before each turn, and the conversation loses nothing by it."""
    server = request.getfixturevalue(model)
    conversation = Conversation(server, STYLES["a boolean"])
    for number in range(USER_TURNS):
        server.chat(f"Title {number}")
        conversation.turn()

    assert conversation.lost == 0


def test_one_call_at_a_time(plain: Live) -> None:
    """With parallel calls refused, what the model began to say behind its call is left out."""
    style = Style("I look.\n\n" + PLAIN + "\n" + PLAIN)
    cut = Conversation(plain, style, {"parallel_tool_calls": False})
    cut.turn()
    whole = Conversation(plain, STYLES["the template's form"])
    whole.turn()

    assert cut.growth == whole.growth


def test_thoughts_while_tools_run(thinker: Live) -> None:
    """Between two user messages the thoughts of a hybrid model are replayed as they were."""
    conversation = Conversation(
        thinker, Style("I thi[[CUT]]nk so.\n[[/think]]\n\n" + PLAIN, final="x[[/think]]y")
    )
    conversation.turn()

    assert len(conversation.prompts) == CALLS + 1
    assert conversation.lost == 0


def test_preserved_thoughts(tmp_path: Path) -> None:
    """With --history-thinking preserve, thoughts stay when the next user message comes."""
    said = Style("I thi[[CUT]]nk so.\n[[/think]]\n\n" + PLAIN, final="So.[[/think]]Done.")
    flags = ("--history-thinking", "preserve")
    with serve(tmp_path, *flags, template="qwen3_5", thinking=True, hybrid=True) as server:
        conversation = Conversation(server, said)
        conversation.play()

    assert len(conversation.prompts) == USER_TURNS * (CALLS + 1)
    assert conversation.lost == 0


def test_changed_call(plain: Live) -> None:
    """A call that the client really changed is what the client says it was."""
    style = Style(call("Bash", command="ls"), lambda args: {**args, "command": "ls -la /tmp"})
    changed = Conversation(plain, style)
    changed.turn()
    other = Conversation(plain, Style(call("Bash", command="ls -la /tmp")))
    other.turn()

    assert changed.growth == other.growth


def test_template_history(tmp_path: Path) -> None:
    """With --history template the prompt is what the template writes."""
    with serve(tmp_path, "--history", "template") as server:
        split = Conversation(server, STYLES["other token boundaries"])
        split.turn()
        whole = Conversation(server, Style("I look.\n\n" + PLAIN, final="Done."))
        whole.turn()

    assert split.growth == whole.growth


def test_restart(tmp_path: Path) -> None:
    """After a restart the same history has the same tokens."""
    with serve(tmp_path) as server:
        before = Conversation(server, STYLES["other token boundaries"])
        before.turn()
    with serve(tmp_path) as server:
        again = Conversation(server, STYLES["other token boundaries"])
        again.messages = before.messages[:-1]
        again.ask()

    assert again.prompts[-1] == before.prompts[-1]
