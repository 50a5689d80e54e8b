"""The model's folder, its chat template, and whether its calls come back as they were written.

Rules of this file:
- Only small files and headers are read; the weights are not loaded.
- What `models.inspect_model` refuses is told in its words; what it does not look at is looked at
  here.
- The call of the self-test is written by the template itself, so that template and parser are
  held against each other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..budgets import size
from ..chosen import look_at_model
from ..config import ServerConfig
from ..errors import RequestError, StartupError
from ..events import fold
from ..families import Family, ForeignFormat, detect
from ..messages import Message, ToolCall, ToolSpec
from ..models import ModelInfo
from ..templates import ChatTemplate, control_tokens, opens_thought, replacement
from .finding import Finding

# The index counts tensors, the files have headers too; more than this share apart is a mistake.
TOLERANCE = 0.01
TOOL = ToolSpec(
    "write_report",
    "Write a report.",
    {
        "type": "object",
        "properties": {
            "path": {"type": "string"},
            "lines": {"type": "array", "items": {"type": "string"}},
            "count": {"type": "integer"},
        },
        "required": ["path", "lines", "count"],
    },
)
ARGUMENTS = {"path": "reports/a b.txt", "lines": ['one "two"', "three\nfour"], "count": 3}
_ASKED = (Message("system", "You are helpful."), Message("user", "Write the report."))
_CALLED = Message("assistant", tool_calls=(ToolCall("call_1", TOOL.name, ARGUMENTS),))
_RESULT = Message("tool", "done", tool_call_id="call_1")

Foreign = Callable[[Path], ForeignFormat]


@dataclass(frozen=True, slots=True)
class Look:
    """What there is to know of a model; `info` is None if there is none to look at."""

    info: ModelInfo | None
    config: Mapping[str, Any]
    findings: tuple[Finding, ...]


def look(config: ServerConfig) -> Look:
    """Look at the folder of the model that would be served."""
    try:
        info = look_at_model(config)
    except StartupError as error:
        return Look(None, {}, (Finding("model", "problem", error.problem, error.remedy),))
    if info is None and config.model is None:
        return _none("none was named", "Give one with --model-path DIR, or try --demo.")
    if info is None:
        seen = f"{config.model} is a name on the hub"
        return _none(seen, "Give its folder with --model-path DIR to have it looked at.")
    length = config.context_length or info.context_length
    facts = {
        "name": info.name,
        "architecture": info.architecture,
        "bytes": info.size_bytes,
        "quantization": str(info.quantization) if info.quantization else None,
        "context_length": length,
    }
    packed = f", {info.quantization}" if info.quantization else ", not quantised"
    context = f"{length:,} tokens of context" if length else "context not stated"
    seen = f"{info.name}: {info.architecture}, {size(info.size_bytes)}{packed}, {context}"
    found = [*_index(info.path), *_too_long(config, info)]
    found = found or [Finding("model", "ok", seen, facts=facts)]
    return Look(info, _json(info.path / "config.json"), tuple(found))


def _none(seen: str, remedy: str) -> Look:
    return Look(None, {}, (Finding("model", "skipped", seen, remedy),))


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _too_long(config: ServerConfig, info: ModelInfo) -> list[Finding]:
    if not (config.context_length and info.context_length):
        return []
    if config.context_length <= info.context_length:
        return []
    seen = f"--context-length {config.context_length} is more than the model's own "
    remedy = "Leave it out, unless the model's rope scaling was set for more."
    return [Finding("model", "warning", f"{seen}{info.context_length}", remedy)]


# --- Weights ------------------------------------------------------------------------------------


def _index(folder: Path) -> list[Finding]:
    """Whether the index fits the files that it lists."""
    index = _json(folder / "model.safetensors.index.json")
    named, metadata = index.get("weight_map"), index.get("metadata")
    if not isinstance(named, dict):
        return []
    there: set[str] = set()
    total = 0
    for path in sorted(folder.glob("model*.safetensors")):
        names, data = _tensors(path)
        there |= names
        total += data
    remedy = "Download the model again: its files seem to be from different versions."
    if absent := sorted(set(map(str, named)) - there):
        seen = f"{len(absent)} tensors of the index are in none of the files, such as {absent[0]}"
        return [Finding("model", "warning", seen, remedy)]
    stated = metadata.get("total_size") if isinstance(metadata, dict) else None
    if isinstance(stated, int | float) and abs(total - stated) > TOLERANCE * max(total, stated):
        seen = f"the files hold {size(total)} of tensors, and the index says {size(int(stated))}"
        return [Finding("model", "warning", seen, remedy)]
    return []


def _tensors(path: Path) -> tuple[set[str], int]:
    """Return the names of a file's tensors, and how many bytes they have."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        names = set(json.loads(file.read(length))) - {"__metadata__"}
    return names, path.stat().st_size - 8 - length


# --- Template and calls -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Voice:
    """How a model is spoken to: its family and the template that is used."""

    family: Family
    template: ChatTemplate
    tags: tuple[str, str] | None


def check_template(
    config: ServerConfig, info: ModelInfo, foreign: Foreign | None
) -> tuple[Voice | None, Finding]:
    """Whether there is a template that compiles, and which family it shows.

    `foreign` reads what mlx-lm makes of the folder; without it other families stay unknown.
    """
    source = config.chat_template or info.tool_template or ""
    if not source:
        seen = f"the model renders by code of its own ({info.template_source or 'its tokenizer'})"
        return None, Finding("template", "ok", seen)
    family, why = detect(source)
    if not family.marks and foreign is not None:
        family, why = detect(source, foreign(info.path))
    origin = "--chat-template" if config.chat_template else info.template_source
    ours = replacement(source, family.published, family.template)
    if ours is not None and not config.chat_template:
        source = ours
        origin = f"ours, chat_templates/{family.template}.jinja, in place of the published one"
    added = _added(info.path)
    tags = _thought_tags(family, source)
    extra = [*family.control_texts, *(tags or ())]
    try:
        template = ChatTemplate(
            source,
            origin,
            variables={**_special(info.path), "enable_thinking": True, **config.chat_template_args},
            control_tokens=control_tokens(source, added, extra),
            call_id=family.call_id,
        )
    except StartupError as error:
        return None, Finding("template", "problem", error.problem, error.remedy)
    named = family.marks or family.form is not None
    if not named:
        seen = f"{origin}; a family that mlx-lm may know"
        remedy = "Leave --fast out to have mlx-lm asked."
        return None, Finding("template", "skipped", seen, remedy)
    facts = {"family": family.name, "origin": origin}
    found = Finding("template", "ok", f"{family.name}: {why}; {origin}", facts=facts)
    return Voice(family, template, tags), found


def _thought_tags(family: Family, source: str) -> tuple[str, str] | None:
    if family.thinking:
        return family.thinking.open, family.thinking.close
    return ("<think>", "</think>") if "<think>" in source else None


def _added(folder: Path) -> list[tuple[str, bool]]:
    """Return the tokens that a tokenizer adds; its vocabulary, which takes long, is not read."""
    try:
        text = (folder / "tokenizer.json").read_text(encoding="utf-8")
        start = re.search(r'"added_tokens"\s*:\s*(?=\[)', text)
        tokens, _ = json.JSONDecoder().raw_decode(text, start.end()) if start else ([], 0)
    except (OSError, ValueError, RecursionError):
        return []
    found = [each for each in tokens if isinstance(each, dict)]
    return [(str(each.get("content", "")), bool(each.get("special"))) for each in found]


def _special(folder: Path) -> dict[str, str]:
    """Return the tokens that templates may name."""
    found = {}
    for name, value in _json(folder / "tokenizer_config.json").items():
        text = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(text, str):
            found[name] = text
    return found


def check_calls(voice: Voice) -> Finding:
    """Render a conversation with a tool and a call, and read the call back."""
    try:
        prompt = _written(voice, _ASKED, prompt=True)
        turn = _turn(voice)
    except RequestError as error:
        remedy = "Give a template that takes tools with --chat-template FILE."
        return Finding("tool_calls", "problem", error.message, remedy)
    family = voice.family
    if family.form is not None and not family.form.opener:
        seen = "neither mlx-lm nor this server knows calls of such a template: answers are text"
        remedy = "For an agent, choose a model whose template writes tool calls."
        return Finding("tool_calls", "warning", seen, remedy)
    if TOOL.name not in prompt:
        seen = "the template leaves the tools out of the prompt"
        remedy = "Give a template that shows tools with --chat-template FILE."
        return Finding("tool_calls", "problem", seen, remedy)
    calls = _read(voice, turn)
    if calls == [(TOOL.name, ARGUMENTS)]:
        seen = "a call, as the template writes it, was read back as it was"
        return Finding("tool_calls", "ok", seen)
    seen = f"a call, as the template writes it, was read back as {calls or 'text'}"[:300]
    remedy = "Give a template of the model's makers with --chat-template FILE."
    return Finding("tool_calls", "warning", seen, remedy)


def _written(voice: Voice, messages: Sequence[Message], *, prompt: bool = False) -> str:
    pieces = voice.template.render(messages, (TOOL,), add_generation_prompt=prompt)
    return "".join(piece.text for piece in pieces)


def _turn(voice: Voice) -> str:
    """Return what the template writes for the call; some write it only before its result."""
    before = _written(voice, _ASKED)
    for rest in ((_CALLED,), (_CALLED, _RESULT)):
        written = _written(voice, (*_ASKED, *rest))
        if written.startswith(before) and TOOL.name in written[len(before) :]:
            return written[len(before) :]
    return _written(voice, (*_ASKED, _CALLED, _RESULT))[len(before) :]


def _read(voice: Voice, text: str) -> list[tuple[str, Any]]:
    """Return the calls that the family's parser finds in a turn."""
    opened = voice.tags is not None and opens_thought(text, *voice.tags)
    parser = voice.family.parser((TOOL,), thought_open=opened)
    answer = fold([*parser.feed(text), *parser.close()])
    return [(call.name, json.loads(call.text)) for call in answer.calls]
