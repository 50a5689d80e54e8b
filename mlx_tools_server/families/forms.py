"""The forms of literal calls: what each family writes around a name and its arguments.

Rules of this file:
- One form a way of writing, named after the family that is best known for it.
- A form says what the family's own chat template writes; what models make of it is the parser's
  matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..jsontext import dumps
from .notations import JSON, PYTHON, Notation
from .shapes.literal_form import Form

# Gemma's strings have no escapes, and its names no quotes.
GEMMA4_STRING, GEMMA_STRING = '<|"|>', "<escape>"


def python_arguments(arguments: Mapping[str, Any]) -> str:
    """Return arguments as Python writes them, with their parentheses."""
    return f"({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"


def _gemma(quote: str, value: Any) -> str:
    if isinstance(value, str):
        return f"{quote}{value}{quote}"
    if isinstance(value, list | tuple):
        return f"[{','.join(_gemma(quote, item) for item in value)}]"
    if isinstance(value, Mapping):
        members = (f"{name}:{_gemma(quote, item)}" for name, item in value.items())
        return f"{{{','.join(members)}}}"
    return dumps(value)


def gemma4_arguments(arguments: Mapping[str, Any]) -> str:
    """Return arguments as Gemma 4 writes them."""
    return _gemma(GEMMA4_STRING, arguments)


def gemma_arguments(arguments: Mapping[str, Any]) -> str:
    """Return arguments as FunctionGemma writes them."""
    return _gemma(GEMMA_STRING, arguments)


def _gemma_notation(quote: str) -> Notation:
    return Notation(
        "Gemma", quotes=(quote, '"', "'"), plain=(quote,), raw=(quote,), bare=True, wordy=True
    )


HERMES = Form(
    '<tool_call>\n{"name": "NAME", "arguments": ARGUMENTS}\n</tool_call>',
    openers=("<tool_call>",),
    closers=("</tool_call>",),
    bare=("{",),
)
LLAMA3 = Form(
    '{"name": "NAME", "parameters": ARGUMENTS}',
    openers=("<|python_tag|>", "<function="),
    closers=("</function>", "<|eom_id|>", "<|eot_id|>"),
    between="; ",
    head=r"(?P<name>[^\s>{}()]+?)(?:>|\.call)?",
    bare=("{", "["),
)
MISTRAL = Form(
    "[TOOL_CALLS]NAME[ARGS]ARGUMENTS",
    openers=("[TOOL_CALLS]",),
    between="",
    head=r"(?P<name>[^\s\[\]{}]+)\s*(?:\[CALL_ID\]\s*\w+\s*)?(?:\[ARGS\])?",
)
MISTRAL_V3 = Form(
    '{"name": "NAME", "arguments": ARGUMENTS}',
    openers=("[TOOL_CALLS]",),
    section=("[TOOL_CALLS] [", "]"),
    between=", ",
    head=MISTRAL.head,
)
DEEPSEEK_V31 = Form(
    "<｜tool▁call▁begin｜>NAME<｜tool▁sep｜>ARGUMENTS<｜tool▁call▁end｜>",
    openers=("<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>"),
    closers=("<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>"),
    fence="```",
    section=("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
    between="",
    head=r"(?:function\s*<｜tool▁sep｜>)?\s*(?P<name>[^\s<`]+)\s*(?:<｜tool▁sep｜>)?\s*(?:```(?:json)?)?",
)
DEEPSEEK_V3 = Form(
    "<｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME\n```json\nARGUMENTS\n```<｜tool▁call▁end｜>",
    openers=DEEPSEEK_V31.openers,
    closers=DEEPSEEK_V31.closers,
    fence=DEEPSEEK_V31.fence,
    section=DEEPSEEK_V31.section,
    head=DEEPSEEK_V31.head,
)
KIMI_K2 = Form(
    "<|tool_call_begin|>functions.NAME:INDEX<|tool_call_argument_begin|>ARGUMENTS<|tool_call_end|>",
    openers=("<|tool_calls_section_begin|>", "<|tool_call_section_begin|>", "<|tool_call_begin|>"),
    closers=("<|tool_call_end|>", "<|tool_calls_section_end|>", "<|tool_call_section_end|>"),
    section=("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
    between="",
    head=r"(?:functions\.)?(?P<name>[^\s<:]+)\s*(?::\d+)?\s*(?:<\|tool_call_argument_begin\|>)?",
)
LLAMA4 = Form(
    "NAMEARGUMENTS",
    openers=("<|python_start|>", "<|python_tag|>"),
    closers=("<|python_end|>", "<|eom|>", "<|eot|>"),
    section=("[", "]"),
    between=", ",
    bare=("[", "{"),
    notation=PYTHON,
    write=python_arguments,
)
LFM2 = Form(
    "NAMEARGUMENTS",
    openers=("<|tool_call_start|>",),
    closers=("<|tool_call_end|>",),
    section=("<|tool_call_start|>[", "]<|tool_call_end|>"),
    between=", ",
    notation=PYTHON,
    write=python_arguments,
)
GEMMA4 = Form(
    "<|tool_call>call:NAMEARGUMENTS<tool_call|>",
    openers=("<|tool_call>",),
    closers=("<tool_call|>",),
    between="",
    head=r"(?:call[:\s]\s*)?(?P<name>[\w.:\-]+)",
    notation=_gemma_notation(GEMMA4_STRING),
    write=gemma4_arguments,
)
FUNCTION_GEMMA = Form(
    "<start_function_call>call:NAMEARGUMENTS<end_function_call>",
    openers=("<start_function_call>",),
    closers=("<end_function_call>",),
    between="",
    head=GEMMA4.head,
    notation=_gemma_notation(GEMMA_STRING),
    write=gemma_arguments,
)
# gpt-oss; the parser of its channels reads all but the arguments.
HARMONY = Form(
    "<|channel|>commentary to=functions.NAME <|constrain|>json<|message|>ARGUMENTS",
    openers=("<|channel|>", "<|start|>"),
    closers=("<|call|>", "<|end|>", "<|return|>"),
    section=("", "<|call|>"),
    between="<|start|>assistant",
    notation=JSON,
)
