"""OpenAI text completions, `/v1/completions`: a raw prompt, whose control tokens count.

Rules of this file:
- One prompt, one answer. Nothing is read as a call or a thought.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import BadRequest
from ..events import (
    Answer,
    Event,
    Failed,
    Finished,
    PartDelta,
    PartEnded,
    PartStarted,
    Progress,
    Sampled,
    Started,
    TokenLogprob,
)
from ..messages import Sampling, TextRequest
from ..wire import MAX_INTEGER, Fields, read_max_tokens, read_options, sse
from .base import DONE, KEEPALIVE, ended, failed, finite, openai_error, openai_usage


def parse(body: Fields, defaults: Sampling) -> TextRequest:
    """Return the request that a body asks for; raises BadRequest if it can't be understood."""
    if body.text("suffix", ""):
        raise BadRequest(
            "suffix is not supported: write the model's own fill-in tokens into the prompt.",
            param="suffix",
        )
    for name in ("n", "best_of"):
        if body.integer(name, 1, 1) != 1:
            raise BadRequest(f"{name} must be 1: this server gives one answer.", param=name)
    prompt = _prompt(body)
    echo = body.flag("echo", False)
    if echo and not isinstance(prompt, str):
        raise BadRequest("echo needs the prompt as text.", param="echo")
    return TextRequest(
        prompt,
        echo=echo,
        options=read_options(
            body,
            defaults,
            max_tokens=read_max_tokens(body, "max_tokens"),
            top_logprobs=_top_logprobs(body),
        ),
    )


def _top_logprobs(body: Fields) -> int | None:
    if isinstance(body.raw("logprobs"), bool):  # mlx-lm's own form
        return 0 if body.raw("logprobs") else None
    top = body.integer("logprobs", None, 0, 20)
    return None if top is None else int(top)


def _prompt(body: Fields) -> str | tuple[int, ...]:
    prompt = body.raw("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
        prompt = prompt[0]
    if isinstance(prompt, str):
        return prompt
    if not isinstance(prompt, list) or not all(type(token) is int for token in prompt):
        raise body.wrong("prompt", "one string, or one list of token ids")
    if not all(0 <= token < MAX_INTEGER for token in prompt):
        raise BadRequest("prompt has numbers that are no token ids of any model.", param="prompt")
    return tuple(prompt)


class TextEncoder:
    """Writes one answer as `text_completion`s."""

    def __init__(
        self, request: TextRequest, *, answer_id: str, created: int, fingerprint: str
    ) -> None:
        self._include_usage = request.options.include_usage
        self._wants_logprobs = request.options.top_logprobs is not None
        self._echo = request.prompt if request.echo and isinstance(request.prompt, str) else ""
        self._head = {
            "id": answer_id,
            "object": "text_completion",
            "created": created,
            "model": request.options.model,
            "system_fingerprint": fingerprint,
        }
        self._logprobs: list[TokenLogprob] = []
        self._offset = len(self._echo)

    def encode(self, event: Event) -> Sequence[bytes]:
        """Return the chunks that tell this event."""
        match event:
            case Started():
                return [self._chunk(self._echo)] if self._echo else []
            case PartDelta(text):
                return [self._chunk(text)] if text else []
            case Sampled(token):
                self._logprobs.append(token)
                return []
            case Finished():
                return self._finished(event)
            case Failed():
                return [sse(openai_error(failed(event))), DONE]
            case PartStarted() | PartEnded() | Progress():
                return []

    def keepalive(self) -> bytes:
        """Return a comment, which clients skip."""
        return KEEPALIVE

    def whole(self, answer: Answer) -> dict[str, Any]:
        """Return the whole answer as one body."""
        reason, usage = ended(answer)
        self._logprobs = answer.logprobs
        choice = self._choice(self._echo + answer.joined("text"), reason)
        return {**self._head, "choices": [choice], "usage": openai_usage(usage)}

    def _finished(self, event: Finished) -> Sequence[bytes]:
        chunks = [self._chunk("", event.reason)]
        if self._include_usage:
            chunks.append(sse({**self._head, "choices": [], "usage": openai_usage(event.usage)}))
        return [*chunks, DONE]

    def _chunk(self, text: str, reason: str | None = None) -> bytes:
        usage = {"usage": None} if self._include_usage else {}
        return sse({**self._head, "choices": [self._choice(text, reason)], **usage})

    def _choice(self, text: str, reason: str | None) -> dict[str, Any]:
        logprobs = None
        if self._wants_logprobs and (self._logprobs or reason):
            logprobs = self._taken_logprobs()
        return {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": reason}

    def _taken_logprobs(self) -> dict[str, Any]:
        tokens, self._logprobs = self._logprobs, []
        offsets = []
        for token in tokens:
            offsets.append(self._offset)
            self._offset += len(token.text)
        return {
            "tokens": [token.text for token in tokens],
            "token_logprobs": [finite(token.logprob) for token in tokens],
            "top_logprobs": [
                {text: finite(logprob) for text, logprob in token.top} for token in tokens
            ],
            "text_offset": offsets,
        }
