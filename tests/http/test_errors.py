"""Bad requests, from the real server: a clear error each, and nobody else is hurt."""

from __future__ import annotations

import socket
from typing import Any

import httpx
import pytest

from .live import Live, call, tool, user

pytestmark = pytest.mark.mlx

CHAT = "/v1/chat/completions"
OK = {"model": "m", "messages": [user("fine")]}
FUNCTION = {"type": "function", "function": {"name": "f"}}

# What the body is changed by, the field that the error names, a word of its message.
BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "no messages": ({"messages": None}, "messages", "missing"),
    "empty messages": ({"messages": []}, "messages", "empty"),
    "messages as text": ({"messages": "hi"}, "messages", "list"),
    "a message as text": ({"messages": ["hi"]}, "messages[0]", "object"),
    "no role": ({"messages": [{"content": "x"}]}, "messages[0].role", "missing"),
    "unknown role": ({"messages": [{"role": "king"}]}, "messages[0].role", "assistant"),
    "content as number": (
        {"messages": [{"role": "user", "content": 5}]},
        "messages[0].content",
        "list",
    ),
    "an image": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        "messages[0].content[0].type",
        "text only",
    ),
    "temperature as text": ({"temperature": "hot"}, "temperature", "number"),
    "temperature too high": ({"temperature": 1e300}, "temperature", "from 0 to 100"),
    "temperature as true": ({"temperature": True}, "temperature", "number"),
    "top_k negative": ({"top_k": -1}, "top_k", "whole number"),
    "max_tokens zero": ({"max_tokens": 0}, "max_tokens", "1 or more"),
    "max_tokens as fraction": ({"max_tokens": 1.5}, "max_tokens", "whole number"),
    "stop as number": ({"stop": 5}, "stop", "string"),
    "stop with a null": ({"stop": [None]}, "stop", "strings"),
    "xtc above its range": ({"xtc_threshold": 0.9, "xtc_probability": 1}, "xtc_threshold", "0.5"),
    "a token that is none": ({"logit_bias": {"99999999": 5}}, "logit_bias", "tokens are 0 to"),
    "a huge token": ({"logit_bias": {str(2**70): 5}}, "logit_bias", "token ids"),
    "a token by name": ({"logit_bias": {"the": 5}}, "logit_bias", "token ids"),
    "a bias that is none": ({"logit_bias": {"5": "x"}}, "logit_bias.5", "number"),
    "penalty window": ({"repetition_context_size": 2**70}, "repetition_context_size", "whole"),
    "n": ({"n": 2}, "n", "one answer"),
    "tools as an object": ({"tools": {}}, "tools", "list"),
    "a tool without a name": ({"tools": [{"type": "function"}]}, "tools[0].function", "missing"),
    "a tool of another kind": ({"tools": [{"type": "web_search"}]}, "tools[0].type", "function"),
    "tool_choice unknown": ({"tool_choice": "maybe"}, "tool_choice", "auto"),
    "tool_choice of no tool": (
        {"tools": [FUNCTION], "tool_choice": {"type": "function", "function": {"name": "g"}}},
        "tool_choice",
        "not among the tools",
    ),
    "a template": ({"chat_template": "{{ 1 }}"}, "chat_template", "--chat-template"),
    "a template among its arguments": (
        {"chat_template_kwargs": {"chat_template": ""}},
        "chat_template_kwargs.chat_template",
        "can't be sent",
    ),
    "stream_options as text": ({"stream_options": "x"}, "stream_options", "object"),
}  # fmt: skip


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", BAD)
def test_bad_field(name: str, stream: bool, live: Live) -> None:
    """A bad field is a 400 in OpenAI's envelope that names it and says what is right."""
    change, param, words = BAD[name]

    response = live.post(CHAT, {**OK, "stream": stream, **change})

    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == param
    assert words in error["message"]
    assert error["type"] == "invalid_request_error"


BODIES = {
    "empty": b"",
    "not JSON": b"{",
    "no object": b"[]",
    "not UTF-8": b'{"model": "\xff"}',
    "NaN": b'{"temperature": NaN}',
    "too deep": b'{"messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a number of 5000 digits": b'{"seed": ' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("name", BODIES)
def test_bad_body(name: str, live: Live) -> None:
    """A body that is no JSON object is a 400 that says why."""
    response = live.client.post(CHAT, content=BODIES[name])

    assert response.status_code == 400
    assert response.json()["error"]["message"]


RAW: dict[str, dict[str, Any]] = {
    "empty prompt": {"prompt": ""},
    "several prompts": {"prompt": ["a", "b"]},
    "tokens out of range": {"prompt": [1, 2, 10**9]},
    "suffix": {"prompt": "a", "suffix": "b"},
    "best of two": {"prompt": "a", "best_of": 2},
}


@pytest.mark.parametrize("name", RAW)
def test_bad_prompt(name: str, live: Live) -> None:
    """A raw prompt that can't be continued is a 400."""
    response = live.post("/v1/completions", {"model": "m", **RAW[name]})

    assert response.status_code == 400
    assert response.json()["error"]["message"]


def test_prompt_over_the_context(live: Live) -> None:
    """A prompt that does not fit is a 400 with the code that clients act on."""
    for stream in (False, True):
        body = live.body("short", stream=stream)
        body["messages"].insert(0, {"role": "user", "content": "word " * 9000})

        response = live.post(CHAT, body)

        assert response.status_code == 400
        assert response.json()["error"]["code"] == "context_length_exceeded"
        assert "8192 tokens" in response.json()["error"]["message"]


@pytest.mark.parametrize("prompt", ["word " * 9000, [5] * 9000], ids=["text", "tokens"])
def test_raw_prompt_over_the_context(prompt: Any, live: Live) -> None:
    """A raw prompt that does not fit is told so by its own name."""
    error = live.post("/v1/completions", {"model": "m", "prompt": prompt}).json()["error"]

    assert error["code"] == "context_length_exceeded"
    assert error["param"] == "prompt"
    assert "Shorten the prompt" in error["message"]


def test_routes(live: Live) -> None:
    """Routes answer with and without /v1, a query or a last slash; others say what there is."""
    get = live.client.get
    assert get("/v1/models?limit=1000").json()["data"][0]["id"] == "model"
    assert get("/models/").json() == get("/v1/models").json()
    assert get("/v1/models/any/name").json()["id"] == "any/name"
    assert get("/v1/models").json()["data"][0]["context_length"] == 8192
    assert get("/health?x=1").json()["status"] == "ok"
    assert live.client.head("/health").headers["content-length"] != "0"
    assert live.post("/chat/completions?beta=true", OK).status_code == 200
    assert get("/v1/nothing").status_code == 404
    assert ", /v1/readyz, " in get("/v1/nothing").json()["error"]["message"]
    assert "/v1/chat/completions" in get("/v1/nothing").json()["error"]["message"]
    assert get(CHAT).status_code == 405
    assert live.client.post("/health", json={}).status_code == 405


ALLOWED = {CHAT: "POST, OPTIONS", "/health": "GET, HEAD, OPTIONS",
           "/v1/responses/x": "GET, DELETE, HEAD, OPTIONS"}  # fmt: skip


@pytest.mark.parametrize("path", ALLOWED)
def test_allowed_methods(path: str, live: Live) -> None:
    """Another method is told which ones a path answers."""
    response = live.client.request("DELETE" if path != "/v1/responses/x" else "POST", path)

    assert response.status_code == 405
    assert response.headers["allow"] == ALLOWED[path]


def test_body_in_chunks(live: Live) -> None:
    """A body may come in chunks, without a length."""
    body = httpx.Request("POST", live.url, json=OK).content
    parts = iter([body[:10], body[10:]])

    assert live.client.post(CHAT, content=parts).status_code == 200


def test_foreign_pages_are_refused(live: Live) -> None:
    """A web page of another origin, or one that rebinds a name, can't drive the model."""
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
        response = live.post(CHAT, OK, headers=headers)
        assert response.status_code == 403
        assert "access-control-allow-origin" not in response.headers


def test_connection_is_kept(live: Live) -> None:
    """One connection serves request after request, streamed or refused."""
    for _ in range(3):
        assert live.stream("kept alive").content == "kept alive"
        assert live.post(CHAT, {**OK, "n": 2}).status_code == 400
        assert live.post(CHAT, OK).status_code == 200


UNREAD = {
    "no such route": ("POST /nothing HTTP/1.1\r\nContent-Length: 3\r\n", "404"),
    "a length that is none": (f"POST {CHAT} HTTP/1.1\r\nContent-Length: x\r\n", "400"),
    "a body that is too large": (f"POST {CHAT} HTTP/1.1\r\nContent-Length: 99999999999\r\n", "413"),
    "a GET with a body": ("GET /health HTTP/1.1\r\nContent-Length: 3\r\n", "200"),
    "an unknown method": ("BREW /coffee HTTP/1.1\r\n", "405"),
}


@pytest.mark.parametrize("name", UNREAD)
def test_body_that_is_not_read(name: str, live: Live) -> None:
    """Where a body is left unread the connection ends, so it is not taken for a request."""
    head, status = UNREAD[name]
    host, port = live.url.removeprefix("http://").split(":")

    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(f"{head}Host: {host}\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()

    assert "connection: close" in answer.lower()
    assert status in answer.split("\n")[0]


def test_no_length(live: Live) -> None:
    """A POST with neither a length nor chunks is told to send one."""
    response = live.client.send(httpx.Request("POST", f"{live.url}{CHAT}"))

    assert response.status_code in (400, 411)


def test_logs_are_private(live: Live) -> None:
    """Whatever goes wrong, the log holds no word of a prompt or an answer, and no key."""
    secret = "swordfish"
    long = [user(f"{secret} " * 400 + "[[SCRIPT]]ok[[/SCRIPT]]"), {"role": "user", "content": "b"}]
    tools = [tool("weigh", grams="integer")]
    key = {"Authorization": f"Bearer {secret}"}
    live.post(CHAT, {"messages": [user(secret)], "temperature": secret}, headers=key)
    live.post(CHAT, live.body(f"{secret} [[BOOM]]"))
    live.post(CHAT, live.body(call("weigh", grams=secret), tools=tools))
    live.post(CHAT, {"messages": long})
    live.post(CHAT, {"messages": [user("changed"), *long]})
    live.client.get(f"/v1/{secret}")

    assert secret not in live.log.read_text()
