"""Files of the cache as a person's commands see them: listed, verified, deleted."""

from __future__ import annotations

from pathlib import Path

from mlx_tools_server.kv import entries, purge, seed, verify

from .samples import SEED, blocks, files, mark, offer, opened, tokens

LINE = tokens("a" * 12)


def filled(folder: Path) -> Path:
    """Return a folder with three blocks of one model and a mark of another."""
    with opened(folder) as disk:
        offer(disk, *blocks(LINE))
    with opened(folder, seed=seed(b"another model")) as disk:
        offer(disk, mark(tokens("b"), "system"))
    return folder


def test_entries(tmp_path: Path) -> None:
    """All records of all models are listed, with what their names tell."""
    found = sorted(entries(filled(tmp_path)), key=lambda entry: entry.position)
    last = blocks(LINE)[-1]

    assert [entry.kind for entry in found] == ["system", "block", "block", "block"]
    assert [entry.position for entry in found] == [64, 256, 512, 768]
    assert (last.key, last.parent, 256, 32) == (
        found[-1].key,
        found[-1].parent,
        found[-1].length,
        found[-1].nbytes,
    )
    assert [seed(b"another model").hex()[:16], SEED.hex()[:16]] == [
        entry.fingerprint for entry in found[:2]
    ]


def test_no_folder(tmp_path: Path) -> None:
    """Where nothing is, nothing is listed, verified or deleted."""
    for folder in (tmp_path, tmp_path / "none"):
        assert list(entries(folder)) == []
        assert verify(folder) == (0, [])
        assert purge(folder) == 0


def test_verify(tmp_path: Path) -> None:
    """Damaged files are found, and deleted when asked."""
    first, second = files(filled(tmp_path))[:2]
    first.write_bytes(b"damaged")
    second.write_bytes(second.read_bytes()[:-1])

    for delete in (False, True):
        good, bad = verify(tmp_path, delete=delete)
        assert good == 2
        assert {first, second} == {entry.path for entry in bad}
    assert verify(tmp_path) == (2, [])
    assert not first.exists()


def test_purge(tmp_path: Path) -> None:
    """Only the cache's own files are deleted, and no link is followed."""
    folder = filled(tmp_path / "kv")
    target = filled(tmp_path / "elsewhere")
    last = files(folder)[0]
    own = last.parents[1]
    foreign = [
        folder / "history.jsonl",
        own / "notes.txt",
        last.parent / f"{last.name}.bak",
        last.parent / last.name.upper(),
        last.parent / ".tmp-notes",
        folder / "models" / "00" / last.name,
    ]
    for path in foreign:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"mine")
    (own / "ff").mkdir(exist_ok=True)
    linked = own / "ff" / last.name
    linked.symlink_to(files(target)[0])
    (folder / ("0" * 16)).symlink_to(next(target.iterdir()))
    (own / "ff" / ".tmp-1-0123abcd.safetensors").write_bytes(b"half")

    assert purge(folder) == 4 * 32 + len(b"half")
    assert {*foreign, linked} == {path for path in folder.rglob("*") if path.is_file()}
    assert len(files(target)) == 4


def test_purge_leaves_no_folders(tmp_path: Path) -> None:
    """A folder in which nothing else was is empty afterwards, and stays."""
    purge(filled(tmp_path))

    assert list(tmp_path.iterdir()) == []
