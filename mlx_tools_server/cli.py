"""The command line: settings, a look at the model, then the server.

Rules of this file:
- `--help` and `--version` answer at once: the server, and with it mlx, is imported when needed.
- What a person can mend is one line on stderr, problem and remedy, and exit code 2.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from .chosen import look_at_model, with_demo_model
from .config import OPTIONS, ServerConfig, is_secret
from .errors import StartupError
from .flags import read_args, require_model, resolve
from .options import near

COMMANDS = ("serve", "demo", "cache", "bench", "doctor")
SHOWN_LENGTH = 200


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the result is the exit code."""
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except StartupError as error:
        print(" ".join(f"error: {error}".split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    finally:
        _flush()


def _flush() -> None:
    """Write what was said; what can't be must not decide how the process ends."""
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except OSError:
            # Python would try again at its end, and exit with a code of its own.
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  it stays open


def _run(argv: list[str]) -> int:
    command = "serve"
    if argv and not argv[0].startswith("-"):
        command = argv.pop(0)
        _check_command(command)
    if command != "serve":
        return _side_command(command, argv)
    args = read_args(argv)
    config = resolve(args, os.environ)
    if args.print_config:
        print(describe(config))
        return 0
    config = with_demo_model(require_model(config))
    info = look_at_model(config)
    # Loading the engine takes seconds.
    try:
        from .server import serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "mlx":
            raise no_backend() from error
        raise
    return serve(config, info)


def no_backend() -> StartupError:
    """Return what is said where mlx itself is missing, which comes with a backend."""
    package, more = "mlx-tools-server", ""
    if sys.platform != "darwin":
        package, more = "mlx-tools-server[cpu]", ", with an NVIDIA GPU [cuda] for [cpu]"
    remedy = f"Give it one: pip install --force-reinstall '{package}'{more}."
    return StartupError("No backend of MLX is installed", remedy)


def _side_command(name: str, argv: list[str]) -> int:
    """Run a command beside the server; each imports only what it needs."""
    if name == "demo":
        from . import demo

        return demo.run(argv)
    if name == "doctor":
        from . import doctor

        return doctor.run(argv)
    if name == "cache":
        from . import cache

        return cache.run(argv)
    from . import bench

    return bench.run(argv)


def _check_command(name: str) -> None:
    if name in COMMANDS:
        return
    folder = f"Give the model as --model-path {name}." if os.path.isdir(name) else ""
    raise StartupError(
        f"Unknown command: {name}",
        folder or near(name, COMMANDS) or f"There are: {', '.join(COMMANDS)}.",
    )


def describe(config: ServerConfig) -> str:
    """Every setting as a line of TOML with its origin; what TOML can't hold is a comment."""
    return "\n".join(
        f"{_setting(name, value)}  # {config.sources.get(name, 'default')}"
        for name, value in config.values().items()
    )


def _setting(name: str, value: Any) -> str:
    if value is None:
        return f"# {name} is not set"
    if is_secret(OPTIONS[name]):
        return f"# {name} is set, and not shown"
    if isinstance(value, str) and len(value) > SHOWN_LENGTH:
        return f"# {name} has {len(value)} characters"
    return f"{name} = {_toml(value)}"


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = [f"{_toml(key)} = {_toml(item)}" for key, item in value.items() if item is not None]
        return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False, default=str)
