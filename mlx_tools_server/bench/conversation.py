"""What is said to a server, whatever its dialect: tools, messages, calls.

Rules of this file:
- No dialect is in here, and nothing is asked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool as it is offered."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(slots=True)
class Call:
    """A call that a model made; `arguments` are the text that came."""

    id: str
    name: str
    arguments: str = ""

    @property
    def is_valid(self) -> bool:
        """Whether the arguments are a JSON object."""
        try:
            return isinstance(json.loads(self.arguments), dict)
        except ValueError:
            return False

    @property
    def object(self) -> Mapping[str, Any]:
        """The arguments; none where they can't be read, so that a bad call costs itself only."""
        found: Mapping[str, Any] = json.loads(self.arguments) if self.is_valid else {}
        return found


@dataclass(frozen=True, slots=True)
class Said:
    """One message; `call_id` names the call whose result a tool's message is."""

    role: Literal["user", "assistant", "tool"]
    text: str
    calls: tuple[Call, ...] = ()
    call_id: str = ""
    thought: str = ""
    signature: str = ""


@dataclass(frozen=True, slots=True)
class Conversation:
    """All that a request says."""

    system: str
    tools: tuple[Tool, ...]
    messages: tuple[Said, ...]
