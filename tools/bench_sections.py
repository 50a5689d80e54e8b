"""What `python -m tools.benchmarks` measures: each section plays traffic and fills a sheet.

Rules of this file:
- All servers of a section answer the same requests, greedy, one after another in each round; the
  order moves on by one each round. While one is measured the others are idle.
- Every round begins with a number of its own, so that none profits from the last one's cache.
- A sheet holds every sample, in the order of the rounds; medians and ratios are the page's work.
- A request that fails is a sample without a value, and is counted.
"""

from __future__ import annotations

import json
import platform
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlx_tools_server.child import tool
from tools.bench_client import Answer, ask, ask_at_once, model_of
from tools.peers import OURS, PEERS, Running, prepare, running, why_not

AGENT_SCALE = "0.05"
# What a row of `bench compare` holds of each request, and what it counts.
COMPARED = {
    "first_token_ms": ("first token", "ms", "lower"),
    "first_argument_ms": ("first byte of a call's arguments", "ms", "lower"),
    "itl_p50_ms": ("between pieces, median", "ms", "lower"),
    "itl_p99_ms": ("between pieces, 99th percentile", "ms", "lower"),
    "tokens_per_s": ("tokens a second", "/s", "higher"),
    "seconds": ("whole answer", "s", "lower"),
    "prompt_tokens": ("prompt", "tokens", ""),
    "recomputed_tokens": ("computed of it", "tokens", "lower"),
    "recomputed_per_new": ("computed for each new token", "tokens", "lower"),
    "argument_deltas": ("pieces of a call's arguments", "", "higher"),
}
COUNTED = {
    "calls": ("calls in all", "", ""),
    "valid_calls": ("of them valid JSON", "", ""),
    "cut_calls": ("of them cut by the token limit", "", ""),
}
STREAMS = (1, 4, 16)
STREAM_TOKENS = 48
WRITE_TOKENS = 96
WRITE = tool("write_file", "Write a file.", path="File", content="Text")
# Long enough for several blocks of any server's cache.
RESTART_LINES = 80
# Between the turns of an agent there is a tool that runs; caches are written meanwhile.
PAUSE = 2.0


@dataclass(slots=True)
class Sheet:
    """The samples of a section: figure → server → one for each round."""

    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def add(self, name: str, unit: str, better: str, server: str, value: float | None) -> None:
        """Add a sample; `better` is `lower`, `higher` or nothing where neither is."""
        empty: dict[str, Any] = {"unit": unit, "better": better, "samples": {}}
        figure = self.figures.setdefault(name, empty)
        figure["samples"].setdefault(server, []).append(value)

    def note(self, server: str, what: str, answer: Answer) -> bool:
        """Return whether an answer is good; keep the reason where it isn't."""
        problem = answer.error or ("" if answer.times else "an answer without a token")
        if problem:
            self.errors.append(f"{server}, {what}: {problem}")
        return not problem


@dataclass(frozen=True, slots=True)
class Lab:
    """What sections need: where the peers and the models are, and how often to repeat."""

    folder: Path
    names: Sequence[str]
    models: Mapping[str, Path]
    rounds: int
    quick: bool = False

    def serving(self, *, gguf: bool = False) -> list[str]:
        """Return the servers that take part, ours first."""
        ready = [peer for peer in PEERS if not why_not(peer, self.folder)]
        wanted = [peer for peer in ready if not self.names or peer.name in (OURS, *self.names)]
        return [peer.name for peer in wanted if gguf or not peer.gguf]

    def rotated(self, names: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
        """Yield each round with its order."""
        for i in range(self.rounds):
            cut = i % len(names)
            yield i, [*names[cut:], *names[:cut]]


def chat(model: str, messages: Sequence[Mapping[str, Any]], tokens: int, **more: Any) -> Any:
    """Return a streamed, greedy request."""
    body = {"model": model, "messages": messages, "max_tokens": tokens, "temperature": 0}
    return {**body, "stream": True, **more}


def milliseconds(seconds: float | None) -> float | None:
    """Return seconds as milliseconds."""
    return None if seconds is None else seconds * 1e3


def prose(seed: int, lines: int) -> str:
    """Return text that no other seed shares a line with."""
    rng = random.Random(seed)
    nouns = ("river", "stone", "cloud", "garden", "window", "letter", "harbour", "engine")
    verbs = ("follows", "carries", "crosses", "answers", "watches", "remembers")
    return "\n".join(
        f"{rng.randrange(10**6)}. The {rng.choice(nouns)} {rng.choice(verbs)} the"
        f" {rng.choice(nouns)} near the {rng.choice(nouns)}."
        for _ in range(lines)
    )


def start(lab: Lab) -> Sheet:
    """Each server alone: from its start to its first answer, and what it holds in memory."""
    sheet, names = Sheet(), lab.serving()
    for i, order in lab.rotated(names):
        for name in order:
            server = prepare(name, lab.models["demo"], lab.folder)
            try:
                server.start()
                sheet.add("start to first answer", "s", "lower", name, server.ready_seconds)
                sheet.add("memory after it", "MB", "lower", name, server.memory() / 1e6)
                _fill(server, sheet, i)
                memory = server.memory() / 1e6
                sheet.add("memory after 4 prompts of 40 lines", "MB", "lower", name, memory)
            finally:
                server.close()
    return sheet


def _fill(server: Running, sheet: Sheet, seed: int) -> None:
    model = model_of(server.url)
    bodies = [
        chat(model, [{"role": "user", "content": prose(seed * 10 + i, 40)}], 16) for i in range(4)
    ]
    for answer in ask_at_once(server.url, bodies)[0]:
        sheet.note(server.peer.name, "memory", answer)


def text(lab: Lab) -> Sheet:
    """A conversation of two turns with a real model: the first is cold, the second is not."""
    sheet, names = Sheet(), lab.serving(gguf=True)
    model, gguf = lab.models["smollm2"], lab.models["gguf"]
    with running(names, model, lab.folder, gguf=gguf) as servers:
        for name in names:  # the first answer of a process warms it up
            _two_turns(servers[name], Sheet(), 10**6)
        for i, order in lab.rotated(names):
            for name in order:
                _two_turns(servers[name], sheet, i)
    return sheet


def _two_turns(server: Running, sheet: Sheet, seed: int) -> None:
    name, model = server.peer.name, model_of(server.url)
    messages = [{"role": "user", "content": prose(seed, 10) + "\n\nTell a long story about it."}]
    for turn in ("cold", "second turn"):
        before = server.processor()
        answer = ask(server.url, chat(model, messages, STREAM_TOKENS))
        good = sheet.note(name, turn, answer)
        first = milliseconds(answer.first) if good else None
        sheet.add(f"first token, {turn}", "ms", "lower", name, first)
        taken = server.processor() - before if good else None
        sheet.add(f"processor time, {turn}", "s", "lower", name, taken)
        if turn != "cold":
            rate = answer.rate if good else None
            sheet.add("tokens a second", "/s", "higher", name, rate)
            sheet.add("prompt", "tokens", "", name, answer.heard.prompt)
            sheet.add("of them cached", "tokens", "higher", name, answer.heard.cached)
        question = {"role": "user", "content": "And what came of it later?"}
        messages = [*messages, answer.message, question]


def streams(lab: Lab) -> Sheet:
    """Several requests at once: tokens of all, a second."""
    sheet, names = Sheet(), lab.serving()
    with running(names, lab.models["demo"], lab.folder) as servers:
        for name in names:
            _at_once(servers[name], Sheet(), 1, 10**6)
        for i, order in lab.rotated(names):
            for count in STREAMS[:2] if lab.quick else STREAMS:
                for name in order:
                    _at_once(servers[name], sheet, count, i)
    return sheet


def _at_once(server: Running, sheet: Sheet, count: int, seed: int) -> None:
    name, model = server.peer.name, model_of(server.url)
    texts = [prose(1000 * seed + 50 * count + i, 2) for i in range(count)]
    wishes = [f'Write "{text}" to notes.txt' for text in texts]
    bodies = [
        chat(model, [{"role": "user", "content": wish}], WRITE_TOKENS, tools=[WRITE])
        for wish in wishes
    ]
    before = server.processor()
    answers, seconds = ask_at_once(server.url, bodies)
    label = f"{count} at once"
    good = [answer for answer in answers if sheet.note(name, label, answer)]
    whole = len(good) == count
    rate = sum(answer.tokens for answer in good) / seconds if whole else None
    sheet.add(f"{label}: tokens a second", "/s", "higher", name, rate)
    taken = server.processor() - before
    sheet.add(f"{label}: processor time", "s", "lower", name, taken if whole else None)
    slowest = max(answer.first or 0.0 for answer in good) if whole else None
    sheet.add(f"{label}: last one's first token", "ms", "lower", name, milliseconds(slowest))


def restart(lab: Lab) -> Sheet:
    """A conversation that goes on after the server was killed, and after it was asked to end."""
    sheet, names = Sheet(), lab.serving()
    for i, order in lab.rotated(names):
        for name in order:
            server = prepare(name, lab.models["demo"], lab.folder)
            try:
                server.start()
                _restarts(server, sheet, i)
            finally:
                server.close()
    return sheet


def _restarts(server: Running, sheet: Sheet, seed: int) -> None:
    name = server.peer.name
    messages = [
        {"role": "system", "content": prose(seed, RESTART_LINES)},
        {"role": "user", "content": "Hello"},
    ]
    for label in ("cold", "hot", "after SIGKILL", "after SIGTERM"):
        if label.startswith("after"):
            time.sleep(PAUSE)
            server.stop(signal.Signals[label.split()[1]])
            server.start()
        answer = ask(server.url, chat(model_of(server.url), messages, 20))
        good = sheet.note(name, label, answer)
        first = milliseconds(answer.first) if good else None
        sheet.add(f"first token, {label}", "ms", "lower", name, first)
        if label != "cold":
            cached, prompt = answer.heard.cached, answer.heard.prompt
            share = None if cached is None or not prompt else 100 * cached / prompt
            sheet.add(f"cached, {label}", "%", "higher", name, share)
        messages = [*messages, answer.message, {"role": "user", "content": f"Thanks, {label}"}]


def agent(lab: Lab) -> Sheet:
    """An agent's conversation with the demo model, by the project's own `bench compare`."""
    out = lab.folder / "agent.json"
    with running(lab.serving(), lab.models["demo"], lab.folder) as servers:
        command = [sys.executable, "-m", "mlx_tools_server", "bench", "compare"]
        command += [f"{name}={server.url}" for name, server in servers.items()]
        command += ["--rounds", str(lab.rounds), "--scale", AGENT_SCALE, "--max-tokens", "128"]
        subprocess.run([*command, "--json", str(out)], check=True)
    return compared(json.loads(out.read_text()))


def compared(document: Mapping[str, Any]) -> Sheet:
    """Return a sheet of what `bench compare` wrote: a sample for each request."""
    sheet, rows = Sheet(), document["rows"]
    names = [server["name"] for server in document["servers"]]
    of = {(row["server"], _request(row)): row for row in rows}
    for request in dict.fromkeys(_request(row) for row in rows):
        for name in names:
            row = of.get((name, request), {})
            for figure, (title, unit, better) in COMPARED.items():
                sheet.add(title, unit, better, name, row.get(figure))
    for name in names:
        mine = [row for row in rows if row["server"] == name]
        for figure, (title, unit, better) in COUNTED.items():
            sheet.add(title, unit, better, name, sum(row[figure] or 0 for row in mine))
        sheet.errors += [f"{name}: {row['error']}" for row in mine if row["error"]]
    return sheet


def _request(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return (row["round"], row["stream"], row["session"], row["turn"])


def machine() -> str:
    """Return what this machine is, in a line."""
    import psutil

    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].split(":", 1)[1].strip() if lines else model
    memory = psutil.virtual_memory().total / 1e9
    system = f"{platform.system()} {platform.machine()}"
    return f"{model}, {psutil.cpu_count()} cores, {memory:.0f} GB, {system}"
