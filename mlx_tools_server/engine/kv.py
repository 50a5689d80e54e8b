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
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from ..kv import BLOCK, DiskTier, Found, Kind, MemoryTier, Record, Store, chain, mark_key, seed
from .layers import Rows, as_rows, fresh_cache, from_rows, is_plain, length_of
from .losses import Loss, Losses, common_length
from .payloads import FileReader, Payload, pack, unpack, write
from .prefills import Prefill, Prefills

log = logging.getLogger(__name__)

# What mlx-lm calls the end of an answer; all other names are ours.
_END = "assistant"
# Values sampled of each weight for the fingerprint.
_SAMPLES = 64
# Shorter prompts without tools are titles and such, which must not displace conversations.
SIDE_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Begun:
    """What is known of a prompt before it is computed: what is kept of it, and what is lost."""

    store: Store
    found: Found
    prefill: Prefill
    loss: Loss | None


class KVCacheStore:
    """Takes the place of mlx-lm's prompt cache.

    `begin` and `load` belong to the threads that serve clients, all else to the generation thread.
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
        quantized: tuple[int, ...] = (),
    ) -> None:
        self._model = model
        layers = fresh_cache(model)
        self._plain = [is_plain(layer) for layer in layers]
        self.exact = not all(self._plain)
        key = seed(fingerprint)
        self._reader = FileReader()
        memory = MemoryTier(memory_bytes)
        disk = None
        if folder is not None:
            disk = DiskTier(
                folder,
                seed=key,
                capacity=disk_bytes,
                floor=floor_bytes,
                write=write,
                read=self._reader,
            )
        # A quantised cache begins as one that is not, so each form has keys of its own.
        self._forms: dict[tuple[int, ...], _Form] = {}
        for form in dict.fromkeys(((), quantized)):
            salted = seed(fingerprint, str(form)) if form else key
            self._forms[form] = _Form(
                Store(salted, memory, disk, exact=self.exact),
                Store(salted, memory, exact=self.exact),
            )
        self._memory = memory
        self._losses = Losses(decode)
        # State that can't be cut is there with the prompt's end only, when its prefill ends.
        self._prefills = Prefills(lambda key: not self.exact and key in memory)
        self._loaded: Sequence[Record] = ()
        self._asked = False
        self._side: deque[tuple[int, ...]] = deque(maxlen=64)

    def lend(self, model: Any | None) -> None:
        """Work with this model from now on; None while it is not loaded."""
        self._model = model
        if model is None and self._forms[()].store.disk is not None:
            self._memory.clear()

    def resize(self, nbytes: int) -> None:
        """Keep at most this much in memory from now on."""
        self._memory.resize(nbytes)

    def close(self) -> None:
        """Write what waits to be written."""
        self._forms[()].store.close()
        self._reader.close()

    def stats(self) -> dict[str, Any]:
        """Return the figures of memory and disk, and how many tokens of histories were lost."""
        return {**self._forms[()].store.stats(), "lost_tokens": self._losses.tokens}

    # The threads that serve clients.

    def begin(self, ids: Sequence[int], client: str = "") -> Begun:
        """Announce the prefill of what is not kept of a client's prompt."""
        store, found = _find([form.store for form in self._forms.values()], ids)
        prefill = self._prefills.begin(found.missing, client)
        # What another request computes just now is not lost.
        loss = None if prefill.shares else self._losses.find(ids, found.position)
        if loss is not None:
            log.warning("%s", loss.summary)
            log.debug("%s", loss)
        return Begun(store, found, prefill, loss)

    def load(self, begun: Begun) -> list[Record]:
        """Return what is kept of a prompt, all but its last token, read from disk if need be."""
        if begun.prefill.shares:
            return _longest([form.store for form in self._forms.values()], begun.found.ids)
        return begun.store.load(begun.found)

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
        hot = _longest([form.hot for form in self._forms.values()], tokens)
        records = max(records, hot, key=_position)
        if not self.exact:
            records = self._with_part(records, tokens)
        # Layers that had to grow at the first step would be copied whole.
        room = len(tokens) - _position(records) + BLOCK
        layers = self._restore(records, room) if records else None
        if layers is None:
            return None, tokens
        last = records[-1]
        if self._asked and last.kind == "end":
            store = self._forms[last.payload.form].store
            store.add(tokens[: last.position], [replace(last, kind="user")])
        return layers, tokens[last.position :]

    def _with_part(self, records: Sequence[Record], tokens: list[int]) -> Sequence[Record]:
        """Add the part of a mark that a prompt shares, where that is more than these records."""
        blocks = [record for record in records if record.kind == "block"]
        parents = [form.hot.seed for form in self._forms.values()]
        begin, best = len(blocks) * BLOCK, _position(records)
        more = tuple(tokens[begin:-1])
        marks = [self._memory.marks(one) for one in ([blocks[-1].key] if blocks else parents)]
        for _, key, _ in (mark for found in marks for mark in found):
            mark = self._memory.get(key)
            common = common_length(mark.payload.tail, more) if mark is not None else 0
            if mark is not None and begin + common > best:
                best = begin + common
                arrays = {name: rows[..., :common, :] for name, rows in mark.payload.arrays.items()}
                payload = replace(mark.payload, arrays=arrays)
                part = replace(mark, length=common, position=best, payload=payload, kind="prompt")
                records = [*blocks, part]
        return records

    def __len__(self) -> int:
        return self._memory.stats()["records"]

    def insert_cache(
        self, _: Any, tokens: list[int], layers: Sequence[Any], *, cache_type: str = _END
    ) -> None:
        """Keep what was computed for these tokens, and that their end is a place to go on from."""
        # Where layers can be cut, the answer's end serves for all that lies before it.
        kind: Any = "end" if cache_type == _END or not self.exact else cache_type
        self._keep(tokens, layers, kind)

    def keep_blocks(self, tokens: list[int], layers: Sequence[Any]) -> None:
        """Keep the full blocks of a prompt that is still being computed."""
        self._keep(tokens, layers, None)

    def trim_to(self, **_: Any) -> None:
        """Do nothing: the bytes have a cap of their own."""

    @property
    def nbytes(self) -> int:
        """How much memory the blocks take."""
        return self._memory.nbytes

    def _keep(self, tokens: list[int], layers: Sequence[Any], kind: Kind | None) -> None:
        layers = [as_rows(layer) for layer in layers]
        rows = [layer for layer in layers if isinstance(layer, Rows)]
        # Where nothing tells how many tokens the layers hold, they are not to be trusted.
        lengths = {length for length in map(length_of, layers) if length}
        held = min([len(tokens), *lengths])
        forms = {row.form for row in rows} or {()}
        if (
            not lengths
            or (self.exact and lengths != {held})
            or len(forms) > 1
            or not forms <= self._forms.keys()
        ):
            return
        form = forms.pop()
        store = self._forms[form].store
        tokens = tokens[:held]
        try:
            records = self._records(store, tokens, layers, rows, kind)
        except (TypeError, ValueError) as error:
            log.warning("A KV cache can't be kept: %s", error)
            return
        if records:
            mx.eval([list(record.payload.arrays.values()) for record in records])
            side = self._is_side(tokens)
            store.add(tokens, records, side=side)
            self._prefills.tell()
            if kind == "end" and not side:
                self._losses.remember(tokens)

    def _records(
        self,
        store: Store,
        tokens: list[int],
        layers: Sequence[Any],
        rows: Sequence[Rows],
        kind: Kind | None,
    ) -> list[Record]:
        parents = [store.seed, *chain(store.seed, tokens)]
        records = []
        for index in range(store.missing(tokens) // BLOCK, len(parents) - 1):
            begin = index * BLOCK
            end = begin + BLOCK
            payload = _cut(rows, begin, end)
            key, parent = parents[index + 1], parents[index]
            records.append(Record(key, parent, "block", BLOCK, end, payload, payload.nbytes))
        if kind is not None:
            begin = (len(parents) - 1) * BLOCK
            tail, payload = tokens[begin:], _cut(rows, begin, len(tokens))
            if not self.exact:
                payload = replace(payload, tail=tuple(tail))
            for i, layer in enumerate(layers):
                if not isinstance(layer, Rows):
                    state = pack(layer.state, payload.arrays)
                    payload.states[str(i)] = [type(layer).__name__, state]
            key, parent = mark_key(parents[-1], tail), parents[-1]
            records.append(
                Record(key, parent, kind, len(tail), len(tokens), payload, payload.nbytes)
            )
        return records

    def _is_side(self, tokens: list[int]) -> bool:
        return any(tuple(tokens[: len(side)]) == side[: len(tokens)] for side in self._side)

    def _restore(self, records: Sequence[Record], room: int) -> list[Any] | None:
        """Return layers that hold these records and can take `room` more tokens."""
        layers = fresh_cache(self._model)
        last: Payload = records[-1].payload
        try:
            plain = [i for i, is_row in enumerate(self._plain) if is_row]
            # Quantised rows have no room: their growing is left to mlx-lm.
            room = 0 if last.form else room
            for i, arrays in zip(plain, _join(records, len(plain), room), strict=True):
                layers[i] = from_rows(arrays, last.form, room)
                mx.eval(arrays)  # one by one, so that nothing is there twice but one layer
            for i, is_row in enumerate(self._plain):
                if not is_row:
                    name, state = last.states[str(i)]
                    if name != type(layers[i]).__name__:
                        raise ValueError(f"layer {i} is {name}")
                    layers[i] = type(layers[i]).from_state(unpack(state, last.arrays))
        except (LookupError, TypeError, ValueError) as error:
            log.warning("A KV cache can't be restored: %s", error)
            return None
        return layers


@dataclass(frozen=True, slots=True)
class _Form:
    """Where layers of one form are kept: in memory and on disk, and in memory alone."""

    store: Store
    hot: Store


def _longest(stores: Sequence[Store], ids: Sequence[int]) -> list[Record]:
    """Return the records of the longest prefix that any of the stores has, one token left."""
    store, found = _find(stores, ids)
    return store.load(found)


def _find(stores: Sequence[Store], ids: Sequence[int]) -> tuple[Store, Found]:
    """Return the store that has the longest prefix of the ids, one token left, and the prefix."""
    found = [(store, store.find(ids, len(ids) - 1)) for store in stores]
    return max(found, key=lambda pair: pair[1].position)


def _position(records: Sequence[Record]) -> int:
    return records[-1].position if records else 0


# Rows.


def _cut(rows: Sequence[Rows], begin: int, end: int) -> Payload:
    """Return rows of all layers that can be cut, those of one shape stacked."""
    groups: dict[Any, list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault(row.shape, []).append(i)
    arrays = {}
    for g, members in enumerate(groups.values() if begin < end else ()):
        cuts = zip(*(rows[i].cut(begin, end) for i in members), strict=True)
        for a, parts in enumerate(cuts):
            arrays[f"rows{g}.{a}"] = mx.stack(list(parts))
    return Payload(arrays, list(groups.values()), rows[0].form if rows else ())


def _join(records: Sequence[Record], count: int, room: int) -> Iterator[list[mx.array]]:
    """Yield for each layer its arrays: the rows of records, and `room` more."""
    payloads = [record.payload for record in records if record.length]
    for layer in range(count):
        joined = []
        for arrays in zip(*(_rows_of(payload, layer) for payload in payloads), strict=True):
            batch, heads, _, width = arrays[0].shape
            spare = [mx.zeros((batch, heads, room, width), arrays[0].dtype)] if room else []
            joined.append(mx.concatenate([*arrays, *spare], axis=2))
        yield joined


def _rows_of(payload: Payload, layer: int) -> list[mx.array]:
    """Return the arrays of one layer."""
    for g, members in enumerate(payload.groups):
        if layer in members:
            names = sorted(name for name in payload.arrays if name.startswith(f"rows{g}."))
            return [payload.arrays[name][members.index(layer)] for name in names]
    raise LookupError(f"layer {layer} is not there")


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
