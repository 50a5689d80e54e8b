"""What `--json` writes: all figures, and what is needed to measure them again.

Rules of this file:
- No key is in it, and no content of what was said.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import StartupError
from .asking import About
from .players import Target, Traffic


def head(options: Any, traffic: Traffic) -> dict[str, Any]:
    """Return what a document says of the measurement itself."""
    return {
        "bench_version": __version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "python": platform.python_version(),
        "traffic": options.traffic or "built-in",
        "requests_a_round": traffic.steps,
        "scale": None if traffic.recording is not None else round(traffic.scale, 4),
        "max_tokens": traffic.max_tokens,
        "rounds": options.rounds,
        "streams": options.streams,
    }


def servers(targets: Sequence[Target], abouts: Sequence[About]) -> list[dict[str, Any]]:
    """Return what is known of the servers."""
    return [
        {
            "name": target.name,
            "url": target.endpoint.url,
            "dialect": target.dialect,
            "model": target.model,
            "context": about.context,
            "server": about.server,
            "version": about.version,
        }
        for target, about in zip(targets, abouts, strict=True)
    ]


def machine() -> str:
    """Return the machine that measures, in words."""
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return f"{system}, {os.cpu_count()} cores"


def write(path: str, document: Mapping[str, Any]) -> None:
    """Write a document; raises StartupError where that fails."""
    try:
        Path(path).write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    except OSError as error:
        raise StartupError(f"{path} can't be written: {error.strerror}", "Give another.") from None
