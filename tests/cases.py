"""The parser cases of Qwen3-Coder, as data: what a model wrote and what a client must get."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlx_tools_server.messages import ToolSpec

FILE = Path(__file__).parent / "data" / "qwen3_coder.jsonl"


@dataclass(frozen=True)
class Case:
    """One row of the file."""

    id: str
    category: str
    level: str
    tools: list[dict[str, Any]]
    model_output: str
    engine_finish: str
    expected_content: str
    expected_calls: list[dict[str, Any]]
    expected_finish: str
    note: str
    source: str
    options: dict[str, Any] = field(default_factory=dict)
    expected_reasoning: str = ""
    partial_call: dict[str, Any] = field(default_factory=dict)

    @property
    def tool_specs(self) -> tuple[ToolSpec, ...]:
        """The tools as the parser takes them."""
        functions = [tool["function"] for tool in self.tools]
        return tuple(
            ToolSpec(f["name"], f.get("description", ""), f.get("parameters", {}))
            for f in functions
        )


CASES = [Case(**json.loads(line)) for line in FILE.read_text("utf-8").splitlines()]
