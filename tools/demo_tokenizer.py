"""The demo model's tokenizer: byte-level BPE whose pre-tokens make copying easy and prompts short.

Rules of this file:
- A word is the same token wherever it stands: spaces, quotes and slashes never join it.
- What the chat template writes always alike (its long instruction, runs of tags) is one pre-token,
  so that its merges make it one or a few tokens.
- Control tokens are Qwen's, with Qwen's flags; any text decodes to exactly its bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from mlx_tools_server.messages import Message, ToolSpec
from mlx_tools_server.templates import ChatTemplate, read_ours
from tools.demo_data import Dialogue

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
ADDED = (
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
)
VOCABULARY = 2048
_CONTROL = re.compile("|".join(re.escape(token) for token in (*SPECIAL, *ADDED)))
_TAG = r"</?(?:function|name|description|parameters|parameter|type|required)>"
_TAGS = rf"(?:\n?{_TAG}(?:(?:string|integer|boolean|number)(?=</type>))?)+"
_FRAMES = (
    r"\n<function=",
    r"\n</parameter>\n<parameter=",
    r"\n</parameter>\n</function>\n",
    r">\n<parameter=",
    r">\n</function>\n",
    r">\n",
    r"(?:system|user|assistant)\n",
    r'\["',
    r'", "',
    r'"\]',
)
_WORDS = (r"\p{L}+", r"\p{N}{1,2}", r"\n", r"[^\S\n]+", r"[^\s\p{L}\p{N}]")
_TEMPLATE = ChatTemplate(
    read_ours("qwen3_coder"), "the demo model's template", variables={}, control_tokens=()
)


def render(messages: Sequence[Message], tools: Sequence[ToolSpec], *, prompt: bool = False) -> str:
    """Return the conversation as text; with `prompt` the assistant is to go on."""
    pieces = _TEMPLATE.render(messages, tools, add_generation_prompt=prompt)
    return "".join(piece.text for piece in pieces)


def texts(dialogues: Iterable[Dialogue]) -> list[str]:
    """Return the whole dialogues as text."""
    return [render(dialogue.messages, dialogue.tools) for dialogue in dialogues]


def fixed_texts() -> list[str]:
    """Return what the template writes alike for every conversation with tools."""
    tool = ToolSpec("\0", "", {})
    text = render([Message("user", "")], [tool])
    before, after = text.split(
        "<function>\n<name>\0</name>\n<parameters>\n</parameters>\n</function>"
    )
    head = before.removeprefix("<|im_start|>system\n").removesuffix("\n")
    cut = head.index("\n\n# Tools")
    return [head[:cut], head[cut:], *(part for part in _CONTROL.split(after) if len(part) > 8)]


def pattern() -> str:
    """Return the regular expression whose matches are the pre-tokens."""
    fixed = [re.sub(r"([^\w\s/<>=,:'-])", r"\\\1", text) for text in fixed_texts()]
    fixed = [text.replace("\n", r"\n") for text in fixed]
    return "|".join([*fixed, _TAGS, *_FRAMES, *_WORDS])


def train(corpus: Iterable[str]) -> dict[str, Any]:
    """Return a tokenizer.json whose merges were learnt from this corpus."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern()), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    learner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL) - len(ADDED),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    pieces = (part for text in corpus for part in _CONTROL.split(text) if part)
    learner.train_from_iterator(pieces, trainer)
    content: dict[str, Any] = json.loads(learner.to_str())
    size = len(content["model"]["vocab"])
    content["added_tokens"] = [
        {
            "id": size + i,
            "content": text,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": text in SPECIAL,
        }
        for i, text in enumerate((*SPECIAL, *ADDED))
    ]
    return content


def load(path: Path) -> Tokenizer:
    """Return the tokenizer of this tokenizer.json."""
    return Tokenizer.from_file(str(path))
