"""The machines that serve one model together: whether they agree, and whether all are there.

Rules of this file:
- What mlx-lm does in step on all machines must be set alike on all of them; that is checked before
  the model is loaded.
- A group is whole or it ends: when one machine is lost, each of the others says so once, its
  clients are told, and it ends with code 1, whatever mlx is waiting for.
- Where no address of a machine is known, only mlx itself notices a loss; the log says so.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlx.core as mx

from .. import __version__
from ..config import ServerConfig
from ..errors import StartupError
from .heartbeat import TOKEN_BYTES, Heartbeat

log = logging.getLogger(__name__)

# Settings that all machines go by in each step; the rest counts on the first one only.
ALIKE = (
    "prefill_step_size",
    "prompt_concurrency",
    "decode_concurrency",
    "prompt_cache_size",
    "prompt_cache_bytes",
    "kv_bits",
    "kv_group_size",
    "quantized_kv_start",
    "pipeline",
    "constrain",
)
# Seconds after a loss in which a process may end by itself.
GRACE = 4.0


class Group:
    """This machine among those that serve the model; by itself, it is the only one."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size
        self._reason = ""
        self._is_lost = threading.Event()
        self._tell: Callable[[str], None] = lambda _: None
        self._farewell = False
        self._heartbeat = Heartbeat(self._lose)

    def __enter__(self) -> Group:
        return self

    def __exit__(self, *_: object) -> None:
        self._heartbeat.close(farewell=self._farewell)

    def part(self) -> None:
        """Let this machine's end be no loss: the others end too."""
        self._farewell = True

    def when_lost(self, tell: Callable[[str], None]) -> None:
        """Call `tell` with what happened, in another thread, when a machine is lost."""
        self._tell = tell
        if self._reason:
            tell(self._reason)

    def lost(self, within: float = 0.0) -> str:
        """Return what happened if a machine is lost, or is so within some seconds; "" if not."""
        if self.size > 1:
            self._is_lost.wait(within)
        return self._reason

    def agree(self, config: ServerConfig) -> None:
        """Raise StartupError if the machines have different settings or versions."""
        names = [*ALIKE, "version of this server", "version of mlx-lm", "version of mlx"]
        values = [getattr(config, name) for name in ALIKE]
        values += [__version__, version("mlx-lm"), version("mlx")]
        rows = _gathered([_digest(value) for value in values])
        differ = [
            name for name, column in zip(names, zip(*rows, strict=True), strict=True)
            if len(set(column)) > 1
        ]  # fmt: skip
        if differ:
            raise StartupError(
                f"The machines differ in: {', '.join(name.replace('_', '-') for name in differ)}",
                "Give all of them the same flags, environment, settings file and packages.",
            )

    def watch(self, environment: Mapping[str, str]) -> None:
        """Notice from now on when a machine beside this one is lost."""
        hosts = addresses(environment, self.size)
        port = 0
        try:
            own = hosts.get(self.rank)
            port = self._heartbeat.listen(own) if own else 0
        except OSError as error:
            log.debug("no port for the heartbeat: %s", error)
        rows = _gathered([port, *secrets.token_bytes(TOKEN_BYTES)])
        token = bytes(rows[0][1:])
        try:
            if not all(rows[rank][0] for rank in hosts) or not hosts:
                raise OSError("no address is known at which they reach each other")
            peer = next_to(self.rank, hosts, self.size)
            if peer is not None:
                address = hosts[peer], rows[peer][0]
                self._heartbeat.connect(peer, *address, rank=self.rank, token=token)
            beside = [next_to(rank, hosts, self.size) for rank in range(self.size)]
            self._heartbeat.accept(beside.count(self.rank), token=token)
        except OSError as error:
            log.warning(
                "The machines can't watch each other (%s): one that is lost may let the others "
                "wait for ever.",
                error,
            )

    def check_split(self, model: Any) -> None:
        """Raise StartupError if the model's parts don't compute together; mlx-lm does not look."""
        if self.size == 1:
            return
        try:
            mx.eval(model(mx.array([[0]])))
        except (TypeError, ValueError, RuntimeError, IndexError) as error:
            if self.lost(within=2.0):
                raise
            self.part()  # all machines come to the same end
            raise StartupError(
                f"This model can't be split over {self.size} machines: {error}",
                "Its attention heads, key heads and widths must be divisible by their number; use "
                "another number of machines, or --pipeline.",
            ) from error

    def _lose(self, rank: int, happened: str) -> None:
        if self._is_lost.is_set():
            return
        self._reason = (
            f"Machine {rank} of the {self.size} that serve this model is lost: {happened}."
        )
        self._is_lost.set()
        log.error("%s This one ends too; start all of them anew.", self._reason)
        # mlx often waits for the lost machine for ever, and Python for that thread.
        threading.Thread(target=_end, daemon=True).start()
        self._tell(self._reason)


def join(config: ServerConfig) -> Group:
    """Join the machines that serve the model, waiting for them; raises StartupError."""
    try:
        world = mx.distributed.init()
    except (RuntimeError, ValueError) as error:
        raise StartupError(
            f"The machines can't be joined: {error}",
            "Start it on all of them by mlx.launch; see docs/several-machines.md.",
        ) from error
    group = Group(world.rank(), world.size())
    if group.size > 1:
        # Named by hand: mlx has its ranks from 0 on, and so has mlx.launch.
        log.info("This is machine %d of %d (0 talks to clients)", group.rank, group.size)
        group.agree(config)
        group.watch(os.environ)
    return group


def addresses(environment: Mapping[str, str], size: int) -> dict[int, str]:
    """Return at which address each machine is reached, as far as mlx.launch says it.

    In a ring each is reached by the one before it, else the first one by all.
    """
    if path := environment.get("MLX_HOSTFILE"):
        try:
            rows = json.loads(Path(path).read_text())
            hosts = {rank: _host(row[0]) for rank, row in enumerate(rows)}
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return {}
        return hosts if len(hosts) == size else {}
    if coordinator := environment.get("MLX_JACCL_COORDINATOR"):
        return {0: _host(coordinator)}
    if first := environment.get("NCCL_HOST_IP"):
        return {0: first}
    return {}


def next_to(rank: int, hosts: Mapping[int, str], size: int) -> int | None:
    """Return to which machine one connects; None if it only waits for others."""
    if len(hosts) == size:
        return (rank + 1) % size
    return 0 if rank else None


def _host(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")


def _gathered(numbers: list[int]) -> list[list[int]]:
    """Return the numbers of all machines, in their order; all of them must call this."""
    row = mx.array([numbers], dtype=mx.int32)
    rows: Any = mx.distributed.all_gather(row, stream=mx.cpu).tolist()
    return rows


def _digest(value: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(value).encode()).digest()[:3], "big")


def _end() -> None:
    time.sleep(GRACE)
    # What is on disk is whole at any time.
    os._exit(1)
