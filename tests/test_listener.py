"""Where clients connect: room for those who have something to say."""

from __future__ import annotations

import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlx_tools_server import listener
from mlx_tools_server.config import ServerConfig
from mlx_tools_server.errors import StartupError
from mlx_tools_server.listener import Connections, Listener


class Pairs:
    """Connections with both of their ends."""

    def __init__(self) -> None:
        self._ends: list[socket.socket] = []

    def new(self) -> tuple[socket.socket, socket.socket]:
        ours, theirs = socket.socketpair()
        self._ends += (ours, theirs)
        return ours, theirs

    def close(self) -> None:
        for end in self._ends:
            end.close()


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pairs]:
    monkeypatch.setattr(listener, "GRACE", 0.0)
    monkeypatch.setattr(listener, "PATIENCE", 0.1)
    made = Pairs()
    yield made
    made.close()


def gone(end: socket.socket) -> bool:
    end.setblocking(False)
    try:
        return end.recv(1) == b""
    except BlockingIOError:
        return False


def test_oldest_asker_makes_way(pairs: Pairs) -> None:
    """Where there is no room, who has not asked for longest leaves first, then who idles."""
    room = Connections(3)
    (idle, idle_end), (first, first_end), (second, second_end) = (pairs.new() for _ in range(3))
    for connection in (idle, first, second):
        assert room.enter(connection)
    room.note(idle, "idle")

    assert room.enter(pairs.new()[0])
    assert (gone(idle_end), gone(first_end), gone(second_end)) == (False, True, False)
    assert room.enter(pairs.new()[0])
    assert gone(second_end)
    assert len(room) == 3


def test_who_is_served_stays(pairs: Pairs) -> None:
    """A connection that is being answered is never closed for another."""
    room = Connections(1)
    served, end = pairs.new()
    assert room.enter(served)
    room.note(served, "served")

    assert not room.enter(pairs.new()[0])
    assert not gone(end)
    room.note(served, "idle")
    assert room.enter(pairs.new()[0])
    assert gone(end)


def test_leaving_makes_room(pairs: Pairs) -> None:
    """A connection that is closed leaves its place to the next."""
    room = Connections(1)
    first, _ = pairs.new()
    assert room.enter(first)
    room.note(first, "served")
    room.leave(first)
    room.note(first, "idle")

    assert len(room) == 0
    assert room.enter(pairs.new()[0])


def test_unix_socket_is_private(tmp_path: Path) -> None:
    """A unix socket is its owner's alone, replaces one that is dead, and goes with the server."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    with Listener(ServerConfig(uds=str(path)), None) as server:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert server.url == f"unix:{path}"
        with pytest.raises(StartupError, match="another server"):
            Listener(ServerConfig(uds=str(path)), None)
        assert path.exists()
    assert not path.exists()


def test_no_place_for_a_unix_socket(tmp_path: Path) -> None:
    """What stands at the path of a unix socket and is none is left alone."""
    path = tmp_path / "notes.txt"
    path.write_text("mine")

    with pytest.raises(StartupError, match="Can't listen"):
        Listener(ServerConfig(uds=str(path)), None)
    with pytest.raises(StartupError, match="Can't listen"):
        Listener(ServerConfig(uds=str(tmp_path / ("x" * 200))), None)
    assert path.read_text() == "mine"


def test_ipv6() -> None:
    """The server listens on IPv6 addresses too, and says so in a URL that works."""
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    try:
        server = Listener(ServerConfig(host="::1", port=0), None)
    except StartupError as error:
        pytest.skip(str(error))
    with server:
        assert server.url.startswith("http://[::1]:")


def test_port_in_use() -> None:
    """A port that another server has is an error that names it and the remedy."""
    with Listener(ServerConfig(port=0), None) as server:
        port = int(server.server_address[1])
        with pytest.raises(StartupError, match=f"{port}.*--port"):
            Listener(ServerConfig(port=port), None)
