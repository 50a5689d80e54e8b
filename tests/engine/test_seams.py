"""The contract with mlx-lm: all that the engine relies on is written down, and kept.

Rules of this file:
- The lists are compared with the code by reading its syntax, so that nothing is used in silence.
- A name that may stay as mlx-lm has it is named here with the reason.
"""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm import server
from mlx_lm.models import cache as mlx_cache
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model

from mlx_tools_server.about import About
from mlx_tools_server.connection import Connection
from mlx_tools_server.engine import contract, layers, sampling, seams, steps
from mlx_tools_server.engine.contract import CONTRACT, FIELDS, USES, broken_seams
from mlx_tools_server.handler import ToolsHandler

from .checkpoints import write_random

pytestmark = pytest.mark.mlx

# Of mlx-lm's handler, what no route of ours leads to.
UNREACHABLE = {
    "generate_response": "builds the body of an answer; only handle_completion calls it",
    "handle_completion": "runs a generation; only mlx-lm's own do_POST calls it",
}
# Of mlx-lm's classes, names of Python's own conventions and of our own base classes.
PUBLIC = {"__init__", "__call__", "__getattr__", "__getitem__", "__name__", "__dict__"}


def listed() -> set[str]:
    """Every name that the contract knows: functions, parameters, fields, used names."""
    names = {part for name in CONTRACT for part in name.split(".")}
    for text in [text for _, text in CONTRACT.values()] + list(FIELDS.values()):
        names.update(text.split())
    for _, text in USES.values():
        names.update(text.split())
    return names | {owner.__name__ for owner in FIELDS}


def touched(module: Any, owners: set[str]) -> set[str]:
    """The names that a file takes from mlx-lm's modules, and all private ones it mentions."""
    tree = ast.parse(inspect.getsource(module))
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    own |= {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            of_module = isinstance(node.value, ast.Name) and node.value.id in owners
            if of_module or node.attr.startswith("_"):
                names.add(node.attr)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("_"):
            names.add(node.name)
    return names - own - PUBLIC


def test_contract_is_kept() -> None:
    """The installed mlx-lm keeps every point of the contract."""
    assert broken_seams() == []


@pytest.mark.parametrize(
    "module", [seams, layers, sampling, steps], ids=["seams", "layers", "sampling", "steps"]
)
def test_everything_private_is_listed(module: Any) -> None:
    """Whatever these files touch of mlx-lm's insides stands in the contract."""
    ours = {
        "seams": {
            "_stop_wanted",
            "_keeps_blocks",
            "_reader",
            "_state",
            "_tokenizer",
        },
        "layers": set(),
        "steps": {"_reader", "_guide", "_drawn"},
        "sampling": {
            "_vocabulary",
            "_keep",
            "_xtc",
            "_shared",
            "_make",
            "_filters",
            "_scale",
            "_key",
        },
    }[module.__name__.rpartition(".")[2]]

    found = touched(module, {"server", "mlx_cache", "sample_utils"})

    assert found - ours - listed() == set()
    assert ours - found == set()


def test_only_the_seams_touch_mlx_lm() -> None:
    """The other files of the engine import nothing of mlx-lm but through these.

    `raw` is mlx-lm by itself, for comparison, and nothing imports it.
    """
    folder = Path(inspect.getfile(contract)).parent
    importers = {path.name for path in folder.glob("*.py") if "mlx_lm" in _imports(path)}
    seam_files = {"contract.py", "layers.py", "sampling.py", "seams.py", "steps.py"}

    assert importers == seam_files | {"raw.py"}


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.partition(".")[0])
    return found


OURS = set(vars(ToolsHandler)) | set(vars(About)) | set(vars(Connection))


def test_handler_inherits_no_route() -> None:
    """Each route and header method of mlx-lm's handler is ours, or can't be reached."""
    theirs = {
        name
        for name in vars(server.APIHandler)
        if name.startswith(("handle_", "_set_", "generate_"))
    }

    assert theirs - OURS == set(UNREACHABLE)


def test_requests_come_to_us() -> None:
    """What mlx-lm does with a method (`do_…`) is never called: requests are taken before that."""
    called = Connection.handle_one_request.__code__.co_names

    assert "handle_one_request" in OURS
    assert "_begin" in called
    assert "getattr" not in called


@pytest.mark.parametrize("name", UNREACHABLE)
def test_unreachable_methods(name: str) -> None:
    """What is not overridden is called from methods only that are overridden or unreachable."""
    callers = {
        caller
        for caller, function in vars(server.APIHandler).items()
        if inspect.isfunction(function) and name in function.__code__.co_names
    }

    assert {one for one in callers if not one.startswith("do_")} <= OURS | set(UNREACHABLE)
    for ours in (ToolsHandler, About, Connection):
        assert name not in inspect.getsource(ours)


BROKEN = [
    (
        {"contract": {"_make_sampler": (server, "args")}, "fields": {}, "uses": {}},
        "_make_sampler(args) is now (args tokenizer)",
    ),
    (
        {"contract": {"_make_magic": (server, "wand")}, "fields": {}, "uses": {}},
        "_make_magic(wand) is now (missing)",
    ),
    (
        {"contract": {}, "fields": {server.ModelDescription: "model"}, "uses": {}},
        "ModelDescription has the fields model draft adapter, not model",
    ),
    (
        {
            "contract": {},
            "fields": {},
            "uses": {"PromptTrie.search": (mlx_cache.PromptTrie, "_trie depth_first")},
        },
        "PromptTrie.search does not use depth_first any more",
    ),
    (
        {"contract": {}, "fields": {}, "uses": {"PromptTrie.gone": (mlx_cache.PromptTrie, "x")}},
        "PromptTrie.gone does not use x any more",
    ),
]


@pytest.mark.parametrize(
    ("lists", "message"), BROKEN, ids=["signature", "missing", "fields", "use", "gone"]
)
def test_a_broken_seam_is_named(lists: dict[str, Any], message: str) -> None:
    """What an mlx-lm does not keep is said by its name, with what stands there now."""
    assert broken_seams(**lists) == [message]


@pytest.mark.parametrize("name", ["_generate", "_serve_single"])
def test_stop_words_only_make_the_matcher(name: str) -> None:
    """The loops hand `stop_words`, where our spec is, to `_make_state_machine` only."""
    source = inspect.getsource(getattr(server.ResponseGenerator, name))
    tree = ast.parse("class Loop:\n" + source)
    uses = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr == "stop_words"]
    passed = [
        argument
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "_make_state_machine"
        for argument in call.args
        if isinstance(argument, ast.Attribute) and argument.attr == "stop_words"
    ]

    assert uses
    assert uses == passed


def test_how_the_loop_takes_requests() -> None:
    """The loop asks its queue with `get(timeout=)` and `get_nowait()`, and expects Empty."""
    tree = ast.parse("class Loop:\n" + inspect.getsource(server.ResponseGenerator._next_request))
    calls = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and "requests" in ast.unparse(node.func)
    ]

    assert calls == ["self.requests.get(timeout=timeout)", "self.requests.get_nowait()"]


def test_caches_have_a_state_that_can_be_computed(tmp_path: Path) -> None:
    """Each layer of a prompt cache has a `state` that `mx.eval` takes, even an empty one."""
    model, _ = load_model(write_random(tmp_path))
    kinds = [
        *make_prompt_cache(model),
        mlx_cache.ArraysCache(2),
        mlx_cache.RotatingKVCache(8),
        mlx_cache.QuantizedKVCache(),
        mlx_cache.ChunkedKVCache(8),
        mlx_cache.CacheList(mlx_cache.KVCache(), mlx_cache.ArraysCache(1)),
    ]
    model(mx.array([[1, 2, 3]]), cache=kinds[:2])

    for kind in kinds:
        mx.eval(kind.state)
