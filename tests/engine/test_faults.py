"""Two hundred faults of the disk: no wrong token, no failed request, only misses.

Rules of this file:
- The scripted model says MISMATCH where its KV cache is not that of its prompt.
- Memory has room for one conversation, so what is asked for comes from disk if it comes at all.
"""

from __future__ import annotations

import random
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from mlx_tools_server.engine.scripted import write_checkpoint
from mlx_tools_server.events import fold
from mlx_tools_server.messages import ChatRequest, Message, Options

from .running import READ, WORDS, running, script
from .test_timelines import damage

pytestmark = pytest.mark.mlx

FAULTS = 100
TEXT = "It is as it was."


@pytest.mark.parametrize(
    "hybrid",
    [pytest.param(False, marks=pytest.mark.slow, id="plain"), pytest.param(True, id="hybrid")],
)
def test_faults(tmp_path: Path, hybrid: bool) -> None:
    """Whatever happens to the files, two servers on one folder give every answer rightly."""
    rng = random.Random(2026)
    folder = write_checkpoint(tmp_path / "model", hybrid=hybrid)
    kept = tmp_path / "kv"
    conversations = [
        (Message("system", WORDS * (20 + 7 * i)), Message("user", f"{i}" + script(TEXT)))
        for i in range(6)
    ]
    settings = {"no_kv_disk": False, "kv_dir": str(kept), "kv_ram_bytes": 1 << 15}
    cached = 0
    with running(folder, **settings) as one, running(folder, **settings) as other:
        for _ in range(FAULTS):
            with suppress(OSError):  # the servers delete files too
                fault(kept, rng)
            engine = rng.choice((one, other))
            request = ChatRequest(rng.choice(conversations), (READ,), options=Options())
            answer = fold(engine.run(engine.prepare_chat(request), request.options))
            assert [part.text for part in answer.parts] == [TEXT]
            assert answer.finished is not None
            cached += answer.finished.usage.cached_tokens

    assert cached > 0


def fault(kept: Path, rng: random.Random) -> None:
    """Let the disk fail in some way, or another program do something."""
    files = sorted(kept.rglob("*.safetensors"))
    kind = rng.randrange(8)
    if kind < 4:
        damage(kept, rng)
    elif kind == 4 and files:
        # The content of one record under the name of another.
        shutil.copyfile(rng.choice(files), rng.choice(files))
    elif kind == 5 and files:
        other = rng.choice(files)
        (other.parent / f".tmp-1-{rng.randrange(16**8):08x}.safetensors").write_bytes(b"half")
    elif kind == 6 and rng.random() < 0.2:
        shutil.rmtree(kept, ignore_errors=True)
    elif kind == 7 and rng.random() < 0.2:
        shutil.rmtree(kept, ignore_errors=True)
        kept.write_bytes(b"no folder")
    elif kept.is_file():
        kept.unlink()
