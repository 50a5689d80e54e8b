"""Conversations in the four dialects: what a client sends, and whether the answer is right.

A conversation grows by one turn at a time. Each turn's message holds the script that makes the
model say exactly what is wanted, so every text, call and argument is known beforehand.
"""

from __future__ import annotations

import json
import random
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.dialects import judges_messages, judges_responses
from tests.http.live import Heard, tool, user

RUN = tool("run", command="string")
EDIT = tool("edit", path="string", old="string", count="integer", options="object")
TOOLS = [RUN, EDIT]
_SAID = (
    'one two three the file is here now and a < b && c > d; café naïve 日本語 🙂 "quoted" it\'s '
    "back\\slash {} [] 100% f(x) # $HOME/a.txt _under_ *star* tab"
)
WORDS = _SAID.split()


class Wrong(Exception):
    """An answer is not what it has to be."""


class Refused(Exception):
    """The server is busy, says so, and says when to come again."""


@dataclass(frozen=True)
class Wanted:
    """What the model is to say: a text, and then calls."""

    text: str
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()

    @property
    def script(self) -> str:
        """The tokens of it, as the model writes them."""
        return "\n".join([self.text, *(_written(*call) for call in self.calls)])


@dataclass
class Told:
    """What a client heard: the text, the calls with their ids, and whether they are to be run."""

    text: str = ""
    calls: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    runs: bool = False


def words(rng: random.Random, count: int) -> str:
    """Return a text of so many words, with line breaks."""
    said = [rng.choice(WORDS) + rng.choice("    \n") for _ in range(count)]
    return "".join(said).strip()


def any_wanted(rng: random.Random, *, calls: int) -> Wanted:
    """Return some text, with up to so many calls."""
    made = [rng.choice((_any_run, _any_edit))(rng) for _ in range(rng.randint(0, calls))]
    return Wanted(words(rng, rng.randint(1, 40)), tuple(made))


def _any_run(rng: random.Random) -> tuple[str, dict[str, Any]]:
    return "run", {"command": words(rng, rng.randint(1, 30))}


def _any_edit(rng: random.Random) -> tuple[str, dict[str, Any]]:
    options = {"deep": {words(rng, 1): [rng.random(), None, rng.random() < 0.5]}, "n": 3}
    return "edit", {
        "path": f"/tmp/{rng.randint(0, 99)}.txt",
        "old": words(rng, rng.randint(1, 20)),
        "count": rng.randint(-5, 10**9),
        "options": options,
    }


def _written(name: str, arguments: dict[str, Any]) -> str:
    lines = ["<tool_call>", f"<function={name}>"]
    for key, value in arguments.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        lines += [f"<parameter={key}>", text, "</parameter>"]
    return "\n".join([*lines, "</function>", "</tool_call>"])


def scripted(script: str) -> str:
    """Return the text that makes the model say `script`."""
    return f"[[SCRIPT]]{script}[[/SCRIPT]]"


def check(response: httpx.Response) -> None:
    """Raise unless the status is 200."""
    if response.status_code == 503 and "retry-after" in response.headers:
        raise Refused
    if response.status_code != 200:
        raise Wrong(f"{response.status_code}: {response.text[:500]}")


def _spoken(stream: bytes) -> bytes:
    """Leave out what only says that a stream is alive."""
    events = stream.split(b"\n\n")
    return b"\n\n".join(one for one in events if not one.startswith((b":", b"event: ping")))


class Talk(ABC):
    """A conversation of one client; `say` is one turn of it."""

    path = ""
    has_tools = True

    def __init__(self, client: httpx.Client, system: str, rng: random.Random) -> None:
        self.client = client
        self.system = system
        self.rng = rng
        self.pending: list[str] = []
        self.begin()

    def say(self, wanted: Wanted, *, stream: bool, script: str = "") -> None:
        """Let the model say what is wanted, by a script, with the whole conversation before it."""
        body = self.ask(scripted(script or wanted.script))
        response = self.client.post(self.path, json={**body, "stream": stream})
        check(response)
        told = self.heard(_spoken(response.content)) if stream else self.read(response.json())
        calls = [(name, arguments) for _, name, arguments in told.calls]
        if told.text.strip() != wanted.text or calls != list(wanted.calls):
            raise Wrong(f"wanted {wanted}, told {told}")
        if self.has_tools and told.runs != bool(wanted.calls):
            raise Wrong(f"the answer ends wrongly: {told}")
        self.pending = [made for made, _, _ in told.calls]

    def leave(self) -> None:
        """End the conversation, and have forgotten what the server keeps of it."""
        self.pending = []

    @abstractmethod
    def begin(self) -> None:
        """Start anew."""

    @abstractmethod
    def ask(self, text: str) -> dict[str, Any]:
        """Add a message with this text, results of calls if there are any; return the body."""

    @abstractmethod
    def read(self, body: dict[str, Any]) -> Told:
        """Take a whole answer into the conversation."""

    @abstractmethod
    def heard(self, stream: bytes) -> Told:
        """Take a streamed answer into the conversation."""


class ChatTalk(Talk):
    """OpenAI's chat completions."""

    path = "/v1/chat/completions"

    def begin(self) -> None:
        """Start with the system prompt."""
        self.messages: list[dict[str, Any]] = [{"role": "system", "content": self.system}]

    def ask(self, text: str) -> dict[str, Any]:
        """Each result is a message; the last one holds the script."""
        results = [{"role": "tool", "tool_call_id": one, "content": text} for one in self.pending]
        self.messages += results or [{"role": "user", "content": text}]
        return {"model": "m", "messages": self.messages, "tools": TOOLS}

    def read(self, body: dict[str, Any]) -> Told:
        """One message with its calls."""
        choice = body["choices"][0]
        message = choice["message"]
        self.messages.append(message)
        calls = [
            (one["id"], one["function"]["name"], json.loads(one["function"]["arguments"]))
            for one in message.get("tool_calls") or ()
        ]
        return Told(message["content"] or "", calls, choice["finish_reason"] == "tool_calls")

    def heard(self, stream: bytes) -> Told:
        """Deltas that add up to the same."""
        heard = hear(stream)
        calls = [
            {"id": one["id"], "type": "function", "function": {**one, "arguments": one["text"]}}
            for one in heard.calls
        ]
        message = {"role": "assistant", "content": heard.content, "tool_calls": calls}
        return self.read({"choices": [{"message": message, "finish_reason": heard.finish}]})


class TextTalk(Talk):
    """OpenAI's text completions: a raw prompt that grows."""

    path = "/v1/completions"
    has_tools = False

    def begin(self) -> None:
        """Start with the system prompt."""
        self.prompt = self.system

    def ask(self, text: str) -> dict[str, Any]:
        """The prompt is all that was said."""
        self.prompt += "\n" + text
        return {"model": "m", "prompt": self.prompt, "max_tokens": 2000}

    def read(self, body: dict[str, Any]) -> Told:
        """One text."""
        choice = body["choices"][0]
        if choice["finish_reason"] != "stop":
            raise Wrong(f"the text ends with {choice['finish_reason']}")
        self.prompt += choice["text"]
        return Told(choice["text"])

    def heard(self, stream: bytes) -> Told:
        """Pieces of one text."""
        heard = hear(stream)
        return self.read({"choices": [{"text": heard.content, "finish_reason": heard.finish}]})


class MessagesTalk(Talk):
    """Anthropic's messages."""

    path = "/v1/messages"

    def begin(self) -> None:
        """Start with nothing: the system prompt has a field of its own."""
        self.messages: list[dict[str, Any]] = []

    def ask(self, text: str) -> dict[str, Any]:
        """Results are blocks of one message."""
        results = [
            {"type": "tool_result", "tool_use_id": one, "content": text} for one in self.pending
        ]
        self.messages.append({"role": "user", "content": results or text})
        tools = [
            {"name": one["function"]["name"], "input_schema": one["function"]["parameters"]}
            for one in TOOLS
        ]
        fields = {"model": "m", "system": self.system, "tools": tools, "max_tokens": 4000}
        return {**fields, "messages": self.messages}

    def read(self, body: dict[str, Any]) -> Told:
        """One message of blocks."""
        blocks = body["content"]
        self.messages.append({"role": "assistant", "content": blocks})
        text = "".join(block["text"] for block in blocks if block["type"] == "text")
        calls = [(b["id"], b["name"], b["input"]) for b in blocks if b["type"] == "tool_use"]
        return Told(text, calls, body["stop_reason"] == "tool_use")

    def heard(self, stream: bytes) -> Told:
        """Events that add up to the same."""
        return self.read(judges_messages.add_up(judges_messages.events_of(stream)))


class ResponsesTalk(Talk):
    """OpenAI's responses, half of the conversations by the id of the response before."""

    path = "/v1/responses"

    def begin(self) -> None:
        """Start with no response."""
        self.links = self.rng.random() < 0.5
        self.items: list[dict[str, Any]] = []
        self.ids: list[str] = []

    def ask(self, text: str) -> dict[str, Any]:
        """Send all items, or only what is new."""
        new = [
            {"type": "function_call_output", "call_id": one, "output": text} for one in self.pending
        ] or [{"role": "user", "content": text}]
        self.items += new
        tools = [{"type": "function", "strict": False, **one["function"]} for one in TOOLS]
        body = {"model": "m", "instructions": self.system, "tools": tools, "store": self.links}
        if self.links and self.ids:
            return {**body, "input": new, "previous_response_id": self.ids[-1]}
        return {**body, "input": self.items}

    def read(self, body: dict[str, Any]) -> Told:
        """One response of items."""
        if body["status"] != "completed":
            raise Wrong(f"the response is {body['status']}")
        self.items += body["output"]
        self.ids.append(body["id"])
        told = Told()
        for item in body["output"]:
            if item["type"] == "message":
                told.text += "".join(part["text"] for part in item["content"])
            elif item["type"] == "function_call":
                call = (item["call_id"], item["name"], json.loads(item["arguments"]))
                told.calls.append(call)
        told.runs = bool(told.calls)
        return told

    def heard(self, stream: bytes) -> Told:
        """Events that add up to the same."""
        reader = judges_responses.Reader(judges_responses.events_of(stream))
        if reader.items != reader.ended["output"]:
            raise Wrong("the events do not add up to the response")
        return self.read(reader.ended)

    def leave(self) -> None:
        """Delete what was stored: it would stay until newer responses push it out."""
        super().leave()
        for one in self.ids if self.links else ():
            check(self.client.delete(f"/v1/responses/{one}"))


TALKS: dict[str, type[Talk]] = {
    "chat": ChatTalk,
    "completions": TextTalk,
    "messages": MessagesTalk,
    "responses": ResponsesTalk,
}


def hear(stream: bytes) -> Heard:
    """Read a stream of one of OpenAI's two older dialects to its proper end."""
    heard = Heard()
    for line in stream.decode("utf-8").split("\n"):
        heard.hear(line)
    if heard.error or not heard.done:
        raise Wrong(f"the stream ends with {heard.error or stream[-200:]!r}")
    return heard


def one_message(text: str, **fields: Any) -> dict[str, Any]:
    """Return a chat body of one message that makes the model say `text`."""
    return {"model": "m", "messages": [user(text)], **fields}
