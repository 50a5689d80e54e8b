"""The command line from outside: what it prints, what it loads, and its exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mlx_tools_server import __version__
from mlx_tools_server.banner import banner
from mlx_tools_server.chosen import DEMO_MODEL, look_at_model, with_demo_model
from mlx_tools_server.cli import describe, main
from mlx_tools_server.config import ServerConfig
from mlx_tools_server.errors import StartupError
from mlx_tools_server.models import ModelInfo, Quantization

HEAVY = ("mlx", "mlx_lm", "transformers", "jinja2", "jsonschema", "mlx_tools_server.server")


def run(*argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MLX_TOOLS_")}
    return subprocess.run(
        [sys.executable, "-m", "mlx_tools_server", *argv],
        capture_output=True,
        text=True,
        env=clean | env,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["serve", "--help"]])
def test_quick_answers(argv: list[str]) -> None:
    """Help and version are given without loading the server, the engine or the templates."""
    code = (
        "import sys\n"
        "from mlx_tools_server.cli import main\n"
        "try:\n"
        f"    main({argv!r})\n"
        "finally:\n"
        f"    loaded = set({HEAVY!r}) & set(sys.modules)\n"
        "    assert not loaded, loaded\n"
    )

    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )

    assert (result.returncode, result.stderr) == (0, "")
    assert "mlx-tools-server" in result.stdout


def test_version() -> None:
    """The version is that of the package."""
    result = run("--version")

    assert result.stdout == f"mlx-tools-server {__version__}\n"


ERRORS = [
    pytest.param([], {}, "--model-path DIR, or try --demo", id="nothing to serve"),
    pytest.param(["--prot", "1"], {}, "Did you mean --port?", id="unknown flag"),
    pytest.param(["--port", "x"], {}, "--port can't be 'x'", id="bad value"),
    pytest.param(["--demo"], {"MLX_TOOLS_PORT": "x"}, "MLX_TOOLS_PORT can't be", id="bad variable"),
    pytest.param(["--model-path", "/no/such/dir"], {}, "does not exist", id="no folder"),
    pytest.param(["--model-path", "org/name"], {}, "--model org/name", id="hub id as folder"),
    pytest.param(["serv"], {}, "Did you mean serve?", id="unknown command"),
    pytest.param(["bake"], {}, "There are: serve, demo, cache, bench", id="far command"),
    pytest.param(["/"], {}, "--model-path /", id="bare folder"),
]


@pytest.mark.parametrize(("argv", "env", "message"), ERRORS)
def test_one_line_errors(argv: list[str], env: dict[str, str], message: str) -> None:
    """What can be mended is one line on stderr, and exit code 2."""
    result = run(*argv, **env)

    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


def test_no_backend() -> None:
    """Where mlx is missing, one line says how to get it."""
    code = "import sys; sys.modules['mlx'] = None; from mlx_tools_server.cli import main; "
    result = subprocess.run(
        [sys.executable, "-c", f"{code}sys.exit(main(['--demo']))"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 2
    assert result.stderr.startswith("error: No backend of MLX is installed. Give it one: pip")
    assert result.stderr.count("\n") == 1


def test_interrupt(tmp_path: Path) -> None:
    """Ctrl-C while starting ends the process quietly with 130."""
    pipe = tmp_path / "config.toml"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "mlx_tools_server", "--demo", "--config", str(pipe)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Tests that run in the background may have it ignored, which children inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        # Opening the pipe waits until the other side, already in main(), opens it. A signal that
        # comes just before it reads is seen when that returns, as it does at the end of the file.
        with pipe.open("wb"):
            process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=60)

    assert (process.returncode, output) == (130, (b"", b""))


def test_error_with_a_line_break(capsys: pytest.CaptureFixture[str]) -> None:
    """A line break in what the user gave does not make two lines of an error."""
    assert main(["--model-path", "/no\n/such"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_print_config() -> None:
    """The settings are shown with their origin, without any model, and without the key."""
    result = run("--print-config", "--port", "1", MLX_TOOLS_API_KEY="s3cret", MLX_TOOLS_TEMP="1")

    lines = result.stdout.splitlines()
    assert result.returncode == 0
    assert "port = 1  # --port" in lines
    assert "temp = 1.0  # MLX_TOOLS_TEMP" in lines
    assert 'host = "127.0.0.1"  # default' in lines
    assert "# model is not set  # default" in lines
    assert "# api_key is set, and not shown  # MLX_TOOLS_API_KEY" in lines
    assert "s3cret" not in result.stdout


def test_print_config_is_a_config_file() -> None:
    """What --print-config shows can be read back as a config file with the same settings."""
    config = ServerConfig.from_sources(
        {
            "--model-path": 'a "quoted" \\ пут\u0001',
            "--allowed-origins": "http://a,http://b",
            "--chat-template": "{{ '\n' }}",
            "--chat-template-args": '{"on": true, "list": [1, "x"], "map": {"a b": null, "c": {}}}',
            "--pipeline": True,
        },
        {"MLX_TOOLS_PROMPT_CACHE_BYTES": "1GB"},
        {"kv_bits": 4},
    )

    read_back = ServerConfig.from_sources({}, {}, tomllib.loads(describe(config)))

    # TOML has no null.
    args = {"on": True, "list": [1, "x"], "map": {"c": {}}}
    assert read_back.values() == config.values() | {"chat_template_args": args}


def test_long_template_is_counted() -> None:
    """A whole chat template is not printed among the settings."""
    assert "# chat_template has 302 characters" in describe(
        ServerConfig(chat_template="{{" + "x" * 300)
    )


def test_not_inspected() -> None:
    """A hub id is not a folder to look at."""
    assert look_at_model(ServerConfig.from_sources({"--model": "org/name"}, {}, {})) is None


@pytest.mark.parametrize(
    "flags", [{"--demo": True}, {"--model-path": "demo"}, {"--model": "demo"}], ids=str
)
def test_demo_model(flags: dict[str, object]) -> None:
    """The built-in model is served by a flag or by its name, like any folder."""
    config = with_demo_model(ServerConfig.from_sources(flags, {}, {}))
    info = look_at_model(config)

    assert config.model_name == "demo"
    assert info is not None
    assert info.architecture == "qwen3"


def test_folder_of_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of the user's that is called demo wins over the built-in model."""
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path)
    config = ServerConfig.from_sources({"--model-path": "demo"}, {}, {})

    assert with_demo_model(config) is config


def test_demo_model_folder() -> None:
    """The built-in model has the standard files, a card with figures, and at most 8 MB."""
    files = {path.name: path.stat().st_size for path in DEMO_MODEL.iterdir()}

    assert set(files) == {
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert sum(files.values()) <= 8_000_000
    assert "| one call |" in (DEMO_MODEL / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("flag", ["--model", "--model-path"])
def test_inspected(flag: str, tmp_path: Path) -> None:
    """A folder is looked at, whichever flag gave it."""
    with pytest.raises(StartupError, match=r"no config\.json"):
        look_at_model(ServerConfig.from_sources({flag: str(tmp_path)}, {}, {}))


INFO = ModelInfo(
    path=Path("/models/Qwen3-Coder"),
    name="Qwen3-Coder",
    architecture="qwen3_moe",
    size_bytes=17_200_000_000,
    quantization=Quantization(4, 64),
)


def test_banner() -> None:
    """The banner tells what is served and how to connect, in lines to paste."""
    shown = banner(
        "http://127.0.0.1:8080",
        INFO,
        family="qwen3_coder",
        why="the template writes <function=name>",
        template="chat_template.jinja",
        context_length=262_144,
    )

    assert shown.splitlines() == [
        "",
        "  http://127.0.0.1:8080/v1",
        "",
        "  model        Qwen3-Coder (qwen3_moe, 17.2 GB, 4-bit)",
        "  context      262,144 tokens",
        "  tool calls   qwen3_coder: the template writes <function=name>",
        "  template     chat_template.jinja",
        "",
        "  Claude Code  ANTHROPIC_BASE_URL=http://127.0.0.1:8080 ANTHROPIC_AUTH_TOKEN=local claude "
        "--model local",
        "  anyclaude    ANYCLAUDE_MODE=local LOCAL_URL=http://127.0.0.1:8080/v1 "
        "LOCAL_API_KEY=local anyclaude --model claude-sonnet-4-5",
        "  OpenAI       OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=local",
    ]


def test_banner_with_key() -> None:
    """With a key the lines to paste name its variable, never the key."""
    shown = banner(
        "http://127.0.0.1:8080/v1",
        INFO,
        family="f",
        why="w",
        template="t",
        context_length=None,
        api_key=True,
    )

    assert (
        "ANTHROPIC_BASE_URL=http://127.0.0.1:8080 "
        'ANTHROPIC_AUTH_TOKEN="$MLX_TOOLS_API_KEY" claude' in shown
    )
    assert 'LOCAL_API_KEY="$MLX_TOOLS_API_KEY" anyclaude' in shown
    assert 'OPENAI_API_KEY="$MLX_TOOLS_API_KEY"' in shown
    assert "not stated by the model" in shown
