"""The table of the families, one row each.

Rules of this file:
- The first row that fits a chat template counts, so what is special stands before what is not.
- A row has names and texts only: what a family writes around its calls is a form (`forms`) or marks
  (`shapes/marks`), and how that is read is the shape's.
"""

from __future__ import annotations

from functools import partial

from . import forms
from .family import Family, Shape
from .parser import Thinking
from .shapes import (
    channel_call,
    literal_call,
    literal_form,
    literal_grammar,
    marked_call,
    marked_grammar,
    marks,
)
from .shapes.tag_value import CLOSE, OPEN

_TAG_CALL = ("<tool_call>\n<function=", "<tool_call>\\n<function=")


def marked(form: marks.Marks) -> Shape:
    """Return the shape of marked calls with these markers."""
    return Shape(
        "marked call",
        partial(marks.write, marks=form),
        partial(marked_call.MarkedCallParser, marks=form),
        partial(marked_grammar.calls, marks=form),
        form.texts[:1],
        framed=bool(form.frames),
    )


def literal(form: literal_form.Form) -> Shape:
    """Return the shape of literal calls of this form."""
    return Shape(
        f"{form.notation.name} call",
        partial(literal_form.write, form=form),
        partial(literal_call.LiteralCallParser, form=form),
        partial(literal_grammar.calls, form=form),
        form.openers,
    )


CHANNEL_CALL = Shape(
    "channel call",
    partial(literal_form.write, form=forms.HARMONY),
    partial(channel_call.ChannelCallParser, form=forms.HARMONY),
    partial(literal_grammar.calls, form=forms.HARMONY),
    framed=True,
)


FAMILIES = (
    Family(
        "qwen3_5",
        marks=_TAG_CALL,
        also=("<think>",),
        thinking=Thinking(),
        template="qwen3_5",
        published=("No user query found in messages",),
        control_texts=(OPEN, CLOSE),
    ),
    Family(
        "qwen3_coder",
        marks=_TAG_CALL,
        template="qwen3_coder",
        published=("You are Qwen, a helpful AI assistant that can interact with a computer",),
        control_texts=(OPEN, CLOSE),
    ),
    Family(
        "minimax_m2",
        marks=("<minimax:tool_call>",),
        shape=marked(marks.MINIMAX_M2),
        upstream="minimax_m2",
        thinking=Thinking(),
        control_texts=("<minimax:tool_call>", "</minimax:tool_call>"),
    ),
    Family(
        "longcat",
        marks=("<longcat_tool_call>",),
        shape=marked(marks.LONGCAT),
        upstream="longcat",
        thinking=Thinking("<longcat_think>", "</longcat_think>"),
        control_texts=marks.LONGCAT.texts,
    ),
    Family(
        "glm4",
        marks=("<arg_key>",),
        shape=marked(marks.GLM4),
        thinking=Thinking(),
        control_texts=marks.GLM4.texts,
    ),
    # Their templates join some markers out of their parts.
    Family(
        "deepseek_v32",
        marks=("｜DSML｜",),
        shape=marked(marks.DEEPSEEK_V32),
        thinking=Thinking(),
        control_texts=("｜DSML｜",),
    ),
    Family(
        "kimi_k3",
        marks=("<|open|>",),
        shape=marked(marks.KIMI_K3),
        upstream="kimi_k3",
        thinking=Thinking("<|open|>think<|sep|>", "<|close|>think<|sep|>"),
        control_texts=marks.KIMI_K3.texts,
    ),
    Family(
        "minicpm5",
        marks=('<param name="', '<param name=\\"'),
        shape=marked(marks.MINICPM5),
        upstream="minicpm5",
        thinking=Thinking(),
        control_texts=("<function", "</function>", "<param", "</param>"),
    ),
    Family(
        "muse_spark",
        marks=("<atem:function_calls>",),
        shape=marked(marks.MUSE_SPARK),
        upstream="muse_spark",
        thinking=Thinking("to=self<|message|>", "<|eom|>"),
        control_texts=marks.MUSE_SPARK.texts,
    ),
    Family(
        "kimi_k2",
        marks=("<|tool_calls_section_begin|>",),
        shape=literal(forms.KIMI_K2),
        thinking=Thinking(),
        control_texts=(*forms.KIMI_K2.openers, *forms.KIMI_K2.closers),
        call_id="functions.{name}:{index}",
    ),
    Family(
        "deepseek_v3",
        marks=("<｜tool▁calls▁begin｜>",),
        also=("```json",),
        shape=literal(forms.DEEPSEEK_V3),
        thinking=Thinking(),
        control_texts=(*forms.DEEPSEEK_V3.openers, *forms.DEEPSEEK_V3.closers),
    ),
    Family(
        "deepseek_v31",
        marks=("<｜tool▁calls▁begin｜>",),
        shape=literal(forms.DEEPSEEK_V31),
        thinking=Thinking(),
        control_texts=(*forms.DEEPSEEK_V31.openers, *forms.DEEPSEEK_V31.closers),
    ),
    Family(
        "mistral",
        marks=("[TOOL_CALLS]",),
        also=("[ARGS]",),
        shape=literal(forms.MISTRAL),
        thinking=Thinking("[THINK]", "[/THINK]"),
        control_texts=(*forms.MISTRAL.openers, "[ARGS]"),
        call_id="{index:09}",
    ),
    Family(
        "mistral_v3",
        marks=("[TOOL_CALLS]",),
        shape=literal(forms.MISTRAL_V3),
        control_texts=forms.MISTRAL_V3.openers,
        call_id="{index:09}",
    ),
    Family(
        "gemma4",
        marks=("<|tool_call>",),
        shape=literal(forms.GEMMA4),
        thinking=Thinking("<|channel>thought", "<channel|>"),
        control_texts=(*forms.GEMMA4.openers, *forms.GEMMA4.closers, forms.GEMMA4_STRING),
    ),
    Family(
        "function_gemma",
        marks=("<start_function_call>",),
        shape=literal(forms.FUNCTION_GEMMA),
        control_texts=(
            *forms.FUNCTION_GEMMA.openers,
            *forms.FUNCTION_GEMMA.closers,
            forms.GEMMA_STRING,
        ),
    ),
    Family(
        "gpt_oss",
        marks=("<|channel|>",),
        also=("<|message|>",),
        shape=CHANNEL_CALL,
        thinking=Thinking("<|channel|>analysis<|message|>", "<|end|>"),
        control_texts=("<|channel|>", "<|start|>", "<|message|>", "<|end|>"),
    ),
    Family(
        "lfm2",
        marks=("<|tool_call_start|>", "<|tool_list_start|>"),
        shape=literal(forms.LFM2),
        thinking=Thinking(),
        control_texts=("<|tool_call_start|>", "<|tool_call_end|>"),
        upstream="pythonic",
    ),
    Family("llama4", marks=("<|header_start|>",), shape=literal(forms.LLAMA4)),
    Family(
        "hermes",
        marks=("<tool_call>\n{", "<tool_call>\\n{", "<tool_call></tool_call> XML"),
        shape=literal(forms.HERMES),
        thinking=Thinking(),
        control_texts=(*forms.HERMES.openers, *forms.HERMES.closers),
        upstream="json_tools",
    ),
    Family(
        "llama3",
        marks=('"parameters": \'', '{"name": function name', "<|python_tag|>"),
        also=("<|start_header_id|>",),
        shape=literal(forms.LLAMA3),
        control_texts=("<|python_tag|>",),
    ),
)
