"""What the server says of itself: its health, its model, its figures, its status page.

Rules of this file:
- What is said while the model loads is said at once; only what needs the model waits for it.
- The page holds nothing of the server, so it needs no key; what it shows comes from `/api/status`.
- Nothing here holds a word of a prompt or an answer.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from . import __version__
from .banner import client_commands
from .connection import Connection
from .errors import NotFound
from .metrics import CONTENT_TYPE
from .openapi import description
from .page import HEADERS, asset
from .service import Service
from .turn import Turns

# Seconds of silence after which a stream says that it is alive; proxies give up after 20.
KEEPALIVE = 2.0


class About(Connection):
    """Answers what is asked about the server."""

    def __init__(self, service: Service, *args: Any, **kwargs: Any) -> None:
        self._service = service
        super().__init__(*args, **kwargs)

    @property
    def _turns(self) -> Turns:
        """The turns of the model, once it is loaded."""
        while (turns := self._service.wait(KEEPALIVE)) is None:
            if self._client_left():
                raise ConnectionAbortedError
        return turns

    @property
    def _place(self) -> str:
        """The path without what clients put before it."""
        try:
            path = unquote(urlsplit(self.path).path).rstrip("/")
        except ValueError:
            return self.path
        return path.removeprefix("/anthropic").removeprefix("/v1")

    # The page.

    @property
    def _wants_page(self) -> bool:
        """Whether this asks for the status page or a part of it, and there is one."""
        if self._config.no_ui or self.command not in ("GET", "HEAD"):
            return False
        place = self._place
        if place == "":
            return "text/html" in (self.headers.get("Accept") or "").lower()
        return place == "/ui" or place.startswith("/ui/")

    def _handle_root(self) -> None:
        """Show a browser the status page; tell programs the health."""
        self._about["Vary"] = "Accept"
        if self._wants_page:
            self._handle_page(None)
        else:
            self.handle_health_check()

    def _handle_page(self, name: str | None) -> None:
        """Return a file of the status page."""
        self._check_page_is_on()
        found = asset(name or "index.html")
        if found is None:
            raise NotFound(f"The status page has no {name!r}.")
        self._content_type, data = found
        self._about |= HEADERS
        self._send(200, data)

    def _handle_status(self) -> None:
        """Return what the status page shows."""
        self._check_page_is_on()
        self._about |= {"Cache-Control": "no-store"}
        turns = self._service.turns
        body: dict[str, Any] = {
            "status": self._service.status,
            "version": __version__,
            "now": round(time.time(), 3),
            "uptime_seconds": round(self._service.uptime, 1),
            "clients": client_commands(self.server.url, api_key=bool(self._config.keys)),
        }
        self._send(200, body | (_told(turns) if turns is not None else {}))

    def _check_page_is_on(self) -> None:
        if self._config.no_ui:
            raise NotFound("There is no status page: the server was started with --no-ui.")

    # What the server says of itself.

    def handle_health_check(self) -> None:
        """Say what the server does, with its figures."""
        status, turns = self._service.status, self._service.turns
        body: dict[str, Any] = {
            "status": status,
            "live": status != "failed",
            "ready": status == "ok",
            "version": __version__,
        }
        if turns is not None:
            figures = turns.figures()
            body |= figures.pop("queue") | figures
            body |= {"resting": turns.engine.rests, "counts": turns.metrics.summary()}
        self._send(200 if body["ready"] else 503, body)

    def _handle_live(self) -> None:
        """Say whether waiting helps; if not, the server must be started anew."""
        live = self._service.status != "failed"
        self._send(200 if live else 503, {"status": self._service.status})

    def _handle_openapi(self) -> None:
        """Describe all routes."""
        self._send(200, description(__version__))

    def _handle_metrics(self) -> None:
        """Return all figures for Prometheus."""
        figures = self._turns.metrics.text()
        self._content_type = CONTENT_TYPE
        self._send(200, figures)

    def _handle_hello(self) -> None:
        """Answer Claude Code, which asks whether somebody is there."""
        self._send(200, {})

    def handle_models_request(self) -> None:
        """List the one model, in OpenAI's form and Anthropic's at once."""
        model = self._model(self._turns.engine.model.name)
        ends = {"first_id": model["id"], "last_id": model["id"], "has_more": False}
        self._send(200, {"object": "list", "data": [model], **ends})

    def _handle_model(self, name: str) -> None:
        self._send(200, self._model(name))

    def _model(self, name: str) -> dict[str, Any]:
        """Describe the model under whatever name a client knows it by."""
        length = self._turns.engine.model.context_length
        sizes = ("context_length", "loaded_context_length", "max_context_length")
        return {
            "id": name,
            "object": "model",
            "created": self.created,
            "owned_by": "mlx-tools-server",
            "type": "model",
            "display_name": name,
            "created_at": datetime.fromtimestamp(self.created, UTC).isoformat(),
            **(dict.fromkeys(sizes, length) if length else {}),
        }

    def _handle_lm_studio_models(self) -> None:
        """List the one model in LM Studio's form."""
        model = self._lm_studio_model(self._turns.engine.model.name)
        self._send(200, {"object": "list", "data": [model]})

    def _handle_lm_studio_model(self, name: str) -> None:
        self._send(200, self._lm_studio_model(name))

    def _lm_studio_model(self, name: str) -> dict[str, Any]:
        length = self._turns.engine.model.context_length
        sizes = ("loaded_context_length", "max_context_length")
        return {
            "id": name,
            "object": "model",
            "type": "llm",
            "publisher": "local",
            "arch": self._turns.engine.model.family.name,
            "compatibility_type": "mlx",
            "state": "loaded",
            **(dict.fromkeys(sizes, length) if length else {}),
        }


def _told(turns: Turns) -> dict[str, Any]:
    """Return what is known once the model is loaded."""
    model, metrics = turns.engine.model, turns.metrics
    about = {
        "name": model.name,
        "family": model.family.name,
        "why": model.why,
        "template": model.template.origin,
        "context_length": model.context_length,
    }
    return {
        "model": about,
        "live": turns.timeline.live,
        "recent": turns.timeline.recent,
        **turns.figures(),
        "resting": turns.engine.rests,
        "memory": turns.engine.memory,
        "counts": metrics.summary(),
        "tokens": {
            kind: metrics.count("tokens", kind=kind)
            for kind in ("prompt", "cached", "completion", "reasoning")
        },
        "tool_calls": {
            outcome: metrics.count("tool_calls", outcome=outcome)
            for outcome in ("ok", "repaired", "invalid", "cut", "text")
        },
    }
