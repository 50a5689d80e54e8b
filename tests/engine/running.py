"""An engine in this process, and what tests ask of it."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from mlx_tools_server.config import ServerConfig
from mlx_tools_server.engine.engine import Engine
from mlx_tools_server.events import Answer, EngineEvent, fold
from mlx_tools_server.messages import ChatRequest, Message, Options, TextRequest, ToolSpec

T = TypeVar("T")

WORDS = "one two three four five six seven eight nine ten "
READ = ToolSpec("read", "", {"type": "object", "properties": {"path": {"type": "string"}}})
CALL = (
    "<tool_call>\n<function=read>\n<parameter=path>\na.txt\n</parameter>\n</function>\n</tool_call>"
)


@contextmanager
def running(folder: Path, **settings: Any) -> Iterator[Engine]:
    """Run an engine; it is gone, model and all, when the block ends."""
    settings = {"trust_remote_code": True, "no_kv_disk": True, **settings}
    with Engine(ServerConfig(model=str(folder), **settings), "m") as engine:
        assert engine.wait_until_loaded(60)
        yield engine
    del engine
    gc.collect()


def script(text: str) -> str:
    """Return the content that makes the scripted model say `text`."""
    return f"[[SCRIPT]]{text}[[/SCRIPT]]"


def chat(*contents: str, **fields: Any) -> ChatRequest:
    """Return a conversation of user messages."""
    options = fields.pop("options", Options())
    messages = tuple(Message("user", content) for content in contents)
    return ChatRequest(messages, options=options, **fields)


def ask(engine: Engine, *contents: str, **fields: Any) -> Generator[EngineEvent, None, None]:
    """Return the events of the answer to a conversation."""
    request = chat(*contents, **fields)
    return engine.run(engine.prepare_chat(request), request.options)


def answer(engine: Engine, *contents: str, **fields: Any) -> Answer:
    """Return the whole answer to a conversation."""
    return fold(ask(engine, *contents, **fields))


def raw(engine: Engine, prompt: str | tuple[int, ...], **fields: Any) -> Answer:
    """Return what continues a raw prompt."""
    options = Options(**fields)
    request = TextRequest(prompt, options=options)
    return fold(engine.run(engine.prepare_text(request), options))


def together(*calls: Callable[[], T]) -> list[T]:
    """Return what calls of the same time give, in their order."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def wait_idle(engine: Engine, seconds: float = 5.0) -> bool:
    """Return whether nothing waits or is in flight within this time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if engine.in_flight == 0:
            return True
        time.sleep(0.01)
    return False
