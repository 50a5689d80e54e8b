"""When something breaks or somebody leaves: the others go on, and the client is told."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from .live import Live, call, tool

pytestmark = pytest.mark.mlx

RUN = tool("run_cmd", cmd="string")
WORDS = "one two three four five six seven eight nine ten " * 8


def test_one_failing_forward_pass(live: Live) -> None:
    """Where one answer makes the model raise, it alone fails, after what it had said."""
    scripts = [f"{number}: {WORDS}" for number in range(5)]

    with ThreadPoolExecutor(6) as pool:
        others = [pool.submit(live.stream, script) for script in scripts]
        broken = pool.submit(live.stream, f"{WORDS}and then[[BOOM]]never").result()
        answers = [other.result() for other in others]

    assert [answer.content for answer in answers] == scripts
    assert all(answer.finish == "stop" and answer.done for answer in answers)
    assert broken.error is not None
    assert "scripted failure" in broken.error["message"]
    assert broken.done
    assert broken.content
    assert f"{WORDS}and then".startswith(broken.content)
    assert live.chat("still here")["choices"][0]["message"]["content"] == "still here"


def test_failure_inside_a_call(live: Live) -> None:
    """A call that a failure cuts is not completed, and the whole answer is an error."""
    script = call("run_cmd", cmd="echo some more words [[BOOM]]x")

    heard = live.stream(script, tools=[RUN])
    whole = live.post("/v1/chat/completions", live.body(script, tools=[RUN]))

    assert heard.error is not None
    assert heard.finish is None
    with pytest.raises(ValueError):  # noqa: PT011  JSON's own error
        json.loads(heard.calls[0]["text"])
    assert whole.status_code == 500
    assert whole.json()["error"]["code"] == "generation_failed"


def test_several_failures_at_once(live: Live) -> None:
    """Several failing requests fail one by one; the others still get their answers."""
    scripts = [f"{n} {WORDS}" + ("[[BOOM]]" if n % 2 else "") for n in range(8)]

    with ThreadPoolExecutor(8) as pool:
        heard = list(pool.map(live.stream, scripts))

    for number, answer in enumerate(heard):
        assert (answer.error is not None) == bool(number % 2)
        assert number % 2 or answer.content == scripts[number]


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_client_that_leaves(stream: bool, slow: Live) -> None:
    """A generation stops soon after its client has gone, streaming or not."""
    body = slow.body("word " * 2000, stream=stream)

    if stream:
        with slow.client.stream("POST", "/v1/chat/completions", json=body) as response:
            next(response.iter_lines())
    else:
        with pytest.raises(httpx.TimeoutException):
            slow.post("/v1/chat/completions", body, timeout=1.0)

    assert slow.wait_idle(6.0)


def test_client_that_leaves_during_prefill(slow: Live) -> None:
    """A long prompt whose client has gone is dropped before it is processed to its end."""
    body = slow.body("never")
    body["messages"].insert(0, {"role": "user", "content": "word " * 20_000})
    began = time.monotonic()

    with pytest.raises(httpx.TimeoutException):
        slow.post("/v1/chat/completions", body, timeout=1.0)

    assert slow.wait_idle(8.0)
    # The whole prompt would take 30 seconds.
    assert time.monotonic() - began < 15


@pytest.mark.slow
def test_silence_is_filled(slow: Live) -> None:
    """The headers come at once, and comments while the prompt is processed."""
    body = slow.body("at last", stream=True)
    body["messages"].insert(0, {"role": "user", "content": "word " * 5000})
    comments, lines = 0, []

    with slow.client.stream("POST", "/v1/chat/completions", json=body) as response:
        for line in response.iter_lines():
            comments += line.startswith(":")
            lines.append(line)

    assert comments >= 2
    assert "at last" in "".join(
        json.loads(line[6:])["choices"][0]["delta"].get("content", "")
        for line in lines
        if line.startswith("data: {")
    )


def test_held_value_is_filled(slow: Live) -> None:
    """Comments come as well while the model writes a value that can't be passed on yet."""
    tags = tool("tag", values="array")
    items = json.dumps([f"item {n}" for n in range(20)])

    heard = slow.stream(call("tag", values=items), tools=[tags])

    assert json.loads(heard.calls[0]["text"]) == {"values": json.loads(items)}
    assert heard.comments >= 1


def test_new_request_while_others_decode(slow: Live) -> None:
    """A new request is taken in while others decode, and all end well."""
    with ThreadPoolExecutor(2) as pool:
        long = pool.submit(slow.stream, "word " * 60)
        time.sleep(0.5)
        assert slow.stream("quick").content == "quick"
        assert not long.done()
        assert long.result().content == "word " * 60
