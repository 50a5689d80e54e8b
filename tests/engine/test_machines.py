"""Two machines that serve one model together: two processes here, joined by mlx's ring.

Rules of this file:
- The model is split by tensors, as mlx-lm does it; rank 0 talks to clients.
- What a test expects is what the model says on one machine.
- `ring` starts the processes itself, to know how each ends; `launched` lets mlx.launch do it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from mlx_tools_server.engine.scripted import write_checkpoint
from mlx_tools_server.jsontext import loads
from mlx_tools_server.messages import Options, ToolChoice, ToolSpec
from mlx_tools_server.templates import read_ours

from ..http.live import Live, call, process, tool
from .checkpoints import write_random
from .running import answer, running

pytestmark = [pytest.mark.mlx, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
PROMPTS = ["hello", "what is a ring? " * 20, "x"]
SHARED = '''

class _Shared(Model):
    """The scripted model, of whose logits each machine has a part."""

    def shard(self, group=None):
        self._group = group

    def __call__(self, inputs, cache=None):
        logits = super().__call__(inputs, cache)
        if self._group is None:
            return logits
        ours = mx.arange(logits.shape[-1]) % self._group.size() == self._group.rank()
        return mx.distributed.all_sum(mx.where(ours, logits, 0.0), group=self._group)

    _group = None


Model = _Shared
'''
CHOICE = ToolSpec(
    "choose",
    "",
    {
        "type": "object",
        "properties": {
            "colour": {"enum": ["red", "green", "blue"]},
            "times": {"type": "integer", "minimum": 1, "maximum": 99},
        },
        "required": ["colour", "times"],
        "additionalProperties": False,
    },
)


@dataclass
class Ring:
    """The processes, where they log, and a client of the first."""

    ranks: list[subprocess.Popen[str]]
    folder: Path
    client: httpx.Client

    def ask(self, prompt: str, **fields: Any) -> dict[str, Any]:
        body = {"model": "m", "messages": [{"role": "user", "content": prompt}], **fields}
        response = self.client.post("/v1/chat/completions", json=body)
        assert response.status_code == 200, response.text
        choice: dict[str, Any] = response.json()["choices"][0]
        return choice

    def log(self, rank: int) -> str:
        return (self.folder / f"rank{rank}.log").read_text()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as each:
        return int(each.getsockname()[1])


@contextmanager
def started(folder: Path, model: Path, flags: Sequence[Sequence[str]]) -> Iterator[Ring]:
    """Run a process for each machine, with flags of its own; the client has no address yet."""
    hosts = folder / "hosts.json"
    hosts.write_text(json.dumps([[f"127.0.0.1:{free_port()}"] for _ in flags]))
    command = [sys.executable, "-m", "mlx_tools_server", "--model-path", str(model)]
    command += ["--port", "0", "--no-kv-disk"]
    ranks = []
    for rank, own in enumerate(flags):
        with (folder / f"rank{rank}.log").open("w") as log:
            ranks.append(
                subprocess.Popen(
                    [*command, *own],
                    env={**os.environ, "MLX_RANK": str(rank), "MLX_HOSTFILE": str(hosts)},
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                )
            )
    try:
        with httpx.Client(timeout=60.0) as client:
            yield Ring(ranks, folder, client)
    finally:
        for each in ranks:
            each.kill()
            with each:
                pass


@pytest.fixture
def ring(tmp_path: Path) -> Iterator[Ring]:
    """Return two processes that serve a tiny Qwen3 together."""
    with started(tmp_path, write_random(tmp_path / "model"), [[], []]) as made:
        assert made.ranks[0].stdout is not None
        found = (re.search(r"(http://\S+?)/v1", line) for line in made.ranks[0].stdout)
        made.client.base_url = httpx.URL(next(match[1] for match in found if match))
        yield made


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Return a scripted model that mlx.launch serves with two processes."""
    folder = tmp_path_factory.mktemp("launched")
    write_checkpoint(folder / "model", chat_template=read_ours("qwen3_coder"))
    source = (folder / "model" / "model.py").read_text()
    (folder / "model" / "model.py").write_text(source + SHARED)
    launch = str(Path(sys.executable).with_name("mlx.launch"))
    command = [launch, "-n", "2", "--backend", "ring", "--starting-port", str(free_port())]
    command += ["--cwd", str(ROOT), "--", sys.executable, "-m", "mlx_tools_server"]
    command += ["--model-path", str(folder / "model"), "--trust-remote-code", "--port", "0"]
    with process(command, folder) as live:
        yield live
        ranks = psutil.Process(live.process.pid).children(recursive=True)
        ranks[0].terminate()  # the other one ends with it, and then mlx.launch
        psutil.wait_procs(ranks, 20)
        live.process.wait(20)


def test_two_machines(ring: Ring, tmp_path: Path) -> None:
    """Together they say what one says, survive a client that leaves, and end together."""
    with running(tmp_path / "model") as engine:
        short = Options(max_tokens=12)
        expected = [answer(engine, prompt, options=short).joined("text") for prompt in PROMPTS]

    said = [ring.ask(prompt, max_tokens=12)["message"]["content"] for prompt in PROMPTS]
    with ThreadPoolExecutor(3) as pool:
        at_once = list(
            pool.map(lambda p: ring.ask(p, max_tokens=12)["message"]["content"], PROMPTS)
        )
    assert expected == said == at_once

    word = expected[0][5:9]
    stopped = ring.ask(PROMPTS[0], max_tokens=12, stop=[word])
    assert stopped["finish_reason"] == "stop"
    assert stopped["message"]["content"] == expected[0].partition(word)[0]

    tokenizer = json.loads((tmp_path / "model" / "tokenizer.json").read_text("utf-8"))
    endless = {str(token["id"]): -100 for token in tokenizer["added_tokens"]}
    long = {"messages": [{"role": "user", "content": "long"}], "logit_bias": endless}
    with pytest.raises(httpx.TimeoutException):
        ring.client.post("/v1/chat/completions", json=long, timeout=0.1)
    assert ring.ask(PROMPTS[0], max_tokens=12)["message"]["content"] == expected[0]

    ring.ranks[0].send_signal(signal.SIGTERM)
    assert [each.wait(60) for each in ring.ranks] == [0, 0]
    assert "lost" not in ring.log(0) + ring.log(1)


def test_the_same_constrained_call(ring: Ring, tmp_path: Path) -> None:
    """A call that a model is made to write is the one that it writes on one machine."""
    with running(tmp_path / "model") as engine:
        wanted = answer(
            engine,
            "x",
            tools=(CHOICE,),
            tool_choice=ToolChoice("required"),
            options=Options(max_tokens=200),
        )

    said = ring.ask(
        "x",
        tools=[
            {"type": "function", "function": {"name": "choose", "parameters": CHOICE.parameters}}
        ],
        tool_choice="required",
        max_tokens=200,
    )["message"]["tool_calls"]

    assert [(one.name, loads(one.text)) for one in wanted.calls] == [
        (one["function"]["name"], loads(one["function"]["arguments"])) for one in said
    ]
    assert {one["function"]["name"] for one in said} == {"choose"}


LOSSES = [
    ("idle, the other", False, 1, signal.SIGKILL),
    ("idle, the first", False, 0, signal.SIGKILL),
    ("streaming, the other", True, 1, signal.SIGKILL),
    ("streaming, the first", True, 0, signal.SIGKILL),
    ("streaming, one that stands still", True, 1, signal.SIGSTOP),
]


@pytest.mark.parametrize(
    ("streams", "lost", "how"), [case[1:] for case in LOSSES], ids=[case[0] for case in LOSSES]
)
def test_a_machine_that_is_lost(
    ring: Ring, tmp_path: Path, streams: bool, lost: int, how: signal.Signals
) -> None:
    """When a machine is gone, the streams are told, and the others end with code 1 and say why."""
    error: dict[str, Any] | None = None
    if streams:
        end = json.loads((tmp_path / "model" / "config.json").read_text())["eos_token_id"]
        body = {
            "messages": [{"role": "user", "content": "x"}],
            "stream": True,
            "logit_bias": {str(end): -100},
        }
        with (
            suppress(httpx.RemoteProtocolError, httpx.ReadError),
            ring.client.stream("POST", "/v1/chat/completions", json=body) as response,
        ):
            for count, line in enumerate(response.iter_lines()):
                if count == 20:
                    ring.ranks[lost].send_signal(how)
                if '"error"' in line:
                    error = json.loads(line.removeprefix("data: "))["error"]
    else:
        ring.ranks[lost].send_signal(how)

    assert ring.ranks[1 - lost].wait(60) == 1
    assert ring.log(1 - lost).count(f"Machine {lost} of the 2 that serve this model is lost") == 1
    assert "Traceback" not in ring.log(1 - lost)
    if streams and lost == 1:
        assert error is not None
        assert "is lost" in error["message"]


def test_settings_that_differ(tmp_path: Path) -> None:
    """Machines that would not do the same steps don't start, and each says what differs."""
    model = write_random(tmp_path / "model")
    with started(tmp_path, model, [["--kv-bits", "8"], ["--prefill-step-size", "64"]]) as ring:
        assert [each.wait(120) for each in ring.ranks] == [2, 2]

    for rank in range(2):
        assert "The machines differ in: prefill-step-size, kv-bits." in ring.log(rank)


def test_a_model_that_does_not_split(tmp_path: Path) -> None:
    """Five heads on two machines are refused at start, with the reason."""
    model = ROOT / "mlx_tools_server" / "demo_model"
    with started(tmp_path, model, [[], []]) as ring:
        assert [each.wait(120) for each in ring.ranks] == [2, 2]

    for rank in range(2):
        assert "can't be split over 2 machines" in ring.log(rank)
        assert "Traceback" not in ring.log(rank)


def test_streams_and_history(launched: Live) -> None:
    """Calls stream, and the next prompt goes on after the tokens that were generated."""
    text = call("write", path="a.txt", text="one\n  two\n" * 20)
    tools = [tool("write", path="string", text="string")]
    heard = launched.stream(
        f"Now.\n{text}", tools=tools, stream_options={"include_usage": True}, temperature=0
    )

    assert heard.error is None
    assert heard.usage is not None
    assert heard.finish == "tool_calls"
    assert loads(heard.calls[0]["text"]) == {"path": "a.txt", "text": "one\n  two\n" * 20}
    assert heard.fragments[0] > 20

    first = launched.body(f"Now.\n{text}")["messages"]
    made = heard.calls[0]
    function = {"name": made["name"], "arguments": made["text"]}
    turn = {
        "role": "assistant",
        "content": heard.content,
        "tool_calls": [{"id": made["id"], "type": "function", "function": function}],
    }
    result = {"role": "tool", "tool_call_id": made["id"], "content": "done"}
    again = launched.post(
        "/v1/chat/completions", {"messages": [*first, turn, result], "tools": tools}
    ).json()

    whole = heard.usage["prompt_tokens"] + heard.usage["completion_tokens"]
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] >= whole - 1


def test_messages(launched: Live) -> None:
    """Anthropic's dialect streams calls too."""
    text = call("write", path="a.txt", text="x" * 200)
    schema = tool("write", path="string", text="string")["function"]
    body = launched.body(text, max_tokens=500, stream=True)
    body["tools"] = [{"name": "write", "input_schema": schema["parameters"]}]
    with launched.client.stream("POST", "/v1/messages", json=body) as response:
        lines = [line for line in response.iter_lines() if line.startswith("data: ")]
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines]

    deltas = [chunk["delta"] for chunk in chunks if chunk["type"] == "content_block_delta"]
    parts = [delta["partial_json"] for delta in deltas if delta["type"] == "input_json_delta"]
    assert loads("".join(parts)) == {"path": "a.txt", "text": "x" * 200}
    assert len(parts) > 5
    assert chunks[-1]["type"] == "message_stop"


def test_constrained(launched: Live) -> None:
    """An argument of the wrong type comes out as the type of its schema."""
    text = f"[[tool_call]]\n{call('run', times='three').partition(chr(10))[2]}"
    text = text.replace("</tool_call>", "[[/tool_call]]")

    before = launched.health()["grammars"]["tokens"]
    (made,) = launched.chat(text, tools=[tool("run", times="integer")], max_tokens=200)["choices"][
        0
    ]["message"]["tool_calls"]

    assert type(loads(made["function"]["arguments"])["times"]) is int
    assert launched.health()["grammars"]["tokens"] > before


def test_a_client_that_leaves(launched: Live) -> None:
    """What nobody reads any more ends on all machines, and the next request is answered."""
    body = launched.body("[[SLOW]]" + "word " * 2000, stream=True)
    with launched.client.stream("POST", "/v1/chat/completions", json=body) as response:
        next(response.iter_lines())

    assert launched.wait_idle()
    assert launched.chat("fine")["choices"][0]["message"]["content"] == "fine"
