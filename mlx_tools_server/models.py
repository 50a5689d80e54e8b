"""What a model folder holds, seen without loading it, and what is wrong with one that can't load.

Rules of this file:
- Only small files and the headers of weight files are read, so this takes milliseconds.
- Each fault that a person meets has its own message, with the command or flag that mends it.
- Nothing that upstream's loader accepts is refused, save a model that can't chat.
- A hub id is left to upstream's loader; only folders are inspected.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from .errors import StartupError

# Upstream's template for these comes as Python code, chosen by the model's type.
PYTHON_TEMPLATES = {"muse_spark": "muse_spark"}
# Above this, `model_max_length` is transformers' way to say that it doesn't know.
SANE_LENGTH = 1 << 26

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_LFS = b"version https://git-lfs"
_TOKENIZER_FILES = (
    *("tokenizer.json", "tekken.json", "vocab.json", "vocab.txt"),
    *("*.model", "*.tiktoken", "*.spm", "tokenization_*.py"),
)
# Sampling settings of a generation_config.json, and how large each may be.
_RECOMMENDED = {
    "temperature": 2.0,
    "top_p": 1.0,
    "top_k": 1000,
    "min_p": 1.0,
    "repetition_penalty": 2.0,
}
_LENGTH_KEYS = ("max_position_embeddings", "max_sequence_length", "seq_length", "n_positions")


@dataclass(frozen=True, slots=True)
class Quantization:
    """How the weights are packed."""

    bits: int
    group_size: int | None = None

    def __str__(self) -> str:
        groups = f", groups of {self.group_size}" if self.group_size else ""
        return f"{self.bits}-bit{groups}"


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model folder that looks fit to load.

    `chat_templates` has all templates by name; a model may bring one for requests with tools.
    `sampling` has the settings that its makers recommend, by the names of `messages.Sampling`.
    """

    path: Path
    name: str
    architecture: str
    size_bytes: int
    context_length: int | None = None
    quantization: Quantization | None = None
    chat_template: str | None = None
    template_source: str = ""
    chat_templates: Mapping[str, str] = field(default_factory=dict)
    sampling: Mapping[str, float] = field(default_factory=dict)

    @property
    def tool_template(self) -> str | None:
        """The template that upstream renders requests with tools by."""
        return self.chat_templates.get("tool_use", self.chat_template)


def is_hub_id(model: str) -> bool:
    """Whether `model` names a hub repository rather than anything on this machine."""
    return bool(_HUB_ID.fullmatch(model)) and not os.path.lexists(model)


def inspect_model(
    path: str | Path, *, trust_remote_code: bool = False, chat_template_given: bool = False
) -> ModelInfo:
    """Look at a model folder; raises StartupError if it can't be served."""
    folder = Path(path)
    try:
        return _inspect(folder, trust_remote_code, chat_template_given)
    except OSError as error:
        _fail(
            f"{error.filename or folder} can't be read: {error.strerror or error}",
            "Check the path and its permissions.",
        )


def _inspect(folder: Path, trusted: bool, template_given: bool) -> ModelInfo:
    _check_folder(folder)
    config = _read_json(folder / "config.json")
    _check_code(folder, config, trusted)
    size = _check_weights(folder)
    _check_tokenizer(folder)
    tokenizer = _read_json(folder / "tokenizer_config.json", optional=True)
    templates, source = _find_templates(folder, tokenizer, config)
    if not source and not template_given:
        _fail(
            f"{folder} has no chat template, so it can't hold a conversation (a base model?)",
            "Give one with --chat-template FILE, or use an instruct model.",
        )
    # As transformers: the one named "default"; a lone other one is better than none.
    first = templates.get("default") or next(iter(templates.values()), None)
    return ModelInfo(
        path=folder,
        name=_name(folder),
        architecture=str(config.get("model_type", config.get("model_file", "unknown"))),
        size_bytes=size,
        context_length=_context_length(config, tokenizer),
        quantization=_quantization(config),
        chat_template=first,
        template_source=source,
        chat_templates=templates,
        sampling=_sampling(_read_json(folder / "generation_config.json", optional=True)),
    )


def _fail(problem: str, remedy: str) -> NoReturn:
    raise StartupError(problem, remedy)


# --- The folder ---------------------------------------------------------------------------------


def _check_folder(folder: Path) -> None:
    if not folder.exists():
        _fail(f"{folder} does not exist", _suggest(folder))
    if folder.is_file():
        _fail(
            f"{folder} is a file; a model is a folder with config.json and weights",
            f"Give the folder, such as --model-path {folder.parent}.",
        )
    if (folder / "config.json").is_file():
        return
    if os.path.lexists(folder / "config.json"):
        _fail(
            f"{folder}/config.json is a link to a file that is gone",
            "Download the model again, or give its original folder.",
        )
    if (folder / "adapter_config.json").exists():
        _fail(
            f"{folder} is an adapter, not a model",
            f"Give its base model with --model-path and this with --adapter-path {folder}.",
        )
    snapshots = _model_folders(folder / "snapshots")
    if snapshots:
        newest = max(snapshots, key=lambda each: each.stat().st_mtime)
        _fail(f"{folder} is a hub cache folder", f"Give its snapshot: --model-path {newest}.")
    inside = [each.name for each in _model_folders(folder)]
    if inside:
        _fail(f"{folder} holds models but is none itself", f"Give one of them: {_listed(inside)}.")
    if any(folder.glob("*.gguf")):
        _fail_format(folder, "GGUF files")
    _fail(
        f"{folder} is not a model folder: it has no config.json",
        "Give the folder that holds config.json and the *.safetensors files.",
    )


def _suggest(folder: Path) -> str:
    """Where the path stops existing, and what is near there."""
    missing = Path(os.path.abspath(folder))
    while not missing.parent.exists():
        missing = missing.parent
    names = {each.name.lower(): each.name for each in missing.parent.iterdir() if each.is_dir()}
    close = [names[each] for each in get_close_matches(missing.name.lower(), names, 3, 0.6)]
    if close:
        return f"Did you mean {' or '.join(str(missing.parent / each) for each in close)}?"
    return "Check the path; for a repository of the hub give --model org/name."


def _model_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(each for each in folder.iterdir() if (each / "config.json").exists())


def _listed(names: Iterable[str]) -> str:
    some = sorted(names)
    rest = f" and {len(some) - 4} more" if len(some) > 4 else ""
    return ", ".join(some[:4]) + rest


def _name(folder: Path) -> str:
    """The folder's name; a hub snapshot, which is named by a hash, goes by its repository's id."""
    full = Path(os.path.abspath(folder))
    repository = full.parent.parent.name
    if full.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.removeprefix("models--").replace("--", "/", 1)
    return full.name


# --- Small files --------------------------------------------------------------------------------


def _read_json(path: Path, *, optional: bool = False) -> dict[str, Any]:
    if optional and not path.exists():
        return {}
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        _check_pointers(path.parent, [path])
        content = None
    if not isinstance(content, dict):
        _fail(f"{path} is not valid: it should hold a JSON object", "Download the file again.")
    return content


def _check_code(folder: Path, config: Mapping[str, Any], trusted: bool) -> None:
    code = config.get("model_file")
    if code is None:
        if not isinstance(config.get("model_type"), str):
            _fail(
                f"{folder}/config.json names no model_type, so its architecture is unknown",
                "Use a model made for transformers or MLX.",
            )
        return
    if not trusted:
        _fail(
            f"{folder} needs its own Python code ({code}) to load",
            "If you trust where it comes from, add --trust-remote-code.",
        )
    if not (folder / str(code)).is_file():
        _fail(f"{folder} names {code} as its code, but has no such file", "Download it again.")


def _check_tokenizer(folder: Path) -> None:
    patterns = _TOKENIZER_FILES
    found = [each for pattern in patterns for each in folder.glob(pattern) if each.exists()]
    if not found:
        _fail(
            f"{folder} has no tokenizer (tokenizer.json, tokenizer.model or the like)",
            "Copy the tokenizer's files from the original model into it.",
        )
    _check_pointers(folder, found)


# --- Weights ------------------------------------------------------------------------------------


def _check_weights(folder: Path) -> int:
    """The size of the weights, all of which are there and whole."""
    index = _read_json(folder / "model.safetensors.index.json", optional=True)
    present = {each.name for each in folder.glob("model*.safetensors")}
    named = index.get("weight_map")
    wanted = {str(each) for each in named.values()} if isinstance(named, dict) else set()
    if not present and not wanted:
        _fail_no_weights(folder)
    absent = [each for each in present | wanted if not (folder / each).exists()]
    if absent:
        _fail(
            f"{folder} lacks {len(absent)} of its weight files: {_listed(absent)}",
            "The download is incomplete; run it again.",
        )
    if not present:
        _fail_no_weights(folder)
    files = [folder / each for each in sorted(present)]
    _check_pointers(folder, files)
    for each in files:
        _check_safetensors(each)
    return sum(each.stat().st_size for each in files)


def _check_pointers(folder: Path, files: Iterable[Path]) -> None:
    names = [each.name for each in files if _is_pointer(each)]
    if names:
        _fail(
            f"{folder} has Git LFS pointers in place of {_listed(names)}",
            f"Run `git lfs pull` in {folder}.",
        )


def _is_pointer(path: Path) -> bool:
    return path.stat().st_size < 1024 and path.read_bytes().startswith(_LFS)


def _check_safetensors(path: Path) -> None:
    """The header says where the last tensor ends; a cut download is shorter than that."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            _fail_truncated(path, size)
        try:
            header = json.loads(file.read(length))
            tensors = [value for key, value in header.items() if key != "__metadata__"]
            end = max((each["data_offsets"][1] for each in tensors), default=0)
            whole = 8 + length + end <= size
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
            _fail(f"{path} is not a safetensors file", "Download it again.")
    if not whole:
        _fail_truncated(path, size, 8 + length + end)


def _fail_truncated(path: Path, size: int, wanted: int | None = None) -> NoReturn:
    of = f" of {wanted}" if wanted else ""
    _fail(f"{path} is cut short: it has {size}{of} bytes", "Download it again.")


def _fail_no_weights(folder: Path) -> NoReturn:
    kinds = {
        "*.gguf": "GGUF files",
        "*.bin": "PyTorch .bin files",
        "*.pt": "PyTorch .pt files",
        "*.pth": "PyTorch .pth files",
        "*.safetensors": "safetensors files not named model*.safetensors",
    }
    for pattern, what in kinds.items():
        if any(folder.glob(pattern)):
            _fail_format(folder, what)
    _fail(f"{folder} has no weights (model*.safetensors)", "Download the model again.")


def _fail_format(folder: Path, what: str) -> NoReturn:
    source = "the original model" if "GGUF" in what else str(folder)
    _fail(
        f"{folder} has only {what}, which MLX does not serve",
        f"Convert {source} with `mlx_lm.convert --hf-path ... --mlx-path ...`.",
    )


# --- What config.json and the tokenizer say -----------------------------------------------------


def _context_length(config: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> int | None:
    for part in (config, config.get("text_config")):
        if isinstance(part, dict):
            for key in _LENGTH_KEYS:
                if length := _count(part.get(key)):
                    return length
    stated = _count(tokenizer.get("model_max_length"))
    return stated if stated and stated < SANE_LENGTH else None


def _sampling(generation: Mapping[str, Any]) -> dict[str, float]:
    """Return what a generation_config.json recommends; what makes no sense is left out."""
    if generation.get("do_sample") is False:
        return {"temperature": 0.0}
    return {
        name: generation[name]
        for name, most in _RECOMMENDED.items()
        if type(generation.get(name)) in (int, float) and 0 <= generation[name] <= most
    }


def _count(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None


def _quantization(config: Mapping[str, Any]) -> Quantization | None:
    fixed = {"mxfp4": Quantization(4, 32), "mxfp8": Quantization(8, 32), "fp8": Quantization(8)}
    for part in (config, config.get("text_config")):
        for key in ("quantization", "quantization_config"):
            packed = part.get(key) if isinstance(part, dict) else None
            if not isinstance(packed, dict):
                continue
            if bits := _count(packed.get("bits")):
                return Quantization(bits, _count(packed.get("group_size")))
            if method := fixed.get(str(packed.get("quant_method"))):
                return method
    return None


def _find_templates(
    folder: Path, tokenizer: Mapping[str, Any], config: Mapping[str, Any]
) -> tuple[dict[str, str], str]:
    """Templates by name and where they are from, in transformers' order of preference."""
    if code := tokenizer.get("chat_template_type"):
        return {}, f"mlx_lm.chat_templates.{code}"
    found: dict[str, str] = {}
    for each in sorted((folder / "additional_chat_templates").glob("*.jinja")):
        found[each.stem] = _read_text(each)
    source = "additional_chat_templates"
    if (folder / "chat_template.jinja").is_file():
        found["default"], source = _read_text(folder / "chat_template.jinja"), "chat_template.jinja"
    if found:
        return found, source
    if found := _named_templates(tokenizer.get("chat_template")):
        return found, "tokenizer_config.json"
    if code := PYTHON_TEMPLATES.get(str(config.get("model_type"))):
        return {}, f"mlx_lm.chat_templates.{code}"
    found = _named_templates(_read_json(folder / "chat_template.json", optional=True))
    return found, "chat_template.json" if found else ""


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        _fail(f"{path} is not UTF-8 text", "Download the file again.")


def _named_templates(stated: Any) -> dict[str, str]:
    """A text, a list of {name, template}, or a mapping, as templates by name."""
    if isinstance(stated, str):
        return {"default": stated} if stated.strip() else {}
    if isinstance(stated, list):
        stated = {
            each.get("name"): each.get("template") for each in stated if isinstance(each, dict)
        }
    if isinstance(stated, dict):
        if "chat_template" in stated:
            return _named_templates(stated["chat_template"])
        return {str(k): v for k, v in stated.items() if isinstance(v, str) and v.strip()}
    return {}
