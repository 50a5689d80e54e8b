"""`bench`: what things cost, measured.

Rules of this folder:
- A benchmark prints a table with its units, and says what it measured.
- Timings live here and never in a test's assertion.
- What measures any server (`turns`, `compare`) needs the standard library only, and knows nothing
  of ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module

from .. import scratch
from ..config import PROG
from ..errors import StartupError
from ..options import near
from ..places import cache_folder

# The module and the function of each, and what it measures.
BENCHMARKS: Mapping[str, tuple[str, str, str]] = {
    "turns": ("turns", "run", "an agent's turns on any server, OpenAI's or Anthropic's dialects"),
    "compare": ("compare", "run", "the same turns on several servers, NAME=URL NAME=URL ..."),
    "tokens": ("serving", "tokens", "tokens a second of a server, and the time to the first"),
    "overhead": ("overhead", "run", "what a token costs over HTTP beside mlx-lm's own batches"),
    "restart": ("serving", "restart", "the time to the first token: cold, hot, after a restart"),
    "kv": ("kv", "run", "the KV cache: looking up, writing, checking and reading what is kept"),
    "lookup": ("kv", "lookup", "the part of kv that looks up"),
    "parser": ("parsing", "run", "reading and rendering one token of a call"),
    "grammar": ("grammars", "run", "constrained calls: their grammars, masks and streams"),
}


def run(arguments: Sequence[str]) -> int:
    """Run the benchmark of this name; return the exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(listing())
        return 0
    name = arguments[0]
    if name not in BENCHMARKS:
        remedy = near(name, BENCHMARKS) or f"There are: {', '.join(BENCHMARKS)}."
        raise StartupError(f"Unknown benchmark: {name}", remedy)
    module, function, _ = BENCHMARKS[name]
    scratch.set_up(cache_folder())
    # Some load mlx, which takes a while.
    measure = getattr(import_module(f".{module}", __package__), function)
    measure(arguments[1:], f"{PROG} bench {name}")
    return 0


def listing() -> str:
    """Return all benchmarks, a line each."""
    lines = [f"  {name:<9} {about}" for name, (_, _, about) in BENCHMARKS.items()]
    usage = f"usage: {PROG} bench NAME [options]; `{PROG} bench NAME --help` lists them"
    return "\n".join([usage, "", *lines])
