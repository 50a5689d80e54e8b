"""Writes docs/reference: what can be set, asked, heard, read and measured, as the code has it.

Rules of this file:
- Every name, default and sentence comes from the code; what is written here only joins them.
- The same code gives the same bytes on every machine, so a test can compare them.
- `python -m tools.reference` writes the pages; `pages()` returns them.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import io
import os
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from prometheus_client import Metric
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from mlx_tools_server import __version__, errors, events
from mlx_tools_server.cli import COMMANDS
from mlx_tools_server.config import OPTIONS, PROG, ServerConfig
from mlx_tools_server.families import FAMILIES, Family
from mlx_tools_server.flags import build_parser
from mlx_tools_server.kv import DiskTier, MemoryTier, Store, seed
from mlx_tools_server.metrics import Metrics
from mlx_tools_server.openapi import description
from mlx_tools_server.options import SWITCH, Option
from mlx_tools_server.sources import CONFIG_ENV, env_name
from tools.family_figures import OUTCOMES, TOKENS, cases, conversations, streamed

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "reference"
COMMAND = "make reference"
HEAD = f"<!-- Written by `{COMMAND}` from the code: change that, not this page. -->\n"
# The width that help texts are wrapped to.
COLUMNS = 90

EXIT_CODES = (
    ("0", "all is well: the server was asked to stop, or the command found nothing wrong"),
    (
        "1",
        "the server: its generation loop could not be brought back; `doctor`: there is a problem; "
        "`cache verify`: records were damaged; `demo`: the model called no tool",
    ),
    ("2", "called wrongly, or a setting is wrong: one line on stderr says what, and what to do"),
    ("130", "Ctrl-C while it started"),
    ("128 + N", "a second signal N: the server ended at once"),
)


# --- Markdown -----------------------------------------------------------------------------------


def table(head: str, rows: Iterable[Iterable[str]]) -> str:
    """Return a table; `head` has its columns, parted by `|`."""
    names = [name.strip() for name in head.split("|")]
    lines = [names, ["---"] * len(names), *([_cell(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def code(text: object) -> str:
    """Return text as code; nothing for no text."""
    return f"`{text}`" if str(text) else ""


def page(title: str, *parts: str) -> str:
    """Return a page."""
    return "\n".join([HEAD, f"# {title}\n", *parts])


def first_line(thing: object) -> str:
    """Return what the first line of something's docstring says."""
    return (inspect.getdoc(thing) or "").partition("\n")[0]


# --- The pages ----------------------------------------------------------------------------------


def settings() -> str:
    """Return the page of all that can be set."""
    groups: dict[str, list[tuple[str, Option]]] = {}
    for name, each in OPTIONS.items():
        groups.setdefault(each.group, []).append((name, each))
    parts = [
        "A setting is a flag, a variable or a key of a TOML file. A flag counts more than a "
        "variable, and that more than the file, "
        f"which `--config` or `{CONFIG_ENV}` names. `--print-config` shows what is in force, and "
        "where it came from.\n",
    ]
    for group, members in groups.items():
        parts += [f"## {group.capitalize()}\n", table(SETTING, (_setting(*one) for one in members))]
    return page("Settings", *parts)


SETTING = "flag | variable | key | value | default | what it is"


def _setting(name: str, each: Option) -> tuple[str, ...]:
    default = getattr(ServerConfig(), name)
    shown = "" if default in (None, "", (), {}) or each.kind is SWITCH else default
    flags = ", ".join(map(code, each.flags))
    what = each.kind.what
    return flags, code(env_name(name)), code(name), what, code(shown), each.help


def commands() -> str:
    """Return the page of the commands."""
    common = [action for action in build_parser()._actions if action.dest not in ("given",)]
    names = (", ".join(map(code, action.option_strings)) for action in common)
    rows = zip(names, (str(action.help) for action in common), strict=True)
    parts = [
        f"`{PROG}` is the same as `python -m mlx_tools_server`. Without a command it serves.\n",
        "## `serve`\n",
        f"It takes all [settings](settings.md), and:\n\n{table('flag | what it does', rows)}",
    ]
    for name in COMMANDS[1:]:
        parts += [f"## `{name}`\n", f"```text\n{help_of(name)}\n```\n"]
    parts += ["## Exit codes\n", table("code | what it says", EXIT_CODES)]
    return page("Commands", *parts)


def help_of(name: str) -> str:
    """Return what a command says to --help, or to what it does not know."""
    run = importlib.import_module(f"mlx_tools_server.{name}").run
    out = io.StringIO()
    before = {key: os.environ.get(key) for key in ("COLUMNS", "NO_COLOR")}
    os.environ.update(COLUMNS=str(COLUMNS), NO_COLOR="1")
    try:
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            run(["--help"])
    except errors.StartupError as error:
        return str(error)
    finally:
        for key, value in before.items():
            os.environ.pop(key) if value is None else os.environ.update({key: value})
    return out.getvalue().strip()


def routes() -> str:
    """Return the page of the routes, and of what can go wrong on them."""
    document = description(__version__)
    usual = frozenset.intersection(*(_statuses(one) for _, _, one in _all_operations(document)))
    failures = table("status | code | type | when", _failures())
    return page(
        "Routes",
        f"{document['info']['description']}\n\n"
        "`GET /openapi.json` has every field of every request and answer.\n\n"
        f"Each route may answer {', '.join(sorted(usual - {'200'}))}; "
        "what else can go wrong stands beside it.\n",
        table("route | what it does | more errors", _operations(document, usual)),
        "## Errors\n",
        "In the envelope of the route's dialect, with a message that says what to do.\n",
        failures,
    )


def handler_routes() -> list[tuple[str, str]]:
    """Return method and pattern of all that the server answers."""
    # Read, not imported: that would load the engine.
    tree = ast.parse((ROOT / "mlx_tools_server" / "handler.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ROUTES":
            return [(method, pattern) for method, pattern, _ in ast.literal_eval(node.value)]
    raise LookupError("handler.py has no ROUTES")


def matches(pattern: str, path: str) -> bool:
    """Return whether a pattern of the handler answers a path of the description."""
    place = re.sub(r"\{\w+\}", "x", path).removeprefix("/v1").rstrip("/")
    return re.fullmatch(pattern, place) is not None


def _all_operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def _statuses(operation: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(operation["responses"])


def _operations(document: Mapping[str, Any], usual: frozenset[str]) -> Iterator[tuple[str, ...]]:
    left = handler_routes()
    for method, path, operation in _all_operations(document):
        left = [one for one in left if one[0] != method or not matches(one[1], path)]
        more = ", ".join(sorted(_statuses(operation) - usual))
        streams = "text/event-stream" in operation["responses"]["200"].get("content", ())
        told = f"{operation['summary']}{' Streams with `stream: true`.' if streams else ''}"
        yield code(f"{method} {path}"), told, more
    for method, pattern in left:
        yield code(f"{method} {pattern}"), "Not in the description.", ""


def _failures() -> Iterator[tuple[str, ...]]:
    kinds = [kind for kind in vars(errors).values() if inspect.isclass(kind)]
    for kind in kinds:
        if issubclass(kind, errors.RequestError) and kind is not errors.RequestError:
            yield str(kind.status), code(kind.code or ""), code(kind.kind), first_line(kind)


def event_page() -> str:
    """Return the page of the events."""
    parts = [
        "What a generation says, free of any dialect; each dialect encodes these. They come as\n\n"
        "```text\nStarted Progress* (PartStarted PartDelta* PartEnded)* (Finished | Failed)\n```\n",
        "with `Progress`, `Sampled` and `Noticed` anywhere between. A whole answer is `fold()` of "
        "them.\n",
    ]
    for kind in get_args(events.EngineEvent):
        fields = ", ".join(f"`{one}`" for one in kind.__dataclass_fields__)
        said = (inspect.getdoc(kind) or "").replace("\n", " ").replace("  ", "\n\n")
        parts += [f"## {kind.__name__}\n", f"{said}\n", f"Fields: {fields}.\n"]
    kinds = ", ".join(map(code, get_args(events.PartKind)))
    reasons = ", ".join(map(code, get_args(events.FinishReason)))
    parts += ["## Words in them\n", f"A part is one of {kinds}; a reason one of {reasons}.\n"]
    return page("Events", *parts)


def families() -> str:
    """Return the page of the families."""
    about = (
        (
            code(family.name),
            ", ".join(code(mark.replace("\n", "\\n")) for mark in dict.fromkeys(_marks(family))),
            ", ".join(map(code, family.also)),
            code(family.thinking.open) if family.thinking else "",
            code(f"chat_templates/{family.template}.jinja") if family.template else "",
        )
        for family in FAMILIES
    )
    return page(
        "Model families",
        "A family is recognised by marks in the chat template; the first row that fits counts. "
        "Where none does, mlx-lm's own parser reads whole calls, if it knows the model. The banner "
        "at the start says which family it is, and why. "
        "[Adding a model family](../adding-a-model-family.md) adds a row.\n",
        table("family | one of these marks | and all of these | thoughts | our template", about),
        "## What each can do\n",
        f"Pieces: in how many an argument of {TOKENS} tokens reaches the client. Held to its "
        "schema: whether a call can be nothing but valid, and `tool_choice` can demand one. Cases: "
        "what models of the family say, right or faulty, that is read as it should be, at 1, 2, 3 "
        "and 7 characters at a time and whole. Conversations: awkward but legal ones that its chat "
        "template takes as they are, or after a rewriting that loses no text.\n",
        table(
            "family | shape | pieces | held to its schema | cases | conversations",
            map(_figures, FAMILIES),
        ),
    )


def _figures(family: Family) -> Iterable[str]:
    good, all_cases = cases(family)
    came = conversations(family)
    rendered = ", ".join(f"{came[what]} {word}" for what, word in OUTCOMES.items() if what in came)
    held = "yes" if family.shape.grammar else "no"
    shape = family.shape.name
    return code(family.name), shape, str(streamed(family)), held, f"{good} of {all_cases}", rendered


def _marks(family: Any) -> Iterator[str]:
    # The same mark stands there with a newline and with its escape.
    return (mark.replace("\\n", "\n") for mark in family.marks)


def metric_families() -> list[tuple[Metric, tuple[str, ...]]]:
    """Return all metrics of a server with a KV cache in memory and on disk, with their labels."""
    metrics = Metrics()
    with tempfile.TemporaryDirectory() as folder:
        key = seed(b"reference")
        disk = DiskTier(
            Path(folder), seed=key, capacity=1, floor=0, write=_never, read=_never, queue_bytes=1
        )
        store = Store(key, MemoryTier(1), disk)
        stats = {**store.stats(), "lost_tokens": 0}
        store.close()
    # Figures that are one number each may be added; the others have parts.
    figures = defaultdict(
        int,
        queue={"waiting": 0, "in_flight": 0},
        kv_cache=stats,
        grammars={"tokens": 0, "forced": 0, "failed": 0},
    )
    metrics.watch(lambda: figures)
    own = [one for one in vars(metrics).values() if isinstance(one, MetricWrapperBase)]
    labels = {one._name: tuple(one._labelnames) for one in own}
    read = text_string_to_metric_families(metrics.text().decode())
    told = [family for family in read if not family.name.endswith("_created")]
    return [(family, labels.get(family.name) or _labels(family)) for family in told]


def _never(*_: object) -> None:
    raise AssertionError("nothing is written or read")


def _labels(family: Metric) -> tuple[str, ...]:
    names = dict.fromkeys(name for sample in family.samples for name in sample.labels)
    return tuple(name for name in names if name != "le")


def metric_name(family: Metric) -> str:
    """Return a metric's name as it stands in /metrics."""
    return f"{family.name}_total" if family.type == "counter" else family.name


def metric_page() -> str:
    """Return the page of the metrics."""
    rows = (
        (code(metric_name(one)), one.type, ", ".join(map(code, labels)), one.documentation)
        for one, labels in metric_families()
    )
    return page(
        "Metrics",
        "`GET /metrics` has them in Prometheus' text form; `/health` shows a few as JSON. A "
        "histogram has `_bucket`, `_sum` and `_count`, and what counts has a `_created`: when it "
        "began.\n",
        table("metric | kind | labels | what it counts", rows),
    )


def index(names: Iterable[str]) -> str:
    """Return the page that names the others."""
    lines = "\n".join(f"- [{name.capitalize()}]({name}.md)" for name in names)
    said = f"Written from the code by `{COMMAND}`; a test compares the two."
    return page("Reference", f"{said}\n", f"{lines}\n")


def pages() -> dict[str, str]:
    """Return each page of the reference by the name of its file."""
    made = {
        "settings": settings(),
        "commands": commands(),
        "routes": routes(),
        "events": event_page(),
        "families": families(),
        "metrics": metric_page(),
    }
    every = {"index": index(made), **made}
    return {f"{name}.md": f"{text.rstrip()}\n" for name, text in every.items()}


def main() -> None:
    """Write the pages."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(f"wrote {(FOLDER / name).relative_to(ROOT)}")


if __name__ == "__main__":
    main()
