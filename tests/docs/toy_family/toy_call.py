"""The toy call: `[[call NAME {"key": "value"}]]`.

Rules of this file:
- A call of a tool that is on offer counts; all else that begins like one is text.
- Its arguments leave when they are whole. A call that is cut, or can't be read, becomes text.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mlx_tools_server.families.parser import Parser
from mlx_tools_server.families.tape import Steps
from mlx_tools_server.jsontext import dumps
from mlx_tools_server.schema import container

OPEN, CLOSE = "[[call ", "]]"


def write(name: str, arguments: Mapping[str, Any]) -> str:
    """Return a call as the family was trained to write it."""
    return f"{OPEN}{name} {dumps(arguments)}{CLOSE}"


class ToyParser(Parser):
    """Reads toy calls of these tools."""

    def __init__(self, tools: Iterable[str], *, first_call_only: bool, **base: Any) -> None:
        self._heads = [f"{name} {{" for name in tools]
        self._first_call_only = first_call_only
        super().__init__(**base)

    @property
    def _call_markers(self) -> Sequence[str]:
        return (OPEN,)

    def _call(self, marker: str) -> Steps[bool]:
        tape = self._tape
        head = yield from tape.literal(len(OPEN), self._heads)
        if not head:
            return False  # then it is text
        before = tape.take(len(OPEN) + len(head) - 1)
        text = yield from tape.json()
        arguments = container(text, ("object",), None)
        if arguments is None:
            self._notice("text")
            self._say(before + text)
            return True
        self._say_call(head.removesuffix(" {"), arguments)
        closer = yield from tape.literal(0, (CLOSE,))
        tape.take(len(closer))
        if not closer:
            self._mend()
        self.stopped = self._first_call_only
        return True
