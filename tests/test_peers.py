"""The peers and the page of benchmarks: their table, what they stream, and what is made of it."""

from __future__ import annotations

import json
import string
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from mlx_tools_server.bench.asking import Asked
from mlx_tools_server.bench.conversation import Call
from mlx_tools_server.bench.dialects.base import Heard
from tools.bench_calls import called
from tools.bench_chart import bars
from tools.bench_client import Answer
from tools.bench_page import (
    CHARTS,
    TITLES,
    WORDS,
    Row,
    charted,
    differences,
    number,
    page,
    rows,
    table,
    won,
)
from tools.bench_sections import Sheet, compared, prose
from tools.benchmarks import SECTIONS
from tools.peers import BY_NAME, OURS, PEERS, PeerError, install, known, main, prepare, why_not

PLACES = {"python", "bin", "site", "model", "port", "home"}


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_row(peer: Any) -> None:
    """A peer's packages are pinned, and it has either a whole command or a reason why not."""
    fields = {name for _, name, _, _ in string.Formatter().parse(peer.command) if name}

    assert all("==" in package for package in (*peer.packages, *peer.overrides))
    assert bool(peer.command) != bool(peer.unavailable)
    assert not peer.command or {"model", "port"} <= fields <= PLACES
    assert "{" not in peer.shown


def test_names() -> None:
    """Every name stands for one peer, and ours is the first."""
    assert len(BY_NAME) == len(PEERS)
    assert PEERS[0].name == OURS
    with pytest.raises(PeerError, match=r"no peer 'nobody'; the names are ours, stock"):
        known(["stock", "nobody"])


def test_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A peer that can't be had says why, one that isn't installed says how, and neither fails."""
    assert why_not(BY_NAME["stock"], tmp_path) == (
        "not installed; run `python -m tools.peers install stock`"
    )
    with pytest.raises(PeerError, match="runs on Metal only"):
        install(BY_NAME["locals"], tmp_path)

    assert main(["--folder", str(tmp_path), "install", "omlx", "ours"]) == 0
    assert main(["--folder", str(tmp_path), "list"]) == 0
    told = capsys.readouterr().out
    assert "omlx           no package" in told
    assert "ours           ready" in told


def test_prepared(tmp_path: Path) -> None:
    """A server gets its own port and home, and no flags for scripts unless it plays one."""
    plain = prepare(OURS, tmp_path, tmp_path)
    scripted = prepare(OURS, tmp_path, tmp_path, scripted=True)

    home = tmp_path / "homes" / f"{OURS}-{plain.url.rpartition(':')[2]}"
    assert plain.command[:3] == (sys.executable, "-m", "mlx_tools_server")
    assert plain.environment["HOME"] == str(home)
    assert home.is_dir()
    plain.close()
    assert not home.exists()
    assert scripted.command[-3:] == ("--trust-remote-code", "--constrain", "off")


def test_answer() -> None:
    """Times of an answer count from its request, and it goes into the next one's history."""
    heard = Heard("Yes", calls=[Call("c1", "f", '{"a": 1}')], finish="tool_calls")
    answer = Answer(Asked(heard, began=10.0, ended=14.0, arrivals=[11.0, 12.0, 13.0]))
    function = {"name": "f", "arguments": '{"a": 1}'}

    assert (answer.first, answer.times, answer.seconds) == (1.0, [1.0, 2.0, 3.0], 4.0)
    assert (answer.tokens, answer.rate, answer.error) == (3, 1.0, "")
    assert answer.message["tool_calls"] == [{"id": "c1", "type": "function", "function": function}]
    assert called(answer) == [{"name": "f", "arguments": {"a": 1}}]

    heard.completion, heard.error = 5, "cut"
    assert (answer.tokens, answer.rate, answer.error) == (5, 2.0, "cut")
    heard.calls[0].arguments = '{"a'
    assert called(answer) is None


def test_answer_without_a_token() -> None:
    """An answer in which nothing came has no first token and no rate."""
    answer = Answer(Asked(Heard(), began=1.0, ended=2.0))

    assert (answer.first, answer.rate, answer.tokens, called(answer)) == (None, None, 0, [])


def figure(better: str, **samples: list[float | None]) -> Row:
    """Return a row of the section about restarts."""
    return Row("restart", "time", "ms", better, samples)


VERDICTS = {
    "lower is better, and it's lower": (figure("lower", ours=[10.0], stock=[9.0]), 1),
    "lower is better, and it's higher": (figure("lower", ours=[10.0], stock=[11.0]), -1),
    "higher is better, and it's higher": (figure("higher", ours=[10.0], stock=[11.0]), 1),
    "higher is better, and it's lower": (figure("higher", ours=[10.0], stock=[9.0]), -1),
    "within noise": (figure("lower", ours=[100.0], stock=[96.0]), 0),
    "against nothing": (figure("higher", ours=[50.0], stock=[0.0]), -1),
    "ours is nothing": (figure("higher", ours=[0.0], stock=[3.0]), 1),
    "better in most rounds": (figure("lower", ours=[1.0, 9.0, 5.0], stock=[0.9, 8.0, 20.0]), 1),
    "neither is better": (figure("", ours=[1.0], stock=[9.0]), 0),
    "it doesn't tell": (figure("lower", ours=[1.0], stock=[None]), 0),
    "we don't tell": (figure("lower", ours=[None], stock=[1.0]), 0),
}


@pytest.mark.parametrize(("row", "expected"), VERDICTS.values(), ids=VERDICTS)
def test_verdict(row: Row, expected: int) -> None:
    """A difference counts if it is above noise, and in the direction that the figure has."""
    assert row.verdict("stock") == expected
    assert len(list(differences([row], 1))) == (expected > 0)
    assert len(list(won([row]))) == (expected < 0)


def test_ratio_is_of_pairs() -> None:
    """Ratios are made round by round, and rounds that lack a value are left out."""
    row = figure("lower", ours=[1.0, 10.0, 5.0], stock=[2.0, 30.0, None])

    assert row.ratios("stock") == [2.0, 3.0]
    assert "| time | ms | 5 | 16 (2.50×) |" in table([row])


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "-"), (0.0, "0"), (12.0, "12"), (0.123, "0.12"), (12.34, "12.3"), (12345.6, "12,346")],
)
def test_number(value: float | None, expected: str) -> None:
    """A figure has about three digits."""
    assert number(value) == expected


def result() -> dict[str, Any]:
    """Return what is kept of a section."""
    sheet = Sheet()
    for theirs, ours in ((80.0, 100.0), (90.0, 110.0)):
        sheet.add("first token, hot", "ms", "lower", "stock", theirs)
        sheet.add("first token, hot", "ms", "lower", OURS, ours)
        sheet.add("cached, after SIGKILL", "%", "higher", "stock", 0.0)
        sheet.add("cached, after SIGKILL", "%", "higher", OURS, 99.0)
    servers = {OURS: {"title": "ours", "version": "1", "command": "run"}}
    place = {"machine": "A machine", "at": "2026-11-23T10:00:00+00:00", "servers": servers}
    kept = {"section": "restart", "rounds": 2, "figures": sheet.figures, "errors": []}
    return {**place, **kept, "load": [0.5, 7.0], "cores": 2}


def test_page() -> None:
    """The page says what is lost before what is won, and who is missing."""
    text = page({"restart": json.loads(json.dumps(result()))}, {"omlx": "no package"})

    lost, rest = text.split("## What we lose\n")[1].split("## What we win\n")
    won_part, tables = rest.split("## Restarts\n")
    assert "Restarts, first token, hot: stock 85 ms, ours 105 ms, 0.80 to 0.82 times ours" in lost
    assert "SIGKILL: ours 99 %, the next best (stock) 0 %" in won_part
    assert "| first token, hot | ms | 105 | **85 (0.81×)** |" in tables
    assert "Machine: A machine; 2026-11-23." in text
    assert "Not measured: omlx: no package." in text
    assert "The machine had other work than this" in tables


def test_chart() -> None:
    """A chart is well-formed, and has each value in words beside its bar."""
    chart = bars("Cached & kept", charted(result()))

    words = [text.text for text in ElementTree.fromstring(chart).iter() if text.text]
    assert [word for word in words if word.strip()] == [
        *("Cached & kept", "Cached & kept", "cached, after SIGKILL, %", OURS, "99", "stock", "0")
    ]


def test_empty_page() -> None:
    """Without results there is a page that says nothing was lost and nothing won."""
    text = page({}, {})

    assert "No other server is better than ours by more than 5%." in text
    assert "Nothing." in text


def test_sections_have_words() -> None:
    """Every section that is measured has its title and its words."""
    assert set(SECTIONS) == set(TITLES) == set(WORDS)
    assert set(CHARTS) <= set(TITLES)


def test_compared() -> None:
    """What `bench compare` wrote becomes samples in the same order for all servers."""
    names = ["first_argument_ms", "itl_p50_ms", "itl_p99_ms", "tokens_per_s", "seconds"]
    names += ["prompt_tokens", "recomputed_tokens", "recomputed_per_new", "argument_deltas"]
    place = {"round": 1, "stream": 0, "session": "main", "error": None}
    made = [
        {**dict.fromkeys(names), **place, "server": server, "turn": turn, "first_token_ms": first}
        | {"calls": 1, "valid_calls": None, "cut_calls": 0}
        for server, turn, first in ((OURS, 1, 3.0), (OURS, 2, 4.0), ("stock", 2, 8.0))
    ]
    made[2]["error"] = "HTTP 500"

    sheet = compared({"servers": [{"name": OURS}, {"name": "stock"}], "rows": made})

    first, calls = rows({"section": "agent", "figures": sheet.figures})[0], sheet.figures
    assert first.samples == {OURS: [3.0, 4.0], "stock": [None, 8.0]}
    assert calls["calls in all"]["samples"] == {OURS: [2], "stock": [1]}
    assert sheet.errors == ["stock: HTTP 500"]


def test_prose_shares_nothing() -> None:
    """Two rounds have no line in common, so that no cache helps; the same round is the same."""
    assert prose(1, 20) == prose(1, 20)
    assert not set(prose(1, 20).splitlines()) & set(prose(2, 20).splitlines())
