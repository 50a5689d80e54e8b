"""Settings, cache folder, port and open files."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from mlx_tools_server.config import ServerConfig
from mlx_tools_server.doctor import surroundings
from mlx_tools_server.doctor.finding import Finding
from mlx_tools_server.doctor.settings import Settings, check_access, read_settings
from mlx_tools_server.doctor.surroundings import check_cache, check_files, check_port
from mlx_tools_server.errors import StartupError
from mlx_tools_server.flags import read_args
from tests.kv.samples import blocks, offer, opened, tokens


def settings(*argv: str, **env: str) -> Settings:
    return read_settings(read_args(argv), env)


def status(found: list[Finding]) -> list[str]:
    return [each.status for each in found]


# Settings.


def test_a_bad_flag_raises() -> None:
    """Who calls it wrongly is told so at once."""
    with pytest.raises(StartupError, match="--port can't be"):
        settings("--port", "x")


def test_bad_variables_are_findings() -> None:
    """A bad variable is named, and the good ones still count."""
    found = settings(MLX_TOOLS_PORT="x", MLX_TOOLS_PROT="1", MLX_TOOLS_TEMP="0.5")

    assert found.findings[1].status == "problem"
    assert "MLX_TOOLS_PORT" in found.findings[1].seen
    assert "MLX_TOOLS_PROT" in found.findings[1].seen
    assert found.config.temp == 0.5


def test_variables_are_listed_without_secrets() -> None:
    """Variables that are set are shown, keys aside."""
    found = settings(MLX_TOOLS_API_KEY="very-secret", MLX_TOOLS_PORT="9000").findings[1]

    assert found.status == "ok"
    assert "MLX_TOOLS_PORT=9000" in found.seen
    assert "very-secret" not in str(found)
    assert found.facts["variables"] == ["MLX_TOOLS_API_KEY", "MLX_TOOLS_PORT"]


@pytest.mark.parametrize(
    ("content", "seen"),
    [(None, "can't be read"), ("port =", "not valid TOML"), ("prot = 1", "Unknown key")],
    ids=["missing", "no TOML", "an unknown key"],
)
def test_bad_config_files(tmp_path: Path, content: str | None, seen: str) -> None:
    """A config file that can't be used is a finding."""
    path = tmp_path / "c.toml"
    if content is not None:
        path.write_text(content)
    found = settings("--config", str(path)).findings[0]

    assert found.status == "problem"
    assert seen in found.seen


def test_good_config_file(tmp_path: Path) -> None:
    """A config file that can be used counts."""
    path = tmp_path / "c.toml"
    path.write_text("port = 9001")
    found = settings(MLX_TOOLS_CONFIG=str(path))

    assert found.findings[0].status == "ok"
    assert found.config.port == 9001


# Access.


SHORT, LONG = {"MLX_TOOLS_API_KEY": "short"}, {"MLX_TOOLS_API_KEY": "k" * 32}
ACCESS = [
    pytest.param([], {}, "ok", "this machine only", id="the default"),
    pytest.param(["--host", "0.0.0.0"], {}, "problem", "no API key", id="open without a key"),
    pytest.param(["--host", "::"], SHORT, "warning", "fewer than", id="a short key"),
    pytest.param(["--host", "::"], LONG, "ok", "other machines", id="a long key"),
    pytest.param(["--api-key", "k" * 32], {}, "warning", "processes", id="a key in sight"),
    pytest.param(["--allowed-origins", "*"], {}, "warning", "every web page", id="every page"),
    pytest.param(["--uds", "/tmp/s"], {}, "ok", "its owner", id="a socket"),
]  # fmt: skip


@pytest.mark.parametrize(("argv", "env", "expected", "seen"), ACCESS)
def test_access(argv: list[str], env: dict[str, str], expected: str, seen: str) -> None:
    """Whoever could get in unasked is named, and no key is shown."""
    (found,) = check_access(settings(*argv, **env))

    assert found.status == expected
    assert seen in found.seen
    assert "kkkk" not in str(found)


def test_keys_that_others_can_read(tmp_path: Path) -> None:
    """A key file that others can read is a warning."""
    path = tmp_path / "keys"
    path.write_text("k" * 32)
    path.chmod(0o644)
    (found,) = check_access(settings("--api-key-file", str(path)))
    path.chmod(0o600)

    assert found.remedy == f"chmod 600 {path}"
    assert status(check_access(settings("--api-key-file", str(path)))) == ["ok"]


# The cache folder.


@pytest.fixture
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let any disk have room enough."""
    monkeypatch.setattr(surroundings, "DISK_FLOOR", 1)


def cache(folder: Path, **fields: Any) -> list[Finding]:
    return check_cache(ServerConfig(kv_dir=str(folder), **fields), fast=False)


@pytest.mark.usefixtures("roomy")
def test_cache_folders(tmp_path: Path) -> None:
    """A folder that is missing is fine; one that is open to others, or a file, is not."""
    good, file = tmp_path / "good", tmp_path / "file"
    good.mkdir(mode=0o700)
    file.write_text("")

    assert status(cache(tmp_path / "later" / "kv")) == ["ok"]
    assert not (tmp_path / "later").exists()
    assert status(cache(good)) == ["ok"]
    assert status(cache(file / "kv")) == ["problem"]
    good.chmod(0o755)
    assert cache(good)[0].remedy == f"chmod 700 {good}"
    assert status(check_cache(ServerConfig(no_kv_disk=True), fast=False)) == ["ok"]


def test_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is nearly full is a warning, with how much is free."""
    monkeypatch.setattr(surroundings, "DISK_FLOOR", 1 << 62)

    assert status(cache(tmp_path)) == ["warning"]


@pytest.mark.usefixtures("roomy")
def test_damaged_records(tmp_path: Path) -> None:
    """Records are read, and damaged ones counted; nothing is deleted, and not all waited for."""
    tmp_path.chmod(0o700)
    with opened(tmp_path / "kv") as tier:
        offer(tier, *blocks(tokens("abcdefgh")))
    files = sorted((tmp_path / "kv").rglob("*.safetensors"))

    assert "2 records" in cache(tmp_path)[0].seen
    assert "all read and intact" in cache(tmp_path)[0].seen
    files[0].write_bytes(b"damaged")
    (found,) = cache(tmp_path)
    assert found.status == "warning"
    assert "1 of 2" in found.seen
    assert found.remedy == "mlx-tools-server cache verify"
    assert files[0].exists()
    assert status(check_cache(ServerConfig(kv_dir=str(tmp_path)), fast=True)) == ["ok"]


# The port.


@contextlib.contextmanager
def listening(answer: bytes | None) -> Iterator[int]:
    """Listen on a port, with a server that says this of itself, or nothing."""
    if answer is None:
        with socket.create_server(("127.0.0.1", 0)) as held:
            yield held.getsockname()[1]
        return

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer or b"")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (None, "problem"),
        (b"hello", "problem"),
        (b"[1]", "problem"),
        (b'{"status": "ok"}', "warning"),
        (json.dumps({"error": {"code": "invalid_api_key"}}).encode(), "warning"),
    ],
    ids=["silent", "another program", "other JSON", "ours", "ours with a key"],
)
def test_taken(answer: bytes | None, expected: str) -> None:
    """A port in use is a problem, unless a server like this one already listens there."""
    with listening(answer) as port:
        found = check_port(ServerConfig(port=port))

    assert found.status == expected
    assert found.remedy


def test_free() -> None:
    """A free port is ok, and any port will do where none is wanted."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]

    assert check_port(ServerConfig(port=port)).status == "ok"
    assert check_port(ServerConfig(port=0)).status == "ok"
    assert check_port(ServerConfig(host="192.0.2.1")).status == "problem"


def test_unix_sockets(tmp_path: Path) -> None:
    """A socket's path must be short, free or left behind, and in a folder of ours."""
    path = tmp_path / "s"

    assert check_port(ServerConfig(uds=str(path))).status == "ok"
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(path))
        held.listen()
        assert check_port(ServerConfig(uds=str(path))).status == "problem"
    assert check_port(ServerConfig(uds=str(path))).status == "ok"
    assert check_port(ServerConfig(uds=str(tmp_path / ("x" * 120)))).status == "problem"
    assert check_port(ServerConfig(uds=str(tmp_path))).status == "problem"


# Open files.


@pytest.mark.parametrize(
    ("connections", "hard", "status"),
    [
        (512, -1, "ok"),
        (512, 768, "ok"),
        (512, 767, "warning"),
        (512, 256, "warning"),
        (5000, 9000, "ok"),
        (5000, 4096, "warning"),
    ],
)
def test_open_files(connections: int, hard: int, status: str) -> None:
    """The hard limit has to leave room for all connections; the soft one is raised."""
    found = check_files(ServerConfig(max_connections=connections), (256, hard))

    assert found.status == status
    assert ("--max-connections" in found.remedy) == (status == "warning" and hard > 256)
