"""Model folders, templates and calls as the doctor sees them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlx_tools_server.chosen import DEMO_MODEL
from mlx_tools_server.config import ServerConfig
from mlx_tools_server.doctor.finding import Finding
from mlx_tools_server.doctor.model import check_calls, check_template, look
from mlx_tools_server.engine.scripted import write_checkpoint
from mlx_tools_server.templates import read_ours
from tests.test_models import POINTER, make_model, safetensors

HERMES = """
{%- if tools %}<|im_start|>system
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|im_end|>
{% endif %}
{%- for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}
{%- for tool_call in message.tool_calls or [] %}{% set tool_call = tool_call.function %}
<tool_call>
{"name": "{{ tool_call.name }}", "arguments": {{ tool_call.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def given(folder: Path, **settings: Any) -> ServerConfig:
    return ServerConfig(model=str(folder), sources={"model": "--model-path"}, **settings)


def first(config: ServerConfig) -> Finding:
    return look(config).findings[0]


FOLDERS = [
    pytest.param({}, "ok", "llama", id="a good one"),
    pytest.param({"weights": POINTER}, "problem", "Git LFS", id="a pointer"),
    pytest.param({"weights": safetensors(declared=99)}, "problem", "cut short", id="cut short"),
    pytest.param(
        {"weights": None, "index": {"weight_map": {"a": "model-1-of-2.safetensors"}}},
        "problem", "lacks 1 of its weight files", id="a shard is missing",
    ),
    pytest.param(
        {"index": {"weight_map": {"w": "model.safetensors", "gone": "model.safetensors"}}},
        "warning", "1 tensors of the index", id="a tensor is in no file",
    ),
    pytest.param(
        {"index": {"weight_map": {"w": "model.safetensors"}, "metadata": {"total_size": 640}}},
        "warning", "the index says 640 bytes", id="sizes against the index",
    ),
    pytest.param(
        {"index": {"weight_map": {"w": "model.safetensors"}, "metadata": {"total_size": 64}}},
        "ok", "64 bytes", id="an index that fits",
    ),
    pytest.param({"tokenizer_config": {}}, "problem", "no chat template", id="no template"),
]  # fmt: skip


@pytest.mark.parametrize(("files", "status", "seen"), FOLDERS)
def test_folders(tmp_path: Path, files: dict[str, Any], status: str, seen: str) -> None:
    """What is missing, cut short or of another download is said, with its remedy."""
    found = first(given(make_model(tmp_path, **files)))

    assert found.status == status
    if status != "ok":
        assert seen in found.seen
        assert found.remedy


def test_no_model() -> None:
    """Without a model, or with one of the hub, there is nothing to look at, which is no fault."""
    assert first(ServerConfig()).status == "skipped"
    assert first(ServerConfig(model="org/name")).status == "skipped"


def test_facts() -> None:
    """A good folder tells its type, size, quantisation and context, for programs too."""
    found = first(given(DEMO_MODEL))

    assert found.status == "ok"
    assert found.facts["architecture"] == "qwen3"
    assert found.facts["context_length"] == 32_768


def test_context_too_long() -> None:
    """A context beyond the model's own is doubtful."""
    assert first(given(DEMO_MODEL, context_length=99_999)).status == "warning"


def voice(folder: Path, template: str, **settings: Any) -> tuple[Finding, Finding | None]:
    """Return what is found about a template, and about calls in it."""
    write_checkpoint(folder, chat_template=template)
    config = given(folder, trust_remote_code=True, **settings)
    info = look(config).info
    assert info is not None
    speaks, found = check_template(config, info, None)
    return found, check_calls(speaks) if speaks else None


@pytest.mark.parametrize("name", ["qwen3_coder", "qwen3_5"])
def test_ours(name: str, tmp_path: Path) -> None:
    """Our templates write calls that their families read back."""
    about, calls = voice(tmp_path, read_ours(name))

    assert about.facts["family"] == name
    assert calls is not None
    assert calls.status == "ok"


def test_broken_template(tmp_path: Path) -> None:
    """A template that does not compile is a problem, with its line."""
    about, calls = voice(tmp_path, "<tool_call>\n<function= {% if %}")

    assert about.status == "problem"
    assert calls is None


def test_template_of_a_flag(tmp_path: Path) -> None:
    """--chat-template counts, not the model's own."""
    about, _ = voice(tmp_path, "{{ messages }}", chat_template=read_ours("qwen3_coder"))

    assert about.facts["origin"] == "--chat-template"


BAD = [
    pytest.param(
        "{# <tool_call>\n<function= #}{% for m in messages %}{{ m.content }}{% endfor %}",
        "problem", "leaves the tools out", id="no tools",
    ),
    pytest.param(
        "{# <tool_call>\n<function= #}{{ raise_exception('No tools here!') }}",
        "problem", "No tools here!", id="it refuses them",
    ),
    pytest.param(
        "{# <tool_call>\n<function= #}{{ tools | tojson }}{% for m in messages %}{{ m.content }}"
        "{{ m.tool_calls | tojson if m.tool_calls }}{% endfor %}",
        "warning", "read back as text", id="calls in another form",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("template", "status", "seen"), BAD)
def test_bad_templates(tmp_path: Path, template: str, status: str, seen: str) -> None:
    """A template that hides tools, refuses them or writes calls of another form is found out."""
    _, calls = voice(tmp_path, template)

    assert calls is not None
    assert calls.status == status
    assert seen in calls.seen


def test_others_are_left_to_mlx_lm(tmp_path: Path) -> None:
    """Without mlx-lm, the family of any other template is not known, and that is said."""
    about, calls = voice(tmp_path, "{{ messages }}{{ tools }}")

    assert about.status == "skipped"
    assert "--fast" in about.remedy
    assert calls is None


@pytest.mark.mlx
@pytest.mark.parametrize(
    ("template", "status"),
    [(HERMES, "ok"), ("{{ messages }}{{ tools }}", "warning")],
    ids=["Hermes", "no calls"],
)
def test_families_of_mlx_lm(tmp_path: Path, template: str, status: str) -> None:
    """Calls of the families that mlx-lm parses are held against its own parsers."""
    from mlx_tools_server.engine.diagnosis import foreign_format

    write_checkpoint(tmp_path, chat_template=template)
    config = given(tmp_path, trust_remote_code=True)
    info = look(config).info
    assert info is not None
    speaks, about = check_template(config, info, lambda path: foreign_format(path, trusted=True))

    assert about.status == "ok"
    assert speaks is not None
    assert check_calls(speaks).status == status


def test_nothing_of_a_folder_breaks_it(tmp_path: Path) -> None:
    """Files whose content makes no sense are findings, never an exception."""
    folder = make_model(tmp_path, tokenizer=[1], index={"weight_map": {"w": 5}, "metadata": [1]})
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "<tool_call>"}))

    assert first(given(folder)).status in ("warning", "problem")
