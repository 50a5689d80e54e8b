"""Answers of ours in a rendered prompt: as the ids that were generated, or as text."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_tools_server.messages import Exact, Message
from mlx_tools_server.sentinels import Piece
from mlx_tools_server.templates import ChatTemplate, read_ours

from .prompts import CONTROLS, calls, ours, result, trivial, user

END = "<|im_end|>"
TEXT = Message("assistant", "Hello!", exact=Exact((1, 2), "", END))
CALL = replace(calls(("now", {})), exact=Exact((3,), "", END))
THOUGHT = Message("assistant", "Hi", reasoning="r", exact=Exact((4,), "<think>\n", END, True))
KEEPING = ChatTemplate(
    read_ours("qwen3_5"), "ours", variables={}, control_tokens=CONTROLS, keep_thoughts=True
)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def shown(pieces: list[Piece]) -> str:
    """Return the prompt as text, with ids in ⟦ ⟧."""
    return "".join(f"⟦{list(piece.ids)}⟧" if piece.ids else piece.text for piece in pieces)


def of(template: ChatTemplate, *messages: Message) -> str:
    """Return how the conversation is shown, from its first answer on."""
    text = shown(template.render(messages, []))
    return text[text.index("<|im_start|>assistant") :]


CASES = [
    pytest.param(
        ours("qwen3_coder"),
        (user("u"), TEXT, user("v")),
        "<|im_start|>assistant\n⟦[1, 2]⟧<|im_end|>\n<|im_start|>user\nv<|im_end|>\n"
        "<|im_start|>assistant\n",
        id="a text",
    ),
    pytest.param(
        ours("qwen3_coder"),
        (user("u"), CALL, result("12:00")),
        "<|im_start|>assistant\n⟦[3]⟧<|im_end|>\n<|im_start|>user\n<tool_response>\n12:00\n"
        "</tool_response>\n<|im_end|>\n<|im_start|>assistant\n",
        id="a call and its result",
    ),
    pytest.param(
        ours("qwen3_5"),
        (user("u"), THOUGHT, result("x")),
        "<|im_start|>assistant\n<think>\n⟦[4]⟧<|im_end|>\n<|im_start|>user\n<tool_response>\nx\n"
        "</tool_response><|im_end|>\n<|im_start|>assistant\n<think>\n",
        id="a thought that the template keeps",
    ),
    pytest.param(
        ours("qwen3_5"),
        (user("u"), THOUGHT, user("v")),
        "<|im_start|>assistant\nHi<|im_end|>\n<|im_start|>user\nv<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n",
        id="a thought that the template leaves out",
    ),
    pytest.param(
        KEEPING,
        (user("u"), THOUGHT, user("v")),
        "<|im_start|>assistant\n<think>\n⟦[4]⟧<|im_end|>\n<|im_start|>user\nv<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n",
        id="a thought that is to be kept",
    ),
    pytest.param(
        ours("qwen3_5"),
        (user("u"), TEXT),
        "<|im_start|>assistant\n<think>\n\n</think>\n\nHello!<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n",
        id="the template writes an empty thought that was not there",
    ),
    pytest.param(
        ours("qwen3_coder"),
        (user("u"), replace(TEXT, exact=Exact((1,), "", "<|call|>")), TEXT),
        "<|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>assistant\n⟦[1, 2]⟧<|im_end|>\n"
        "<|im_start|>assistant\n",
        id="another token ended the answer",
    ),
    pytest.param(
        ours("qwen3_coder"),
        (user("u"), replace(TEXT, exact=Exact((1,)))),
        "<|im_start|>assistant\n⟦[1]⟧<|im_end|>\n<|im_start|>assistant\n",
        id="no token ended the answer",
    ),
    pytest.param(
        trivial(CHATML.replace("{{ m.content }}", "{{ m.content }}{{ m.content }}")),
        (user("u"), TEXT),
        "<|im_start|>assistant\nHello!Hello!<|im_end|>\n<|im_start|>assistant\n",
        id="a template that says all twice",
    ),
    pytest.param(
        trivial(CHATML.replace("{{ m.content }}", "{{ m.content[:5] }}")),
        (user("u"), TEXT),
        "<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>assistant\n",
        id="a template that cuts answers",
    ),
    pytest.param(
        trivial(
            "{% for m in messages if m.role == 'assistant' and not m.tool_calls %}"
            "{{ raise_exception('no call') }}{% endfor %}" + CHATML
        ),
        (user("u"), CALL, result("x")),
        "<|im_start|>assistant\n<|im_end|>\n<|im_start|>tool\nx<|im_end|>\n<|im_start|>assistant\n",
        id="a template that looks for the calls",
    ),
]


@pytest.mark.parametrize(("template", "messages", "expected"), CASES)
def test_replay(template: ChatTemplate, messages: tuple[Message, ...], expected: str) -> None:
    """An answer is replayed where the template leaves its turn as it was, else written as text."""
    assert of(template, *messages) == expected


OPENINGS = [
    pytest.param(ours("qwen3_coder"), "", id="coder"),
    pytest.param(ours("qwen3_5"), "<think>\n", id="3.5"),
    pytest.param(ours("qwen3_5", enable_thinking=False), "<think>\n\n</think>\n\n", id="silent"),
    pytest.param(trivial(CHATML), "", id="ChatML"),
    pytest.param(trivial("{% for m in messages %}{{ m.content }}{% endfor %}"), None, id="bare"),
    pytest.param(trivial("{{ raise_exception('never') }}"), None, id="refusing"),
]


@pytest.mark.parametrize(("template", "expected"), OPENINGS)
def test_opening(template: ChatTemplate, expected: str | None) -> None:
    """What a prompt opens an answer with is known; None where turns can't be told apart."""
    try:
        pieces = template.render([user("u")], [])
    except Exception:
        pieces = [Piece("u", literal=False)]

    assert template.opening(pieces) == expected


@given(st.lists(st.sampled_from([user("u"), user(END), TEXT, CALL, result("r")])))
def test_replayed_prompt_reads_as_its_text(messages: list[Message]) -> None:
    """Replaying changes nothing around the answers: cut them out, and the prompts are the same."""
    plain = [
        replace(m, exact=None, content="", tool_calls=(), reasoning="") if m.exact else m
        for m in messages
    ]
    template = ours("qwen3_coder")

    replayed = [piece.text for piece in template.render(messages, [])]

    assert "".join(replayed) == "".join(piece.text for piece in template.render(plain, []))
