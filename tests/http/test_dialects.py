"""One generation in every dialect, read by the official clients over real HTTP.

Rules of this file:
- A dialect is how its official client asks and what it hears, brought to one form; all tests run
  over all of them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from .live import Live, call, serve, tool, user

pytestmark = pytest.mark.mlx

RUN = tool("run", command="string")
NOW = tool("now")


@dataclass
class Told:
    """What a client heard, whatever the dialect."""

    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    end: str = ""
    prompt: int = 0
    completion: int = 0
    fragments: int = field(default=0, compare=False)
    cached: int = field(default=0, compare=False)
    # What the client sends back as the answer, and the ids of the calls in it.
    sent_back: list[Any] = field(default_factory=list, compare=False)
    ids: list[str] = field(default_factory=list, compare=False)


def _openai(live: Live) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0)


def _anthropic(live: Live) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=live.url, api_key="none", max_retries=0)


def ask_chat(live: Live, script: str, *, stream: bool, **fields: Any) -> Told:
    """Ask with OpenAI's client for chat completions."""
    body: dict[str, Any] = {"model": "m", "messages": [user(script)], "tools": [RUN, NOW], **fields}
    heard = 0
    with _openai(live) as client:
        if not stream:
            answer = client.chat.completions.create(**body)
        else:
            usage: Any = {"include_usage": True}
            with client.chat.completions.stream(**body, stream_options=usage) as events:
                for event in events:
                    heard += event.type == "tool_calls.function.arguments.delta"
            answer = events.get_final_completion()
    message, usage = answer.choices[0].message, answer.usage
    return Told(
        message.content or "",
        getattr(message, "reasoning_content", None) or "",
        [(c.function.name, json.loads(c.function.arguments)) for c in message.tool_calls or ()],
        answer.choices[0].finish_reason,
        usage.prompt_tokens,
        usage.completion_tokens,
        heard,
        usage.prompt_tokens_details.cached_tokens,
        [message.to_dict()],
        [c.id for c in message.tool_calls or ()],
    )


def ask_messages(live: Live, script: str, *, stream: bool, **fields: Any) -> Told:
    """Ask with Anthropic's client."""
    tools = [
        {"name": one["function"]["name"], "input_schema": one["function"]["parameters"]}
        for one in (RUN, NOW)
    ]
    body: dict[str, Any] = {
        "model": "m",
        "messages": [user(script)],
        "tools": tools,
        "max_tokens": 5000,
        **fields,
    }
    heard = 0
    with _anthropic(live) as client:
        if not stream:
            answer = client.messages.create(**body)
        else:
            with client.messages.stream(**body) as events:
                for event in events:
                    heard += event.type == "input_json"
                answer = events.get_final_message()
    ends = {"tool_use": "tool_calls", "max_tokens": "length"}
    blocks = answer.content
    # This client keeps what it has heard of a call that was cut; who runs calls looks at the end.
    calls = [block for block in blocks if block.type == "tool_use"]
    whole = [] if answer.stop_reason == "max_tokens" else calls
    return Told(
        "".join(block.text for block in blocks if block.type == "text"),
        "".join(block.thinking for block in blocks if block.type == "thinking"),
        [(block.name, block.input) for block in whole],
        ends.get(answer.stop_reason, "stop"),
        answer.usage.input_tokens + answer.usage.cache_read_input_tokens,
        answer.usage.output_tokens,
        heard,
        answer.usage.cache_read_input_tokens,
        [{"role": "assistant", "content": [block.to_dict() for block in blocks]}],
        [block.id for block in whole],
    )


def ask_responses(live: Live, script: str, *, stream: bool, **fields: Any) -> Told:
    """Ask with OpenAI's client for responses."""
    tools = [{"type": "function", "strict": False, **one["function"]} for one in (RUN, NOW)]
    if limit := fields.pop("max_tokens", None):
        fields["max_output_tokens"] = limit
    body: dict[str, Any] = {"model": "m", "input": [user(script)], "tools": tools, **fields}
    heard = 0
    answer = None
    with _openai(live) as client:
        if not stream:
            answer = client.responses.create(**body)
        else:
            for event in client.responses.create(**body, stream=True):
                heard += event.type == "response.function_call_arguments.delta"
                answer = getattr(event, "response", None) or answer
    assert answer is not None
    calls = [
        (item.name, json.loads(item.arguments))
        for item in answer.output
        if item.type == "function_call"
    ]
    thoughts = [item for item in answer.output if item.type == "reasoning"]
    return Told(
        answer.output_text,
        "".join(part.text for item in thoughts for part in item.content or ()),
        calls,
        "length" if answer.status == "incomplete" else "tool_calls" if calls else "stop",
        answer.usage.input_tokens,
        answer.usage.output_tokens,
        heard,
        answer.usage.input_tokens_details.cached_tokens,
        [item.to_dict() for item in answer.output],
        [item.call_id for item in answer.output if item.type == "function_call"],
    )


Ask = Callable[..., Told]
DIALECTS: dict[str, Ask] = {
    "chat": ask_chat,
    "messages": ask_messages,
    "responses": ask_responses,
}
EACH = pytest.mark.parametrize("dialect", DIALECTS)

ANSWERS: dict[str, tuple[str, dict[str, Any]]] = {
    "a text": ("Just words, in two lines.\nYes.", {}),
    "a call": (call("run", command="ls -la"), {}),
    "a text and two calls": (
        "Let me look.\n" + call("run", command="ls\ncat a") + "\n" + call("now"),
        {},
    ),
    "a text between calls": (call("now") + "\nThen this.\n" + call("now"), {}),
    "a cut text": ("one two three four five six seven", {"max_tokens": 4}),
    "a cut call": (call("run", command="word " * 60), {"max_tokens": 40}),
    "nothing": ("", {}),
    "a tool that is not there": (call("fly", to="Rome"), {}),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_same_answer(name: str, live: Live) -> None:
    """Streamed and whole, one generation is the same text, calls and counts in every dialect."""
    script, fields = ANSWERS[name]
    expected = ask_chat(live, script, stream=False, **fields)

    for dialect, ask in DIALECTS.items():
        for stream in (False, True):
            if expected.end == "length" and (dialect, stream) == ("chat", True):
                continue  # this client raises at a cut answer
            assert ask(live, script, stream=stream, **fields) == expected, (dialect, stream)


@EACH
def test_thoughts(dialect: str, thinker: Live) -> None:
    """A thought is told apart from the answer in every dialect."""
    for stream in (False, True):
        told = DIALECTS[dialect](thinker, "Hm, well.\n[[/think]]\n\nYes.", stream=stream)

        assert (told.reasoning.strip(), told.text, told.end) == ("Hm, well.", "Yes.", "stop")


@EACH
def test_arguments_stream_token_by_token(dialect: str, live: Live) -> None:
    """An argument of 500 tokens leaves in at least 450 pieces."""
    told = DIALECTS[dialect](live, call("run", command="word " * 499 + "end"), stream=True)

    assert told.calls == [("run", {"command": "word " * 499 + "end"})]
    assert told.fragments >= 450


# Errors.


def _raised(ask: Ask, *args: Any, **kwargs: Any) -> Exception:
    with pytest.raises((openai.APIError, anthropic.APIError)) as caught:
        ask(*args, **kwargs)
    return caught.value


@EACH
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_bad_value(dialect: str, stream: bool, live: Live) -> None:
    """A bad value is a BadRequestError that names its field."""
    error = _raised(DIALECTS[dialect], live, "x", stream=stream, extra_body={"temperature": -5})

    assert isinstance(error, openai.BadRequestError | anthropic.BadRequestError)
    assert "temperature must be a number" in error.message


@EACH
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_too_long(dialect: str, stream: bool, live: Live) -> None:
    """A prompt beyond the context is a BadRequestError, in the words that clients look for."""
    error = _raised(DIALECTS[dialect], live, "word " * 9000, stream=stream)

    assert isinstance(error, openai.BadRequestError | anthropic.BadRequestError)
    if dialect == "messages":
        assert "prompt is too long: " in error.message
        assert " tokens > 8192 maximum" in error.message
    else:
        assert isinstance(error, openai.BadRequestError)
        assert error.code == "context_length_exceeded"


@EACH
def test_failure_before_the_first_byte(dialect: str, live: Live) -> None:
    """A model that fails on a whole answer is an InternalServerError; the next one is served."""
    error = _raised(DIALECTS[dialect], live, "[[BOOM]]", stream=False)

    assert isinstance(error, openai.InternalServerError | anthropic.InternalServerError)
    assert DIALECTS[dialect](live, "fine", stream=False).text == "fine"


@EACH
def test_failure_within_a_stream(dialect: str, live: Live) -> None:
    """A model that fails within a stream is an error that the client tells, after what was said."""
    script = "Said before. [[BOOM]]"
    if dialect == "responses":
        told = _last_response(live, script)
        assert told.status == "failed"
        assert "failed on this request" in told.error.message
        assert told.output[0].content[0].text.strip() == "Said before."
    else:
        error = _raised(DIALECTS[dialect], live, script, stream=True)
        assert "failed on this request" in str(error)


def _last_response(live: Live, script: str) -> Any:
    asked: Any = [user(script)]
    with _openai(live) as client:
        last: Any = list(client.responses.create(model="m", input=asked, stream=True))[-1]
    return last.response


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Return a slow server that serves one request at a time, and lets one wait."""
    flags = ("--decode-concurrency", "1", "--prompt-concurrency", "1", "--max-requests", "2")
    with serve(tmp_path_factory.mktemp("narrow"), *flags, step_delay=0.05) as server:
        yield server


def _requests(live: Live) -> int:
    health = live.health()
    return int(health["waiting"] + health["in_flight"])


@EACH
def test_busy(dialect: str, narrow: Live) -> None:
    """A full server answers 503 at once and says when to come back; who is served goes on."""
    ask = DIALECTS[dialect]
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(ask, narrow, "word " * 20, stream=True) for _ in range(2)]
        until = time.monotonic() + 10
        while _requests(narrow) < 2 and time.monotonic() < until:
            time.sleep(0.02)
        error = _raised(ask, narrow, "me too", stream=True)
        answers = [one.result().text for one in running]

    assert isinstance(error, openai.APIStatusError | anthropic.APIStatusError)
    assert error.status_code == 503
    assert error.response.headers["retry-after"].isdecimal()
    assert [answer.split() for answer in answers] == [["word"] * 20] * 2


@pytest.mark.parametrize("path", ["/v1/messages", "/anthropic/messages", "/messages?beta=true"])
def test_places_of_messages(path: str, live: Live) -> None:
    """Anthropic's dialect is found wherever its clients look for it."""
    body = {"model": "m", "max_tokens": 50, "messages": [user("here")]}

    assert live.post(path, body).json()["content"] == [{"type": "text", "text": "here"}]


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/messages/nothing"])
def test_unknown_route(path: str, live: Live) -> None:
    """An unknown route is a 404 in the envelope of the client that asks."""
    assert live.post(path, {}).json()["error"]["type"] == "not_found_error"
    answer = live.post(path, {}, headers={"anthropic-version": "2023-06-01"})
    assert (answer.status_code, answer.json()["type"]) == (404, "error")


def test_unknown_method(live: Live) -> None:
    """A method that no route has is refused on a connection that was used before."""
    assert live.client.get("/health").status_code == 200
    assert live.client.put("/health").status_code == 405
    assert live.client.delete("/health").status_code == 405


# What only one dialect has.


def test_stored_responses(live: Live) -> None:
    """A response is continued by its id, read and forgotten; an unknown one is a clear error."""
    with _openai(live) as client:
        script: Any = [user(call("now") + "[[NEXT]]It is noon.")]
        tools: Any = [{"type": "function", "name": "now", "parameters": None, "strict": False}]
        first = client.responses.create(model="m", input=script, tools=tools)
        made: Any = first.output[0]
        result: Any = [{"type": "function_call_output", "call_id": made.call_id, "output": "12:00"}]
        second = client.responses.create(
            model="m", input=result, tools=tools, previous_response_id=first.id
        )

        assert second.output_text == "It is noon."
        assert second.usage is not None
        assert first.usage is not None
        seen = first.usage.input_tokens + first.usage.output_tokens
        assert second.usage.input_tokens_details.cached_tokens >= seen - 1
        assert client.responses.retrieve(second.id).output_text == "It is noon."
        assert [item.type for item in client.responses.input_items.list(second.id)][-2:] == [
            "function_call",
            "function_call_output",
        ]
        client.responses.delete(second.id)
        with pytest.raises(openai.NotFoundError, match="not found"):
            client.responses.retrieve(second.id)
        with pytest.raises(openai.BadRequestError, match="not found"):
            client.responses.create(model="m", input="x", previous_response_id=second.id)


def test_count_tokens_while_the_model_is_busy(slow: Live) -> None:
    """Tokens are counted, many times at once, while the model works on something else."""
    messages: Any = [user("word " * 100)]
    with _anthropic(slow) as client, ThreadPoolExecutor(12) as pool:
        running = pool.submit(ask_messages, slow, "word " * 60, stream=True)
        count = partial(client.messages.count_tokens, model="m", messages=messages)
        counts = [pool.submit(count) for _ in range(12)]
        numbers = {count.result().input_tokens for count in counts}
        assert not running.done()
        running.result()
        usage = client.messages.create(model="m", max_tokens=1, messages=messages).usage

    assert numbers == {usage.input_tokens + (usage.cache_read_input_tokens or 0)}


def test_ping(slow: Live) -> None:
    """While a long prompt is worked on, a stream of messages says that it is alive."""
    body = {"model": "m", "max_tokens": 5, "stream": True, "messages": [user("word " * 3000)]}
    with slow.client.stream("POST", "/v1/messages", json=body) as response:
        kinds = [line for line in response.iter_lines() if line.startswith("event: ")]

    assert kinds[:2] == ["event: message_start", "event: ping"]
    assert kinds[-1] == "event: message_stop"


def test_a_stream_that_nobody_reads(slow: Live) -> None:
    """A stream whose reader stays and never reads, as behind some proxies, holds up nobody."""
    body = slow.body("word " * 400, stream=True)
    with slow.client.stream("POST", "/v1/chat/completions", json=body) as zombie:
        lines = zombie.iter_lines()
        next(lines)
        for _ in range(3):
            assert ask_messages(slow, "A title", stream=True).text == "A title"
        assert slow.health()["in_flight"] >= 1


def test_models(live: Live) -> None:
    """The model is listed with its context, for OpenAI's, Anthropic's and LM Studio's clients."""
    with _openai(live) as one, _anthropic(live) as other:
        of_openai, of_anthropic = one.models.list().data, other.models.list().data
    of_lm_studio = live.client.get("/v1/api/v0/models").json()["data"]

    assert [model.id for model in of_openai] == [model.id for model in of_anthropic]
    assert of_openai[0].model_extra is not None
    assert of_openai[0].model_extra["context_length"] == 8192
    assert [of_lm_studio[0][key] for key in ("state", "loaded_context_length")] == ["loaded", 8192]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_debug_header(stream: bool, live: Live) -> None:
    """Who asks for it reads in a header what of the prompt is cached, and what was lost."""
    asked = live.body("what " * 400, stream=stream)
    path = "/v1/chat/completions"
    live.post(path, asked, headers={"X-MLX-Tools-Debug": "1"})
    told = live.post(path, asked, headers={"X-MLX-Tools-Debug": "1"}).headers["X-MLX-Tools-Debug"]

    about = json.loads(told)
    assert about["cached_tokens"] >= 256
    assert about["prompt_tokens"] > about["cached_tokens"]
    assert about["loss"] is None


def test_loss_in_the_debug_header(tmp_path: Path) -> None:
    """A conversation whose beginning has changed is told what it lost, where and why."""
    said = {"role": "system", "content": "It is 10:01. " + "Be brief. " * 200}
    with serve(tmp_path, "--no-kv-disk") as server:
        messages = [said, user("Hello.[[NEXT]]Hello again.")]
        body = {"model": "m", "messages": messages}
        answer = server.post("/v1/chat/completions", body).json()["choices"][0]["message"]
        said["content"] = said["content"].replace("10:01", "10:02")
        messages += [answer, {"role": "user", "content": "More."}]
        debug = {"X-MLX-Tools-Debug": "1"}
        told = server.post("/v1/chat/completions", body, headers=debug).headers
        health = server.health()["kv_cache"]

    loss = json.loads(told["X-MLX-Tools-Debug"])["loss"]
    assert "a date, clock or counter in the system prompt" in loss
    assert health["lost_tokens"] > 256
