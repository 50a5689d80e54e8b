"""`bench` as a user calls it: its names, its complaints, and servers that it measures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlx_tools_server.bench import BENCHMARKS, run
from mlx_tools_server.cli import main
from mlx_tools_server.errors import StartupError

from .answering import answering, call_stream

SMALL = ("--scale", "0.01", "--max-tokens", "8")
REQUESTS = 20


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_listing(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Without a name all benchmarks are listed, a line each."""
    assert main(["bench", *arguments]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == list(BENCHMARKS)
    assert all(len(line) < 100 for line in lines)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each benchmark says what it does and takes."""
    with pytest.raises(SystemExit) as left:
        run([name, "--help"])

    assert left.value.code == 0
    assert f"usage: mlx-tools-server bench {name}" in capsys.readouterr().out


URL = "http://127.0.0.1:1"
ERRORS = [
    pytest.param(["tuns"], "Did you mean turns", id="name"),
    pytest.param(["parser", "x"], "nrecognized arguments: x", id="no options"),
    pytest.param(["grammar", "none.json"], "There is no file none.json", id="no tokenizer"),
    pytest.param(["kv", "--folder", "none"], "There is no folder none", id="no folder"),
    pytest.param(["kv", "--blocks", "0"], "invalid whole number from 1 on", id="count"),
    pytest.param(["turns", "localhost:80"], "is no address of a server", id="address"),
    pytest.param(["turns", "http://[x"], "is no address of a server", id="odd address"),
    pytest.param(["turns", URL], "does not answer", id="nobody there"),
    pytest.param(["turns", URL, "--scale", "0"], "invalid number above 0", id="scale"),
    pytest.param(["turns", URL, "--json", "no/x.json"], "can't be written", id="no such folder"),
    pytest.param(["turns", URL, "--plot", "x.gif"], ".svg or .png", id="picture"),
    pytest.param(["compare"], "arguments are required", id="no servers"),
    pytest.param(["compare", URL], "does not name a server", id="no name"),
    pytest.param(["compare", f"a={URL}#x=1"], "There are dialect=", id="extra"),
    pytest.param(["compare", f"a={URL}#dialect=x"], "There are dialect=", id="dialect"),
    pytest.param(["compare", f"a={URL}", f"a={URL}"], "have one name", id="same name"),
]


@pytest.mark.parametrize(("arguments", "message"), ERRORS)
def test_errors(arguments: list[str], message: str) -> None:
    """What can be mended is told in one line, before anything is measured."""
    with pytest.raises(StartupError) as raised:
        run(arguments)

    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_without_matplotlib() -> None:
    """Where matplotlib is missing, who wants a picture reads how to get it."""
    code = (
        "import sys\n"
        "sys.modules['matplotlib'] = None\n"
        "from mlx_tools_server.cli import main\n"
        f"sys.exit(main(['bench', 'turns', {URL!r}, '--plot', 'x.svg']))\n"
    )

    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )

    assert result.returncode == 2
    assert "pip install 'mlx-tools-server[plot]'" in result.stderr
    assert result.stderr.count("\n") == 1


def measured(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    """Run a benchmark and return its document."""
    path = tmp_path / "out.json"
    assert run([*arguments, *SMALL, "--json", str(path)]) == 0
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def test_turns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each turn has its figures, and the answers go back with the next requests."""
    with answering(call_stream(100, 60)) as server:
        document = measured(tmp_path, "turns", f"{server.url}/v1/", "--api-key", "k")

    row = document["rows"][1]
    assert len(document["rows"]) == len(server.bodies) == REQUESTS
    assert (row["calls"], row["valid_calls"], row["argument_deltas"]) == (1, 1, 2)
    assert (row["prompt_tokens"], row["cached_tokens"], row["new_tokens"]) == (100, 60, -4)
    assert row["finish"] == "tool_calls"
    assert document["summary"]["errors"] == 0
    assert document["servers"][0]["model"] == "tiny"
    assert document["servers"][0]["version"] == "7"
    assert server.headers[0]["Authorization"] == "Bearer k"
    assert "k" not in document["servers"][0].values()
    assert server.bodies[1]["messages"][2]["tool_calls"][0]["id"] == "c1"
    assert server.bodies[1]["messages"][3]["tool_call_id"] == "c1"
    assert "tool_calls" in capsys.readouterr().out


FAULTS = [
    pytest.param((500, '{"error": {"message": "no memory"}}'), "HTTP 500: no memory", id="status"),
    pytest.param((404, "<html>"), "HTTP 404: <html>", id="page"),
    pytest.param(call_stream(1, 0)[:2], "The stream was cut", id="cut"),
    pytest.param([], "The stream was cut", id="nothing"),
    pytest.param((200, ""), "The stream was cut", id="empty body"),
    pytest.param(None, "RemoteDisconnected", id="hung up"),
]


@pytest.mark.parametrize(("answer", "error"), FAULTS)
def test_faults_are_rows(answer: Any, error: str, tmp_path: Path) -> None:
    """A server's error is a row, and the conversation goes on behind it."""
    with answering(call_stream(9, 0), answer) as server:
        document = measured(tmp_path, "turns", server.url)

    rows = document["rows"]
    assert len(rows) == REQUESTS
    assert rows[0]["error"] is None
    assert rows[1]["error"].startswith(error)
    assert document["summary"]["errors"] == REQUESTS // 2


def test_streams_and_repeats(tmp_path: Path) -> None:
    """Each stream of each repeat plays all requests."""
    with answering(call_stream(9, 0)) as server:
        document = measured(tmp_path, "turns", server.url, "--streams", "2", "--repeats", "2")

    assert len(document["rows"]) == 4 * REQUESTS
    assert {(row["round"], row["stream"]) for row in document["rows"]} == {
        *((1, 0), (1, 1), (2, 0), (2, 1))
    }


def heads(bodies: list[dict[str, Any]]) -> list[str]:
    """Return the first line of each system prompt."""
    return [body["messages"][0]["content"].splitlines()[0] for body in bodies]


def test_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both servers get the same requests, with a fresh word in each round, and are compared."""
    with answering(call_stream(100, 60)) as ours, answering(call_stream(100, 30)) as other:
        wanted = (f"ours={ours.url}", f"other={other.url}#model=foo,key=secret")
        document = measured(tmp_path, "compare", *wanted, "--rounds", "2")

    assert len(ours.bodies) == len(other.bodies) == 2 * REQUESTS
    assert [body["messages"] for body in ours.bodies] == [body["messages"] for body in other.bodies]
    assert len(set(heads(ours.bodies[:REQUESTS]))) == 1
    assert len(set(heads(ours.bodies))) == 2
    assert {body["model"] for body in other.bodies} == {"foo"}
    share = document["figures"]["cached_share"]
    assert share["medians"] == {"ours": 0.6, "other": 0.3}
    assert share["ratios"]["other"] == {"least": 0.5, "median": 0.5, "most": 0.5, "pairs": 40}
    assert "secret" not in json.dumps(document)
    assert "0.50-0.50-0.50 (40)" in capsys.readouterr().out


def test_one_server_under_two_names(tmp_path: Path) -> None:
    """Where two names mean one server, none finds in the cache what the other asked for."""
    with answering(call_stream(9, 0)) as server:
        wanted = (f"a={server.url}", f"b={server.url}/v1#model=foo")
        measured(tmp_path, "compare", *wanted, "--rounds", "1", "--nonce", "w")

    found = {
        (body["model"], head)
        for body, head in zip(server.bodies, heads(server.bodies), strict=True)
    }
    assert found == {("tiny", "Session w."), ("foo", "Session w.1.")}


def test_order_moves_on(tmp_path: Path) -> None:
    """Each round begins with another server."""
    with answering(call_stream(9, 0)) as one, answering(call_stream(9, 0)) as two:
        document = measured(tmp_path, "compare", f"a={one.url}", f"b={two.url}", "--rounds", "2")

    order = [(row["round"], row["server"]) for row in document["rows"]]
    assert order[: 2 * REQUESTS] == [(1, "a"), (1, "b")] * REQUESTS
    assert order[2 * REQUESTS :] == [(2, "b"), (2, "a")] * REQUESTS


@pytest.mark.parametrize(("given", "expected"), [("w", {"Session w.", "Session w-2."}), ("", None)])
def test_nonce(given: str, expected: set[str] | None, tmp_path: Path) -> None:
    """The word at the head of system prompts can be chosen, or left out."""
    with answering(call_stream(9, 0)) as server:
        measured(tmp_path, "turns", server.url, "--nonce", given, "--repeats", "2")

    found = set(heads(server.bodies))
    assert found == expected if expected else not any("Session" in head for head in found)


def test_recording(tmp_path: Path) -> None:
    """A recording is played again in its order."""
    path = tmp_path / "r.jsonl"
    texts = ["one", "two", "three"]
    lines = (
        json.dumps(
            {
                "route": "/v1/chat/completions",
                "session": "a",
                "body": {"messages": [{"role": "user", "content": text}]},
            }
        )
        for text in texts
    )
    path.write_text("\n".join(lines))
    with answering(call_stream(9, 0)) as server:
        document = measured(tmp_path, "turns", server.url, "--traffic", str(path), "--nonce", "")

    assert [body["messages"][0]["content"] for body in server.bodies] == texts
    assert document["requests_a_round"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["svg", "png"])
def test_plot(kind: str, tmp_path: Path) -> None:
    """A picture is drawn of what was measured."""
    pytest.importorskip("matplotlib")
    picture = tmp_path / f"out.{kind}"
    with answering(call_stream(9, 0)) as server:
        measured(tmp_path, "compare", f"a={server.url}", "--rounds", "1", "--plot", str(picture))

    assert picture.read_bytes()[:5] in (b"<?xml", b"\x89PNG\r")


@pytest.mark.slow
@pytest.mark.parametrize("dialect", ["chat", "messages", "responses"])
def test_our_own_server(dialect: str, tmp_path: Path) -> None:
    """The demo model's server is measured whole: it calls, and takes its own history from cache."""
    path = tmp_path / "out.json"

    assert run(["turns", "--dialect", dialect, "--json", str(path)]) == 0

    document = json.loads(path.read_text())
    assert document["summary"]["errors"] == 0
    assert document["summary"]["calls"] > 0
    assert all(row["cached_tokens"] for row in document["rows"][3:])
