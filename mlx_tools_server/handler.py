"""What clients ask for over HTTP: routes in, answers and streams out.

Rules of this file:
- What is wrong with a request is said before the headers of the answer, with its own status;
  after the first byte a failure is an event of the dialect, never a cut stream.
- A client that has gone away stops its generation, streaming or not.
- While there is nothing to say, a stream says that it is alive.
- Any model name is served by the one model; clients ask for titles and such under many.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import re
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

from .about import KEEPALIVE, About
from .auth import check_access
from .dialects import chat, completions, messages, responses
from .dialects.base import Encoder, failed, openai_error
from .dialects.responses_answer import ResponsesEncoder
from .errors import MethodNotAllowed, NotFound, RequestError
from .events import Event, Failed, Progress, Started, fold
from .messages import ChatRequest, Options, TextRequest
from .service import Service
from .timeline import program
from .wire import Fields

log = logging.getLogger(__name__)

R = TypeVar("R", ChatRequest, TextRequest)
T = TypeVar("T")

# A request with this header gets it back with what is known of its prompt, as JSON.
DEBUG = "X-MLX-Tools-Debug"
# The label of requests that no route answers.
OTHER = "none"
# By which agents tell themselves and their sessions apart.
CLIENT_HEADERS = (
    "User-Agent",
    "X-Claude-Code-Session-Id",
    "X-Session-Id",
    "Session-Id",
    "Thread-Id",
)


# Method, path and what answers it; the groups of a path are its arguments.
ROUTES = (
    ("GET", "(?:)", "_handle_root"),
    ("GET", "/health|/readyz", "handle_health_check"),
    ("GET", "/livez", "_handle_live"),
    ("GET", "/metrics", "_handle_metrics"),
    ("GET", "/openapi.json", "_handle_openapi"),
    ("GET", "/ui(?:/([a-z]+[.][a-z]+))?", "_handle_page"),
    ("GET", "/api/status", "_handle_status"),
    ("GET", "/api/hello", "_handle_hello"),
    ("GET", "/models", "handle_models_request"),
    ("GET", "/models/(.+)", "_handle_model"),
    ("GET", "/api/v0/models", "_handle_lm_studio_models"),
    ("GET", "/api/v0/models/(.+)", "_handle_lm_studio_model"),
    ("POST", "/chat/completions", "handle_chat_completions"),
    ("POST", "/completions", "handle_text_completions"),
    ("POST", "/messages", "_handle_messages"),
    ("POST", "/messages/count_tokens", "_handle_count"),
    ("POST", "/responses", "_handle_responses"),
    ("GET", "/responses/([^/]+)", "_handle_stored"),
    ("DELETE", "/responses/([^/]+)", "_handle_forgotten"),
    ("GET", "/responses/([^/]+)/input_items", "_handle_stored_items"),
)
KNOWN = ", ".join(
    f"/v1{path}" for _, paths, _ in ROUTES if "(" not in paths for path in paths.split("|")
)


class ToolsHandler(About):
    """Serves one connection."""

    def __init__(self, service: Service, *args: Any, **kwargs: Any) -> None:
        self._stored = service.stored
        self._route_label = OTHER
        super().__init__(service, *args, **kwargs)

    # Routes.

    def _serve(self, method: str) -> None:
        if method == "OPTIONS":
            self._send(204, None)
            return
        check_access(self._config, self.headers, asks_key=not self._wants_page)
        self._route(method)()

    def _error_body(self, error: RequestError) -> dict[str, Any]:
        if self._place.startswith("/messages") or "anthropic-version" in self.headers:
            return messages.error_body(error)
        return openai_error(error)

    def _answered(self, status: int) -> None:
        if (turns := self._service.turns) is not None:
            turns.metrics.http.labels(self._route_label, str(status)).inc()
        self._route_label = OTHER

    def _route(self, method: str) -> Callable[[], None]:
        place = self._place
        found = [
            (wanted, name, match.groups())
            for wanted, pattern, name in ROUTES
            if (match := re.fullmatch(pattern, place))
        ]
        if not found:
            raise NotFound(f"There is no {place[:80] or '/'!r} here. Routes: {KNOWN}.")
        for wanted, name, arguments in found:
            if method == wanted:
                self._route_label = name.strip("_").removeprefix("handle_")
                return partial(getattr(self, name), *arguments)
        methods = [wanted for wanted, _, _ in found]
        heads = ["HEAD"] if "GET" in methods else []
        self._about["Allow"] = ", ".join([*methods, *heads, "OPTIONS"])
        raise MethodNotAllowed(f"Use {' or '.join(methods)} for {place or '/'}.")

    # Dialects.

    def handle_chat_completions(self) -> None:
        """Answer a conversation."""
        request = self._named(chat.parse(self._recorded(), self._turns.sampling.defaults))
        encoder = chat.ChatEncoder(request, **self._marks("chatcmpl-"))
        self._answer(request.options, self._turns.chat(request), encoder)

    def handle_text_completions(self) -> None:
        """Continue a raw prompt."""
        request = self._named(completions.parse(self._read_body(), self._turns.sampling.defaults))
        encoder = completions.TextEncoder(request, **self._marks("cmpl-"))
        self._answer(request.options, self._turns.text(request), encoder)

    def _handle_messages(self) -> None:
        """Answer a conversation of Anthropic's dialect."""
        request = self._named(messages.parse(self._recorded(), self._turns.sampling.defaults))
        encoder = messages.MessagesEncoder(request, **self._marks("msg_"))
        self._answer(request.options, self._turns.chat(request), encoder)

    def _handle_count(self) -> None:
        """Say how many tokens a conversation of Anthropic's dialect has."""
        request = messages.parse_count(self._read_body())
        self._send(200, messages.count_body(self._turns.count(request)))

    def _handle_responses(self) -> None:
        """Answer a conversation of OpenAI's newer dialect."""
        asked = responses.parse(
            self._recorded(), self._turns.sampling.defaults, self._stored.recall
        )
        asked = replace(asked, chat=self._named(asked.chat))
        encoder = ResponsesEncoder(asked, **self._marks("resp_"), remember=self._stored.remember)
        self._answer(asked.chat.options, self._turns.chat(asked.chat), encoder)

    def _handle_stored(self, answer_id: str) -> None:
        """Return a response of before."""
        self._send(200, _known(self._stored.get(answer_id), answer_id))

    def _handle_forgotten(self, answer_id: str) -> None:
        """Forget a response of before."""
        _known(self._stored.forget(answer_id) or None, answer_id)
        self._send(200, {"id": answer_id, "object": "response", "deleted": True})

    def _handle_stored_items(self, answer_id: str) -> None:
        """Return what a response of before answered."""
        items = _known(self._stored.items(answer_id), answer_id)
        ids = [item.get("id") for item in (items[:1] + items[-1:])] or [None]
        ends = {"first_id": ids[0], "last_id": ids[-1], "has_more": False}
        self._send(200, {"object": "list", "data": items, **ends})

    def _recorded(self) -> Fields:
        """Read the body of a conversation, and record it if the user asked for that."""
        body = self._read_body()
        if (recorder := self._service.recorder) is not None:
            recorder.record(f"/v1{self._place}", self._client, body.all)
        return body

    def _named(self, request: R) -> R:
        """Return the request with its client, and the model's own name where that gave none."""
        model = request.options.model or self._turns.engine.model.name
        options = replace(
            request.options,
            model=model,
            client=self._client,
            program=program(self.headers.get("User-Agent") or ""),
            route=self._route_label,
        )
        return replace(request, options=options)

    @property
    def _client(self) -> str:
        """Who asks, as far as one can tell: a session of a program at an address."""
        marks = (self.headers.get(name) or "" for name in CLIENT_HEADERS)
        return "|".join((self.address_string(), *marks))[:400]

    def _marks(self, prefix: str) -> dict[str, Any]:
        """Return by what an answer is known."""
        return {
            "answer_id": f"{prefix}{uuid4().hex}",
            "created": int(time.time()),
            "fingerprint": self.system_fingerprint,
        }

    # Answers.

    def _answer(
        self, options: Options, events: Generator[Event, None, None], encoder: Encoder
    ) -> None:
        with contextlib.closing(events):
            first = next(events)  # raises what is wrong before the headers
            if DEBUG in self.headers and isinstance(first, Started):
                self._about[DEBUG] = _told(first)
            heard = itertools.chain([first], self._while_connected(events))
            if options.stream:
                self._stream(heard, encoder)
                return
            answer = fold(heard)
            if answer.failed:
                raise failed(answer.failed)
            self._send(200, encoder.whole(answer))

    def _stream(self, events: Iterator[Event], encoder: Encoder) -> None:
        self._set_stream_headers()
        spoke = time.monotonic()
        for event in self._never_cut(events):
            data = b"".join(encoder.encode(event))
            if not data and time.monotonic() - spoke > KEEPALIVE:
                data = encoder.keepalive()
            if data:
                self._write_chunk(data)
                spoke = time.monotonic()
        self._write_chunk(b"")

    def _never_cut(self, events: Iterator[Event]) -> Iterator[Event]:
        """Pass events on; what breaks behind them becomes an event, since the answer has begun."""
        try:
            yield from events
        except (ConnectionError, TimeoutError):
            raise
        except Exception:
            log.exception("a stream failed")
            yield Failed("The server failed on this request; its log says why.")

    def _while_connected(self, events: Iterator[Event]) -> Iterator[Event]:
        """Pass events on, looking now and then whether the client is still there."""
        looked = time.monotonic()
        for event in events:
            now = time.monotonic()
            if isinstance(event, Progress | Failed) or now - looked > KEEPALIVE:
                looked = now
                if self._client_left():
                    raise ConnectionAbortedError
            yield event


def _known(found: T | None, answer_id: str) -> T:
    if found is None:
        raise NotFound(
            f"Response with id {answer_id[:80]!r} not found: it was not stored, or there was no "
            "room for it any more. Send the whole conversation instead."
        )
    return found


def _told(started: Started) -> str:
    """Return what is known of a prompt, as JSON that a header can hold."""
    about = {
        "prompt_tokens": started.prompt_tokens,
        "cached_tokens": started.cached_tokens,
        "loss": started.loss or None,
    }
    return json.dumps(about)
