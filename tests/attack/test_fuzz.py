"""Hostile requests to a real server: each gets an answer, and good ones in between are right."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from mlx_tools_server.openapi import description

from ..http.voices import VOICES, Speaker
from .bodies import PATHS, good_body, places
from .fuzz import check_good, fuzz, server, wrong
from .hostile import Hostile, attack, smaller

pytestmark = pytest.mark.mlx


def test_some() -> None:
    """A hundred hostile requests leave the server as it was."""
    with server() as live:
        seen = fuzz(live, 1, range(100))

    assert not seen.wrongs, seen.told()
    assert seen.statuses.total() == 100


@pytest.mark.slow
@pytest.mark.parametrize("name", VOICES)
def test_family(name: str) -> None:
    """Whatever the model's family is, hostile requests leave it as it was."""
    speaker = Speaker(name)
    with server(speaker) as live:
        seen = fuzz(live, 3, range(100), speaker)
        problems = [check_good(live.url, Random(f"{name}:{i}"), speaker) for i in range(5)]

    assert not seen.wrongs, seen.told()
    assert not any(problems), problems


@pytest.mark.slow
def test_many() -> None:
    """So do a thousand others."""
    with server() as live:
        seen = fuzz(live, 2, range(1000))

    assert not seen.wrongs, seen.told()


def test_same_seed() -> None:
    """A request follows from its seed and number alone, and others differ."""
    first = [attack(5, number) for number in range(60)]

    assert first == [attack(5, number) for number in range(60)]
    assert len({one.data for one in first}) > 50


def test_smaller() -> None:
    """A body is made smaller by one member at a time, and stays as it was."""
    body = good_body("completions")
    count = len(list(places(body)))

    made = smaller(body)

    assert len(made) == count
    assert all(len(list(places(one))) < count for one in made)
    assert body == good_body("completions")


@pytest.mark.parametrize("dialect", PATHS)
def test_all_fields_are_attacked(dialect: str) -> None:
    """What is mutated has every field that the server's description of this dialect knows."""
    document = description("1")
    operation = document["paths"][PATHS[dialect]]["post"]
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    attacked = {key for _, key in places(good_body(dialect))}

    known = set(_fields(body, document["components"]["schemas"], ()))

    # Those of schemas are written by the mutations of the dialect.
    assert known - attacked - {"json_schema", "schema"} == set()


def _fields(schema: Any, named: dict[str, Any], above: tuple[str, ...]) -> Iterator[str]:
    reference = schema.get("$ref", "").rpartition("/")[2]
    if reference in above:
        return
    if reference:
        yield from _fields(named[reference], named, (*above, reference))
    properties = schema.get("properties", {})
    yield from properties
    items = [schema["items"]] if "items" in schema else []
    for part in (*properties.values(), *schema.get("anyOf", ()), *items):
        yield from _fields(part, named, above)


@pytest.mark.parametrize("dialect", PATHS)
def test_bodies_are_json(dialect: str) -> None:
    """Mutated bodies are framed as one request that says how long it is."""
    rng = Random(dialect)
    hostile = Hostile("body", dialect, b"", True).with_body({"a": rng.random()})
    head, _, data = hostile.data.partition(b"\r\n\r\n")

    assert f"Content-Length: {len(data)}".encode() in head
    assert json.loads(data) == hostile.body


def test_no_answer_is_wrong() -> None:
    """A server that is not there answers nothing, which the judge does not take for an answer."""
    assert wrong("http://127.0.0.1:9", attack(1, 0))[0] == "closed"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["atheris_parsers", "atheris_requests"])
def test_guided(name: str) -> None:
    """Guided fuzzing runs, or says in a line that atheris is not there."""
    command = [sys.executable, "-m", f"tests.attack.{name}", "--seconds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stderr[-2000:]
    assert "Done" in done.stderr or "not installed" in done.stdout
