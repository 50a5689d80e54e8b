"""What schemathesis sends by the server's own description: requests good and bad, on all routes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..http.live import Live, serve

pytestmark = pytest.mark.mlx

# Not among them: that all data of the right form is accepted. A schema can't say all that is asked
# of it: a choice must be among the tools, a token id among the model's.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
    "use_after_free",
    "ensure_resource_availability",
)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Return a server whose answers are short, whatever is asked of it."""
    flags = ("--context-length", "2048", "--max-tokens", "16")
    with serve(tmp_path_factory.mktemp("target"), *flags) as live:
        yield live


def attack(target: Live, folder: Path, *flags: str) -> None:
    """Let schemathesis try all routes; fail with what it says, which holds the requests."""
    command = [sys.executable, "-m", "schemathesis.cli"]
    command += ["--config-file", str(Path(__file__).with_name("schemathesis.toml"))]
    command += ["run", f"{target.url}/openapi.json", "--checks", ",".join(CHECKS), "--no-color"]
    command += ["--request-timeout", "20", *flags]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900)

    assert run.returncode == 0, run.stdout + run.stderr
    assert target.process.poll() is None
    assert target.wait_idle()
    assert target.chat("still right")["choices"][0]["message"]["content"] == "still right"
    assert "Traceback" not in target.log.read_text()


def test_few(target: Live, tmp_path: Path) -> None:
    """A few requests of any kind get what the description promises."""
    attack(target, tmp_path, "--phases", "fuzzing", "-n", "3", "--generation-deterministic")


@pytest.mark.slow
def test_many(target: Live, tmp_path: Path) -> None:
    """Thousands of requests, each field wrong in turn and some by chance, get what is promised."""
    attack(target, tmp_path, "--phases", "coverage,fuzzing,stateful", "-n", "60")
