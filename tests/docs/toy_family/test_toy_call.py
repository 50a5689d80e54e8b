"""The toy family: what a model says, and what a client gets."""

import pytest

from mlx_tools_server.families import FAMILIES, detect

from ...families.reading import TOOLS, calls_of, pieces, read
from .row import TOY

LS, CALL = '[[call run_cmd {"cmd": "ls"}]]', ("run_cmd", {"cmd": "ls"})
TEXTS = {  # what the model says, and the text and the calls in it
    "prose": ("Use [[call x]] or a[0].", "Use [[call x]] or a[0].", []),
    "a call": (f"So:\n{LS}\n", "So:", [CALL]),
    "two calls": (f"{LS}\n{LS}", "", [CALL, CALL]),
    "no closer": (LS[:-2], "", [CALL]),
    "a call that is cut": (LS[:-4], LS[:-4], []),
    "no JSON": ("[[call run_cmd {ls}]]", "[[call run_cmd {ls}]]", []),
}


@pytest.mark.parametrize("size", [1, 2, 3, 7, 0])
@pytest.mark.parametrize(("text", "content", "calls"), TEXTS.values(), ids=TEXTS)
def test_text(text: str, content: str, calls: list[object], size: int) -> None:
    """Calls are read, and all else stays text, however the text is cut."""
    answer = read(TOY.parser(TOOLS), pieces(text, size))
    assert (answer.joined("text"), calls_of(answer)) == (content, calls)


@pytest.mark.parametrize("cmd", ["ls", "", '"]]}', LS, "é\n\\", None, 1.5, {"a": [{}]}])
def test_round_trip(cmd: object) -> None:
    """What is written is read back as it was."""
    answer = read(TOY.parser(TOOLS), [TOY.shape.write("run_cmd", {"cmd": cmd})])
    assert calls_of(answer) == [("run_cmd", {"cmd": cmd})]


def test_detection() -> None:
    """The family is known by its chat template."""
    assert detect("{{ '[[call ' + name }}", families=(*FAMILIES, TOY))[0] is TOY
