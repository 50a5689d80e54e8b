"""The HTTP server: loads the model, listens, and serves until it is stopped.

Rules of this file:
- What can't work is said before the model is loaded, if that can be known: the port, the folder.
- The engine is held by `serve` alone and goes before it returns.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from .banner import banner
from .config import ServerConfig
from .engine.engine import Engine
from .engine.seams import machine_rank
from .errors import StartupError
from .handler import ToolsHandler
from .history import History
from .models import ModelInfo
from .places import history_file
from .sampling import SamplingPolicy
from .stored import Stored
from .turn import Turns

log = logging.getLogger(__name__)

# Seconds that open streams have to say goodbye.
FAREWELL = 2.0
# Connections that may wait to be accepted; agents open many at once.
BACKLOG = 512


class ToolsServer(ThreadingHTTPServer):
    """Accepts connections; each has its thread."""

    daemon_threads = True
    request_queue_size = BACKLOG

    def __init__(self, config: ServerConfig) -> None:
        self.config = config
        self.turns: Turns | None = None
        self.stored = Stored()
        try:
            found = socket.getaddrinfo(
                config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            self.address_family = found[0][0]
            super().__init__(found[0][4], ToolsHandler)  # type: ignore[arg-type]
        except OSError as error:
            raise StartupError(
                f"Can't listen on {config.host}:{config.port}: {error.strerror or error}",
                "Choose another --port, or --host, or stop what uses it.",
            ) from error

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection."""
        if self.turns is not None:
            ToolsHandler(self.turns, self.stored, self.config, request, client_address, self)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what a connection's thread raised; most often the client has gone."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            log.exception("a connection failed")

    @property
    def url(self) -> str:
        """Where clients reach the server."""
        host, port = str(self.server_address[0]), self.server_address[1]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(config: ServerConfig, info: ModelInfo | None) -> int:
    """Serve until interrupted; return the exit code."""
    logging.basicConfig(
        level=config.log_level, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    with contextlib.ExitStack() as stack:
        if info is not None and config.context_length is None:
            config = replace(config, context_length=info.context_length)
        # Of several machines only the first talks to clients.
        server = stack.enter_context(ToolsServer(config)) if machine_rank() == 0 else None
        name = config.model_name or (info.name if info else str(config.model))
        engine = stack.enter_context(Engine(config, name))
        _wait(engine, name, info)
        if server is None:
            with _on_sigterm(engine.stop_and_join):
                engine.join()
            return 1 if engine.failed else 0
        history = None
        if config.history == "exact":
            history = History(history_file(config), engine.model.fingerprint)
            stack.callback(history.close)
        sampling = SamplingPolicy.of(config, info.sampling if info is not None else {})
        server.turns = turns = Turns(engine, sampling, history)
        print(_banner(server.url, engine, config, info), flush=True)
        if engine.distributed:
            threading.Thread(target=_watch, args=(engine, server), daemon=True).start()
        with _on_sigterm(server.shutdown), contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
        engine.stop_and_join()
        turns.wait_until_ended(FAREWELL)  # each open stream is told that the server stops
        return 1 if engine.failed else 0


@contextlib.contextmanager
def _on_sigterm(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` when the process is asked to end."""

    def start(*_: object) -> None:
        # It waits for the loop that this very thread may be in.
        threading.Thread(target=stop, daemon=True).start()

    previous = signal.signal(signal.SIGTERM, start)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _watch(engine: Engine, server: ToolsServer) -> None:
    """End the server when another machine is lost: this one alone can't answer any more."""
    while engine.is_healthy:
        time.sleep(1)
    server.shutdown()


def _wait(engine: Engine, name: str, info: ModelInfo | None) -> None:
    """Wait for the model, showing how it goes on a terminal."""
    began = time.monotonic()
    size = info.size_bytes if info else 0
    shows = sys.stderr.isatty()
    try:
        while not engine.wait_until_loaded(timeout=0.5):
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


def _banner(url: str, engine: Engine, config: ServerConfig, info: ModelInfo | None) -> str:
    model = engine.model
    return banner(
        url,
        info or ModelInfo(Path(str(config.model)), model.name, "from the hub", 0),
        family=model.family.name,
        why=model.why,
        template=model.template.origin,
        context_length=model.context_length,
        api_key=config.api_key is not None,
    )
