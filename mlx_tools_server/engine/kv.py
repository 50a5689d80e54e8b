"""The KV cache of one model, in blocks: cut out of mlx-lm's caches, and put together again.

Rules of this file:
- Blocks are cut in the generation thread, and evaluated there before they are kept: only evaluated
  arrays go to other threads, and only what is new is copied.
- Keys and values of plain layers are cut by the block. The state of all other layers can't be cut:
  a mark holds it whole, for one exact position.
- What can't be kept or restored is a miss; a request never fails for it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from ..kv import BLOCK, DiskTier, Kind, MemoryTier, Record, Store, chain, mark_key, seed
from .losses import Losses
from .prefills import Prefill, Prefills
from .seams import Rows, as_rows, fresh_cache, is_plain

log = logging.getLogger(__name__)

# What mlx-lm calls the end of an answer; all other names are ours.
_END = "assistant"
# Values sampled of each weight for the fingerprint.
_SAMPLES = 64
# Shorter prompts without tools are titles and such, which must not displace conversations.
SIDE_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Payload:
    """Evaluated arrays, with what can't be an array as JSON text.

    `tail` are the tokens of a mark of plain layers, which can be used in part; only what was not
    read from disk has them.
    """

    arrays: dict[str, mx.array]
    meta: str
    tail: tuple[int, ...] = ()

    @property
    def nbytes(self) -> int:
        """The size of the arrays."""
        return sum(int(array.nbytes) for array in self.arrays.values())


class KVCacheStore:
    """Takes the place of mlx-lm's prompt cache.

    `load` belongs to the threads that serve clients, all else to the generation thread.
    """

    def __init__(
        self,
        model: Any,
        fingerprint: bytes,
        *,
        memory_bytes: int,
        disk_bytes: int,
        floor_bytes: int,
        folder: Path | None,
        decode: Callable[[Sequence[int]], str],
    ) -> None:
        self._model = model
        layers = fresh_cache(model)
        self._plain = [is_plain(layer) for layer in layers]
        self.exact = not all(self._plain)
        key = seed(fingerprint)
        memory = MemoryTier(memory_bytes)
        disk = None
        if folder is not None:
            disk = DiskTier(
                folder, seed=key, capacity=disk_bytes, floor=floor_bytes, write=_write, read=_read
            )
        self._store = Store(key, memory, disk, exact=self.exact)
        self._hot = Store(key, memory, exact=self.exact)
        self._losses = Losses(decode)
        # State that can't be cut is there with the prompt's end only, when its prefill ends.
        self._prefills = Prefills(lambda key: not self.exact and key in memory)
        self._loaded: Sequence[Record] = ()
        self._asked = False
        self.lost_tokens = 0
        self._side: deque[tuple[int, ...]] = deque(maxlen=64)

    def close(self) -> None:
        """Write what waits to be written."""
        self._store.close()

    def stats(self) -> dict[str, dict[str, int]]:
        """Return the figures of memory and disk."""
        return self._store.stats()

    # The threads that serve clients.

    def begin(self, ids: Sequence[int]) -> Prefill:
        """Announce the prefill of what is not kept of a prompt."""
        keys = chain(self._store.seed, ids[:-1])
        return self._prefills.begin(keys[self._store.find(ids, len(ids) - 1).position // BLOCK :])

    def load(self, ids: Sequence[int]) -> list[Record]:
        """Return what is kept of a prompt, all but its last token, read from disk if need be."""
        records = self._store.load(self._store.find(ids, len(ids) - 1))
        if loss := self._losses.find(ids, records[-1].position if records else 0):
            self.lost_tokens += loss.tokens
            log.warning("%s", loss)
        return records

    # The generation thread.

    def expect(
        self, ids: Sequence[int], loaded: Sequence[Record], *, side: bool, asked: bool
    ) -> None:
        """Say which prompt is fetched next, and what was loaded of it.

        `asked` says that it ends with a user's message, so what it goes on from is the end of a
        turn, to which the user may come back.
        """
        self._loaded, self._asked = loaded, asked
        if side:
            self._side.append(tuple(ids))

    def fetch_nearest_cache(self, _: Any, tokens: list[int]) -> tuple[Any, list[int]]:
        """Return layers for a prefix of the tokens, and the rest, which is never empty."""
        records, self._loaded = self._loaded, ()
        found = self._hot.find(tokens, len(tokens) - 1)
        if found.position > (records[-1].position if records else 0):
            records = self._hot.load(found)
        if not self.exact:
            records = self._with_part(records, tokens)
        layers = self._restore(records) if records else None
        if layers is None:
            return None, tokens
        last = records[-1]
        if self._asked and last.kind == "end":
            self._store.add(tokens[: last.position], [replace(last, kind="user")])
        return layers, tokens[last.position :]

    def _with_part(self, records: Sequence[Record], tokens: list[int]) -> Sequence[Record]:
        """Add the part of a mark that a prompt shares, where that is more than these records."""
        blocks = [record for record in records if record.kind == "block"]
        parent = blocks[-1].key if blocks else self._store.seed
        begin, best = len(blocks) * BLOCK, records[-1].position if records else 0
        more = tokens[begin:-1]
        for _, key, _ in self._hot.memory.marks(parent):
            mark = self._hot.memory.get(key)
            common = _common(mark.payload.tail, more) if mark is not None else 0
            if mark is not None and begin + common > best:
                best = begin + common
                arrays = {name: rows[..., :common, :] for name, rows in mark.payload.arrays.items()}
                payload = replace(mark.payload, arrays=arrays)
                part = replace(mark, length=common, position=best, payload=payload, kind="prompt")
                records = [*blocks, part]
        return records

    def __len__(self) -> int:
        return self._store.memory.stats()["records"]

    def insert_cache(
        self, _: Any, tokens: list[int], layers: Sequence[Any], *, cache_type: str = _END
    ) -> None:
        """Keep what was computed for these tokens, and that their end is a place to go on from."""
        kind: Any = "end" if cache_type == _END else cache_type
        self._keep(tokens, layers, kind)

    def keep_blocks(self, tokens: list[int], layers: Sequence[Any]) -> None:
        """Keep the full blocks of a prompt that is still being computed."""
        self._keep(tokens, layers, None)

    def trim_to(self, **_: Any) -> None:
        """Do nothing: the bytes have a cap of their own."""

    @property
    def nbytes(self) -> int:
        """How much memory the blocks take."""
        return self._store.memory.nbytes

    def _keep(self, tokens: list[int], layers: Sequence[Any], kind: Kind | None) -> None:
        layers = [as_rows(layer) for layer in layers]
        rows = [layer for layer in layers if isinstance(layer, Rows)]
        held = min([len(tokens), *(row.length for row in rows)])
        if self.exact and held < len(tokens):
            return
        tokens = tokens[:held]
        try:
            records = self._records(tokens, layers, rows, kind)
        except (TypeError, ValueError) as error:
            log.warning("A KV cache can't be kept: %s", error)
            return
        if records:
            mx.eval([list(record.payload.arrays.values()) for record in records])
            side = self._is_side(tokens)
            self._store.add(tokens, records, side=side)
            self._prefills.tell()
            if kind == "end" and not side:
                self._losses.remember(tokens)

    def _records(
        self, tokens: list[int], layers: Sequence[Any], rows: list[Rows], kind: Kind | None
    ) -> list[Record]:
        parents = [self._store.seed, *chain(self._store.seed, tokens)]
        records = []
        for index in range(self._store.missing(tokens) // BLOCK, len(parents) - 1):
            begin = index * BLOCK
            payload = Payload(*_cut(rows, begin, begin + BLOCK))
            key, parent = parents[index + 1], parents[index]
            records.append(
                Record(key, parent, "block", BLOCK, begin + BLOCK, payload, payload.nbytes)
            )
        if kind is not None:
            begin = (len(parents) - 1) * BLOCK
            arrays, meta = _cut(rows, begin, len(tokens))
            states = {
                str(i): [type(layer).__name__, _pack(layer.state, arrays)]
                for i, layer in enumerate(layers)
                if not isinstance(layer, Rows)
            }
            tail = tokens[begin:]
            meta = json.dumps([json.loads(meta), states])
            payload = Payload(arrays, meta, () if self.exact else tuple(tail))
            key, parent = mark_key(parents[-1], tail), parents[-1]
            records.append(
                Record(key, parent, kind, len(tail), len(tokens), payload, payload.nbytes)
            )
        return records

    def _is_side(self, tokens: list[int]) -> bool:
        return any(tuple(tokens[: len(side)]) == side[: len(tokens)] for side in self._side)

    def _restore(self, records: Sequence[Record]) -> list[Any] | None:
        """Return layers that hold these records, computed when they are used."""
        layers = fresh_cache(self._model)
        try:
            plain = [i for i, is_row in enumerate(self._plain) if is_row]
            _join(records, [layers[i] for i in plain])
            last = records[-1]
            if self.exact:
                _, states = json.loads(last.payload.meta)
                for i, is_row in enumerate(self._plain):
                    if not is_row:
                        name, state = states[str(i)]
                        if name != type(layers[i]).__name__:
                            raise ValueError(f"layer {i} is {name}")
                        layers[i] = type(layers[i]).from_state(_unpack(state, last.payload.arrays))
        except (LookupError, TypeError, ValueError) as error:
            log.warning("A KV cache can't be restored: %s", error)
            return None
        return layers


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


# Rows.


def _cut(rows: Sequence[Rows], begin: int, end: int) -> tuple[dict[str, mx.array], str]:
    """Return rows of all plain layers, those of one shape as one array, and which are in which."""
    groups: dict[Any, list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault(row.shape, []).append(i)
    if begin == end:
        return {}, "[]"
    arrays = {}
    for g, members in enumerate(groups.values()):
        cuts = [rows[i].cut(begin, end) for i in members]
        arrays[f"keys{g}"] = mx.stack([keys for keys, _ in cuts])
        arrays[f"values{g}"] = mx.stack([values for _, values in cuts])
    return arrays, json.dumps(list(groups.values()))


def _join(records: Sequence[Record], layers: Sequence[Any]) -> None:
    """Put the rows of records into fresh plain layers."""
    parts: list[list[tuple[mx.array, mx.array]]] = [[] for _ in layers]
    for record in records:
        meta = json.loads(record.payload.meta)
        groups = meta if record.kind == "block" else meta[0]
        for g, members in enumerate(groups):
            keys, values = (record.payload.arrays[f"{name}{g}"] for name in ("keys", "values"))
            for place, i in enumerate(members):
                parts[i].append((keys[place], values[place]))
    for layer, pairs in zip(layers, parts, strict=True):
        keys = mx.concatenate([keys for keys, _ in pairs], axis=2)
        values = mx.concatenate([values for _, values in pairs], axis=2)
        layer.state = (keys, values, keys.shape[2])


# States.


def _pack(value: Any, arrays: dict[str, mx.array]) -> Any:
    """Return a state as JSON, its arrays by their names in `arrays`."""
    if isinstance(value, mx.array):
        name = f"state{len(arrays)}"
        arrays[name] = mx.contiguous(value)
        return {"array": name}
    if isinstance(value, list | tuple):
        return [_pack(item, arrays) for item in value]
    if value is None or isinstance(value, int | float | str):
        return {"value": value}
    raise TypeError(f"a state holds a {type(value).__name__}")


def _unpack(value: Any, arrays: dict[str, mx.array]) -> Any:
    if isinstance(value, list):
        return [_unpack(item, arrays) for item in value]
    return arrays[value["array"]] if "array" in value else value["value"]


# Files.


def _write(path: Path, payload: Payload) -> None:
    # The name has no suffix that mlx would take for a format, so it gets the open file.
    with path.open("wb") as file:
        mx.save_safetensors(file, payload.arrays, {"meta": payload.meta})


def _read(path: Path) -> Payload:
    with path.open("rb") as file:
        loaded: Any = mx.load(file, format="safetensors", return_metadata=True)
        arrays, meta = loaded
        mx.eval(list(arrays.values()))
    return Payload(arrays, meta["meta"])


def fingerprint(model: Any, tokenizer: bytes) -> bytes:
    """Return a digest of all that a model's keys and values depend on, adapters included."""
    digest = hashlib.sha256(tokenizer)
    digest.update(repr(getattr(model, "args", None)).encode())
    layout = [(type(layer).__name__, layer.state) for layer in fresh_cache(model)]
    digest.update(repr(layout).encode())
    samples = []
    for name, weight in tree_flatten(model.parameters()):
        digest.update(f"{name} {weight.shape} {weight.dtype}".encode())
        flat = weight.reshape(-1)
        samples.append(flat[:: max(1, flat.size // _SAMPLES)][:_SAMPLES].view(mx.uint8))
    if samples:
        digest.update(bytes(memoryview(mx.concatenate(samples))))  # type: ignore[arg-type]
    return digest.digest()
