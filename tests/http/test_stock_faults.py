"""What ends, hangs or misleads stock mlx-lm, sent to this server: the table in docs/reliability.md.

Rules of this file:
- A line of that table has its row here, unless another test shows it; then the table names that.
- After each request a plain one is answered rightly, and the server is well.
"""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from .live import Live, call, serve, tool, user

mlx = pytest.mark.mlx

ROOT = Path(__file__).parents[2]
CHAT, TEXT, MESSAGES, RESPONSES = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/messages",
    "/v1/responses",
)
LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


def well(live: Live) -> bool:
    """Return whether a plain request is answered rightly, and the server says that it is well."""
    content = live.chat("fine")["choices"][0]["message"]["content"]
    return bool(content == "fine" and live.health()["status"] == "ok")


# Where it is sent, what the body has beside a plain message, and the field that is named.
REFUSED: dict[str, tuple[str, dict[str, Any], str | None]] = {
    "a number as stop string": (CHAT, {"stop": 5}, "stop"),
    "a number among the stop strings": (CHAT, {"stop": [1]}, "stop"),
    "a null among the stop strings": (CHAT, {"stop": [None]}, "stop"),
    "an empty prompt": (TEXT, {"prompt": ""}, "prompt"),
    "two prompts": (TEXT, {"prompt": ["a", "b"]}, "prompt"),
    "xtc_threshold above a half": (
        CHAT,
        {"temperature": 1.0, "xtc_probability": 1.0, "xtc_threshold": 0.9},
        "xtc_threshold",
    ),
    "a bias of token 2**70": (CHAT, {"logit_bias": {str(2**70): 5}}, "logit_bias"),
    "a bias of token 99999999": (CHAT, {"logit_bias": {"99999999": 5}}, "logit_bias"),
    "a bias of token -99999999": (CHAT, {"logit_bias": {"-99999999": 5}}, "logit_bias"),
    "a bias of token 2**40": (CHAT, {"logit_bias": {str(2**40): 5}}, "logit_bias"),
    "a penalty over 2**70 tokens": (
        CHAT,
        {"repetition_penalty": 1.1, "repetition_context_size": 2**70},
        "repetition_context_size",
    ),
    "a temperature of 10**400": (CHAT, {"temperature": 10**400}, "temperature"),
    "an empty template": (
        CHAT,
        {"chat_template_kwargs": {"chat_template": ""}},
        "chat_template_kwargs.chat_template",
    ),
    "a template that loops": (
        CHAT,
        {"chat_template_kwargs": {"chat_template": LOOPS}},
        "chat_template_kwargs.chat_template",
    ),
    "a seed of 2**70": (CHAT, {"seed": 2**70}, "seed"),
    "max_tokens of 10**30": (CHAT, {"max_tokens": 10**30}, "max_tokens"),
    "max_tokens as true": (CHAT, {"max_tokens": True}, "max_tokens"),
    "tools as text": (CHAT, {"tools": "x"}, "tools"),
    "tools as an object": (CHAT, {"tools": {"a": 1}}, "tools"),
    "tool_choice as a number": (CHAT, {"tool_choice": 5}, "tool_choice"),
}


@mlx
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, stream: bool, live: Live) -> None:
    """What ends or misleads stock's process is a 400 that names the field, and harms nobody."""
    path, change, param = REFUSED[name]
    body = {"model": "m", "messages": [user("never")], **change, "stream": stream}

    response = live.post(path, body)

    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert well(live)


RAW_NUMBERS = ("NaN", "Infinity", "-Infinity", "1e999")


@mlx
@pytest.mark.parametrize("number", RAW_NUMBERS)
def test_no_number(number: str, live: Live) -> None:
    """What is no finite number is a 400."""
    body = json.dumps(live.body("never", temperature=0.5)).replace("0.5", number)

    assert live.client.post(CHAT, content=body).status_code == 400
    assert well(live)


def made(arguments: str) -> list[dict[str, Any]]:
    """Return a conversation in which the model made a call with these arguments."""
    function = {"name": "f", "arguments": arguments}
    calls = [{"id": "c1", "type": "function", "function": function}]
    return [
        user("one[[NEXT]]fine"),
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c1", "content": "done"},
    ]


NEW_PART = {"type": "new", "text": user("fine")["content"]}
ANSWERED: dict[str, dict[str, Any]] = {
    "top_k of a million": {"temperature": 1.0, "top_k": 1_000_000},
    "a seed below zero": {"seed": -1, "temperature": 1.0, "top_p": 0.5},
    "xtc_probability as a whole number": {"xtc_probability": 0},
    "nulls": dict.fromkeys(("max_tokens", "temperature", "top_p", "stream", "logprobs")),
    "a tool without parameters": {"tools": [{"type": "function", "function": {"name": "f"}}]},
    "a call with empty arguments": {"messages": made("")},
    "a call whose arguments were cut": {"messages": made('{"a": "b')},
    "a part of an unknown kind": {"messages": [{"role": "user", "content": [NEW_PART]}]},
    "another model's name": {"model": "no/such-model"},
    "a path as the model": {"model": "/etc"},
    "an adapter": {"adapters": "/etc", "draft_model": "/etc"},
}  # fmt: skip


@mlx
@pytest.mark.parametrize("name", ANSWERED)
def test_answered(name: str, live: Live) -> None:
    """What stock refuses, drops or looks for on disk is answered."""
    response = live.post(CHAT, {"model": "m", "messages": [user("fine")], **ANSWERED[name]})

    assert response.status_code == 200, response.text
    assert response.json()["choices"][0]["message"]["content"] == "fine"
    assert well(live)


@mlx
@pytest.mark.parametrize("tokens", [1, 3, 50])
def test_prompt_that_is_cached_whole(tokens: int, live: Live) -> None:
    """A prompt that is another one with its answer, so that all of it is cached, is continued."""
    said = "abc def ghi jkl mno"
    prompt = f"<|im_start|>user\n{user(said)['content']}<|im_end|>\n<|im_start|>assistant\n"
    body = {"model": "m", "prompt": prompt, "max_tokens": tokens}
    first = live.post(TEXT, body).json()["choices"][0]["text"]
    ended = "<|im_end|>" if first == said else ""

    body |= {"prompt": prompt + first + ended, "max_tokens": 50}
    second = live.post(TEXT, body)

    assert second.status_code == 200
    if not ended:
        assert first + second.json()["choices"][0]["text"] == said
    assert well(live)


@mlx
def test_stream_options_without_usage(live: Live) -> None:
    """A stream whose options are empty has its end."""
    heard = live.stream("fine", stream_options={})

    assert (heard.content, heard.finish, heard.done) == ("fine", "stop", True)


@mlx
def test_usage_chunk(live: Live) -> None:
    """The chunk with the usage is of the same kind as the others, in both of OpenAI's routes."""
    options: dict[str, Any] = {"stream_options": {"include_usage": True}}
    chat = live.stream("fine", **options)
    text = live.stream("", TEXT, prompt=user("fine")["content"], max_tokens=3, **options)

    assert {chunk["object"] for chunk in chat.chunks} == {"chat.completion.chunk"}
    assert {chunk["object"] for chunk in text.chunks} == {"text_completion"}
    assert chat.usage is not None
    assert text.usage is not None


@mlx
def test_models(live: Live) -> None:
    """The list of models shows a name and no path, and other routes are not taken for it."""
    assert [model["id"] for model in live.client.get("/v1/models").json()["data"]] == ["model"]
    assert live.client.get("/v1/modelsXYZ").status_code == 404


@mlx
def test_negative_length(live: Live) -> None:
    """A length below zero is a 400 at once, not a wait for ever."""
    host, port = live.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        head = f"POST {CHAT} HTTP/1.1\r\nHost: {host}\r\nContent-Length: -1\r\n\r\n{{}}"
        connection.sendall(head.encode())
        answer = connection.recv(65536).decode()

    assert answer.startswith("HTTP/1.1 400 ")
    assert well(live)


@mlx
@pytest.mark.slow
def test_large_prompt(live: Live) -> None:
    """While a prompt of 26 MB is looked at and refused, others get their answers."""
    messages = [{"role": "user", "content": "word and more " * 1_950_000}]
    body = json.dumps({"model": "m", "messages": messages}).encode()
    between = 0
    with ThreadPoolExecutor(1) as pool:
        large = pool.submit(httpx.post, f"{live.url}{CHAT}", content=body, timeout=120)
        while not large.done():
            assert well(live)
            between += 1

    assert large.result().json()["error"]["code"] == "context_length_exceeded"
    assert between >= 2


# URLs.


@pytest.fixture
def inner() -> Iterator[tuple[str, list[bool]]]:
    """Return the URL of something else on this machine, and what grows when somebody connects."""
    heard: list[bool] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def listen() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                heard.append(True)
                connection.close()

        threading.Thread(target=listen, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/secret.png", heard
        listener.shutdown(socket.SHUT_RDWR)


def with_image(path: str, url: str) -> dict[str, Any]:
    """Return a body of the dialect of `path` that has an image in a message."""
    text = user("never")["content"]
    body: dict[str, Any] = {"model": "m", "max_tokens": 5}
    if path == CHAT:
        part: dict[str, Any] = {"type": "image_url", "image_url": {"url": url}}
        parts = [part, {"type": "text", "text": text}]
        return {**body, "messages": [{"role": "user", "content": parts}]}
    if path == MESSAGES:
        part = {"type": "image", "source": {"type": "url", "url": url}}
        parts = [part, {"type": "text", "text": text}]
        return {**body, "messages": [{"role": "user", "content": parts}]}
    parts = [{"type": "input_image", "image_url": url}, {"type": "input_text", "text": text}]
    return {"model": "m", "input": [{"role": "user", "content": parts}]}


@mlx
@pytest.mark.parametrize("kind", ["http", "file", "data"])
@pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES])
def test_image(path: str, kind: str, live: Live, inner: tuple[str, list[bool]]) -> None:
    """The URL of an image is not followed, whatever it names; the answer says what to send."""
    urls = {
        "http": inner[0],
        "file": "file:///etc/hostname",
        "data": "data:image/png;base64,iVBORw0KGgo=",
    }

    response = live.post(path, with_image(path, urls[kind]))

    assert response.status_code == 400
    assert "reads text only" in response.json()["error"]["message"]
    assert inner[1] == []
    assert well(live)


# Calls.

TOOLS = [
    {"type": "function", "function": {"name": "f", "parameters": {
        "type": "object",
        "properties": {
            "s": {"type": "string"},
            "i": {"type": "integer"},
            "b": {"type": "boolean"},
            "u": {"type": ["string", "null"]},
        },
    }}},
]  # fmt: skip
ONE = call("f", s="x")
INNER = ONE.removeprefix("<tool_call>\n").removesuffix("\n</tool_call>")

# What the model says, the arguments of the calls that come of it, and the text beside them.
CALLS: dict[str, tuple[str, list[dict[str, Any]], str]] = {
    "two calls": (f"{ONE}\n{ONE}", [{"s": "x"}] * 2, ""),
    "two functions in one block": (
        f"<tool_call>\n{INNER}\n{INNER.replace('x', 'y')}\n</tool_call>",
        [{"s": "x"}, {"s": "y"}],
        "",
    ),
    "no closer of the function": (ONE.replace("</function>\n", ""), [{"s": "x"}], ""),
    "no call in the block": (
        "<tool_call>\ngarbage\n</tool_call>",
        [],
        "<tool_call>\ngarbage\n</tool_call>",
    ),
    "JSON in the block": (
        '<tool_call>\n{"name": "f", "arguments": {"s": "x"}}\n</tool_call>',
        [{"s": "x"}],
        "",
    ),
    "empty lines at the end of the block": (
        ONE.replace("\n</tool_call>", "\n\n\n</tool_call>"),
        [{"s": "x"}],
        "",
    ),
    "a word for an integer": (call("f", i="three"), [{"i": "three"}], ""),
    "an integer with a large exponent": (call("f", i="1e999"), [{"i": 10**999}], ""),
    "an integer with a larger one": (call("f", i="1e99999"), [{"i": "1e99999"}], ""),
    "an infinite integer": (call("f", i="inf"), [{"i": "inf"}], ""),
    "an integer that no float holds": (call("f", i="9007199254740993"), [{"i": 2**53 + 1}], ""),
    "the text null": (call("f", s="null"), [{"s": "null"}], ""),
    "digits where text or null may be": (call("f", u="123"), [{"u": "123"}], ""),
    "1 for a boolean": (call("f", b="1"), [{"b": "1"}], ""),
    "the closer of a parameter in a value": (
        call("f", s="a </parameter> b"),
        [{"s": "a </parameter> b"}],
        "",
    ),
    "the closer of the block in a value": (
        call("f", s="a </tool_call> b"),
        [{"s": "a </tool_call> b"}],
        "",
    ),
    "no opener of the block": (f"{INNER}\n</tool_call>", [{"s": "x"}], ""),
    "a < at the end": ("It is a <", [], "It is a <"),
}


@pytest.fixture(scope="module")
def free(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Return a server whose model may write its calls as badly as it likes."""
    folder = tmp_path_factory.mktemp("free")
    with serve(folder, "--constrain", "off", "--no-kv-disk") as server:
        yield server


@mlx
@pytest.mark.parametrize("name", CALLS)
def test_call(name: str, free: Live) -> None:
    """A call that stock loses, cuts or changes comes whole, streamed or not."""
    script, calls, text = CALLS[name]

    heard = free.stream(script, tools=TOOLS)
    choice = free.chat(script, tools=TOOLS)["choices"][0]

    told = [json.loads(c["function"]["arguments"]) for c in choice["message"].get("tool_calls", ())]
    assert told == [json.loads(one["text"]) for one in heard.calls] == calls
    assert (choice["message"]["content"] or "") == heard.content == text
    assert choice["finish_reason"] == heard.finish == ("tool_calls" if calls else "stop")


@mlx
def test_call_at_the_limit(free: Live) -> None:
    """A call that the limit of tokens cuts is not handed on as whole, and the reason is told."""
    script = call("f", s="word " * 60)

    choice = free.chat(script, tools=TOOLS, max_tokens=30)["choices"][0]

    assert choice["finish_reason"] == "length"
    assert "tool_calls" not in choice["message"]


@mlx
def test_unasked_call(free: Live) -> None:
    """A call where no tool is on offer is text."""
    choice = free.chat(ONE)["choices"][0]

    assert (choice["message"]["content"], choice["finish_reason"]) == (ONE, "stop")


@mlx
def test_unknown_tool(free: Live) -> None:
    """A call of a tool that is not on offer is handed on: the client tells the model so."""
    choice = free.chat(ONE.replace("=f>", "=g>"), tools=[tool("f", s="string")])["choices"][0]

    assert choice["message"]["tool_calls"][0]["function"]["name"] == "g"


# The table.

NAMED = re.compile(r"`([\w/]+\.py)::(\w+)(?:\[([^\]`]+)\])?`")


def test_table() -> None:
    """Each test that docs/reliability.md names exists, with the row that it names."""
    page = (ROOT / "docs" / "reliability.md").read_text("utf-8")
    named = NAMED.findall(page)

    assert len(named) > 60
    assert "::" not in NAMED.sub("", page), "a test is named in another way"
    for file, name, row in named:
        code = (ROOT / "tests" / file).read_text("utf-8")
        assert f"def {name}(" in code, f"{file}::{name}"
        assert f'"{row}"' in code or not row, f"{file}::{name}[{row}]"


def test_rows_of_the_table() -> None:
    """Each line of the table says what is sent, what comes of it there and here, and its test."""
    page, _, _ = (ROOT / "docs" / "reliability.md").read_text("utf-8").partition("## Figures")
    lines = [line for line in page.splitlines() if line.startswith("|") and "---" not in line]

    assert len(lines) > 60
    for line in lines:
        cells = [cell.strip() for cell in line.replace(r"\|", "").strip("|").split("|")]
        assert len(cells) == 4, line
        assert all(cells), line
