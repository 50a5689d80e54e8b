"""The command: what it prints, its exit codes, its JSON, and what it does not import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlx_tools_server.cli import main
from mlx_tools_server.doctor.finding import CHECKS, Finding
from mlx_tools_server.doctor.report import as_json, as_text, exit_code, wants_colour

FAST = ["doctor", "--fast", "--demo", "--no-kv-disk", "--port", "0"]
HEAVY = ("mlx", "mlx_lm", "transformers", "mlx_tools_server.engine.engine")
GOOD = Finding("port", "ok", "free")
DOUBT = Finding("access", "warning", "open", "Close it.")
BAD = Finding("memory", "problem", "full", "Buy some.")


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the settings of whoever runs the tests out."""
    for name in list(os.environ):
        if name.startswith("MLX_TOOLS_"):
            monkeypatch.delenv(name)


def test_fast_imports_nothing_heavy() -> None:
    """With --fast, neither mlx, mlx-lm nor transformers is loaded."""
    code = (
        "import sys\n"
        "from mlx_tools_server.cli import main\n"
        f"code = main({FAST!r})\n"
        f"loaded = set({HEAVY!r}) & set(sys.modules)\n"
        "assert not loaded, loaded\n"
        "sys.exit(code)\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )

    assert (told.returncode, told.stderr) == (0, "")
    assert "Nothing is wrong." in told.stdout
    assert "\033" not in told.stdout


def test_document(capsys: pytest.CaptureFixture[str]) -> None:
    """--json is one document, whose keys are a promise."""
    code = main([*FAST, "--json"])
    document = json.loads(capsys.readouterr().out)

    assert code == 0
    assert set(document) == {"format", "version", "ok", "problems", "warnings", "checks"}
    assert document["format"] == 1
    assert document["ok"] is True
    for check in document["checks"]:
        assert set(check) == {"check", "title", "why", "status", "seen", "remedy", "facts"}
    names = [check["check"] for check in document["checks"]]
    assert names == [
        *("platform", "python", "versions", "backend", "config_file", "environment", "model"),
        *("memory", "template", "tool_calls", "cache", "port", "access", "files", "clients"),
    ]
    assert {*names, "contract"} == set(CHECKS)


def test_clients_are_the_banners(capsys: pytest.CaptureFixture[str]) -> None:
    """The settings to paste are those that the server prints, with the address asked for."""
    main(["doctor", "--fast", "--port", "9123", "--json", "--no-kv-disk"])
    checks = {one["check"]: one for one in json.loads(capsys.readouterr().out)["checks"]}

    assert checks["clients"]["facts"]["url"] == "http://127.0.0.1:9123"
    assert any("ANTHROPIC_BASE_URL=http://127.0.0.1:9123" in line
               for line in checks["clients"]["facts"]["settings"])  # fmt: skip


def test_a_problem_is_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A problem is told with its reason and its remedy, and is the exit code; the rest is told."""
    monkeypatch.setenv("MLX_TOOLS_CONFIG", str(tmp_path / "gone.toml"))
    argv = ["doctor", "--fast", "--model-path", str(tmp_path / "none"), "--host", "0.0.0.0"]
    code = main([*argv, "--no-kv-disk"])
    told = capsys.readouterr().out

    assert code == 1
    assert told.count("PROBLEM") == 3
    assert "why: " in told
    assert "do:  " in told
    assert "3 problems. The server will not work like this." in told


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--prot", "1"], "Did you mean --port?"),
        (["--port", "x"], "--port can't be 'x'"),
        (["--fast", "--self-check"], "exclude each other"),
        (["something"], "Unknown argument"),
    ],
)
def test_bad_use(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Who calls it wrongly gets one line and exit code 2."""
    code = main(["doctor", *argv])

    assert code == 2
    assert said in capsys.readouterr().err


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    """--help tells the flags and the exit codes."""
    assert main(["doctor", "--help"]) == 0
    told = capsys.readouterr().out
    for word in ("--fast", "--json", "--self-check", "Exit code"):
        assert word in told


def test_list() -> None:
    """What is ok is one line; the rest has its reason and remedy; colours only when asked for."""
    plain, coloured = as_text([GOOD, DOUBT, BAD], colour=False), as_text([BAD], colour=True)

    assert plain.splitlines()[0].split() == ["ok", "port", "free"]
    assert len(plain.splitlines()) == 1 + 3 + 3 + 2
    assert "1 problem and 1 warning." in plain
    assert "\033[31m" in coloured
    assert "\033" not in plain


def test_exit_codes() -> None:
    """Only a problem counts."""
    assert exit_code([GOOD, DOUBT]) == 0
    assert exit_code([GOOD, BAD]) == 1
    assert json.loads(as_json([GOOD, BAD, DOUBT]))["ok"] is False


class _Terminal:
    def __init__(self, there: bool) -> None:
        self.there = there

    def isatty(self) -> bool:
        return self.there


@pytest.mark.parametrize(
    ("terminal", "env", "colour"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_colours(terminal: bool, env: dict[str, str], colour: bool) -> None:
    """Colours are for terminals whose owner has not said no."""
    assert wants_colour(_Terminal(terminal), env) is colour  # type: ignore[arg-type]


@pytest.mark.mlx
def test_with_mlx(capsys: pytest.CaptureFixture[str]) -> None:
    """Without --fast mlx-lm's inner parts are checked too, and the device is named."""
    code = main(["doctor", "--demo", "--no-kv-disk", "--port", "0", "--json"])
    checks = {one["check"]: one for one in json.loads(capsys.readouterr().out)["checks"]}

    assert code == 0
    assert checks["contract"]["status"] == "ok"
    assert checks["backend"]["facts"]["kind"] in ("CPU", "Metal", "CUDA")
