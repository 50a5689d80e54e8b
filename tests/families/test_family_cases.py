"""The cases of every family, at every way of cutting the text."""

from __future__ import annotations

import json

import pytest

from mlx_tools_server.families import FAMILIES

from .cases import Said, tables
from .reading import TOOLS, calls_of, pieces, read

BY_NAME = {family.name: family for family in FAMILIES}
ROWS = [
    pytest.param(name, said, id=f"{name}-{title}")
    for name, cases in tables().items()
    for title, said in cases.items()
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 0])
@pytest.mark.parametrize(("name", "said"), ROWS)
def test_case(name: str, said: Said, size: int) -> None:
    """What a model says reaches the client as the table says, however the text is cut."""
    parser = BY_NAME[name].parser(TOOLS, thought_open=said.thought_open)

    answer = read(parser, pieces(said.text, size), cut=said.cut)

    cut = [(part.name, part.text) for part in answer.parts if not part.complete]
    assert [*said.calls] == calls_of(answer)
    assert said.content == answer.joined("text")
    assert said.reasoning == answer.joined("reasoning")
    assert cut == ([said.begun] if said.begun else [])
    for _, arguments in cut:
        with pytest.raises(ValueError):  # noqa: PT011  JSON's own error
            json.loads(arguments)
