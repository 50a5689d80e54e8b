"""The command line: made of the settings in `config`, read together with environment and file.

Rules of this file:
- No option is named here; a setting says all of itself where it stands.
- Whoever mistypes a name reads which one was meant.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from .config import FLAGS, OPTIONS, PROG, ServerConfig
from .errors import StartupError
from .options import SWITCH, Give, Parser, near, read_toml
from .sources import CONFIG_ENV, env_name


def build_parser() -> argparse.ArgumentParser:
    """The command line, derived from the fields."""
    from . import __version__

    parser = Parser(
        prog=PROG,
        usage=f"{PROG} [serve] (--model-path DIR | --demo) [options]",
        description="Serve a local MLX model to coding agents. Beside it there are the commands "
        "`demo`, which lets a built-in model call tools, `doctor`, which says what is wrong and "
        "what to do, `cache`, which looks after what is kept on disk, and `bench`.",
        epilog=f"An option is also an environment variable ({env_name('model')}, "
        f"{env_name('port')}) and a key of the config file (model, port). Flags win over the "
        "environment, and that over the file.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROG} {__version__}")
    parser.add_argument("--config", metavar="FILE", help=f"TOML file of settings (or {CONFIG_ENV})")
    parser.add_argument("--print-config", action="store_true", help="show all settings and exit")
    groups = {each.group: None for each in OPTIONS.values()}
    sections = {name: parser.add_argument_group(name) for name in groups}
    for name, each in OPTIONS.items():
        switch = each.kind is SWITCH
        sections[each.group].add_argument(
            *each.flags,
            action=Give,
            dest="given",
            default=argparse.SUPPRESS,
            nargs=0 if switch else None,
            metavar=None if switch else each.kind.metavar,
            help=f"{each.help}{_shown_default(name)}".replace("%", "%%"),
        )
    return parser


def _shown_default(name: str) -> str:
    value = getattr(ServerConfig(), name)
    telling = isinstance(value, int | float | str) and not isinstance(value, bool) and value != ""
    return f" (default: {value})" if telling else ""


def read_args(argv: Sequence[str]) -> argparse.Namespace:
    """`given` (option string → value), `config` and `print_config`, from a command line."""
    parser = build_parser()
    args, rest = parser.parse_known_args(argv, argparse.Namespace(given={}))
    if rest:
        # What follows `=` may be a secret.
        name = rest[0].partition("=")[0]
        folder = f"Give the model as --model-path {name}." if Path(name).is_dir() else ""
        raise StartupError(
            f"Unknown argument: {name}", folder or near(name, FLAGS, "--") or f"See {PROG} --help."
        )
    return args


def resolve(args: argparse.Namespace, env: Mapping[str, str]) -> ServerConfig:
    """The settings that a command line, the environment and the file they name give together."""
    path = args.config or env.get(CONFIG_ENV)
    return ServerConfig.from_sources(args.given, env, read_toml(path) if path else {})


def load_config(argv: Sequence[str], env: Mapping[str, str]) -> ServerConfig:
    """The settings of a server that can start: there is something to serve."""
    return require_model(resolve(read_args(argv), env))


def require_model(config: ServerConfig) -> ServerConfig:
    """The same config, if it names a model."""
    if config.model is None and not config.demo:
        raise StartupError(
            "There is no model to serve",
            "Give its folder with --model-path DIR, or try --demo, which needs none.",
        )
    return config
