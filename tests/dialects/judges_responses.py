"""What OpenAI's clients make of a response: a strict reader, and the official SDK itself.

Rules of this file:
- The reader adds up a stream as the strictest client does, and fails where one of them would.
- The SDK reads the very bytes, as if its server had sent them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
LAST = ("response.completed", "response.incomplete", "response.failed")
# The events of an item's text: the field of the item that they tell, and that of their end.
TEXTS = {
    "response.output_text": ("content", "text"),
    "response.reasoning_text": ("content", "text"),
    "response.reasoning_summary_text": ("summary", "text"),
    "response.function_call_arguments": ("arguments", "arguments"),
    "response.custom_tool_call_input": ("input", "input"),
}
PARTS = {"response.content_part": "content", "response.reasoning_summary_part": "summary"}


def events_of(stream: bytes) -> list[dict[str, Any]]:
    """Return the data of a whole stream, in sequence, each under a name that is its type."""
    *events, rest = stream.decode("utf-8").split("\n\n")
    assert rest == ""
    read = [_data_of(event) for event in events]
    assert [event["sequence_number"] for event in read] == list(range(len(read)))
    assert [event["type"] in LAST for event in read] == [False] * (len(read) - 1) + [True]
    return read


def _data_of(event: str) -> dict[str, Any]:
    name, data = event.split("\n")
    read: dict[str, Any] = json.loads(data.removeprefix("data: "))
    assert name == f"event: {read['type']}"
    return read


class Reader:
    """Adds up the events of a response.

    `items` are those that were done, `cut` those that were not.
    """

    def __init__(self, events: Iterable[dict[str, Any]]) -> None:
        self.items: list[dict[str, Any]] = []
        self.cut: list[dict[str, Any]] = []
        self.pieces = 0
        self._open: dict[str, Any] | None = None
        created, in_progress, *others, last = events
        assert (created["type"], in_progress["type"]) == (
            "response.created",
            "response.in_progress",
        )
        assert created["response"] == in_progress["response"]
        for event in others:
            self._read(event)
        self._leave()
        self.begun: dict[str, Any] = created["response"]
        self.ended: dict[str, Any] = last["response"]
        assert last["type"] == f"response.{self.ended['status']}"

    def _read(self, event: dict[str, Any]) -> None:
        if event["type"] == "response.in_progress":  # a sign of life
            return
        kind, _, step = event["type"].rpartition(".")
        if event["type"] == "response.output_item.added":
            self._leave()
        assert event["output_index"] == len(self.items) + len(self.cut)
        if kind == "response.output_item":
            (self._begin if step == "added" else self._end)(event["item"])
            return
        item = self._open
        assert item is not None
        assert event["item_id"] == item["id"]
        if kind in PARTS:
            self._part(item, PARTS[kind], step, event)
        else:
            self._text(item, *TEXTS[kind], step, event)

    def _begin(self, item: dict[str, Any]) -> None:
        assert self._open is None
        assert item["status"] == "in_progress"
        assert not any(item.get(name) for name in ("content", "summary", "arguments", "input"))
        self._open = {**item, "told": None}

    def _part(self, item: dict[str, Any], holder: str, step: str, event: dict[str, Any]) -> None:
        assert event[f"{holder}_index"] == 0
        if step == "added":
            assert item[holder] == []
            assert event["part"]["text"] == ""
            item[holder] = [event["part"]]
        else:
            assert event["part"] == item[holder][0]
            assert item["told"] == event["part"]["text"]

    def _text(
        self, item: dict[str, Any], holder: str, name: str, step: str, event: dict[str, Any]
    ) -> None:
        place, key = (item[holder][0], "text") if name == "text" else (item, holder)
        if step == "delta":
            assert event["delta"]
            assert item["told"] is None
            place[key] += event["delta"]
            self.pieces += 1
        else:
            assert event[name] == place[key]
            item["told"] = event[name]

    def _end(self, item: dict[str, Any]) -> None:
        assert self._open is not None
        told = self._open.pop("told")
        assert told is not None
        assert item == {**self._open, "status": item["status"]}
        self.items.append(item)
        self._open = None

    def _leave(self) -> None:
        if self._open is not None:
            assert self._open.pop("told") is None
            self.cut.append(self._open)
            self._open = None


@contextmanager
def sdk(status: int, content: bytes) -> Iterator[openai.OpenAI]:
    """Return the official client of a server that always answers like this."""
    kind = "text/event-stream" if content.startswith(b"event: ") else "application/json"

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, headers={"content-type": kind}, content=content)

    with (
        httpx2.Client(transport=httpx2.MockTransport(answer)) as http,
        openai.OpenAI(api_key="any", max_retries=0, http_client=http) as client,
    ):
        yield client


def read_by_sdk(stream: bytes) -> dict[str, Any]:
    """Return the response that the official client adds up; raises what it raises."""
    with sdk(200, stream) as client, client.responses.stream(model="qwen", input="hi") as events:
        return events.get_final_response().to_dict(exclude_unset=True)


def judge_response_stream(stream: bytes) -> None:
    """Fail unless the official types take every event, and the official client the whole stream."""
    events = events_of(stream)
    for event in events:
        EVENTS.validate_python(event, strict=True)
    reader = Reader(events)
    assert reader.items == reader.ended["output"]
    if reader.ended["status"] == "completed":
        told = read_by_sdk(stream)
        assert [_plain(item) for item in told["output"]] == reader.items
        assert not reader.cut
    else:
        # The client reads all of it, and knows a response only if it is completed.
        with pytest.raises(RuntimeError, match=r"response\.completed"):
            read_by_sdk(stream)


def _plain(item: dict[str, Any]) -> dict[str, Any]:
    """Return an item without what the client parsed from its text."""
    parts = [
        {name: value for name, value in part.items() if name != "parsed"}
        for part in item.get("content") or ()
    ]
    rest = {name: value for name, value in item.items() if name != "parsed_arguments"}
    return {**rest, "content": parts} if "content" in item else rest


def judge_response(body: dict[str, Any]) -> None:
    """Fail unless the official types take the whole body."""
    if set(body) != {"error"}:
        Response.model_validate(body, strict=True)
