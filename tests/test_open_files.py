"""How many files the process may have open, also once mlx-lm is imported."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

IMPORT = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, ({}, {}))
import mlx_tools_server.engine.seams
import mlx_lm.utils
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.mlx
@pytest.mark.parametrize(
    ("before", "after"), [((256, 1024), (1024, 1024)), ((5000, 6000), (5000, 6000))]
)
def test_engine_keeps_the_limits(before: tuple[int, int], after: tuple[int, int]) -> None:
    """The engine lowers no limit of open files, and starts where the hard one is low."""
    if 0 <= resource.getrlimit(resource.RLIMIT_NOFILE)[1] < before[1]:
        pytest.skip("this process may not have so many open files")

    done = subprocess.run(
        [sys.executable, "-c", IMPORT.format(*before)], capture_output=True, text=True, check=False
    )

    assert done.stdout.split() == [str(one) for one in after], done.stderr
