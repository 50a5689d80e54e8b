"""How much of an agent's history is computed twice, here and in mlx-lm's own server.

Rules of this file:
- Both servers play the same conversations of twenty requests with the scripted checkpoint; the
  cached tokens that they report are compared with what earlier requests put into the context.
- Run it with `python -m tools.compare_history`; it needs the test environment.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from tests.http.live import Live, serve
from tests.http.test_history import STYLES, Conversation


@contextmanager
def stock(folder: Path) -> Iterator[Live]:
    """Serve the checkpoint in this folder with mlx-lm's own server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlx_lm", "server", "--model", str(folder / "model")]
    command += ["--trust-remote-code", "--port", str(port)]
    with (folder / "stock.log").open("w") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log, text=True)
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=url, timeout=60.0) as client:
            wait_until_it_listens(client)
            yield Live(url, running, folder / "stock.log", client)
    finally:
        running.terminate()
        running.wait()


def wait_until_it_listens(client: httpx.Client, seconds: float = 60.0) -> None:
    """Wait for a server that says nothing when it is ready."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            client.get("/health").raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.2)
        else:
            return
    raise TimeoutError("mlx-lm's server does not answer")


def lost(server: Live, style: str) -> str:
    """Return the share of the history that a conversation computes twice."""
    conversation = Conversation(server, STYLES[style], {"model": "default_model"})
    try:
        conversation.play()
    except (AssertionError, KeyError, httpx.HTTPError):
        return "call lost"
    return f"{conversation.lost / conversation.total:.1%}"


def main() -> None:
    """Print the table."""
    kinds = ("attention", "hybrid")
    with ExitStack() as stack:
        servers = []
        for kind in kinds:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            ours = stack.enter_context(serve(folder, "--constrain", "off", hybrid=kind == "hybrid"))
            servers += [ours, stack.enter_context(stock(folder))]
        names = [f"{who}, {kind}" for kind in kinds for who in ("ours", "mlx-lm")]
        print("History computed twice, in twenty requests of tool use.")
        print(f"{'style':<28}" + "".join(f"{name:>20}" for name in names))
        for style in STYLES:
            print(f"{style:<28}" + "".join(f"{lost(one, style):>20}" for one in servers))


if __name__ == "__main__":
    main()
