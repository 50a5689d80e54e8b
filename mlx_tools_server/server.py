"""The HTTP server: listens, loads the model, and serves until it is stopped.

Rules of this file:
- What can't work is said before the model is loaded, if that can be known: the port, the folder.
- The engine is held by `serve` alone and goes before it returns.
- Who asks the server to stop waits for the answers that are being given; who asks twice does not.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from . import allocator, scratch
from .admission import Admission
from .banner import banner
from .config import ServerConfig
from .engine.engine import Engine
from .engine.group import Group, join
from .errors import StartupError
from .handler import ToolsHandler
from .history import History
from .listener import Listener
from .logs import set_up
from .models import ModelInfo
from .places import cache_folder, history_file
from .recording import recorder
from .sampling import SamplingPolicy
from .service import Service
from .turn import Turns

log = logging.getLogger(__name__)

# Seconds that streams which are cut have to say goodbye.
FAREWELL = 2.0
# Seconds between two looks at the generation loop.
LOOK = 0.5


class ToolsServer(Listener):
    """Serves each connection by a handler of its own."""

    def __init__(self, config: ServerConfig) -> None:
        self.service = Service(recorder(config))
        super().__init__(config, ToolsHandler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection."""
        note = partial(self.connections.note, request)
        ToolsHandler(self.service, self.config, note, request, client_address, self)


def serve(config: ServerConfig, info: ModelInfo | None) -> int:
    """Serve until interrupted; return the exit code."""
    set_up(config.log_level, config.log_format)
    allocator.set_up()
    scratch.set_up(cache_folder())
    with contextlib.ExitStack() as stack:
        if info is not None and config.context_length is None:
            config = replace(config, context_length=info.context_length)
        # Before our own handlers: waiting for other machines ends by a signal.
        group = stack.enter_context(_joined(config))
        stop = stack.enter_context(_signals())
        name = config.model_name or (info.name if info else str(config.model))
        # Of several machines only the first talks to clients.
        server = stack.enter_context(ToolsServer(config)) if group.rank == 0 else None
        if server is not None:
            stack.enter_context(_accepting(server))
        engine = stack.enter_context(Engine(config, name, group))
        if _wait(engine, name, info, stop) and not group.lost():
            if server is not None:
                _answer(server, engine, config, info, stop)
            else:
                _follow(engine, stop)
        elif server is not None and group.size == 1:
            _leave(server)
        if engine.failed:
            return 1
        group.part()
        return 0


def _answer(
    server: ToolsServer,
    engine: Engine,
    config: ServerConfig,
    info: ModelInfo | None,
    stop: threading.Event,
) -> None:
    """Answer clients until the server is asked to stop, or the loop is gone."""
    with contextlib.ExitStack() as stack:
        history = None
        if config.history == "exact":
            history = History(history_file(config), engine.model.fingerprint)
            stack.callback(history.close)
        turns = Turns(
            engine,
            SamplingPolicy.of(config, info.sampling if info else {}),
            history,
            Admission(config.max_requests, config.max_queued_tokens),
        )
        server.service.open(turns)
        _say(_banner(server.url, engine, config, info))
        trimming = allocator.Trimming(lambda: turns.metrics.count("http_requests"))
        while engine.is_healthy and not stop.wait(LOOK):
            trimming.look(rests=not turns.running)
        server.service.stop()
        if engine.is_healthy:
            if turns.running:
                log.info("Stopping when %d answers are given", turns.running)
            turns.wait_until_ended(config.drain_seconds)
        engine.stop_and_join()
        turns.wait_until_ended(FAREWELL)  # each open stream is told that the server stops


def _leave(server: ToolsServer) -> NoReturn:
    """End while the model loads: nothing interrupts that, and nothing of it has to be kept."""
    server.service.stop()
    time.sleep(LOOK)  # who waits for the model is told
    server.server_close()
    os._exit(0)


def _follow(engine: Engine, stop: threading.Event) -> None:
    """Do as the first machine does, until that or this one stops."""
    while engine.is_healthy and not stop.wait(LOOK):
        pass
    engine.stop_and_join()


def _joined(config: ServerConfig) -> Group:
    """Join the other machines, if there are any; Ctrl-C ends the wait for them."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return join(config)
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _accepting(server: ToolsServer) -> Iterator[None]:
    """Let clients connect."""
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def _signals() -> Iterator[threading.Event]:
    """Set the event when the process is asked to stop; when asked again, stop at once."""
    stop = threading.Event()

    def ask(number: int, _: object) -> None:
        if stop.is_set():
            # What is on disk is whole at any time.
            os._exit(128 + number)
        stop.set()

    kinds = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup wants it ignored
        kinds.append(signal.SIGHUP)
    before = {kind: signal.signal(kind, ask) for kind in kinds}
    try:
        yield stop
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def _wait(engine: Engine, name: str, info: ModelInfo | None, stop: threading.Event) -> bool:
    """Return whether the model is loaded, showing how it goes on a terminal."""
    began = time.monotonic()
    size = info.size_bytes if info else 0
    shows = sys.stderr.isatty()
    try:
        while not engine.wait_until_loaded(timeout=LOOK):
            if stop.is_set():
                return False
            if shows:
                share = f" {min(100, 100 * engine.loaded_bytes // size)}%" if size else ""
                seconds = time.monotonic() - began
                print(
                    f"\rloading {name}{share} {seconds:.0f} s ", end="", file=sys.stderr, flush=True
                )
    except StartupError:
        raise
    except Exception as error:
        raise StartupError(
            f"{name} can't be loaded: {type(error).__name__}: {error}",
            "Check that the folder is complete and that this mlx-lm knows the architecture.",
        ) from error
    if shows:
        print("\r\033[K", end="", file=sys.stderr)
    return True


def _say(text: str) -> None:
    """Print a text; a full disk or a reader that has gone must not end the server."""
    try:
        print(text, flush=True)
    except OSError as error:
        log.warning("The banner can't be printed: %s", error.strerror)


def _banner(url: str, engine: Engine, config: ServerConfig, info: ModelInfo | None) -> str:
    model = engine.model
    return banner(
        url,
        info or ModelInfo(Path(str(config.model)), model.name, "from the hub", 0),
        family=model.family.name,
        why=model.why,
        template=model.template.origin,
        context_length=model.context_length,
        api_key=bool(config.keys),
        machines=engine.machines,
    )
