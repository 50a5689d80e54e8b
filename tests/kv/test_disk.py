"""The disk tier: what survives a restart, what a fault costs, and what it never costs."""

from __future__ import annotations

import errno
import logging
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_tools_server.kv import DiskTier, purge, seed

from .samples import (
    age,
    blocks,
    files,
    mark,
    offer,
    opened,
    size,
    tier,
    tokens,
    write,
)

LINE = tokens("a" * 12)
KB = 1 << 10


def held(disk: DiskTier, letters: str, count: int = 4) -> int:
    """Return how many blocks of the sequence of these letters are on disk."""
    return sum(record.key in disk for record in blocks(tokens(letters * 4 * count)))


def test_restart(tmp_path: Path) -> None:
    """What was written comes back after a restart, with all that its record told."""
    records = [*blocks(LINE), mark(LINE[:300], "user"), mark(LINE[:9], "system"), mark(LINE)]
    with opened(tmp_path) as disk:
        offer(disk, *records)
    with opened(tmp_path) as disk:
        assert records == [disk.get(record.key) for record in records]
        assert [(44, records[3].key, "user")] == disk.marks(records[0].key)
        assert disk.stats()["records"] == 6
        assert disk.stats()["bytes"] == size(tmp_path) == 6 * 32


def test_close_writes_what_waits(tmp_path: Path) -> None:
    """Closing writes all that was offered; later offers are left."""
    with opened(tmp_path) as disk:
        for record in blocks(LINE):
            disk.offer(record)
    disk.offer(mark(LINE))

    assert len(files(tmp_path)) == 3


def test_private(tmp_path: Path) -> None:
    """Files are for this user only, whatever the umask and the writer say."""

    def write_open(path: Path, payload: Any) -> None:
        write(path, payload)
        path.chmod(0o666)

    before = os.umask(0)
    try:
        with opened(tmp_path / "kv", write=write_open) as disk:
            offer(disk, *blocks(LINE))
    finally:
        os.umask(before)
    found = [tmp_path / "kv", *(tmp_path / "kv").rglob("*")]

    assert {0o700} == {stat.S_IMODE(path.stat().st_mode) for path in found if path.is_dir()}
    assert {0o600} == {stat.S_IMODE(path.stat().st_mode) for path in found if path.is_file()}


def rename_as_other(path: Path) -> None:
    """Put the content of one block under the name of another."""
    other = files(path.parents[1])[0]
    path.write_bytes(other.read_bytes())


def become_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/nowhere")


def become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


FAULTS: dict[str, Callable[[Path], Any]] = {
    "deleted": Path.unlink,
    "emptied": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "grown": lambda path: path.write_bytes(path.read_bytes() + b"."),
    "replaced": rename_as_other,
    "folder": become_folder,
    "linked": become_link,
}


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
def test_damaged_file(tmp_path: Path, fault: str, restarted: bool) -> None:
    """A damaged file is a miss, is deleted and can be written again; the others are as before."""
    first, second, third = blocks(LINE)
    with opened(tmp_path) as disk:
        offer(disk, first, second, third)
        damaged = next(path for path in files(tmp_path) if path.name.startswith(second.key.hex()))
        if not restarted:
            FAULTS[fault](damaged)
            assert disk.get(second.key) is None
    if restarted:
        FAULTS[fault](damaged)
    with opened(tmp_path) as disk:
        assert disk.get(second.key) is None
        assert (first, third) == (disk.get(first.key), disk.get(third.key))
        if damaged.is_dir():
            damaged.rmdir()
        offer(disk, second)
        assert second == disk.get(second.key)


def test_another_key(tmp_path: Path) -> None:
    """A file under the name of another key is a miss."""
    first, second, _ = blocks(LINE)
    with opened(tmp_path) as disk:
        offer(disk, first)
    (path,) = files(tmp_path)
    stem = path.name.removeprefix(first.key.hex())
    (path.parents[1] / second.key.hex()[:2]).mkdir(exist_ok=True)
    path.rename(path.parents[1] / second.key.hex()[:2] / f"{second.key.hex()}{stem}")
    with opened(tmp_path) as disk:
        assert disk.get(second.key) is None


@settings(max_examples=30)
@given(st.integers(0, 199), st.integers(1, 255))
def test_flipped_byte(place: int, change: int) -> None:
    """A changed byte anywhere is a miss."""
    record = mark(LINE[:9], nbytes=200)
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder)) as disk:
        offer(disk, record)
        (path,) = files(Path(folder))
        content = bytearray(path.read_bytes())
        content[place] ^= change
        path.write_bytes(content)

        assert disk.get(record.key) is None
        assert files(Path(folder)) == []
        assert disk.stats()["errors"] == 1


def test_reader_that_raises(tmp_path: Path) -> None:
    """A file that its format can't read is a miss, and is deleted."""

    def fail(path: Path) -> Any:
        raise RuntimeError("not a tensor")

    with opened(tmp_path, read=fail) as disk:
        offer(disk, *blocks(LINE))
        assert disk.get(blocks(LINE)[0].key) is None
        assert len(files(tmp_path)) == 2


@pytest.mark.parametrize("renamed", [False, True])
def test_replaced_while_read(tmp_path: Path, renamed: bool) -> None:
    """A file that makes way for a newer one while it is read is a miss or found anew, no error."""
    old, new = mark(LINE[:5]), mark(LINE[:6])
    instead = [mark(LINE[:5], "user") if renamed else new]

    def read(path: Path) -> bytes:
        if instead:
            record = instead.pop()
            offer(disk, record, replaces=() if renamed else (old.key,))
        return path.read_bytes()

    with opened(tmp_path, read=read) as disk:
        offer(disk, *blocks(LINE), old)
        found = disk.get(old.key)
        assert found == (mark(LINE[:5], "user") if renamed else None)
        assert disk.stats()["errors"] == 0
        assert renamed or disk.get(new.key) == new


def test_short_of_files(tmp_path: Path) -> None:
    """A read that fails for want of open files is a miss, and costs no record."""
    (first,) = blocks(tokens("aaaa"))
    short = [OSError(errno.EMFILE, "Too many open files")]

    def read(path: Path) -> bytes:
        if short:
            raise short.pop()
        return path.read_bytes()

    with opened(tmp_path, read=read) as disk:
        offer(disk, first)
        assert disk.get(first.key) is None
        assert disk.get(first.key) == first


def test_unreadable_file(tmp_path: Path) -> None:
    """A file that this user may not read is a miss."""
    first = blocks(LINE)[0]
    with opened(tmp_path) as disk:
        offer(disk, first)
        (path,) = files(tmp_path)
        path.chmod(0)
        if os.access(path, os.R_OK):
            pytest.skip("this user may read everything")
        assert disk.get(first.key) is None


def test_another_model(tmp_path: Path) -> None:
    """Records of another model, or of another user's salt, are not seen."""
    with opened(tmp_path) as disk:
        offer(disk, *blocks(LINE))
    for other in (seed(b"another model"), seed(b"a model", "a user")):
        with opened(tmp_path, seed=other) as disk:
            assert held(disk, "a") == 0
            assert disk.stats()["bytes"] == size(tmp_path)


def folder_is_file(folder: Path) -> None:
    folder.write_text("not a folder")


def folder_is_read_only(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("this user may write everywhere")


@pytest.mark.parametrize("spoil", [folder_is_file, folder_is_read_only])
def test_no_folder(
    tmp_path: Path, spoil: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Without a folder to write in all goes on without a disk, and that is told once."""
    folder = tmp_path / "kv"
    spoil(folder)
    with caplog.at_level(logging.WARNING), opened(folder) as disk:
        offer(disk, *(block for letter in "abc" for block in blocks(tokens(letter * 4))))

        assert disk.get(blocks(tokens("aaaa"))[0].key) is None
        assert disk.stats()["errors"] == 3
        assert disk.stats()["records"] == 0
    assert len(caplog.records) == 1


def test_folder_vanishes(tmp_path: Path) -> None:
    """A folder that is deleted under a running server costs its records only."""
    first, second, third = blocks(LINE)
    with opened(tmp_path / "kv") as disk:
        offer(disk, first, second)
        purge(tmp_path / "kv")
        (tmp_path / "kv").rmdir()
        assert [disk.get(first.key), disk.get(second.key)] == [None, None]
        offer(disk, first, third)
        assert [first, None] == [disk.get(first.key), disk.get(third.key)]


def test_disk_is_full(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What can't be written is not there, leaves nothing, and what builds on it isn't tried."""
    first, second, third = blocks(LINE)
    full = False
    tried: list[Any] = []

    def write_until_full(path: Path, payload: Any) -> None:
        tried.append(payload)
        write(path, payload[:20] if full else payload)
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")

    with caplog.at_level(logging.WARNING), opened(tmp_path, write=write_until_full) as disk:
        offer(disk, first)
        full = True
        offer(disk, second, third)
        offer(disk, second)
        assert [first] == [disk.get(first.key)]
        assert len(tried) == 3
        assert len(files(tmp_path)) == 1
        full = False
        offer(disk, second, third)
        assert [second, third] == [disk.get(second.key), disk.get(third.key)]
    assert len(caplog.records) == 1
    assert "No space left" in caplog.text


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.kv.samples import TIMEOUT, blocks, tier, tokens

first, second, third = blocks(tokens("a" * 12))

def die(path, payload):
    path.write_bytes(payload[:20])
    if payload == second.payload:
        os.kill(os.getpid(), signal.SIGKILL)
    path.write_bytes(payload)

disk = tier(Path(sys.argv[1]), write=die)
for record in (first, second, third):
    disk.offer(record)
disk.flush(TIMEOUT)
"""


def test_killed_while_writing(tmp_path: Path) -> None:
    """After a kill in the middle of a write all before it is there; what is left goes in time."""
    first, second, _ = blocks(LINE)
    result = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert result.returncode == -signal.SIGKILL
    (left,) = tmp_path.rglob(".tmp-*")
    with opened(tmp_path) as disk:
        assert [first, None] == [disk.get(first.key), disk.get(second.key)]
        assert left.exists()
    age(left, 2 * 3600)
    with opened(tmp_path) as disk:
        assert not left.exists()
        assert first == disk.get(first.key)


def test_two_servers(tmp_path: Path) -> None:
    """Two servers may share a folder: each has what it wrote or found, and loses to the other."""
    first, second, third = blocks(LINE)
    with opened(tmp_path) as one, opened(tmp_path) as other:
        offer(one, first, second, third)
        offer(other, first, second)
        assert len(files(tmp_path)) == 3
        assert second == other.get(second.key)
        purge(tmp_path)
        assert one.get(second.key) is None
        offer(one, second)
        assert second == other.get(second.key)


def test_two_servers_share_the_budget(tmp_path: Path) -> None:
    """Two servers that write in turns stay near the budget of their folder together."""
    capacity = 40 * 20 * KB
    one, other = (tier(tmp_path, capacity=capacity, seed=seed(model)) for model in (b"a", b"b"))
    for number in range(60):
        offer(one, mark([1, number], nbytes=20 * KB))
        offer(other, mark([2, number], nbytes=20 * KB))
        assert size(tmp_path) <= capacity * 1.1
    one.close()
    other.close()
