"""The status page over HTTP: who gets it, what it may do, and what it is told."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from mlx_tools_server.config import ServerConfig
from mlx_tools_server.openapi import description
from mlx_tools_server.page import assets

from .live import Live, call, tool, user

pytestmark = pytest.mark.mlx

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
SECRET = "perfectly-private"
POLICY = {
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    "img-src 'self' data:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
}


@contextmanager
def loading(config: ServerConfig) -> Iterator[httpx.Client]:
    """Serve without a model, as while one loads; return a client of it."""
    from mlx_tools_server.server import ToolsServer

    with ToolsServer(config) as server, httpx.Client(base_url=server.url) as client:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield client
        server.shutdown()


def is_page(response: httpx.Response) -> bool:
    """Return whether this is the page."""
    return response.status_code == 200 and response.text.startswith("<!doctype html>")


# Path, the Accept header, and whether the page comes.
ASKED = {
    "a browser": ("/", BROWSER["Accept"], True),
    "a browser with a query": ("/?x=1", BROWSER["Accept"], True),
    "a browser at the health": ("/health", BROWSER["Accept"], False),
    "curl": ("/", "*/*", False),
    "an SDK": ("/", "application/json", False),
    "nothing said": ("/", "", False),
    "the page's own path": ("/ui", "*/*", True),
    "the same with a slash": ("/ui/", "", True),
}


@pytest.mark.parametrize("name", ASKED)
def test_who_gets_the_page(name: str, live: Live) -> None:
    """Browsers get the page at the root, programs the health; at /ui everybody gets the page."""
    path, accept, wanted = ASKED[name]

    response = live.client.get(path, headers={"Accept": accept})

    assert is_page(response) == wanted
    assert wanted or response.json()["status"] == "ok"
    assert path.startswith(("/ui", "/health")) or response.headers["vary"] == "Accept"


@pytest.mark.parametrize("name", assets())
def test_asset(name: str, live: Live) -> None:
    """Each file comes with its type and a policy that allows nothing but this server."""
    response = live.client.get(f"/ui/{name}")

    kind, data = assets()[name]
    assert (response.status_code, response.content) == (200, data)
    assert response.headers["content-type"] == kind
    assert set(response.headers["content-security-policy"].split("; ")) == POLICY
    assert response.headers["x-content-type-options"] == "nosniff"
    assert len(data) < 20_000


@pytest.mark.parametrize("name", assets())
def test_asset_needs_nothing_else(name: str) -> None:
    """No file names another site, and what it refers to is there."""
    words = assets()[name][1].decode()

    urls = set(re.findall(r"\w+://[^\s\"'`)<>]+", words)) - {"http://www.w3.org/2000/svg"}
    assert urls == set()
    for found in re.findall(r'(?:src|href)="/ui/([^"]+)"|from "\./([^"]+)"', words):
        assert (found[0] or found[1]) in assets()


@pytest.mark.parametrize("name", assets())
def test_asset_cannot_make_markup(name: str) -> None:
    """There is no inline script or style, and no way from a string to markup or code."""
    words = assets()[name][1].decode()

    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", words)
    assert not re.search(r"new Function|DOMParser|createContextual|srcdoc|javascript:", words)
    if name.endswith(".html"):
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", words)


@pytest.mark.parametrize("name", ["nothing.js", "..", "__init__.py", "a/b.js", "%2e%2e/x.js"])
def test_no_such_asset(name: str, live: Live) -> None:
    """What is no file of the page is not there."""
    assert live.client.get(f"/ui/{name}").status_code in (200, 404)
    assert not live.client.get(f"/ui/{name}").text.startswith('"""')


def judge() -> Draft202012Validator:
    """Return the validator of the status."""
    components = description("1")["components"]
    return Draft202012Validator(
        {"$ref": "#/components/schemas/Status", "components": components},
    )


def status(server: Live) -> dict[str, Any]:
    """Return what the page is told."""
    response = server.client.get("/api/status")
    assert response.status_code == 200
    told: dict[str, Any] = response.json()
    judge().validate(told)
    return told


READ = tool("read", path="string")


def test_turn(live: Live) -> None:
    """A turn is there with its client, its tokens and its calls, and with none of its words."""
    before = status(live)
    body = live.body(f"{SECRET}{call('read', path=SECRET)}", tools=[READ])
    headers = {"User-Agent": "pi/1.0 (private)", "X-Request-Id": "mine.7"}
    live.post("/v1/chat/completions", body, headers=headers)
    after = status(live)

    turn = after["recent"][0]
    assert (turn["id"], turn["client"], turn["route"]) == ("mine.7", "pi/1.0", "chat_completions")
    assert (turn["finish"], turn["calls"]) == ("tool_calls", {"ok": 1})
    assert turn["prompt_tokens"] > turn["cached_tokens"] >= 0 < turn["completion_tokens"]
    assert 0 <= turn["queued_seconds"] <= turn["first_token_seconds"] <= turn["seconds"]
    assert after["tool_calls"]["ok"] == before["tool_calls"]["ok"] + 1
    assert after["tokens"]["prompt"] > before["tokens"]["prompt"]
    assert after["model"]["context_length"] == 8192
    assert after["kv_cache"]["memory"]["bytes"] > 0
    assert SECRET not in json.dumps(after)
    assert "private" not in json.dumps(after["recent"])


def test_loss_has_no_words(live: Live) -> None:
    """Where a prompt is computed again the turn says so, without quoting it."""
    said = {"role": "system", "content": f"{SECRET} at 10:01. " + "Be brief. " * 200}
    messages = [said, user("Hello.[[NEXT]]Hello again.")]
    body = {"messages": messages}
    answer = live.post("/v1/chat/completions", body).json()["choices"][0]["message"]
    said["content"] = said["content"].replace("10:01", "10:02")
    messages += [answer, {"role": "user", "content": "More."}]
    live.post("/v1/chat/completions", body)
    turn = status(live)["recent"][0]

    assert "computed again" in turn["loss"]
    assert SECRET not in json.dumps(turn)


def test_refused_request(live: Live) -> None:
    """A request that was refused is no turn."""
    before = status(live)["recent"]
    assert live.post("/v1/chat/completions", {"messages": [user("x" * 40_000)]}).is_client_error

    assert status(live)["recent"] == before


def test_own_page_may_post(live: Live) -> None:
    """The page's own requests name its origin and are let in; another port's are not."""
    body = live.body("hi")

    own = live.post("/v1/chat/completions", body, headers={"Origin": live.url})
    other = live.post("/v1/chat/completions", body, headers={"Origin": "http://127.0.0.1:1"})

    assert (own.status_code, other.status_code) == (200, 403)


@pytest.mark.parametrize("path", ["/", "/ui", "/api/status"])
def test_foreign_host(path: str, live: Live) -> None:
    """A name that was made to lead here gets neither the page nor its data."""
    response = live.client.get(path, headers={**BROWSER, "Host": "evil.example"})

    assert response.status_code == 403


def test_key() -> None:
    """With a key, the page itself comes without one, and everything else needs it."""
    with loading(ServerConfig(port=0, api_key="s3cret")) as client:
        assert is_page(client.get("/", headers=BROWSER))
        assert client.get("/ui/main.js").status_code == 200
        for path in ("/", "/api/status", "/health", "/ui.js"):
            assert client.get(path).status_code == 401
        assert client.post("/ui").status_code == 401
        told = client.get("/api/status", headers={"Authorization": "Bearer s3cret"})

    assert "MLX_TOOLS_API_KEY" in told.json()["clients"]["OpenAI"]
    assert "s3cret" not in told.text


def test_while_the_model_loads() -> None:
    """Page and status are there before the model is."""
    with loading(ServerConfig(port=0)) as client:
        assert is_page(client.get("/", headers=BROWSER))
        told = client.get("/api/status").json()

    judge().validate(told)
    assert told["status"] == "loading"


def test_no_ui() -> None:
    """With --no-ui there is no page and no status, and a browser gets the health."""
    with loading(ServerConfig(port=0, no_ui=True)) as client:
        assert client.get("/", headers=BROWSER).json()["status"] == "loading"
        for path in ("/ui", "/ui/main.js", "/api/status"):
            response = client.get(path, headers=BROWSER)
            assert response.status_code == 404
            assert "--no-ui" in response.json()["error"]["message"]
