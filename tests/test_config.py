"""Settings: where they come from, which source wins, and what a bad value is told."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_tools_server.cli import describe
from mlx_tools_server.config import OPTIONS, ServerConfig, is_loopback
from mlx_tools_server.errors import StartupError
from mlx_tools_server.flags import build_parser, load_config
from mlx_tools_server.sources import env_name


def from_flags(**flags: Any) -> ServerConfig:
    given = {"--" + name.replace("_", "-"): value for name, value in flags.items()}
    return ServerConfig.from_sources(given, {}, {})


PRECEDENCE = [
    pytest.param({}, {}, {}, 8080, None, id="default"),
    pytest.param({}, {}, {"port": 1}, 1, "port in the config file", id="file"),
    pytest.param({}, {"MLX_TOOLS_PORT": "2"}, {"port": 1}, 2, "MLX_TOOLS_PORT", id="env over file"),
    pytest.param(
        {"--port": "3"}, {"MLX_TOOLS_PORT": "2"}, {"port": 1}, 3, "--port", id="flag over env"
    ),
    pytest.param({}, {"MLX_TOOLS_PORT": ""}, {"port": 1}, 1, "port in the config file", id="empty"),
    pytest.param({}, {"PORT": "2", "HOME": "/"}, {}, 8080, None, id="foreign variables"),
]


@pytest.mark.parametrize(("flags", "env", "file", "port", "origin"), PRECEDENCE)
def test_precedence(
    flags: dict[str, Any], env: dict[str, str], file: dict[str, Any], port: int, origin: str | None
) -> None:
    """Flags win over the environment, that over the file, and that over the default."""
    config = ServerConfig.from_sources(flags, env, file)

    assert config.port == port
    assert config.sources.get("port") == origin


READ = [
    ("allowed_origins", "http://a, https://b:1/", ("http://a", "https://b:1")),
    ("allowed_origins", "*", ("*",)),
    ("allowed_origins", "", ()),
    ("log_level", "debug", "DEBUG"),
    ("chat_template_args", '{"enable_thinking": false}', {"enable_thinking": False}),
    ("chat_template", "{{ messages }}", "{{ messages }}"),
    ("chat_template", "", ""),
    ("prompt_cache_bytes", "1.5GB", 1_500_000_000),
    ("prompt_cache_bytes", "500 m", 500_000_000),
    ("prompt_cache_bytes", "0.0000001M", None),
    ("prompt_cache_bytes", "1024", 1024),
    ("prompt_cache_bytes", "8KB", None),
    ("prompt_cache_bytes", "GB", None),
    ("prompt_cache_bytes", "1.2.3G", None),
    ("prompt_cache_bytes", "-1G", None),
    ("port", "0", 0),
    ("port", "65535", 65535),
    ("port", "65536", None),
    ("port", "-1", None),
    ("port", "80.0", None),
    ("temp", "0", 0.0),
    ("temp", "1.5", 1.5),
    ("temp", "-0.1", None),
    ("temp", "nan", None),
    ("temp", "inf", None),
    ("top_p", "1", 1.0),
    ("top_p", "1.01", None),
    ("min_p", "-0.01", None),
    ("top_k", "0", 0),
    ("top_k", "-1", None),
    ("max_tokens", "0", None),
    ("context_length", "0", None),
    ("kv_bits", "4", 4),
    ("kv_bits", "7", None),
    ("kv_group_size", "48", None),
    ("quantized_kv_start", "0", 0),
    ("prefill_step_size", "0", None),
    ("decode_concurrency", "0", None),
    ("prompt_concurrency", "-2", None),
    ("prompt_cache_size", "0", None),
    ("num_draft_tokens", "0", None),
    ("allowed_origins", "localhost:3000", None),
    ("chat_template_args", "[1]", None),
    ("chat_template_args", "{", None),
    ("chat_template", "no-such-file.jinja", None),
    ("log_level", "LOUD", None),
    ("model", " ", None),
    ("api_key", "two words", None),
    ("api_key", "ключ", None),
]


@pytest.mark.parametrize(
    ("name", "text", "value"), [pytest.param(*row, id=f"{row[0]}={row[1]}") for row in READ]
)
def test_values(name: str, text: str, value: Any) -> None:
    """A value is read to its type; out of its range it is refused by the flag's name."""
    if value is not None:
        assert getattr(from_flags(**{name: text}), name) == value
        return

    with pytest.raises(StartupError) as caught:
        from_flags(**{name: text})
    assert f"--{name.replace('_', '-')} can't be" in caught.value.problem
    assert caught.value.remedy == f"Give {OPTIONS[name].kind.what}."


@pytest.mark.parametrize("text", ["1", "true", "YES", "on", "0", "False", "no", "off"])
def test_switches_by_environment(text: str) -> None:
    """A switch is set by the usual words for yes and no."""
    config = ServerConfig.from_sources({}, {"MLX_TOOLS_PIPELINE": text}, {})

    assert config.pipeline is (text.lower() in ("1", "true", "yes", "on"))


WRONG_IN_FILE = [
    pytest.param({"port": "8080"}, id="number as text"),
    pytest.param({"port": True}, id="true is no number"),
    pytest.param({"port": 80.5}, id="fraction"),
    pytest.param({"demo": 1}, id="1 is not true"),
    pytest.param({"host": 1}, id="number for text"),
    pytest.param({"allowed_origins": [1]}, id="list of numbers"),
    pytest.param({"chat_template_args": ["a"]}, id="list for table"),
]


@pytest.mark.parametrize("file", WRONG_IN_FILE)
def test_wrong_type_in_file(file: dict[str, Any]) -> None:
    """The file's values have TOML's own types, and a wrong one is named by its key."""
    with pytest.raises(StartupError, match=next(iter(file)) + " in the config file"):
        ServerConfig.from_sources({}, {}, file)


UNKNOWN = [
    pytest.param({"--prot": "1"}, {}, {}, "Unknown option: --prot", "--port", id="flag"),
    pytest.param(
        {}, {"MLX_TOOLS_PROT": "1"}, {}, "environment variable: MLX_TOOLS_PROT", "_PORT", id="env"
    ),
    pytest.param({}, {}, {"prot": 1}, "key in the config file: prot", "port", id="file"),
]


@pytest.mark.parametrize(("flags", "env", "file", "problem", "offer"), UNKNOWN)
def test_unknown_names(
    flags: dict[str, Any], env: dict[str, str], file: dict[str, Any], problem: str, offer: str
) -> None:
    """An unknown name is an error that offers the nearest known one."""
    with pytest.raises(StartupError, match=re.escape(problem)) as caught:
        ServerConfig.from_sources(flags, env, file)
    assert offer in caught.value.remedy


MODEL_CHOICES = [
    pytest.param(["--model", "a"], {}, "a", False, id="--model"),
    pytest.param(["--model-path", "a"], {}, "a", False, id="--model-path"),
    pytest.param(["--model-path", "a", "--model", "a"], {}, "a", False, id="both the same"),
    pytest.param(["--model=b", "--model", "a"], {}, "a", False, id="the last of one flag"),
    pytest.param(["--demo"], {}, None, True, id="demo"),
    pytest.param(["--demo"], {"MLX_TOOLS_MODEL": "a"}, None, True, id="demo over env model"),
    pytest.param(["--model", "a"], {"MLX_TOOLS_DEMO": "1"}, "a", False, id="model over env demo"),
]


@pytest.mark.parametrize(("argv", "env", "model", "demo"), MODEL_CHOICES)
def test_choice_of_model(
    argv: list[str], env: dict[str, str], model: str | None, demo: bool
) -> None:
    """The model is named by either flag; between a model and the demo the stronger source wins."""
    config = load_config(argv, env)

    assert (config.model, config.demo) == (model, demo)


REFUSED = [
    pytest.param(["--model", "a", "--model-path", "b"], "different things", "one", id="two models"),
    pytest.param(["--demo", "--model", "a"], "exclude each other", "one", id="model and demo"),
    pytest.param([], "no model", "--model-path DIR, or try --demo", id="nothing to serve"),
    pytest.param(["--prot", "1"], "Unknown argument: --prot", "--port", id="typo"),
    pytest.param(["--api-kee=s3cret"], "Unknown argument: --api-kee", "--api-key", id="typo="),
    pytest.param(["--port"], "expected one argument", "--help", id="no value"),
    pytest.param(["--mod", "a"], "Unknown argument: --mod", "--model", id="no abbreviations"),
    pytest.param(["--demo", "--host", "0.0.0.0"], "no API key", "MLX_TOOLS_API_KEY", id="bind"),
    pytest.param(["--config", "absent.toml", "--demo"], "absent.toml", "--config", id="no file"),
]


@pytest.mark.parametrize(("argv", "problem", "remedy"), REFUSED)
def test_refused_command_lines(argv: list[str], problem: str, remedy: str) -> None:
    """A command line that can't be meant is refused with a way out."""
    with pytest.raises(StartupError) as caught:
        load_config(argv, {})
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy
    assert "s3cret" not in str(caught.value)


def test_unknown_folder_argument(tmp_path: Path) -> None:
    """A folder given without its flag is answered with the flag."""
    with pytest.raises(StartupError, match=re.escape(f"--model-path {tmp_path}")):
        load_config([str(tmp_path)], {})


@pytest.mark.parametrize("by_flag", [True, False], ids=["--config", "MLX_TOOLS_CONFIG"])
def test_file(tmp_path: Path, by_flag: bool) -> None:
    """The file is named by flag or environment, and its keys are the fields' names."""
    file = tmp_path / "server.toml"
    file.write_text(
        'model = "m"\nport = 1\ntemp = 1\n'
        'allowed_origins = ["http://a"]\nprompt_cache_bytes = "8G"\n'
        "[chat_template_args]\nenable_thinking = false\n"
    )
    argv = ["--config", str(file)] if by_flag else []

    config = load_config(argv, {} if by_flag else {"MLX_TOOLS_CONFIG": str(file)})

    assert config == ServerConfig(
        model="m",
        port=1,
        temp=1.0,
        allowed_origins=("http://a",),
        prompt_cache_bytes=8 * 10**9,
        chat_template_args={"enable_thinking": False},
    )


@pytest.mark.parametrize("content", [b"port = ", b"port: 1", b"\xff"])
def test_broken_file(tmp_path: Path, content: bytes) -> None:
    """A file that is no TOML is named, with what is wrong in it."""
    file = tmp_path / "server.toml"
    file.write_bytes(content)

    with pytest.raises(StartupError, match=r"server\.toml is not valid TOML"):
        load_config(["--config", str(file)], {})


def test_template_file(tmp_path: Path) -> None:
    """A chat template is given as text or as the path of a file with the text."""
    file = tmp_path / "t.jinja"
    file.write_text("{{ messages }}")

    assert from_flags(chat_template=str(file)).chat_template == "{{ messages }}"


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff{{"], ids=["empty", "blank", "not utf-8"])
def test_useless_template_file(tmp_path: Path, content: bytes) -> None:
    """A template file without text is refused."""
    (tmp_path / "t.jinja").write_bytes(content)

    with pytest.raises(StartupError, match=r"--chat-template can't be"):
        from_flags(chat_template=str(tmp_path / "t.jinja"))


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A path from the environment may start with `~`, as the shell's do."""
    monkeypatch.setenv("HOME", "/home/me")

    config = ServerConfig.from_sources({}, {"MLX_TOOLS_MODEL": "~/m"}, {})

    assert config.model == "/home/me/m"
    assert from_flags(model="~no-such-user/m").model == "~no-such-user/m"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.2", False),
        ("localhost.example.org", False),
        ("", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    """Only addresses that nobody else can reach count as this machine's own."""
    assert is_loopback(host) is expected


def test_bind_with_key() -> None:
    """With an API key the server may listen anywhere."""
    config = load_config(["--demo", "--host", "0.0.0.0"], {"MLX_TOOLS_API_KEY": "k"})

    assert config.host == "0.0.0.0"


def test_several_keys(tmp_path: Path) -> None:
    """Keys come from a file too, one a line, and are shown nowhere."""
    path = tmp_path / "keys"
    path.write_text("# laptop\nk3y-one\n\n  k3y-two  \n  #k3y-old\n")
    config = load_config(
        ["--demo", "--host", "0.0.0.0", "--api-key-file", str(path)], {"MLX_TOOLS_API_KEY": "third"}
    )

    assert config.keys == ("k3y-one", "k3y-two", "third")
    assert "k3y" not in repr(config)
    assert "k3y" not in describe(config)


@pytest.mark.parametrize("text", ["", "# none\n", "two words\n"])
def test_no_keys(text: str, tmp_path: Path) -> None:
    """A file without keys, or with what can't be one, would let nobody or anybody in: an error."""
    path = tmp_path / "keys"
    path.write_text(text)

    with pytest.raises(StartupError, match="a key a line"):
        load_config(["--demo", "--api-key-file", str(path)], {})


def test_key_is_not_shown() -> None:
    """Neither the config's text nor a complaint about the key holds the key."""
    config = ServerConfig.from_sources({"--api-key": "s3cret"}, {}, {})
    assert "s3cret" not in repr(config)

    with pytest.raises(StartupError) as caught:
        ServerConfig.from_sources({}, {"MLX_TOOLS_API_KEY": "s3cret with spaces"}, {})
    assert "s3cret" not in str(caught.value)


@given(name=st.sampled_from(sorted(OPTIONS)), text=st.text(max_size=12))
def test_any_text(name: str, text: str) -> None:
    """Any text by flag or by environment is either read or refused as a StartupError."""
    each = OPTIONS[name]
    for flags, env in (({each.flags[0]: text}, {}), ({}, {env_name(name): text})):
        with suppress(StartupError):
            value = getattr(ServerConfig.from_sources(flags, env, {}), name)
            assert value is None or each.kind.holds(value)


def test_long_bad_value_is_cut() -> None:
    """A bad value of any length gives a short message."""
    with pytest.raises(StartupError) as caught:
        from_flags(port="9" * 10_000)
    assert len(str(caught.value)) < 250


def test_every_option_is_in_help() -> None:
    """Each field has its flags, a help text and a variable of its own."""
    shown = build_parser().format_help()

    for name, each in OPTIONS.items():
        assert all(flag in shown for flag in each.flags), name
        assert each.help, name
    assert len({env_name(name) for name in OPTIONS}) == len(OPTIONS)


def test_values_are_a_namespace() -> None:
    """The settings come as a mapping by upstream's names, without our book-keeping."""
    assert set(ServerConfig().values()) == set(OPTIONS)
    assert "sources" not in OPTIONS


def test_defaults_obey_their_kinds() -> None:
    """Each default that is a value could also be given by hand."""
    for name, value in ServerConfig().values().items():
        if value is not None:
            assert OPTIONS[name].kind.holds(value), name


def test_import_is_light() -> None:
    """Reading settings loads no heavy module."""
    code = (
        "import sys, mlx_tools_server.config, mlx_tools_server.models, mlx_tools_server.banner\n"
        "heavy = {'mlx', 'mlx_lm', 'transformers', 'jinja2', 'jsonschema', 'numpy', 'asyncio'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or None)"
    )

    subprocess.run([sys.executable, "-c", code], check=True)
