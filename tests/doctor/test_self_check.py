"""The self-check: what it proves here, and what becomes of items that hang, crash or fail."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mlx_tools_server.cli import main
from mlx_tools_server.config import ServerConfig
from mlx_tools_server.doctor.proof import (
    ENGINE_ITEMS,
    SERVER_ITEMS,
    Scrubber,
    flags_of,
    in_turn,
    subjects_of,
)
from mlx_tools_server.flags import load_config

WORKER = """
import json, os, sys, time
for item in sys.argv[1].split(","):
    if item == "hangs":
        time.sleep(60)
    if item == "crashes":
        print("it hurts", file=sys.stderr)
        os.abort()
    print("a library says something")
    print(json.dumps({"item": item, "status": "ok", "detail": "fine"}), flush=True)
"""


def test_one_item_does_not_stop_the_others() -> None:
    """An item that hangs or crashes fails alone; a new process goes on with the rest."""

    def command(items: Sequence[str]) -> list[str]:
        return [sys.executable, "-c", WORKER, ",".join(items)]

    began = time.monotonic()
    found = list(in_turn(["a", "hangs", "b", "crashes", "c"], command, 1.0))

    assert [(item, status) for item, status, _, _ in found] == [
        ("a", "ok"),
        ("hangs", "failed"),
        ("b", "ok"),
        ("crashes", "failed"),
        ("c", "ok"),
    ]
    assert found[1][2] == "it took longer than 1 s"
    assert "exit code -6): it hurts" in found[3][2]
    assert time.monotonic() - began < 30


def test_flags() -> None:
    """A server gets the same settings as flags, its place and its keys aside."""
    given = ["--model-path", "/m", "--kv-bits", "8", "--trust-remote-code", "--port", "1"]
    given += ["--api-key", "k", "--chat-template", "{% if a %}\n{% endif %}"]
    given += ["--chat-template-args", '{"enable_thinking": false}', "--kv-dir", "/k"]
    config = load_config(given, {"MLX_TOOLS_HOST": "127.0.0.2", "MLX_TOOLS_MAX_BODY": "2MB"})
    again = load_config(["--model-path", "/m", *flags_of(config)], {})

    for name in ("kv_bits", "trust_remote_code", "chat_template", "chat_template_args", "max_body"):
        assert getattr(again, name) == getattr(config, name)
    for name in ("port", "host", "api_key", "kv_dir"):
        assert getattr(again, name) == getattr(ServerConfig(), name)


def test_subjects(tmp_path: Path) -> None:
    """The built-in model is checked always, and the one that is named beside it."""
    assert [one.name for one in subjects_of(ServerConfig())] == ["demo"]
    named = list(subjects_of(ServerConfig(model=str(tmp_path / "mine"))))
    assert [one.name for one in named] == ["demo", "mine"]


def test_nothing_private(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that is to be pasted has no user names, and of paths only the last part."""
    monkeypatch.setenv("HOME", "/Users/Jane Doe")
    monkeypatch.setenv("LOGNAME", "jdoe")
    hide = Scrubber(ServerConfig(model="/Users/Jane Doe/my models/Qwen3"))

    told = hide(
        "OSError: '/Users/Jane Doe/my models/Qwen3/x.json' of jdoe, /private/var/tmp/a/b.txt, "
        "see http://127.0.0.1:80/v1/x"
    )

    assert told == "OSError: 'Qwen3/x.json' of user, b.txt, see http://127.0.0.1:80/v1/x"


@pytest.mark.mlx
@pytest.mark.slow
def test_self_check(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """All items pass here, with the built-in model and with one that is named."""
    from tests.engine.checkpoints import write_random

    folder = write_random(tmp_path / "mine")
    os.environ["MLX_TOOLS_API_KEY"] = "not for the servers of the self-check"
    try:
        code = main(["doctor", "--self-check", "--json", "--model-path", str(folder)])
    finally:
        assert os.environ.pop("MLX_TOOLS_API_KEY")
    document = json.loads(capsys.readouterr().out)
    found = {(one["model"], one["item"]): one for one in document["results"]}

    assert document["models"] == ["demo", "mine"]
    for model in document["models"]:
        assert {item for name, item in found if name == model} == {*ENGINE_ITEMS, *SERVER_ITEMS}
    for (model, item), one in found.items():
        # A model of random weights says no more than what a grammar makes it say.
        if (model, item) != ("mine", "tool_call"):
            assert one["status"] in ("ok", "skipped"), one
    assert code == (0 if found["mine", "tool_call"]["status"] == "ok" else 1)
    assert str(tmp_path) not in json.dumps(document)


def _none_allowed(self: Any, row: Any) -> bool:
    return False


def _spoiled(path: Path) -> Any:
    from dataclasses import replace

    from mlx_tools_server.engine.payloads import read

    found = read(path)
    arrays = {name: array * 1.001 for name, array in found.arrays.items()}
    return replace(found, arrays=arrays)


FAULTS = [
    pytest.param("restore", "kv.FileReader.__call__", lambda _, path: _spoiled(path), id="KV"),
    pytest.param("masks", "guide.Guide.fill", _none_allowed, id="masks"),
    pytest.param("cancel", "jobs.Job.cancel", lambda self: None, id="cancel"),
]


@pytest.mark.mlx
@pytest.mark.slow
@pytest.mark.parametrize(("item", "place", "fault"), FAULTS)
def test_faults_are_found(
    item: str, place: str, fault: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An item fails if what it looks at is broken: it does not pass by itself."""
    from mlx_tools_server.chosen import DEMO_MODEL
    from mlx_tools_server.engine import selfcheck

    monkeypatch.setattr(f"mlx_tools_server.engine.{place}", fault)
    # What can't be cancelled has to end by itself.
    monkeypatch.setattr(selfcheck, "LONG", 1500)
    with (
        pytest.raises(selfcheck.Wrong),
        selfcheck.Bench(ServerConfig(model=str(DEMO_MODEL)), tmp_path / "kv") as bench,
    ):
        selfcheck.ITEMS[item](bench)


@pytest.mark.mlx
def test_ties() -> None:
    """Answers may part only where two tokens were about as likely."""
    from mlx_tools_server.engine.selfcheck import TIE, gap
    from mlx_tools_server.events import TokenLogprob

    close = TokenLogprob("a", -0.7, (("a", -0.7), ("b", -0.71)))
    apart = TokenLogprob("a", -0.1, (("b", -2.5), ("a", -0.1)))

    assert gap(close) < TIE < gap(apart)
