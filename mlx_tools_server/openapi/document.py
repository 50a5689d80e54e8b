"""The document: routes, and the answers and errors that each of them gives.

Rules of this file:
- A route says every status that it may answer with, errors in the envelope of its dialect.
- A route is described under the path that its clients know; the others stand in the text above all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .answers import answers
from .requests import requests
from .schemas import OBJECT, TEXT, Schema, ref

ABOUT = """\
One local model behind the APIs of OpenAI (chat completions, completions, responses) and Anthropic \
(messages). Every path also answers without `/v1`, and all of them under `/anthropic`; HEAD \
answers what GET does, without the body. Any model name is served by the one model. A request with \
the header `anthropic-version` gets its errors in Anthropic's form on every route. What goes wrong \
after the first byte of a stream is the stream's last event. A key is asked for only if the server \
was started with one."""

ERRORS: Mapping[int, str] = {
    400: "A field is missing, of the wrong type or out of range, or the prompt is too long.",
    401: "The API key is missing or wrong.",
    403: "The Host or Origin header names a host or web page that is not let in.",
    404: "There is nothing under this path or id.",
    405: "The path answers another method.",
    408: "The request came too slowly.",
    411: "The body has neither a Content-Length nor chunks.",
    413: "The body is larger than the server accepts.",
    414: "The path is longer than the server accepts.",
    415: "The body is not JSON by its Content-Type.",
    431: "The headers are larger than the server accepts.",
    500: "The model failed on this request; other requests go on.",
    503: "The server can't take this request now; Retry-After says when to try again.",
}
ALWAYS = (400, 401, 403, 404, 405, 408, 414, 431, 503)
WITH_BODY = (*ALWAYS, 411, 413, 415)
GENERATING = (*WITH_BODY, 500)

# The answers that are no JSON.
FIGURES = "figures"
PAGE = "page"
DEBUG = "X-MLX-Tools-Debug"
RETRY = {"Retry-After": {"description": "Seconds.", "schema": TEXT}}
TOLD = {DEBUG: {"description": "What is known of the prompt, if it was asked for.", "schema": TEXT}}


@dataclass(frozen=True, slots=True)
class Route:
    """One operation; `answer` and `body` are names of schemas."""

    method: str
    path: str
    name: str
    summary: str
    answer: str = ""
    body: str = ""
    streams: bool = False
    dialect: str = "OpenAI"

    @property
    def errors(self) -> tuple[int, ...]:
        """The statuses of what can go wrong."""
        if not self.body:
            return ALWAYS
        return WITH_BODY if self.name == "countTokens" else GENERATING


ROUTES = (
    Route("get", "/", "root", "Say whether the model answers; browsers get the page.", "Health"),
    Route("get", "/ui", "page", "Return the status page.", PAGE),
    Route("get", "/api/status", "status", "Return what the status page shows.", "Status"),
    Route("get", "/health", "health", "Say whether the model answers.", "Health"),
    Route("get", "/livez", "live", "Say whether waiting helps.", "Live"),
    Route("get", "/readyz", "ready", "Say whether requests are taken.", "Health"),
    Route("get", "/metrics", "metrics", "Return all figures for Prometheus.", FIGURES),
    Route("get", "/openapi.json", "description", "Return this description."),
    Route("get", "/api/hello", "hello", "Answer who asks whether somebody is there."),
    Route("get", "/v1/models", "models", "List the one model.", "Models"),
    Route("get", "/v1/models/{model}", "model", "Describe the model under any name.", "Model"),
    Route("get", "/api/v0/models", "lmStudioModels", "List it for LM Studio.", "LMStudioModels"),
    Route(
        "get", "/api/v0/models/{model}", "lmStudioModel", "Describe it likewise.", "LMStudioModel"
    ),
    Route(
        "post",
        "/v1/chat/completions",
        "chat",
        "Answer a conversation.",
        "ChatCompletion",
        "ChatRequest",
        streams=True,
    ),
    Route(
        "post",
        "/v1/completions",
        "complete",
        "Continue a raw prompt.",
        "TextCompletion",
        "TextRequest",
        streams=True,
    ),
    Route(
        "post",
        "/v1/messages",
        "message",
        "Answer a conversation of Anthropic's dialect.",
        "MessageAnswer",
        "MessagesRequest",
        streams=True,
        dialect="Anthropic",
    ),
    Route(
        "post",
        "/v1/messages/count_tokens",
        "countTokens",
        "Count the tokens of such a conversation.",
        "TokenCount",
        "CountRequest",
        dialect="Anthropic",
    ),
    Route(
        "post",
        "/v1/responses",
        "respond",
        "Answer a conversation of items.",
        "Response",
        "ResponsesRequest",
        streams=True,
    ),
    Route("get", "/v1/responses/{id}", "response", "Return an earlier response.", "Response"),
    Route("delete", "/v1/responses/{id}", "forget", "Forget an earlier response.", "Forgotten"),
    Route(
        "get",
        "/v1/responses/{id}/input_items",
        "inputItems",
        "Return what an earlier response answered.",
        "InputItems",
    ),
)


def description(version: str) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of a server of this version."""
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "mlx-tools-server", "version": version, "description": ABOUT},
        "paths": paths,
        "security": [{}, {"bearer": []}, {"key": []}],
        "components": {
            "schemas": {**requests(), **answers()},
            "responses": dict(_failures(("OpenAI", "Anthropic"))),
            "parameters": _parameters(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    names = [name for name in ("model", "id") if f"{{{name}}}" in route.path]
    names += ["debug"] if route.streams else []
    names += ["anthropicVersion"] if route.dialect == "Anthropic" else []
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "parameters": [ref(name, "parameters") for name in names],
        "responses": _responses(route),
    }
    if route.body:
        operation["requestBody"] = {"required": True, "content": _json(ref(route.body))}
    return operation


def _responses(route: Route) -> dict[str, Any]:
    whole = _json(ref(route.answer) if route.answer not in ("", FIGURES, PAGE) else OBJECT)
    answer: dict[str, Any] = {"description": "The answer.", "content": whole}
    if route.answer == FIGURES:
        answer["content"] = {"text/plain": {"schema": TEXT}}
    if route.answer == PAGE:
        answer["content"] = {"text/html": {"schema": TEXT}}
    if route.path == "/":
        answer["content"] = {**whole, "text/html": {"schema": TEXT}}
    if route.streams:
        answer |= {"description": "The answer; with `stream: true`, its events.", "headers": TOLD}
        answer["content"] = {**whole, "text/event-stream": {}}
    errors = {str(status): ref(f"{route.dialect}{status}", "responses") for status in route.errors}
    if route.answer in ("Health", "Live"):
        errors["503"] = {"description": "It does not.", "headers": RETRY, "content": whole}
    return {"200": answer, **errors}


def _failures(dialects: Iterable[str]) -> Iterable[tuple[str, dict[str, Any]]]:
    for dialect in dialects:
        for status, text in ERRORS.items():
            answer = {"description": text, "content": _json(ref(f"{dialect}Error"))}
            yield f"{dialect}{status}", {**answer, **({"headers": RETRY} if status == 503 else {})}


def _parameters() -> dict[str, Any]:
    return {
        "model": _parameter("model", "path", TEXT, required=True),
        "id": _parameter("id", "path", TEXT, required=True),
        "debug": _parameter(DEBUG, "header", TEXT),
        "anthropicVersion": _parameter("anthropic-version", "header", TEXT),
    }


def _parameter(name: str, place: str, schema: Schema, *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": place, "required": required, "schema": schema}


def _json(schema: Schema) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
