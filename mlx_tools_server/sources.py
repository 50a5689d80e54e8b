"""Where settings come from: command line, environment and file, and which of them wins.

Rules of this file:
- A flag beats the environment (`MLX_TOOLS_<FIELD>`), which beats the file (TOML), which beats the
  default. An empty variable counts as unset; an unknown name is an error, never ignored.
- No setting is named here but the two that exclude each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from .errors import StartupError
from .options import Option, near, read

ENV_PREFIX = "MLX_TOOLS_"
CONFIG_ENV = ENV_PREFIX + "CONFIG"
IN_FILE = "in the config file"

# Field name → origin and value.
Found: TypeAlias = dict[str, tuple[str, Any]]


def env_name(name: str) -> str:
    """The environment variable of a field."""
    return ENV_PREFIX + name.upper()


def find(
    options: Mapping[str, Option],
    flags: Mapping[str, Any],
    env: Mapping[str, str],
    file: Mapping[str, Any],
) -> Found:
    """Return each field that any source gives, with where it came from."""
    ours = {key: value for key, value in env.items() if key.startswith(ENV_PREFIX) and value}
    ours.pop(CONFIG_ENV, None)
    known_flags = [flag for each in options.values() for flag in each.flags]
    _refuse_unknown("option", flags, known_flags, "--")
    _refuse_unknown("environment variable", ours, map(env_name, options), ENV_PREFIX)
    _refuse_unknown(f"key {IN_FILE}", file, options)
    in_file: Found = {}
    in_env: Found = {}
    in_flags: Found = {}
    for name, each in options.items():
        if name in file:
            in_file[name] = read(each, file[name], f"{name} {IN_FILE}", native=True)
        if (variable := env_name(name)) in ours:
            in_env[name] = read(each, ours[variable], variable)
        if given := [read(each, flags[flag], flag) for flag in each.flags if flag in flags]:
            if any(value != given[0][1] for _, value in given):
                names = " and ".join(flag for flag, _ in given)
                raise StartupError(f"{names} name different things", "Give one of them.")
            in_flags[name] = given[0]
    found: Found = {}
    for layer in (in_file, in_env, in_flags):
        _drop_rival(found, layer)
        found.update(layer)
    return found


def _drop_rival(found: Found, layer: Found) -> None:
    """A model and the demo rule each other out: the stronger source wins, equals are an error."""
    model, demo = layer.get("model"), layer.get("demo", ("", False))
    if model and demo[1]:
        raise StartupError(f"{model[0]} and {demo[0]} exclude each other", "Give one of them.")
    if model:
        found.pop("demo", None)
    if demo[1]:
        found.pop("model", None)


def _refuse_unknown(
    what: str, given: Iterable[str], known: Iterable[str], prefix: str = ""
) -> None:
    names = list(known)
    for name in given:
        if name not in names:
            raise StartupError(
                f"Unknown {what}: {name}", near(name, names, prefix) or "See --help."
            )
