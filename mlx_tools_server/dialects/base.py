"""What a dialect is, and OpenAI's forms that several of them use.

Rules of this file:
- An encoder serves one answer: `encode(event)` for a stream, `whole(answer)` for the folded one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Protocol

from ..errors import RequestError
from ..events import Answer, Event, Failed, FinishReason, Usage

DONE = b"data: [DONE]\n\n"
KEEPALIVE = b": keepalive\n\n"


# Claude Code's line differs from session to session and stands before all else in the prompt.
_BILLING = re.compile(r"^x-anthropic-billing-header:.*\n?", re.MULTILINE | re.IGNORECASE)


def system_text(text: str) -> str:
    """Return a system text without the lines that only a vendor's own servers read."""
    return _BILLING.sub("", text)


class Encoder(Protocol):
    """Writes one answer in a dialect."""

    def encode(self, event: Event) -> Sequence[bytes]:
        """Return the server-sent events that tell this event."""

    def whole(self, answer: Answer) -> dict[str, Any]:
        """Return the body of the whole answer."""

    def keepalive(self) -> bytes:
        """Return what to send when there is nothing to say."""


def openai_error(error: RequestError) -> dict[str, Any]:
    """Return OpenAI's error envelope."""
    return {
        "error": {
            "message": error.message,
            "type": error.kind,
            "param": error.param,
            "code": error.code,
        }
    }


def openai_usage(usage: Usage) -> dict[str, Any]:
    """Return OpenAI's token counts."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def finite(logprob: float) -> float:
    """Return a log probability as JSON can say it: an impossible token has OpenAI's -9999."""
    return max(-9999.0, logprob)


def ended(answer: Answer) -> tuple[FinishReason, Usage]:
    """Return why the answer ended, and its token counts."""
    finished = answer.finished
    return (finished.reason, finished.usage) if finished else ("stop", Usage())


def failed(event: Failed) -> RequestError:
    """Return the error that a failed generation tells its client."""
    error = RequestError(event.message)
    error.status, error.code = event.status, event.code
    return error
