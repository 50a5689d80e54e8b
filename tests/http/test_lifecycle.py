"""Start and stop: what a supervisor, and the clients of a server that ends, get to see."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from mlx_tools_server.engine.scripted import write_checkpoint

from .live import Live, process, serve

pytestmark = pytest.mark.mlx

WORDS = "word " * 60


def test_health(live: Live) -> None:
    """Health tells live from ready."""
    health = live.client.get("/health").json()

    assert (health["status"], health["live"], health["ready"]) == ("ok", True, True)
    assert live.client.get("/livez").status_code == 200
    assert live.client.get("/readyz").json()["status"] == "ok"


def test_loading(tmp_path: Path) -> None:
    """While the model loads the server is live and not ready, and a request waits for it."""
    folder = write_checkpoint(tmp_path / "model")
    gate = tmp_path / "gate"
    with (folder / "model.py").open("a") as model:
        model.write(f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.05)\n")
    socket = tmp_path / "s"
    command = [sys.executable, "-m", "mlx_tools_server", "--model-path", str(folder)]
    command += ["--trust-remote-code", "--uds", str(socket), "--no-kv-disk"]
    ask = {"messages": [{"role": "user", "content": "[[SCRIPT]]fine[[/SCRIPT]]"}]}
    transport = httpx.HTTPTransport(uds=str(socket))

    def start() -> int:
        with process(command, tmp_path) as server:
            server.process.terminate()
            return server.process.wait(20)

    with ThreadPoolExecutor(2) as pool:
        ended = pool.submit(start)
        while not socket.exists():
            time.sleep(0.05)
        with httpx.Client(transport=transport, base_url="http://x", timeout=60) as client:
            health = client.get("/health")
            live = client.get("/livez")
            answer = pool.submit(client.post, "/v1/chat/completions", json=ask)
            time.sleep(0.3)
            assert not answer.done()
            gate.touch()
            assert answer.result().json()["choices"][0]["message"]["content"] == "fine"
        assert ended.result() == 0

    assert (health.status_code, health.json()["status"]) == (503, "loading")
    assert live.status_code == 200


@pytest.mark.slow
def test_stopping_while_the_model_loads(tmp_path: Path) -> None:
    """Who asks a server to stop that still loads its model does not wait for that."""
    folder = write_checkpoint(tmp_path / "model")
    with (folder / "model.py").open("a") as model:
        model.write("import time\nwhile True: time.sleep(0.05)\n")
    socket = tmp_path / "s"
    command = [sys.executable, "-m", "mlx_tools_server", "--model-path", str(folder)]
    command += ["--trust-remote-code", "--uds", str(socket), "--no-kv-disk"]
    transport = httpx.HTTPTransport(uds=str(socket))

    with (
        subprocess.Popen(command) as server,
        httpx.Client(transport=transport, base_url="http://x", timeout=60) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        while not socket.exists():
            time.sleep(0.05)
        ask = {"messages": [{"role": "user", "content": "hello"}]}
        answer = pool.submit(client.post, "/v1/chat/completions", json=ask)
        time.sleep(0.3)
        server.terminate()
        code = server.wait(20)

    assert answer.result().status_code == 503
    assert code == 0
    assert not socket.exists()


@pytest.mark.parametrize(
    "kind", [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)]
)
def test_drain(kind: signal.Signals, tmp_path: Path) -> None:
    """A server that is asked to stop gives the answers it has begun, and takes no others."""
    with serve(tmp_path, step_delay=0.02) as live, ThreadPoolExecutor(2) as pool:
        whole = pool.submit(live.chat, WORDS)
        streamed = pool.submit(live.stream, WORDS)
        kept = live.client
        assert kept.get("/health").status_code == 200
        live.wait_busy(2)
        live.process.send_signal(kind)
        time.sleep(0.3)
        refused = kept.post("/v1/chat/completions", json=live.body("late"))

        assert refused.status_code == 503
        assert "stopping" in refused.json()["error"]["message"]
        assert kept.get("/health").json()["status"] == "stopping"
        assert whole.result()["choices"][0]["message"]["content"] == WORDS
        assert streamed.result().content == WORDS
        assert streamed.result().finish == "stop"
        assert live.process.wait(20) == 0


@pytest.mark.slow
def test_cut_after_the_drain(tmp_path: Path) -> None:
    """An answer that takes longer than the server waits is ended by an event that says why."""
    with (
        serve(tmp_path, "--drain-seconds", "0.5", step_delay=0.05) as live,
        ThreadPoolExecutor(1) as pool,
    ):
        streamed = pool.submit(live.stream, WORDS * 50)
        live.wait_busy(1)
        live.process.send_signal(signal.SIGTERM)

        heard = streamed.result()
        assert heard.error is not None
        assert "stopping" in heard.error["message"]
        assert heard.done
        assert live.process.wait(20) == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_second_signal(kind: signal.Signals, tmp_path: Path) -> None:
    """Who asks twice does not wait."""
    with (
        serve(tmp_path, "--drain-seconds", "60", step_delay=0.05) as live,
        ThreadPoolExecutor(1) as pool,
    ):
        streamed = pool.submit(live.stream, WORDS * 50)
        live.wait_busy(1)
        live.process.send_signal(kind)
        time.sleep(0.3)
        assert live.process.poll() is None
        live.process.send_signal(kind)

        assert live.process.wait(5) == 128 + kind
        with pytest.raises(httpx.HTTPError):
            streamed.result()
        live.killed = True


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_output_that_can_not_be_written(tmp_path: Path) -> None:
    """A server whose output goes to a full disk serves, and ends like any other."""
    folder = write_checkpoint(tmp_path / "model")
    socket = tmp_path / "s"
    command = [sys.executable, "-m", "mlx_tools_server", "--model-path", str(folder)]
    command += ["--trust-remote-code", "--uds", str(socket), "--no-kv-disk"]
    transport = httpx.HTTPTransport(uds=str(socket))

    with (
        Path("/dev/full").open("w") as full,
        subprocess.Popen(command, stdout=full, stderr=full) as server,
        httpx.Client(transport=transport, base_url="http://x", timeout=60) as client,
    ):
        while not socket.exists():
            time.sleep(0.05)
        ask = {"messages": [{"role": "user", "content": "[[SCRIPT]]fine[[/SCRIPT]]"}]}
        answer = client.post("/v1/chat/completions", json=ask)
        server.terminate()
        code = server.wait(20)

    assert answer.json()["choices"][0]["message"]["content"] == "fine"
    assert code == 0


@pytest.mark.slow
def test_a_loop_that_keeps_failing(tmp_path: Path) -> None:
    """A server whose generation loop can't be brought back ends, for its supervisor to see."""
    folder = write_checkpoint(tmp_path / "model")
    code = (
        "import sys; from mlx_tools_server.engine import engine, seams\n"
        "def broken(self): raise RuntimeError('no more')\n"
        "seams.GenerationLoop.serve_batches = broken\n"
        "engine.BACK_OFF = 0.01\n"
        "from mlx_tools_server.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "--model-path", str(folder), "--trust-remote-code"]
    command += ["--port", "0", "--no-kv-disk"]

    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=dict(os.environ)
    )

    assert done.returncode == 1
    assert "no more" in done.stderr
