"""What clients send to `/v1/completions`, and the request that is read from it."""

from __future__ import annotations

from typing import Any

import pytest

from mlx_tools_server.dialects.completions import parse
from mlx_tools_server.errors import BadRequest
from mlx_tools_server.messages import Sampling, TextRequest
from mlx_tools_server.wire import Fields

DEFAULTS = Sampling(temperature=0.7)


def read(**fields: Any) -> TextRequest:
    """Read a body that has these fields beside a prompt."""
    return parse(Fields({"prompt": "a", **fields}), DEFAULTS)


PROMPTS: dict[str, tuple[Any, Any]] = {
    "a text": ("a", "a"),
    "an empty text": ("", ""),
    "control tokens": ("<|im_start|>user\n", "<|im_start|>user\n"),
    "one text in a list": (["a"], "a"),
    "token ids": ([1, 2], (1, 2)),
    "token ids in a list": ([[1, 2]], (1, 2)),
    "no tokens": ([], ()),
}


@pytest.mark.parametrize("name", PROMPTS)
def test_prompt(name: str) -> None:
    """One prompt is read, as text or as token ids."""
    prompt, expected = PROMPTS[name]

    assert expected == read(prompt=prompt).prompt


OPTIONS: dict[str, tuple[dict[str, Any], str, Any]] = {
    "model": ({"model": "gpt-9"}, "model", "gpt-9"),
    "no limit": ({"max_tokens": None}, "max_tokens", None),
    "max_tokens": ({"max_tokens": 5}, "max_tokens", 5),
    "as many tokens as there are": ({"max_tokens": -1}, "max_tokens", None),
    "stop": ({"stop": "x"}, "stop", ("x",)),
    "no log probabilities": ({"logprobs": None}, "top_logprobs", None),
    "log probabilities of the answer": ({"logprobs": 0}, "top_logprobs", 0),
    "log probabilities of rivals": ({"logprobs": 5}, "top_logprobs", 5),
    "log probabilities, mlx-lm's form": ({"logprobs": True}, "top_logprobs", 0),
    "no log probabilities, mlx-lm's form": ({"logprobs": False}, "top_logprobs", None),
    "stream": ({"stream": True}, "stream", True),
    "usage": ({"stream_options": {"include_usage": True}}, "include_usage", True),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options(name: str) -> None:
    """Options are read in every form that they come in."""
    body, field, expected = OPTIONS[name]

    assert expected == getattr(read(**body).options, field)


def test_echo() -> None:
    """The prompt may be asked to stand before its answer."""
    assert read(echo=True).echo


def test_nulls_everywhere() -> None:
    """A body whose every field is null, but for its prompt, is the empty request."""
    names = [
        "model", "max_tokens", "temperature", "top_p", "n", "best_of", "stop", "stream", "seed",
        "stream_options", "logprobs", "echo", "suffix", "logit_bias", "user", "presence_penalty",
    ]  # fmt: skip

    assert read() == read(**dict.fromkeys(names))
    assert read() == read(suffix="", n=1, best_of=1)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no prompt": ({"prompt": None}, "prompt"),
    "a prompt as a number": ({"prompt": 5}, "prompt"),
    "a prompt as an object": ({"prompt": {}}, "prompt"),
    "two prompts": ({"prompt": ["a", "b"]}, "prompt"),
    "two prompts of tokens": ({"prompt": [[1], [2]]}, "prompt"),
    "tokens that are none": ({"prompt": [1, True]}, "prompt"),
    "tokens as floats": ({"prompt": [1.0]}, "prompt"),
    "a suffix": ({"suffix": "b"}, "suffix"),
    "two answers": ({"n": 2}, "n"),
    "the best of two": ({"best_of": 2}, "best_of"),
    "the echo of tokens": ({"prompt": [1], "echo": True}, "echo"),
    "echo as a word": ({"echo": "yes"}, "echo"),
    "no tokens to say": ({"max_tokens": 0}, "max_tokens"),
    "too many rivals": ({"logprobs": 21}, "logprobs"),
    "log probabilities as a word": ({"logprobs": "5"}, "logprobs"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_field(name: str) -> None:
    """A field that can't be understood or done is named."""
    body, param = BAD[name]

    with pytest.raises(BadRequest) as caught:
        read(**body)

    assert param == caught.value.param
