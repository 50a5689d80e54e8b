"""What `bench turns` and `bench compare` are asked for: their options, read and checked.

Rules of this file:
- Both have the same options, but for how often they play and whom they ask.
- What can't work is said before the first request.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..errors import StartupError
from . import recordings
from .asking import About, Endpoint
from .dialects import DIALECTS
from .players import DEFAULT_MAX_TOKENS, Target, Traffic
from .script import scale_for

# The name of a server's own model where it lists none, as mlx-lm's does without a hub's cache.
DEFAULT_MODEL = "default_model"
KNOWN_EXTRAS = ("dialect", "model", "key")


def whole(text: str) -> int:
    """Return a number from 1 on."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def share(text: str) -> float:
    """Return a number above 0."""
    value = float(text)
    if not 0 < value <= 10:
        raise ValueError(text)
    return value


# argparse names them in its messages.
whole.__name__, share.__name__ = "whole number from 1 on", "number above 0"


def add_options(parser: argparse.ArgumentParser, often: str, default: int) -> None:
    """Add the options that both have; `often` is how this one calls its repetitions."""
    add = parser.add_argument
    add("--dialect", choices=DIALECTS, default="chat", help="the API to speak (default: chat)")
    add("--model", metavar="NAME", help="model to ask for (default: the server's first)")
    add("--api-key", metavar="KEY", help="default: OPENAI_API_KEY or ANTHROPIC_API_KEY")
    add("--traffic", metavar="FILE", help="a recording to play (default: an agent's traffic)")
    add(f"--{often}", dest="rounds", type=whole, default=default, metavar="N",
        help=f"how often all is played (default: {default})")  # fmt: skip
    add("--streams", type=whole, default=1, metavar="N", help="agents at once (default: 1)")
    add("--max-tokens", type=whole, metavar="N",
        help=f"longest answer (default: {DEFAULT_MAX_TOKENS}, or as recorded)")  # fmt: skip
    add("--scale", type=share, metavar="X",
        help="size of the agent's traffic (default: 1, or what fits into the context)")  # fmt: skip
    add("--nonce", metavar="WORD",
        help="word at the head of system prompts (default: a fresh one each time; '' for none)",
    )  # fmt: skip
    add("--timeout", type=share_of_hour, default=600.0, metavar="SECONDS",
        help="longest silence of a server (default: 600)")  # fmt: skip
    add("--json", metavar="FILE", help="write all figures there")
    add("--plot", metavar="FILE", help="draw them, as .svg or .png (needs matplotlib)")


def share_of_hour(text: str) -> float:
    """Return seconds, at most an hour."""
    value = float(text)
    if not 0 < value <= 3600:
        raise ValueError(text)
    return value


share_of_hour.__name__ = "number of seconds up to 3600"


def endpoint(url: str, dialect: str, key: str | None, timeout: float) -> Endpoint:
    """Return a server's address with the key for it."""
    found = key or os.environ.get(DIALECTS[dialect].key_variable)
    return Endpoint(url, found or None, timeout)


def targets(
    wanted: Sequence[tuple[str, str, Mapping[str, str]]], options: argparse.Namespace
) -> tuple[list[Target], list[About]]:
    """Return the servers (name, address, extras of its own), and what each tells of itself."""
    found, abouts = [], []
    for name, url, extras in wanted:
        dialect = extras.get("dialect", options.dialect)
        key = extras.get("key", options.api_key)
        place = endpoint(url, dialect, key, options.timeout)
        about = place.about(DIALECTS[dialect])
        model = extras.get("model") or options.model or about.model or DEFAULT_MODEL
        found.append(Target(name, place, dialect, model))
        abouts.append(replace(about, model=model))
    return found, abouts


def traffic(options: argparse.Namespace, abouts: Sequence[About]) -> Traffic:
    """Return what is to be played; what is built in is made to fit into each context."""
    recording = recordings.read(options.traffic) if options.traffic else None
    limit = options.max_tokens or DEFAULT_MAX_TOKENS
    fitting = [scale_for(about.context, limit) for about in abouts if about.context]
    scale = options.scale or min(fitting, default=1.0)
    return Traffic(recording, scale, options.max_tokens)


def named(text: str) -> tuple[str, str, Mapping[str, str]]:
    """Return name, address and extras of `NAME=URL#dialect=messages,model=foo`."""
    name, _, rest = text.partition("=")
    url, _, extras = rest.partition("#")
    if not name or "://" not in url:
        raise StartupError(
            f"{text!r} does not name a server", "Give NAME=URL, as ours=http://127.0.0.1:8080."
        )
    found = {}
    for pair in filter(None, extras.split(",")):
        key, _, value = pair.partition("=")
        if key not in KNOWN_EXTRAS or not value or (key == "dialect" and value not in DIALECTS):
            raise StartupError(
                f"{pair!r} behind {name} is not understood",
                f"There are dialect={{{','.join(DIALECTS)}}}, model=NAME and key=KEY.",
            )
        found[key] = value
    return name, url, found


def check_files(options: argparse.Namespace) -> None:
    """Refuse files that can't be written, before anything is measured."""
    for path in filter(None, (options.json, options.plot)):
        folder = os.path.dirname(os.path.abspath(path))
        if not os.path.isdir(folder) or os.path.isdir(path):
            raise StartupError(f"{path} can't be written", "Give a file in a folder that exists.")
    if options.plot:
        if not options.plot.endswith((".svg", ".png")):
            raise StartupError(f"{options.plot} is no picture", "End its name in .svg or .png.")
        from .plots import check

        check()
