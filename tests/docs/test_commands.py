"""The documents' commands: each is known, each of ours is right, and what can run here runs."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from mlx_tools_server import bench, cache, doctor
from mlx_tools_server.bench import BENCHMARKS
from mlx_tools_server.chosen import DEMO_MODEL
from mlx_tools_server.cli import COMMANDS
from mlx_tools_server.errors import StartupError
from mlx_tools_server.flags import read_args, resolve

from ..http.live import Live, process
from .commands import ASKED, ELSEWHERE, FROM_WHEEL, KNOWN, PAGES, QUICK, SERVERS, SLOW, lines, ours
from .markdown import DOCUMENTS, ROOT, codes, name

NEW = "put it into a table of tests/docs/commands.py, so that it is run, or says why it can't be"
MODELS = ("Qwen3-Coder", "Qwen3-Coder-30B-A3B-Instruct-4bit", "Qwen3-4B-Instruct-2507-4bit", "NAME")
# Which of them it is makes no difference here.
MODEL = re.compile(r"~/models/\S+")
# Flags of commands that are no server.
HELP = {"demo": "--once", "doctor": doctor.USAGE, "cache": "--kv-dir"}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_known(page: Path) -> None:
    """Every command of a page is in a table."""
    assert [command for command in lines(page) if command not in KNOWN] == [], NEW


def test_no_stale_rows() -> None:
    """Every command of the tables stands in a page."""
    shown = {command for page in PAGES for command in lines(page)}

    assert sorted(KNOWN - shown) == []


def fault(command: str, arguments: list[str]) -> str:
    """Return what is wrong with a command line of ours; nothing if it can be run."""
    first = arguments[0] if arguments else ""
    if first.startswith("-") or not first or first == "serve":
        return _flags_fault([each for each in arguments if each != "serve"])
    if first not in COMMANDS:
        return f"{command}: there is no command {first}"
    rest = arguments[1:]
    if first == "doctor":
        return _flags_fault([each for each in rest if each not in (*doctor.OWN, "--help")])
    inner: Collection[str] = {"bench": BENCHMARKS, "cache": cache._COMMANDS}.get(first, rest[:1])
    if rest and rest[0] not in (*inner, "--help"):
        return f"{command}: there is no {first} {rest[0]}"
    flags = [each.partition("=")[0] for each in rest if each.startswith("--")]
    known = help_of(rest[0]) if flags and first == "bench" else HELP.get(first, "")
    return "".join(f"{command}: {flag} is not known" for flag in flags if flag not in known)


def _flags_fault(arguments: list[str]) -> str:
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            args = read_args(arguments)
            args.config = None  # the reader's own file
            resolve(args, {})
    except StartupError as error:
        return str(error)
    return ""


def help_of(benchmark: str) -> str:
    """Return what a benchmark says of itself."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        bench.run([benchmark, "--help"])
    return f"{out.getvalue()} --help"


@pytest.mark.parametrize("page", DOCUMENTS, ids=name)
def test_ours_are_right(page: Path) -> None:
    """Every command of ours, in a block or within the text, has commands and flags that exist."""
    within = [text for text in codes(page) if re.match(r"(mlx-tools-server|uvx|python -m) ", text)]
    found = ((text, ours(text)) for text in (*lines(page), *within))
    faults = (fault(text, given) for text, given in found if given is not None)

    assert [each for each in faults if each] == []


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        ("mlx-tools-server --prot 1", "--prot"),
        ("mlx-tools-server --kv-bits 7", "--kv-bits"),
        ("uvx --from 'x[cpu]' mlx-tools-server serv", "no command serv"),
        ("python -m mlx_tools_server cache list", "no cache list"),
        ("MLX_TOOLS_PORT=1 ~/a/bin/mlx-tools-server doctor --quick", "--quick"),
        ("mlx-tools-server bench turn", "no bench turn"),
        ("mlx-tools-server bench parser --fast", "--fast"),
        ("mlx-tools-server demo --twice", "--twice"),
    ],
)
def test_faults_are_seen(command: str, wrong: str) -> None:
    """A command of ours that can't be run is found."""
    arguments = ours(command)

    assert arguments is not None
    assert wrong in fault(command, arguments)


@pytest.mark.parametrize("page", DOCUMENTS, ids=name)
def test_make_targets(page: Path) -> None:
    """Every target of make that a document names is there."""
    makefile = (ROOT / "Makefile").read_text()
    commands = [*lines(page), *(text for text in codes(page) if text.startswith("make "))]
    targets = {
        word
        for command in commands
        if command.startswith("make ")
        for word in command.split()[1:]
        if "=" not in word
    }

    assert [each for each in targets if not re.search(rf"^{each}:", makefile, re.MULTILINE)] == []


# What runs.


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home with models of these names, all of them the built-in one."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "models").mkdir()
    for model in MODELS:
        (folder / "models" / model).symlink_to(DEMO_MODEL)
    return folder


def environment(home: Path) -> dict[str, str]:
    """Return what a reader's shell has: this program in the path, and nothing set."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MLX_TOOLS_")}
    kept.pop("XDG_CACHE_HOME", None)
    path = f"{Path(sys.executable).parent}:{kept['PATH']}"
    return {**kept, "HOME": str(home), "PATH": path, "MLX_TOOLS_PORT": "0"}


def typed(command: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as typed into a shell."""
    return subprocess.run(
        ["bash", "-c", command],
        cwd=ROOT,
        env=environment(home),
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("command", sorted(QUICK))
def test_quick(command: str, home: Path) -> None:
    """A command that takes a moment does what the page says."""
    done = typed(command, home)

    assert done.returncode == 0, done.stdout + done.stderr


@contextlib.contextmanager
def started(command: str, home: Path) -> Iterator[Live]:
    """Start a server as a page says, but on a port that is free."""
    words = os.path.expanduser(re.sub(r"--port \d+", "--port 0", command)).split()
    folder = home / "logs"
    folder.mkdir(exist_ok=True)
    words = [word.replace(str(Path.home()), str(home)) for word in words]
    program = [sys.executable, "-m", "mlx_tools_server"]
    arguments = words[3:] if words[0] == "python" else words[1:]
    with process([*program, *arguments], folder, environment(home)) as live:
        yield live


@pytest.mark.slow
@pytest.mark.mlx
@pytest.mark.parametrize("command", sorted(SERVERS))
def test_servers(command: str, home: Path) -> None:
    """A server that a page starts answers, and what pages ask of it works."""
    with started(command, home) as live:
        assert live.health()["status"] == "ok"
        for asked in sorted(ASKED):
            done = typed(asked.replace("http://127.0.0.1:8080", live.url), home)
            assert done.returncode == 0, done.stderr
            assert "mlx_tools_turns" in done.stdout or '"status":"ok"' in done.stdout


@pytest.mark.slow
@pytest.mark.mlx
@pytest.mark.parametrize("command", sorted({MODEL.sub("~/models/NAME", each) for each in SLOW}))
def test_slow(command: str, home: Path) -> None:
    """A command that takes longer does what the page says, where a server has run before."""
    (home / ".cache" / "mlx-tools-server").mkdir(parents=True, exist_ok=True)
    (home / ".cache" / "mlx-tools-server").chmod(0o700)

    done = typed(command, home)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return what uvx takes for this checkout."""
    if shutil.which("uvx") is None:
        pytest.skip("uv is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir"]
    subprocess.run([*build, str(folder), str(ROOT)], check=True, capture_output=True)
    extra = "" if sys.platform == "darwin" else "[cpu]"
    return f"mlx-tools-server{extra} @ {next(folder.glob('*.whl')).as_uri()}"


@pytest.mark.slow
@pytest.mark.mlx
@pytest.mark.parametrize("command", sorted(FROM_WHEEL))
def test_uvx(command: str, home: Path, wheel: str) -> None:
    """What uvx starts works, from the wheel of this checkout."""
    source = f"uvx --from '{wheel}'"
    command = re.sub(r"^uvx( --from '[^']*')?", lambda _: source, command)

    done = typed(command, home)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "tool call  write_file" in done.stdout


def test_reasons() -> None:
    """What can't run here says why."""
    assert all(len(reason) > 10 for reason in ELSEWHERE.values())
