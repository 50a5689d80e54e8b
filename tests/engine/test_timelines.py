"""Random lives of a server: whatever was kept, lost, cut or read from disk, the tokens are right.

Rules of this file:
- The judge is a model without any cache, which computes every prompt anew.
- A life has turns, forks, requests at once, clients that leave, evictions, damage and restarts.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model

from mlx_tools_server.engine.engine import Engine
from mlx_tools_server.engine.prompts import Prompt
from mlx_tools_server.engine.reader import ReaderSpec
from mlx_tools_server.events import PartDelta
from mlx_tools_server.messages import Options

from .checkpoints import write_random
from .running import running

pytestmark = pytest.mark.mlx

Ids = tuple[int, ...]
TOKENS = 5
STEPS = 15
ROOM = 3 << 20


class Naive:
    """The model by itself: no cache, no batch."""

    def __init__(self, folder: Path) -> None:
        self._model: Any = load_model(folder)[0]
        self._known: dict[Ids, Ids] = {}

    def say(self, ids: Ids) -> Ids:
        """Return the likeliest tokens behind a prompt."""
        if ids not in self._known:
            cache = make_prompt_cache(self._model)
            said: list[int] = []
            new = list(ids)
            for _ in range(TOKENS):
                scores = self._model(mx.array([new]), cache=cache)[0, -1]
                token: Any = mx.argmax(scores).item()
                new = [token]
                said += new
            self._known[ids] = tuple(said)
        return self._known[ids]


def say(engine: Engine, ids: Ids) -> Ids:
    """Return what the engine says behind a prompt."""
    *_, finished = ask(engine, ids)
    tokens: Ids = finished.tokens
    return tokens


def ask(engine: Engine, ids: Ids, tokens: int = TOKENS) -> Iterator[Any]:
    """Return the events of an answer."""
    return engine.run(Prompt(ids, ReaderSpec(raw=True, max_tokens=tokens)), Options())


def damage(folder: Path, rng: random.Random) -> None:
    """Do to a file of the cache what a disk may do."""
    files = sorted(folder.rglob("*.safetensors"))
    if not files:
        return
    file = rng.choice(files)
    content = bytearray(file.read_bytes())
    kind = rng.randrange(3)
    if kind == 0 or not content:
        file.unlink()
    elif kind == 1:
        file.write_bytes(content[: rng.randrange(len(content))])
    else:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        file.write_bytes(content)


class Life:
    """One server's life, and the conversations that it has had."""

    def __init__(self, engine: Engine, naive: Naive, kept: Path, rng: random.Random) -> None:
        self.engine = engine
        self.naive = naive
        self.kept = kept
        self.rng = rng
        self.conversations: list[Ids] = []

    def draw(self) -> Ids:
        """Return a prompt: new, or one that goes on from somewhere in an earlier conversation."""
        size = self.rng.choice((1, 40, 256, 300, 700))
        more = tuple(self.rng.randrange(100, 3000) for _ in range(size))
        if not self.conversations or self.rng.random() < 0.2:
            return more + more[:600]
        earlier = self.rng.choice(self.conversations[-4:])
        cut = len(earlier) if self.rng.random() < 0.7 else self.rng.randrange(len(earlier))
        return (earlier[:cut] + more)[:3000]

    def turn(self) -> None:
        """Ask, and go on from the answer."""
        ids = self.draw()
        said = say(self.engine, ids)
        assert said == self.naive.say(ids)
        self.conversations.append(ids + said)

    def turns_at_once(self) -> None:
        """Ask several things at the same time."""
        prompts = [self.draw() for _ in range(3)]
        with ThreadPoolExecutor(3) as pool:
            answers = list(pool.map(lambda ids: say(self.engine, ids), prompts))
        assert answers == [self.naive.say(ids) for ids in prompts]

    def leave(self) -> None:
        """Ask, and leave before the answer is whole."""
        events = ask(self.engine, self.draw(), tokens=50)
        for event in events:
            if isinstance(event, PartDelta) or self.rng.random() < 0.3:
                break
        events.close()  # type: ignore[attr-defined]

    def damage(self) -> None:
        """Let the disk fail."""
        with suppress(OSError):  # the server deletes files too
            damage(self.kept, self.rng)


@pytest.mark.parametrize(
    ("architecture", "steps"),
    [
        ("qwen3_next", 6),
        *(
            pytest.param(architecture, STEPS, marks=pytest.mark.slow)
            for architecture in ("qwen3", "qwen3_next", "gpt_oss")
        ),
    ],
)
def test_lives(architecture: str, steps: int, tmp_path: Path) -> None:
    """In three lives of one folder every token is the one that a model without cache says."""
    folder = write_random(tmp_path / "model", architecture)
    naive, rng = Naive(folder), random.Random(architecture)
    kept = tmp_path / "kv"
    conversations: list[Ids] = []
    for _ in range(3):
        with running(folder, no_kv_disk=False, kv_dir=str(kept), kv_ram_bytes=ROOM) as engine:
            life = Life(engine, naive, kept, rng)
            life.conversations = conversations
            acts = [life.turn, life.turn, life.turn, life.turns_at_once, life.leave, life.damage]
            for _ in range(steps // 3):
                rng.choice(acts)()
                assert engine.prompt_cache.nbytes <= ROOM
            del life, acts
