"""Everything that can go wrong and be told to a person or a client.

Rules of this file:
- Pure code raises these; each class carries its HTTP status and code; a dialect renders them.
- A message says what is wrong, why, and what to do about it.

StartupError            the server can't start: one line and exit code 2
RequestError
├── BadRequest          400  a field is missing, of the wrong type or out of range
│   └── ContextOverflow 400  the prompt does not fit into the context
│       └── MemoryOverflow   or its KV cache into memory
├── Unauthorized        401
├── Forbidden           403  a foreign browser page or host
├── NotFound            404
├── MethodNotAllowed    405
├── RequestTimeout      408
├── LengthRequired      411
├── TooLarge            413
├── UnsupportedMedia    415  a body that is no JSON text
├── Overloaded          503  try again later
└── GenerationFailed    500  the model raised; other requests go on
"""

from __future__ import annotations


class StartupError(Exception):
    """The server can't start; `remedy` says what the person can do."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}. {remedy}")
        self.problem = problem
        self.remedy = remedy


class RequestError(Exception):
    """A request that can't be served; subclasses fix the status and the code."""

    status = 500
    code: str | None = None
    kind = "server_error"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class BadRequest(RequestError):
    """The client sent something that can't be understood or done."""

    status = 400
    kind = "invalid_request_error"


class ContextOverflow(BadRequest):
    """The prompt has more tokens than the model's context holds."""

    code = "context_length_exceeded"

    reason = "This model's maximum context length is {limit} tokens"
    remedy = "a larger --context-length if the model allows it"

    def __init__(self, prompt_tokens: int, limit: int, *, param: str = "messages") -> None:
        super().__init__(
            f"{self.reason.format(limit=limit)}, but the prompt has {prompt_tokens} tokens. "
            f"Shorten the {param}, or start the server with {self.remedy}.",
            param=param,
        )
        self.prompt_tokens = prompt_tokens
        self.limit = limit


class MemoryOverflow(ContextOverflow):
    """The KV cache of the prompt would not fit into memory."""

    reason = "This server's memory holds the KV cache of {limit} tokens"
    remedy = "a larger --memory-limit, --kv-bits or a smaller model"


class Unauthorized(RequestError):
    """The API key is missing or wrong."""

    status = 401
    code = "invalid_api_key"
    kind = "authentication_error"


class Forbidden(RequestError):
    """A browser page of another origin, or a foreign Host header."""

    status = 403
    kind = "permission_error"


class NotFound(RequestError):
    """No such route."""

    status = 404
    kind = "not_found_error"


class MethodNotAllowed(RequestError):
    """The route exists, with another method."""

    status = 405
    kind = "invalid_request_error"


class RequestTimeout(RequestError):
    """The client sent its request too slowly."""

    status = 408
    kind = "invalid_request_error"


class LengthRequired(RequestError):
    """A body without Content-Length and not chunked."""

    status = 411
    kind = "invalid_request_error"


class TooLarge(RequestError):
    """The body is larger than the server accepts."""

    status = 413
    kind = "invalid_request_error"


class UnsupportedMedia(RequestError):
    """A body in a form that is not read."""

    status = 415
    kind = "invalid_request_error"


class Overloaded(RequestError):
    """The server can't take this request now."""

    status = 503
    code = "overloaded"
    kind = "overloaded_error"


class GenerationFailed(RequestError):
    """The model raised while it worked on this request."""

    status = 500
    code = "generation_failed"
