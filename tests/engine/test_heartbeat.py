"""What a machine notices of those beside it: ends, goodbyes, silence, strangers."""

from __future__ import annotations

import json
import queue
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlx_tools_server.engine.group import addresses, next_to
from mlx_tools_server.engine.heartbeat import TOKEN_BYTES, Heartbeat

pytestmark = pytest.mark.mlx

TOKEN = bytes(range(TOKEN_BYTES))
HERE = "127.0.0.1"


class Machine:
    """A heartbeat, and what it has told."""

    def __init__(self, silence: float = 15.0) -> None:
        self.losses: queue.Queue[tuple[int, str]] = queue.Queue()
        self.heartbeat = Heartbeat(lambda rank, why: self.losses.put((rank, why)), silence=silence)
        self.port = self.heartbeat.listen(HERE)


@pytest.fixture
def pair() -> Iterator[tuple[Machine, Machine]]:
    """Return machine 0, and machine 1 that has connected to it."""
    first, second = Machine(), Machine()
    second.heartbeat.connect(0, HERE, first.port, rank=1, token=TOKEN)
    first.heartbeat.accept(1, token=TOKEN)
    yield first, second
    for machine in (first, second):
        machine.heartbeat.close(farewell=False)


@pytest.mark.parametrize("who", [0, 1])
def test_an_end_is_a_loss(pair: tuple[Machine, Machine], who: int) -> None:
    """Each notices that the other is gone, and which one it was."""
    pair[who].heartbeat.close(farewell=False)

    rank, why = pair[1 - who].losses.get(timeout=10)

    assert rank == who
    assert "ended" in why or "broke" in why
    assert pair[who].losses.empty()


def test_a_goodbye_is_none(pair: tuple[Machine, Machine]) -> None:
    """Who says goodbye is not lost, whoever ends first."""
    for machine in pair:
        machine.heartbeat.close(farewell=True)

    assert [machine.losses.empty() for machine in pair] == [True, True]


def test_silence_is_a_loss() -> None:
    """A machine that stands still is lost though its connection is there."""
    machine = Machine(silence=0.2)
    with socket.create_connection((HERE, machine.port)) as still:
        still.sendall(TOKEN + b"\0\3")
        machine.heartbeat.accept(1, token=TOKEN)

        assert machine.losses.get(timeout=10) == (3, "nothing was heard from it for 0.2 s")

    machine.heartbeat.close(farewell=False)


def test_a_stranger_is_not_watched() -> None:
    """Who does not know the token is sent away, and the machine that does is waited for."""
    machine, other = Machine(), Machine()
    with socket.create_connection((HERE, machine.port)) as stranger:
        stranger.sendall(bytes(TOKEN_BYTES) + b"\0\1")
        other.heartbeat.connect(0, HERE, machine.port, rank=1, token=TOKEN)
        machine.heartbeat.accept(1, token=TOKEN)

        assert stranger.recv(1) == b""

    for each in (machine, other):
        each.heartbeat.close(farewell=True)
    assert machine.losses.empty()


HOSTS = [
    ("a ring", [["10.0.0.1:5", "10.1.0.1:6"], ["10.0.0.2:5"]], {0: "10.0.0.1", 1: "10.0.0.2"}),
    ("IPv6", [["[fe80::1]:5000"], ["[fe80::2]:5000"]], {0: "fe80::1", 1: "fe80::2"}),
    ("another size", [["10.0.0.1:5000"]], {}),
    ("no list", {"hosts": 1}, {}),
    ("empty rows", [[], []], {}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("hosts", "expected"), [case[1:] for case in HOSTS], ids=[case[0] for case in HOSTS]
)
def test_addresses_of_a_ring(tmp_path: Path, hosts: object, expected: dict[int, str]) -> None:
    """A ring's host file says where each machine is, or nothing is known."""
    (tmp_path / "hosts.json").write_text(json.dumps(hosts))

    assert addresses({"MLX_HOSTFILE": str(tmp_path / "hosts.json")}, 2) == expected


def test_addresses_of_others() -> None:
    """Other backends name the first machine only, or none."""
    assert addresses({"MLX_JACCL_COORDINATOR": "192.168.1.4:32323"}, 3) == {0: "192.168.1.4"}
    assert addresses({"NCCL_HOST_IP": "10.0.0.9", "MLX_WORLD_SIZE": "2"}, 2) == {0: "10.0.0.9"}
    assert addresses({}, 2) == {}
    assert addresses({"MLX_HOSTFILE": "/nowhere"}, 2) == {}


def test_all_are_watched() -> None:
    """Each machine is connected to another one, in a ring or around the first."""
    ring = dict.fromkeys(range(4), HERE)

    assert [next_to(rank, ring, 4) for rank in range(4)] == [1, 2, 3, 0]
    assert [next_to(rank, {0: HERE}, 4) for rank in range(4)] == [None, 0, 0, 0]
