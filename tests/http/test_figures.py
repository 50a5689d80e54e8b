"""What the server says of its requests: their ids, its figures."""

from __future__ import annotations

import pytest

from .live import Live, call, tool

pytestmark = pytest.mark.mlx


def test_request_ids(live: Live) -> None:
    """Each answer has an id, the client's own if that is sound, and the log knows it by that."""
    made = live.client.get("/health").headers["x-request-id"]
    named = {"X-Request-Id": "mine.1"}
    mine = live.post("/v1/chat/completions", live.body("fine"), headers=named).headers
    unsound = live.client.get("/nothing", headers={"X-Request-Id": "a b" * 99}).headers

    assert made.startswith("req_")
    assert (mine["x-request-id"], mine["request-id"]) == ("mine.1", "mine.1")
    assert unsound["x-request-id"].startswith("req_")
    assert "[mine.1] stop, " in live.log.read_text()


def test_metrics(live: Live) -> None:
    """All figures come in the form that Prometheus reads."""
    before = figures(live)
    live.chat("one two three")
    live.client.get("/nothing")
    faulty = call("run", cmd="ls").removeprefix("<tool_call>\n")
    live.chat(faulty, tools=[tool("run", cmd="string")])
    live.chat("<tool_call>\nrun(ls)", tools=[tool("run", cmd="string")])
    after = figures(live)

    def more(name: str) -> float:
        return after[name] - before.get(name, 0.0)

    assert more('mlx_tools_turns_total{finish="stop"}') == 2
    assert more('mlx_tools_http_requests_total{route="chat_completions",status="200"}') == 3
    assert more('mlx_tools_http_requests_total{route="none",status="404"}') == 1
    assert more('mlx_tools_tokens_total{kind="completion"}') >= 3
    assert more('mlx_tools_tool_calls_total{outcome="repaired"}') == 1
    assert more('mlx_tools_tool_calls_total{outcome="text"}') == 1
    assert more("mlx_tools_restarts_total") == 0
    assert after['mlx_tools_kv_bytes{tier="memory"}'] > 0


def figures(live: Live) -> dict[str, float]:
    response = live.client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    pairs = (line.rsplit(" ", 1) for line in response.text.splitlines() if line[:1] != "#")
    return {name: float(value) for name, value in pairs}
