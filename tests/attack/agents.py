"""The agents that play against a server: good ones, clumsy ones, broken ones, and a book of it.

A good agent checks each answer to the letter. All others check what they can: the status and the
envelope of an error, the beginning of an answer that the model broke.
"""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import httpx

from . import asking
from .asking import Refused, Talk, Wrong, any_wanted, one_message, words
from .raw import connected, head, post, read_answer

# Prompts that conversations share the beginnings of.
SYSTEMS = tuple(f"You are agent {n}. " + words(random.Random(n), 250 * n) for n in range(4))
CONTEXT = 8192
"""Tokens of context that the server must have for the agents who send too much."""
_KEPT = 20


@dataclass
class Book:
    """What came of everything; safe to use from many threads."""

    counts: Counter[str] = field(default_factory=Counter)
    wrongs: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, what: str) -> None:
        """Count one more."""
        with self.lock:
            self.counts[what] += 1

    def wrong(self, who: str, error: Exception) -> None:
        """Keep what went wrong."""
        with self.lock:
            self.counts["wrong"] += 1
            if len(self.wrongs) < _KEPT:
                self.wrongs.append(f"{who}: {type(error).__name__}: {str(error)[:1500]}")


@dataclass
class Scene:
    """What one agent plays with; `pause` is how long it thinks between requests, in seconds."""

    url: str
    client: httpx.Client
    rng: random.Random
    book: Book
    stop: threading.Event
    pause: float

    def think(self, times: float = 1.0) -> None:
        """Wait as an agent does that runs its tools."""
        self.stop.wait(self.rng.uniform(0.2, 1.8) * self.pause * times)


Play = Callable[[Scene], None]


# --- Good agents --------------------------------------------------------------------------------


def converse(dialect: str) -> Play:
    """Return who has a conversation of some turns in this dialect."""

    def play(scene: Scene) -> None:
        rng = scene.rng
        talk: Talk = asking.TALKS[dialect](scene.client, rng.choice(SYSTEMS), rng)
        calls = 2 if talk.has_tools else 0
        for _ in range(rng.randint(2, 7)):
            talk.say(any_wanted(rng, calls=calls), stream=rng.random() < 0.5)
            scene.book.count(f"turns: {dialect}")
            if scene.stop.is_set():
                break
            if rng.random() < 0.15:
                title(scene)
            scene.think()
        talk.leave()

    return play


def title(scene: Scene) -> None:
    """Ask for a title, as clients do beside a conversation."""
    said = words(scene.rng, 4)
    body = one_message(said, max_tokens=200)
    body["messages"].insert(0, {"role": "system", "content": "Write a title."})
    response = scene.client.post("/v1/chat/completions", json=body)
    asking.check(response)
    if response.json()["choices"][0]["message"]["content"] != said:
        raise Wrong(response.text)
    scene.book.count("titles")


def cut(scene: Scene) -> None:
    """Ask for an answer that a stop string, or the limit on tokens, ends."""
    body = one_message("alpha beta gamma delta", stop=["gamma"])
    limited = one_message("word " * 40, max_tokens=7)
    for asked, text, end in ((body, "alpha beta ", "stop"), (limited, "word " * 7, "length")):
        response = scene.client.post("/v1/chat/completions", json=asked)
        asking.check(response)
        choice = response.json()["choices"][0]
        if (choice["message"]["content"].strip(), choice["finish_reason"]) != (text.strip(), end):
            raise Wrong(response.text)
        scene.book.count("cut answers")
        scene.think()


def think(scene: Scene) -> None:
    """Ask for an answer with a thought before it, half of the thoughts longer than may be."""
    long = scene.rng.random() < 0.5
    thought = "so " * (60 if long else 8)
    said = words(scene.rng, 6)
    body = one_message(f"{thought}\n[[/think]]\n\n{said}", reasoning={"max_tokens": 24})
    response = scene.client.post("/v1/chat/completions", json=body)
    asking.check(response)
    message = response.json()["choices"][0]["message"]
    thoughts, text = message.get("reasoning_content") or "", message["content"]
    if not thought.startswith(thoughts.strip()) or len(thoughts.split()) > 24:
        raise Wrong(response.text)
    if not thoughts or not (text.endswith(said) if long else text == said):
        raise Wrong(response.text)
    scene.book.count("thoughts")


# A schema, what is said, and whether that fits.
FORMATS: Sequence[tuple[Mapping[str, object], str, bool]] = (
    ({"type": "array", "items": {"type": "integer"}}, "[1, -20, 300]", True),
    ({"enum": ["left", "right"]}, '"right"', True),
    ({"type": "object", "properties": {"a": {"type": "string"}}}, '{"a": "b \\" c"}', True),
    ({"type": "array", "items": {"type": "integer"}, "maxItems": 3}, "no numbers", False),
)


def fit(scene: Scene) -> None:
    """Ask for an answer of a certain form, whether the model wants that or not."""
    schema, said, fits = scene.rng.choice(FORMATS)
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    body = one_message(said, response_format=wanted, max_tokens=60)
    response = scene.client.post("/v1/chat/completions", json=body)
    asking.check(response)
    choice = response.json()["choices"][0]
    text = choice["message"]["content"]
    if fits and json.loads(text) != json.loads(said):
        raise Wrong(response.text)
    if not fits and choice["finish_reason"] == "stop" and not isinstance(json.loads(text), list):
        raise Wrong(response.text)
    scene.book.count("answers of a form")


def watch(scene: Scene) -> None:
    """Look at the status page, the figures and the health, as people and collectors do."""
    for path in ("/api/status", "/metrics", "/health", "/ui"):
        response = scene.client.get(path)
        if response.status_code != 200:
            raise Wrong(f"{path}: {response.status_code} {response.text[:300]}")
    scene.book.count("looks at the status")


def send_slowly(scene: Scene) -> None:
    """Send the body in small pieces."""
    wanted = any_wanted(scene.rng, calls=0)
    data = json.dumps(one_message(wanted.text)).encode()
    with connected(scene.url) as sock:
        sock.sendall(head("POST", "/v1/chat/completions", len(data)))
        size = len(data) // 8 + 1
        for start in range(0, len(data), size):
            sock.sendall(data[start : start + size])
            scene.stop.wait(0.15)
        status, body = read_answer(sock)
    if status == 503:
        raise Refused
    if status != 200 or json.loads(body)["choices"][0]["message"]["content"] != wanted.text:
        raise Wrong(f"{status}: {body!r}")
    scene.book.count("slow senders")


def idle(scene: Scene) -> None:
    """Hold connections that say nothing between two requests, and one that says half of one."""
    ask = head("GET", "/v1/models")
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(connected(scene.url)) for _ in range(6)]
        socks[0].sendall(ask[:20])
        for wait in (scene.rng.uniform(1.0, 6.0), 0.0):
            for sock in socks[1:]:
                sock.sendall(ask)
                if read_answer(sock)[0] != 200:
                    raise Wrong("a list of models is refused")
                scene.book.count("idle connections")
            scene.stop.wait(wait)
    scene.think()


# --- Agents that leave --------------------------------------------------------------------------


def leave_in_prefill(scene: Scene) -> None:
    """Send a long prompt, or a part of one, and go."""
    rng = scene.rng
    body = one_message("never", stream=rng.random() < 0.5)
    text = f"{rng.random()} " + "word " * 6000
    body["messages"].insert(0, {"role": "user", "content": text})
    with connected(scene.url, reset=rng.random() < 0.5) as sock:
        data = post("/v1/chat/completions", body)
        if rng.random() < 0.3:
            data = data[: rng.randrange(len(data))]
        sock.sendall(data)
        scene.stop.wait(rng.uniform(0.0, 0.06))
    scene.book.count("left in prefill")
    scene.think()


def leave_in_decode(scene: Scene) -> None:
    """Ask for a long answer in any dialect, read a bit of it, and go."""
    rng = scene.rng
    dialect = rng.choice(list(asking.TALKS))
    talk = asking.TALKS[dialect](scene.client, SYSTEMS[0], rng)
    wanted = any_wanted(rng, calls=0)
    body = talk.ask(asking.scripted(wanted.text + " word" * 1500))
    body |= {"stream": rng.random() < 0.8, "store": False}
    if dialect != "responses":
        del body["store"]
    with connected(scene.url, reset=rng.random() < 0.5) as sock:
        sock.sendall(post(talk.path, body))
        for _ in range(rng.randint(0, 6) if body["stream"] else 0):
            sock.recv(2000)
        scene.stop.wait(rng.uniform(0.0, 0.3))
    scene.book.count("left in decode")
    scene.think()


# --- Agents that are wrong ----------------------------------------------------------------------

LONG = {"messages": [{"role": "user", "content": "word " * (CONTEXT + 50)}]}
HELLO = {"messages": [{"role": "user", "content": "hello"}]}
# Method, path, body, and the statuses that are right.
ERRORS: Sequence[tuple[str, str, bytes | Mapping[str, object], tuple[int, ...]]] = (
    ("POST", "/v1/chat/completions", b"{not json", (400,)),
    ("POST", "/v1/chat/completions", b"", (400,)),
    ("POST", "/v1/chat/completions", b"[" * 3000, (400,)),
    ("POST", "/v1/chat/completions", {}, (400,)),
    ("POST", "/v1/chat/completions", {"messages": "hello"}, (400,)),
    ("POST", "/v1/chat/completions", {**HELLO, "temperature": "warm"}, (400,)),
    ("POST", "/v1/chat/completions", {**HELLO, "logit_bias": {"999999999": 1}}, (400,)),
    ("POST", "/v1/chat/completions", {**HELLO, "tools": [{"type": "function"}]}, (400,)),
    ("POST", "/v1/chat/completions", LONG, (400,)),
    ("POST", "/v1/messages", {**LONG, "max_tokens": 10}, (400,)),
    ("POST", "/v1/messages", {"messages": [{"role": "nobody", "content": 1}]}, (400,)),
    ("POST", "/v1/responses", {"input": LONG["messages"]}, (400,)),
    ("POST", "/v1/responses", {"input": "x", "previous_response_id": "resp_no"}, (400, 404)),
    ("POST", "/v1/completions", {"prompt": [10**9]}, (400,)),
    ("POST", "/v1/completions", {"prompt": {"a": 1}}, (400,)),
    ("GET", "/v1/responses/resp_unknown", b"", (404,)),
    ("DELETE", "/v1/responses/resp_unknown", b"", (404,)),
    ("GET", "/v1/nothing/here", b"", (404,)),
    ("POST", "/v1/nothing/here", HELLO, (404,)),
    ("GET", "/v1/chat/completions", b"", (405,)),
    ("DELETE", "/v1/models", b"", (405,)),
)


def err(scene: Scene) -> None:
    """Send requests that are wrong, all on one connection."""
    for method, path, body, right in scene.rng.sample(ERRORS, 6):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        response = scene.client.request(method, path, content=data)
        if response.status_code not in right or not response.json()["error"]["message"]:
            raise Wrong(f"{method} {path} {data[:80]!r}: {response.status_code} {response.text}")
        scene.book.count("errors")
        scene.think(0.3)


def oversize(scene: Scene) -> None:
    """Announce a body that is larger than any server takes; in chunks, go before it is sent."""
    with connected(scene.url) as sock:
        sock.sendall(head("POST", "/v1/chat/completions", 10**12))
        status, body = read_answer(sock)
    if status != 413 or b'"error"' not in body:
        raise Wrong(f"{status} {body!r}")
    with connected(scene.url) as sock:
        sock.sendall(head("POST", "/v1/chat/completions", None) + b"FFFFFFFFFF\r\n{")
        scene.stop.wait(0.2)
    scene.book.count("oversized bodies")
    scene.think(4)


def boom(scene: Scene) -> None:
    """Let the model raise after some words, in any dialect."""
    rng = scene.rng
    talk = asking.TALKS[rng.choice(list(asking.TALKS))](scene.client, SYSTEMS[0], rng)
    body = {**talk.ask(asking.scripted("one two [[BOOM]]three")), "stream": rng.random() < 0.5}
    response = scene.client.post(talk.path, json=body)
    if response.status_code == 503:
        raise Refused
    if response.status_code != (200 if body["stream"] else 500):
        raise Wrong(f"{response.status_code}: {response.text[:500]}")
    if "scripted failure" not in response.text or "three" in response.text:
        raise Wrong(f"the failure is not told: {response.text[:500]}")
    scene.book.count("model failures")
    scene.think(2)


# --- The company --------------------------------------------------------------------------------

GOOD: dict[str, Play] = {dialect: converse(dialect) for dialect in asking.TALKS}
KINDS: dict[str, Play] = {
    **GOOD,
    "side requests": title,
    "cut": cut,
    "think": think,
    "fit": fit,
    "watch": watch,
    "slow senders": send_slowly,
    "idle": idle,
    "leave in prefill": leave_in_prefill,
    "leave in decode": leave_in_decode,
    "errors": err,
    "oversize": oversize,
    "boom": boom,
}


@contextlib.contextmanager
def company(
    url: str, kinds: Mapping[str, Play], book: Book, *, seed: int, pause: float
) -> Iterator[None]:
    """Let one agent of each kind play until the block ends; then they end and hang up."""
    stop = threading.Event()
    threads = [
        threading.Thread(
            target=_play, args=(name, play, url, book, stop, f"{seed} {name}", pause), daemon=True
        )
        for name, play in kinds.items()
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        until = time.monotonic() + 60.0
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
            if thread.is_alive():
                book.wrong("company", TimeoutError("an agent waits for an answer for ever"))


def _play(
    name: str, play: Play, url: str, book: Book, stop: threading.Event, seed: str, pause: float
) -> None:
    rng = random.Random(seed)
    while not stop.is_set():
        with httpx.Client(base_url=url, timeout=60.0) as client:
            scene = Scene(url, client, rng, book, stop, pause)
            for _ in range(10):
                try:
                    play(scene)
                except Refused:
                    book.count("refused as busy")
                    stop.wait(0.5)
                except Exception as error:
                    book.wrong(name, error)
                    stop.wait(0.2)
                if stop.is_set():
                    return
                scene.think()
