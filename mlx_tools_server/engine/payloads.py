"""What a record of the KV cache holds: evaluated arrays, and how they become a file and back.

Rules of this file:
- A file is data: JSON and arrays, nothing that is run.
- Threads that serve clients don't compute, and MLX never waits for Python's lock while it reads.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx

# Threads that read files.
_READERS = 4


@dataclass(frozen=True, slots=True)
class Payload:
    """Evaluated arrays.

    `groups` tells which layers' rows are stacked together and `form` how they are quantised;
    `states` are those of the layers that can't be cut, as JSON with arrays by name. `tail` are the
    tokens of a mark that can be used in part; only what was not read from disk has them.
    """

    arrays: dict[str, mx.array]
    groups: list[list[int]]
    form: tuple[int, ...] = ()
    states: dict[str, Any] = field(default_factory=dict)
    tail: tuple[int, ...] = ()

    @property
    def nbytes(self) -> int:
        """The size of the arrays."""
        return sum(int(array.nbytes) for array in self.arrays.values())


def pack(value: Any, arrays: dict[str, mx.array]) -> Any:
    """Return a state as JSON, its arrays by their names in `arrays`."""
    if isinstance(value, mx.array):
        name = f"state{len(arrays)}"
        # A copy: a view would keep the state of the whole batch.
        arrays[name] = mx.contiguous(value) if value.dtype == mx.bool_ else value * 1
        return {"array": name}
    if isinstance(value, list | tuple):
        return [pack(item, arrays) for item in value]
    if value is None or isinstance(value, int | float | str):
        return {"value": value}
    raise TypeError(f"a state holds a {type(value).__name__}")


def unpack(value: Any, arrays: dict[str, mx.array]) -> Any:
    """Return the state that `pack` made this of."""
    if isinstance(value, list):
        return [unpack(item, arrays) for item in value]
    return arrays[value["array"]] if "array" in value else value["value"]


def write(path: Path, payload: Payload) -> None:
    """Write a record's arrays into a file."""
    # The name has no suffix that mlx would take for a format, so it gets the open file.
    with path.open("wb") as file:
        about = {"groups": payload.groups, "form": payload.form, "states": payload.states}
        mx.save_safetensors(file, payload.arrays, {"about": json.dumps(about)})


class FileReader:
    """Reads files in a few threads of its own.

    MLX starts a stream for each thread that computes, and never ends it; those that serve clients
    come and go.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_READERS, "kv-reader")

    def close(self) -> None:
        """End the threads, when what they read now is read."""
        self._threads.shutdown()

    def __call__(self, path: Path) -> Payload:
        """Return what a file holds, evaluated; raises what reading raises."""
        return self._threads.submit(read, path).result()


def read(path: Path) -> Payload:
    """Return what a file holds, evaluated; raises what reading raises."""
    # Not an open file: MLX would read it in a thread that needs Python's lock, and on the CPU
    # `clear_cache` waits for such threads while it holds that lock.
    loaded: Any = mx.load(str(path), format="safetensors", return_metadata=True)
    arrays, meta = loaded
    mx.eval(list(arrays.values()))
    about = json.loads(meta["about"])
    return Payload(arrays, about["groups"], tuple(about["form"]), about["states"])
