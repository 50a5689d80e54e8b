"""What a check of the doctor finds.

Rules of this file:
- A check's name, title and reason are constant and stand in `CHECKS`; programs go by the name.
- A finding that is not ok has a remedy: a command, a flag or a setting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

Status: TypeAlias = Literal["ok", "warning", "problem", "skipped"]

# Name → what is looked at, and why it matters.
CHECKS: Mapping[str, tuple[str, str]] = {
    "platform": (
        "machine",
        "MLX runs on Apple Silicon with macOS 14 or newer, and on Linux by CPU or CUDA.",
    ),
    "python": ("Python", "mlx-lm needs 3.11 or newer, built for this machine's own processor."),
    "versions": ("packages", "The server reaches into mlx-lm, so only some versions fit."),
    "backend": ("MLX backend", "Without the GPU a model is slow; without a backend none loads."),
    "contract": ("mlx-lm inside", "A changed inner part of mlx-lm would break answers silently."),
    "config_file": ("config file", "What can't be read there stops the server at its start."),
    "environment": ("environment", "A forgotten variable changes the server without a trace."),
    "model": ("model", "A file that is missing, cut short or a pointer fails when it is loaded."),
    "template": ("chat template", "It decides how tools are shown and how calls are read."),
    "tool_calls": ("tool calls", "A template that can't write a call, or calls that can't be read "
                   "back, leave an agent without tools."),
    "memory": ("memory", "Weights and KV cache together must fit, or requests are refused."),
    "cache": ("cache folder", "It keeps what was computed; it is as private as a transcript."),
    "port": ("port", "The server can't start where another program listens."),
    "access": ("access", "Whoever reaches the server can use the model and read what it says."),
    "files": ("open files", "Each connection is an open file; agents open many."),
    "clients": ("clients", "These are the settings to paste; they fit the address above."),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding of a check; `facts` are its figures, for programs."""

    check: str
    status: Status
    seen: str
    remedy: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What was looked at."""
        return CHECKS[self.check][0]

    @property
    def why(self) -> str:
        """Why it matters."""
        return CHECKS[self.check][1]

    def as_json(self) -> dict[str, Any]:
        """Return the finding as its part of the JSON document."""
        return {"title": self.title, "why": self.why, **asdict(self)}
