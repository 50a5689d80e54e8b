"""What an option may hold, how it is read and given, and what is said about a bad value.

Rules of this file:
- A kind reads text (from a flag or the environment) and the types that TOML has for it.
- A kind's `what` completes the sentence "Give ...": it is the remedy for every bad value.
- No option is named here; the settings stand in config.py.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from .errors import StartupError


@dataclass(frozen=True, slots=True)
class Kind:
    """What a value is: `native` are its types in TOML; `read` raises ValueError or OSError."""

    what: str
    metavar: str
    native: tuple[type, ...]
    read: Callable[[Any], Any]
    holds: Callable[[Any], bool] = lambda value: True


@dataclass(frozen=True, slots=True)
class Option:
    """What a field says about itself; the first flag is the one that messages name."""

    group: str
    kind: Kind
    flags: tuple[str, ...]
    help: str


def _number(raw: Any) -> float:
    value = float(raw)
    if not math.isfinite(value):
        raise ValueError(raw)
    return value


def _switch(raw: Any) -> bool:
    text = str(raw).strip().lower()
    if text not in ("1", "true", "yes", "on", "0", "false", "no", "off"):
        raise ValueError(raw)
    return text in ("1", "true", "yes", "on")


def _size(raw: Any) -> int:
    """Upstream's sizes: bytes, or a number with M, MB, G or GB (powers of ten)."""
    text = str(raw).strip().upper()
    digits = text.rstrip("MGB ")
    factor = {"": 1, "M": 10**6, "MB": 10**6, "G": 10**9, "GB": 10**9}
    unit = text[len(digits) :].strip()
    if unit not in factor or not digits.replace(".", "", 1).isdecimal():
        raise ValueError(raw)
    whole, _, part = digits.partition(".")
    return int(whole + part) * factor[unit] // int(10 ** len(part))


def _origins(raw: Any) -> tuple[str, ...]:
    parts = raw.split(",") if isinstance(raw, str) else raw
    if not all(isinstance(part, str) for part in parts):
        raise ValueError(raw)
    return tuple(part.strip().rstrip("/") for part in parts if part.strip())


def _json_object(raw: Any) -> dict[str, Any]:
    value = json.loads(raw) if isinstance(raw, str) else raw
    if not isinstance(value, dict):
        raise ValueError(raw)
    return value


def expand_user(raw: Any) -> str:
    """The path with its `~` resolved."""
    # The shell expands `~` for most flags, and for nothing else.
    return os.path.expanduser(str(raw))


def _template(raw: Any) -> str:
    """A template's text, or the text of the file that `raw` names."""
    text = str(raw)
    if not text or "\n" in text or "{%" in text or "{{" in text:
        return text
    content = Path(expand_user(text)).read_text(encoding="utf-8")
    if not content.strip():
        raise ValueError(raw)
    return content


def _keys(raw: Any) -> tuple[str, ...]:
    """The keys that a file holds, one a line; empty lines and those that begin with # are none."""
    lines = map(str.strip, Path(expand_user(raw)).read_text(encoding="utf-8").splitlines())
    keys = tuple(line for line in lines if line and not line.startswith("#"))
    if not keys or not all(map(_printable, keys)):
        raise ValueError(raw)
    return keys


def _choice(metavar: str, read: Callable[[Any], Any], *choices: Any) -> Kind:
    what = f"one of {', '.join(map(str, choices))}"
    return Kind(what, metavar, (type(choices[0]),), read, lambda v: v in choices)


def _filled(value: str) -> bool:
    return bool(value.strip())


def _printable(value: str) -> bool:
    return value.isascii() and value.isprintable() and " " not in value and value != ""


def _are_origins(value: Iterable[str]) -> bool:
    return all(origin == "*" or "://" in origin for origin in value)


TEXT = Kind("text that is not empty", "TEXT", (str,), str, _filled)
PATH = Kind("a path", "DIR", (str,), expand_user, _filled)
SOCKET = Kind("a path", "PATH", (str,), expand_user, _filled)
SWITCH = Kind("true or false", "", (bool,), _switch)
COUNT = Kind("a whole number above 0", "N", (int,), int, lambda v: v > 0)
FROM_ZERO = Kind("a whole number, at least 0", "N", (int,), int, lambda v: v >= 0)
PORT = Kind("a whole number from 0 to 65535", "PORT", (int,), int, lambda v: 0 <= v <= 65535)
NUMBER = Kind("a number, at least 0", "X", (int, float), _number, lambda v: v >= 0)
SHARE = Kind("a number from 0 to 1", "X", (int, float), _number, lambda v: 0 <= v <= 1)
SIZE = Kind("a size above 0 such as 8GB or 500MB", "SIZE", (int, str), _size, lambda v: v > 0)
BITS = _choice("N", int, 2, 3, 4, 5, 6, 8)
GROUP_SIZE = _choice("N", int, 32, 64, 128)
LEVEL = _choice("LEVEL", str.upper, "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
LOG_FORMAT = _choice("FORM", str, "text", "json")
CONSTRAIN = _choice("HOW", str, "calls", "strict", "off")
REASONING = _choice("HOW", str, "auto", "off")
SAMPLER = _choice("WHOSE", str, "client", "model", "fixed")
HISTORY = _choice("HOW", str, "exact", "template")
HISTORY_THINKING = _choice("HOW", str, "template", "preserve")
KEY = Kind("a key of visible ASCII characters without spaces", "KEY", (str,), str, _printable)
KEYS = Kind("a readable file with a key a line", "FILE", (str,), _keys)
OBJECT = Kind("a JSON object", "JSON", (str, dict), _json_object)
TEMPLATE = Kind("a readable template file, or a template with {% %}", "FILE", (str,), _template)
ORIGINS = Kind(
    "a comma-separated list such as http://localhost:3000, or *",
    "LIST",
    (str, list),
    _origins,
    _are_origins,
)


def option(group: str, kind: Kind, flags: str, text: str) -> dict[str, Option]:
    """The metadata of a field; `flags` are parted by spaces."""
    return {"option": Option(group, kind, tuple(flags.split()), text)}


def read(each: Option, raw: Any, origin: str, *, native: bool = False) -> tuple[str, Any]:
    """The origin and the checked value; `native` asks for TOML's own types."""
    kind = each.kind
    try:
        # `type`, not isinstance: in Python true is a whole number.
        if native and type(raw) not in kind.native:
            raise TypeError(raw)
        value = kind.read(raw)
        if not kind.holds(value):
            raise ValueError(raw)
    except (ValueError, TypeError, OSError, RecursionError):
        shown = "what was given" if kind is KEY else _short(raw)
        raise StartupError(f"{origin} can't be {shown}", f"Give {kind.what}.") from None
    return origin, value


def _short(raw: Any) -> str:
    shown = repr(raw)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def near(name: str, names: Iterable[str], prefix: str = "") -> str:
    """A question that offers what `name` may have meant, or nothing; all share `prefix`."""
    from difflib import get_close_matches

    known = {each.removeprefix(prefix): each for each in names}
    likely = get_close_matches(name.removeprefix(prefix), known, n=3, cutoff=0.6)
    close = [known[each] for each in likely]
    return f"Did you mean {' or '.join(close)}?" if close else ""


def read_toml(path: str) -> dict[str, Any]:
    """What a TOML file holds."""
    try:
        return tomllib.loads(Path(expand_user(path)).read_text(encoding="utf-8"))
    except OSError as error:
        problem = f"The config file {path} can't be read: {error.strerror}"
        raise StartupError(problem, "Check the path given by --config.") from None
    except ValueError as error:
        problem = f"The config file {path} is not valid TOML: {error}"
        raise StartupError(problem, "Correct it; each line is `name = value`.") from None


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are StartupErrors."""

    def error(self, message: str) -> NoReturn:
        raise StartupError(message[:1].upper() + message[1:], f"See {self.prog} --help.")


class Give(argparse.Action):
    """Collects what was given, by option string; values are read later, with all other sources."""

    def __call__(
        self, parser: object, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        value = True if self.nargs == 0 else values
        namespace.given = {**getattr(namespace, "given", {}), option: value}
