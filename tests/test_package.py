"""The wheel: built, installed into an empty environment, and serving from there."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from mlx_tools_server.demo import WISHES, Tools

from .http.live import process

pytestmark = [pytest.mark.slow]

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the built wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(folder)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_contents(wheel: Path) -> None:
    """The wheel has the templates, the models and the type marker, and no tests."""
    names = set(zipfile.ZipFile(wheel).namelist())

    for name in (
        "chat_templates/qwen3_coder.jinja",
        "chat_templates/qwen3_5.jinja",
        "demo_model/model.safetensors",
        "engine/scripted/merges.txt",
        "engine/scripted/chat_template.jinja",
        "page/index.html",
        "page/page.css",
        "page/main.js",
        "py.typed",
    ):
        assert f"mlx_tools_server/{name}" in names
    assert wheel.stat().st_size < 8_000_000
    assert not any(name.startswith(("tests/", "tools/")) for name in names)


def test_serves_from_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    """Installed from the wheel alone, the server starts and uses a template of its own."""
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    extra = "" if sys.platform == "darwin" else "[cpu]"
    install = [str(python), "-m", "pip", "install", "--quiet", f"{wheel}{extra}"]
    subprocess.run(install, check=True, capture_output=True, cwd=tmp_path)
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    code = "from mlx_tools_server.templates import read_ours; print(len(read_ours('qwen3_coder')))"

    found = subprocess.run(
        [str(python), "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path
    )
    command = [
        str(environment / "bin" / "mlx-tools-server"),
        "--demo",
        "--port",
        "0",
        "--no-kv-disk",
    ]
    with process(command, tmp_path, clean) as live:
        wish = {"role": "user", "content": WISHES[0]}
        body = {"model": "m", "messages": [wish], "tools": Tools(tmp_path).specs}
        answer = live.post("/v1/chat/completions", body).json()["choices"][0]["message"]

    assert int(found.stdout) > 1000
    assert answer["tool_calls"][0]["function"]["name"] == "write_file"
    assert "milk and bread" in answer["tool_calls"][0]["function"]["arguments"]
