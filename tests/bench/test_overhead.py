"""`bench overhead`: mlx-lm's batches by themselves, and what a server adds to them."""

from __future__ import annotations

import pytest

from mlx_tools_server.bench import run

pytestmark = [pytest.mark.mlx, pytest.mark.slow]


def test_rows(capsys: pytest.CaptureFixture[str]) -> None:
    """It says for one, four and sixteen streams what a step takes, both ways."""
    assert run(["overhead", "--rounds", "1", "--tokens", "8"]) == 0

    rows = [line.split() for line in capsys.readouterr().out.splitlines()[3:]]
    assert [row[0] for row in rows] == ["1", "4", "16"]
    assert all(len(row) == 6 for row in rows)
