"""Model folders: what is read from a good one, and the one line that each kind of bad one gets."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_tools_server.errors import StartupError
from mlx_tools_server.models import ModelInfo, Quantization, inspect_model, is_hub_id

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5000000000\n"
FILES = {
    "adapter": "adapter_config.json",
    "code": "model.py",
    "config": "config.json",
    "consolidated": "consolidated.safetensors",
    "gguf": "m.gguf",
    "index": "model.safetensors.index.json",
    "jinja": "chat_template.jinja",
    "processor": "chat_template.json",
    "pytorch": "pytorch_model.bin",
    "tokenizer": "tokenizer.json",
    "tokenizer_config": "tokenizer_config.json",
    "tool_jinja": "additional_chat_templates/tool_use.jinja",
    "weights": "model.safetensors",
}


def safetensors(data: bytes = b"\0" * 64, *, declared: int | None = None) -> bytes:
    end = len(data) if declared is None else declared
    tensors = {"w": {"dtype": "U8", "shape": [end], "data_offsets": [0, end]}}
    header = json.dumps({"__metadata__": {"format": "mlx"}, **tensors}).encode()
    return len(header).to_bytes(8, "little") + header + data


def make_model(folder: Path, **files: Any) -> Path:
    """A small model folder; `files` adds, replaces or (with None) removes files by short name."""
    content: dict[str, Any] = {
        "config.json": {"model_type": "llama"},
        "model.safetensors": safetensors(),
        "tokenizer.json": {},
        "tokenizer_config.json": {"chat_template": "{{ messages }}"},
    }
    content |= {FILES[name]: item for name, item in files.items()}
    for name, item in content.items():
        if item is None:
            continue
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(item if isinstance(item, bytes) else json.dumps(item).encode())
    return folder


def with_files(**files: Any) -> Callable[[Path], Path]:
    return lambda folder: make_model(folder / "model", **files)


def config(**values: Any) -> dict[str, Any]:
    return {"config": {"model_type": "llama", **values}}


def tokenizer(**values: Any) -> dict[str, Any]:
    return {"tokenizer_config": values}


def test_good_folder(tmp_path: Path) -> None:
    """A whole folder gives its name, type, size and template."""
    folder = make_model(tmp_path / "Qwen3-Coder")

    assert inspect_model(str(folder)) == ModelInfo(
        path=folder,
        name="Qwen3-Coder",
        architecture="llama",
        size_bytes=len(safetensors()),
        context_length=None,
        quantization=None,
        chat_template="{{ messages }}",
        template_source="tokenizer_config.json",
        chat_templates={"default": "{{ messages }}"},
    )


LENGTHS = [
    pytest.param(config(max_position_embeddings=4096), 4096, id="config"),
    pytest.param(config(text_config={"max_position_embeddings": 8192}), 8192, id="text_config"),
    pytest.param(config(max_position_embeddings=None, n_positions=512), 512, id="n_positions"),
    pytest.param(tokenizer(chat_template="t", model_max_length=2048), 2048, id="tokenizer"),
    pytest.param(tokenizer(chat_template="t", model_max_length=int(1e30)), None, id="huge"),
    pytest.param(tokenizer(chat_template="t", model_max_length=1e30), None, id="float"),
    pytest.param(config(max_position_embeddings="many"), None, id="text"),
    pytest.param(config(max_position_embeddings=True), None, id="true"),
    pytest.param({}, None, id="unknown"),
]


@pytest.mark.parametrize(("files", "length"), LENGTHS)
def test_context_length(tmp_path: Path, files: dict[str, Any], length: int | None) -> None:
    """The context length is what the config says, else the tokenizer if that is sane."""
    assert inspect_model(make_model(tmp_path, **files)).context_length == length


QUANTIZATIONS = [
    pytest.param({}, None, "None", id="none"),
    pytest.param(
        {"quantization": {"bits": 4, "group_size": 64}},
        Quantization(4, 64),
        "4-bit, groups of 64",
        id="mlx",
    ),
    pytest.param({"quantization": {"bits": 8}}, Quantization(8), "8-bit", id="no groups"),
    pytest.param(
        {"quantization_config": {"quant_method": "mxfp4"}},
        Quantization(4, 32),
        "4-bit, groups of 32",
        id="mxfp4",
    ),
    pytest.param(
        {"text_config": {"quantization_config": {"bits": 3, "group_size": 32}}},
        Quantization(3, 32),
        "3-bit, groups of 32",
        id="text_config",
    ),
    pytest.param({"quantization": "odd"}, None, "None", id="odd"),
]


@pytest.mark.parametrize(("values", "expected", "text"), QUANTIZATIONS)
def test_quantization(
    tmp_path: Path, values: dict[str, Any], expected: Quantization | None, text: str
) -> None:
    """The quantisation is read wherever upstream reads it."""
    found = inspect_model(make_model(tmp_path, **config(**values))).quantization

    assert found == expected
    assert str(found) == text


NAMED = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}]
TEMPLATES = [
    pytest.param({"jinja": b"file"}, "file", "file", "chat_template.jinja", id="file first"),
    pytest.param(
        tokenizer(chat_template=NAMED), "plain", "tools", "tokenizer_config.json", id="named"
    ),
    pytest.param(
        tokenizer(chat_template=NAMED[:1]), "tools", "tools", "tokenizer_config.json", id="only one"
    ),
    pytest.param(
        {**tokenizer(), "processor": {"chat_template": "json"}},
        "json",
        "json",
        "chat_template.json",
        id="legacy file",
    ),
    pytest.param(
        {"jinja": b"file", "tool_jinja": b"more"},
        "file",
        "more",
        "chat_template.jinja",
        id="additional file",
    ),
    pytest.param(
        tokenizer(chat_template="t", chat_template_type="deepseek_v32"),
        None,
        None,
        "mlx_lm.chat_templates.deepseek_v32",
        id="code",
    ),
    pytest.param(
        {**tokenizer(), **config(model_type="muse_spark")},
        None,
        None,
        "mlx_lm.chat_templates.muse_spark",
        id="code by type",
    ),
]


@pytest.mark.parametrize(("files", "plain", "tools", "source"), TEMPLATES)
def test_templates(
    tmp_path: Path, files: dict[str, Any], plain: str | None, tools: str | None, source: str
) -> None:
    """The chat template is the one that upstream's loader would use, and its source is named."""
    info = inspect_model(make_model(tmp_path, **files))

    assert (info.chat_template, info.tool_template) == (plain, tools)
    assert info.template_source == source


def test_template_given(tmp_path: Path) -> None:
    """A model without a template is fine when the user gives one."""
    folder = make_model(tmp_path, **tokenizer())

    assert inspect_model(folder, chat_template_given=True).chat_template is None


def test_shards(tmp_path: Path) -> None:
    """The size is that of all shards together."""
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    folder = make_model(
        tmp_path,
        weights=None,
        index={"weight_map": dict(zip("ab", names, strict=True))},
    )
    for name in names:
        (folder / name).write_bytes(safetensors())

    assert inspect_model(folder).size_bytes == 2 * len(safetensors())


def test_trusted_code(tmp_path: Path) -> None:
    """A model that brings its code is accepted when that is trusted."""
    folder = make_model(tmp_path, **config(model_file="model.py"), code=b"")

    assert inspect_model(folder, trust_remote_code=True).architecture == "llama"


def test_name_of_snapshot(tmp_path: Path) -> None:
    """A snapshot of the hub's cache goes by its repository, not by its hash."""
    folder = make_model(tmp_path / "models--org--Some--Model" / "snapshots" / "0f3a")

    assert inspect_model(folder).name == "org/Some--Model"


def test_name_of_dot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder `.` goes by its real name."""
    monkeypatch.chdir(make_model(tmp_path / "here"))

    assert inspect_model(".").name == "here"


# --- Folders that can't be served ---------------------------------------------------------------


def missing(folder: Path) -> Path:
    make_model(folder / "Qwen3-Coder-30B")
    return folder / "qwen3-coder-30b-4bit"


def missing_parent(folder: Path) -> Path:
    make_model(folder / "models" / "Qwen")
    return folder / "model" / "Qwen"


def far_off(folder: Path) -> Path:
    return folder / "zzz"


def a_file(folder: Path) -> Path:
    return make_model(folder) / "model.safetensors"


def collection(folder: Path) -> Path:
    for name in ("a", "b", "c", "d", "e"):
        make_model(folder / name)
    return folder


def hub_cache(folder: Path) -> Path:
    make_model(folder / "models--org--m" / "snapshots" / "0f3a")
    return folder / "models--org--m"


def snapshots(folder: Path) -> Path:
    return hub_cache(folder) / "snapshots"


def adapter(folder: Path) -> Path:
    return make_model(folder, config=None, adapter={})


def gone_config(folder: Path) -> Path:
    make_model(folder, config=None)
    (folder / "config.json").symlink_to(folder / "blobs" / "gone")
    return folder


def gone_weights(folder: Path) -> Path:
    make_model(folder, weights=None)
    (folder / "model.safetensors").symlink_to(folder / "blobs" / "gone")
    return folder


def weights(content: bytes) -> Callable[[Path], Path]:
    return with_files(weights=content)


def no_weights(**files: Any) -> Callable[[Path], Path]:
    return with_files(weights=None, **files)


SHARDS = {f"w{i}": f"model-0000{i}-of-00006.safetensors" for i in range(1, 7)}
BAD = [
    pytest.param(missing, "does not exist", "Did you mean", id="near name"),
    pytest.param(missing_parent, "does not exist", "models?", id="near parent"),
    pytest.param(far_off, "does not exist", "--model org/name", id="nothing near"),
    pytest.param(a_file, "is a file", "--model-path", id="file"),
    pytest.param(lambda folder: folder, "no config.json", "config.json and", id="empty folder"),
    pytest.param(collection, "holds models", "a, b, c, d and 1 more", id="folder of models"),
    pytest.param(hub_cache, "hub cache", "snapshots/0f3a", id="hub cache"),
    pytest.param(snapshots, "holds models", "0f3a", id="snapshots"),
    pytest.param(adapter, "is an adapter", "--adapter-path", id="adapter"),
    pytest.param(gone_config, "link to a file that is gone", "Download", id="dangling config"),
    pytest.param(gone_weights, "lacks 1", "incomplete", id="dangling weights"),
    pytest.param(with_files(config=b"{"), "not valid", "Download", id="bad config"),
    pytest.param(with_files(config=b"[]"), "not valid", "Download", id="config is a list"),
    pytest.param(with_files(config=b"\xff\0\0"), "not valid", "Download", id="binary"),
    pytest.param(with_files(config=POINTER), "config.json", "git lfs", id="lfs config"),
    pytest.param(with_files(config={}), "no model_type", "Use a model", id="no type"),
    pytest.param(
        with_files(**config(model_file="m.py")), "m.py", "--trust-remote-code", id="own code"
    ),
    pytest.param(weights(POINTER), "Git LFS pointers", "git lfs pull", id="lfs weights"),
    pytest.param(
        with_files(tokenizer=POINTER), "Git LFS pointers", "git lfs pull", id="lfs tokenizer"
    ),
    pytest.param(weights(safetensors(declared=65)), "cut short", "again", id="cut data"),
    pytest.param(weights(safetensors()[:40]), "cut short", "again", id="cut header"),
    pytest.param(weights(b""), "cut short", "again", id="empty weights"),
    pytest.param(
        weights(b"\x02\0\0\0\0\0\0\0[]"), "not a safetensors", "again", id="header is a list"
    ),
    pytest.param(
        weights(b"\x08\0\0\0\0\0\0\0" + b'{"w": 1}'), "not a safetensors", "again", id="odd header"
    ),
    pytest.param(
        weights(b"\x04\0\0\0\0\0\0\0<ht>" + b"l" * 99), "not a safetensors", "again", id="html"
    ),
    pytest.param(
        no_weights(index={"weight_map": SHARDS}),
        "lacks 6 of its weight files: model-00001-of-00006.safetensors,",
        "incomplete",
        id="missing shards",
    ),
    pytest.param(no_weights(), "no weights", "Download", id="no weights"),
    pytest.param(no_weights(gguf=b"GGUF"), "only GGUF", "mlx_lm.convert", id="gguf"),
    pytest.param(with_files(config=None, gguf=b"GGUF"), "only GGUF", "mlx_lm", id="gguf alone"),
    pytest.param(no_weights(pytorch=b""), "only PyTorch .bin", "mlx_lm.convert", id="pytorch"),
    pytest.param(
        no_weights(consolidated=safetensors()),
        "not named model*.safetensors",
        "mlx_lm.convert",
        id="other safetensors",
    ),
    pytest.param(with_files(tokenizer=None), "no tokenizer", "Copy", id="no tokenizer"),
    pytest.param(with_files(**tokenizer()), "no chat", "--chat-template FILE", id="no template"),
    pytest.param(
        with_files(**tokenizer(chat_template=" ")),
        "no chat",
        "--chat-template",
        id="blank template",
    ),
    pytest.param(
        with_files(**tokenizer(chat_template=7)), "no chat", "--chat-template", id="odd template"
    ),
    pytest.param(with_files(jinja=b"\xff"), "not UTF-8", "again", id="binary template"),
]


@pytest.mark.parametrize(("build", "problem", "remedy"), BAD)
def test_bad_folder(
    tmp_path: Path, build: Callable[[Path], Path], problem: str, remedy: str
) -> None:
    """A folder that can't be served is refused in one line that says what to do."""
    path = build(tmp_path)

    with pytest.raises(StartupError) as caught:
        inspect_model(path)
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy
    assert "\n" not in str(caught.value)
    assert not caught.value.problem.endswith(".")


KEYS = st.sampled_from(
    [
        *("model_type", "model_file", "text_config", "max_position_embeddings", "model_max_length"),
        *("quantization", "bits", "quant_method", "weight_map"),
        *("chat_template", "chat_template_type", "name", "template", "default"),
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=8,
)


@given(config=JSON, tokenizer_config=JSON, index=JSON, weights=st.binary(max_size=40))
def test_any_content(config: Any, tokenizer_config: Any, index: Any, weights: bytes) -> None:
    """Whatever the files hold, a folder is described or refused as a StartupError."""
    with tempfile.TemporaryDirectory() as name, suppress(StartupError):
        folder = make_model(Path(name), config=config, tokenizer_config=tokenizer_config)
        inspect_model(folder, trust_remote_code=True)
        inspect_model(make_model(folder, index=index))
        inspect_model(make_model(folder, weights=weights))


def test_unreadable_folder(tmp_path: Path) -> None:
    """A config that can't be opened is an error of ours, not the system's."""
    folder = make_model(tmp_path, config=None)
    (folder / "config.json").symlink_to(folder / "config.json")

    with pytest.raises(StartupError):
        inspect_model(folder)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mlx-community/Qwen3-4B-4bit", True),
        ("org/name.v1_2", True),
        ("org/here", False),
        ("name", False),
        ("./org/name", False),
        ("../name", False),
        ("/org/name", False),
        ("~/name", False),
        ("org/name/more", False),
        ("org/name\n", False),
        ("org/", False),
        ("", False),
    ],
)
def test_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: bool) -> None:
    """A hub id is two plain names, and nothing of that path is on this machine."""
    (tmp_path / "org" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    assert is_hub_id(text) is expected
