"""How each family speaks: what it writes around thoughts, texts and calls, token by token.

Rules of this file:
- A template of tests/data/chat_templates stands for the family's own; what looks like a control
  token in it is one, and so are the family's control texts.
- A turn is written as the model would: with the token that ends it, where that is not `<|im_end|>`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from mlx_tools_server.engine.scripted import played, write_checkpoint
from mlx_tools_server.families import FAMILIES, Family
from mlx_tools_server.families.shapes.literal_form import Form
from mlx_tools_server.families.shapes.marks import Marks
from mlx_tools_server.jsontext import dumps
from tools.check_templates import controls_in

TEMPLATES = Path(__file__).parents[1] / "data" / "chat_templates"
THOUGHT, TEXT = "Hm, well.", "Let me look."

# Families that write calls as Python does.
PYTHON = {"lfm2", "llama4"}

Call = tuple[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Voice:
    """A family's way to write a turn.

    `thought` is what stands around a thought, `text` around a text before calls, `final` around one
    alone, and `calls` before calls. `end` ends a turn, `call_end` one with calls; `more` are other
    tokens of its tokenizer, and `marks` words that its published template has, and ours has not.
    `unwritten` is what its template does not write beside calls: such answers are not replayed.
    """

    thought: tuple[str, str] = ("", "")
    text: tuple[str, str] = ("", "")
    final: tuple[str, str] = ("", "")
    calls: str = ""
    end: str = ""
    call_end: str | None = None
    more: tuple[str, ...] = ()
    marks: str = ""
    unwritten: Literal["", "text", "thought"] = ""

    @property
    def ends(self) -> tuple[str, ...]:
        """The tokens that end answers."""
        ends = (end.split("<|sep|>")[-1] for end in (self.end, self.call_end) if end)
        return tuple(dict.fromkeys(ends))


_THINK = ("<think>", "</think>")
_DEEPSEEK_END = "<｜end▁of▁sentence｜>"
_OWN: dict[str, Voice] = {
    "hermes": Voice(("<think>\n", "\n</think>\n\n"), calls="\n"),
    "lfm2": Voice(_THINK),
    "gpt_oss": Voice(
        ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant"),
        ("<|channel|>commentary<|message|>", "<|end|><|start|>assistant"),
        ("<|channel|>final<|message|>", ""),
        end="<|return|>",
        call_end="<|call|>",
        more=("<|constrain|>",),
        unwritten="text",
    ),
    "glm4": Voice(_THINK, calls="\n", end="<|user|>", call_end="<|observation|>"),
    "llama3": Voice(calls="\n", end="<|eot_id|>"),
    "llama4": Voice(calls="\n", end="<|eot|>"),
    "mistral_v3": Voice(unwritten="text"),
    "deepseek_v3": Voice(end=_DEEPSEEK_END),
    "deepseek_v31": Voice(_THINK, end=_DEEPSEEK_END, unwritten="thought"),
    "deepseek_v32": Voice(_THINK, calls="\n\n", end=_DEEPSEEK_END, unwritten="thought"),
    "gemma4": Voice(
        ("<|channel>thought\n", "\n<channel|>"),
        end="<turn|>",
        call_end="<|tool_response>",
    ),
    "function_gemma": Voice(end="<end_of_turn>", call_end="<start_function_response>"),
    "minimax_m2": Voice(("<think>\n", "\n</think>\n\n"), calls="\n", end="[e~["),
    "kimi_k3": Voice(
        ("<|open|>think<|sep|>", "<|close|>think<|sep|>"),
        ("<|open|>response<|sep|>", "<|close|>response<|sep|>"),
        ("<|open|>response<|sep|>", "<|close|>response<|sep|>"),
        end="<|close|>message<|sep|><|end_of_msg|>",
    ),
    "longcat": Voice(
        ("<longcat_think>\n", "\n</longcat_think>\n"),
        calls="\n",
        end="</longcat_s>",
        marks="<longcat_think>",
        unwritten="thought",
    ),
    "minicpm5": Voice(("<think>\n", "\n</think>\n\n"), calls="\n"),
    "muse_spark": Voice(
        (" to=self<|message|>", "<|eom|><|start|>assistant"),
        (" to=user<|message|>", "<|eom|><|start|>assistant"),
        (" to=user<|message|>", ""),
        calls=" to=run<|message|>",
        end="<|eot|>",
        unwritten="text",
    ),
}


# The families with a template of the tests; most speak like any other.
VOICES = {family.name: _OWN.get(family.name, Voice()) for family in FAMILIES if not family.template}


class Speaker:
    """A family that speaks; its template is what its tokenizer knows."""

    def __init__(self, name: str) -> None:
        self.family: Family = next(family for family in FAMILIES if family.name == name)
        self.voice = VOICES[name]
        template = (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8")
        self.template = f"{{#- {self.voice.marks} #}}{template}"
        thoughts = self.family.thinking
        tags = (thoughts.open, thoughts.close) if thoughts else ()
        texts = (*self.family.control_texts, *tags, *self.voice.ends, *self.voice.more)
        found = [text for text in controls_in(self.template) if _is_token(text)]
        found += [token for text in texts for token in controls_in(text) or [text]]
        self.controls = [text for text in dict.fromkeys(found) if len(text) > 2]

    def checkpoint(self, folder: Path) -> Path:
        """Write a model that speaks so."""
        return write_checkpoint(
            folder, chat_template=self.template, controls=self.controls, ends=self.voice.ends
        )

    @property
    def thinks(self) -> bool:
        """Whether it has thoughts."""
        return bool(self.voice.thought[0])

    def can_write(self, value: Any) -> bool:
        """Return whether the family's form can hold the names within a value."""
        form = self.family.shape.write.keywords.get("form")  # type: ignore[attr-defined]
        if not isinstance(form, Form) or not form.notation.wordy:
            return True
        if isinstance(value, list):
            return all(map(self.can_write, value))
        if not isinstance(value, dict):
            return True
        named = all(re.fullmatch(form.notation.bare_name, name) for name in value)
        return named and all(map(self.can_write, value.values()))

    def script(self, *calls: Call, text: str = "", quoted: str = "", thought: str = THOUGHT) -> str:
        """Return the script of a turn: a thought, a text, and calls; `quoted` is played as text."""
        voice = self.voice
        before = thought.join(voice.thought) if self.thinks and thought else ""
        around = voice.text if calls else voice.final
        before += around[0] + text if text or quoted else ""
        behind = around[1] if text or quoted else ""
        if calls:
            behind += (voice.calls if text else voice.calls.strip("\n")) + self._written(calls)
        end = voice.end if not calls or voice.call_end is None else voice.call_end
        behind = behind.removesuffix(end) + end
        return played(before, self.controls) + quoted + played(behind, self.controls)

    def _written(self, calls: Sequence[Call]) -> str:
        """Return the calls as the model writes them, in one section."""
        write: partial[str] = self.family.shape.write  # type: ignore[assignment]
        form = write.keywords
        if (literal := form.get("form")) is not None:
            assert isinstance(literal, Form)
            (opener, closer), between = literal.section, literal.between
            if self.family.name in PYTHON:
                # Models follow the templates, which write strings in double quotes.
                write = partial(write, form=replace(literal, write=_keywords))
        else:
            marks = form["marks"]
            assert isinstance(marks, Marks)
            between = marks.newline
            opener, closer = marks.sections[0] if marks.sections else ("", "")
            opener, closer = (opener + between, between + closer) if opener else ("", "")
        parts = [write(name, arguments) for name, arguments in calls]
        inner = [part.removeprefix(opener).removesuffix(closer) for part in parts]
        return opener + between.join(inner) + closer


def _keywords(arguments: Mapping[str, Any]) -> str:
    return f"({', '.join(f'{name}={dumps(value)}' for name, value in arguments.items())})"


def _is_token(text: str) -> bool:
    # The template shows examples in XML too, which no tokenizer has tokens for.
    return "\\" not in text and ("|" in text or "｜" in text or not text.startswith("<"))
