"""Are calls right: what a scripted model wrote, and what of it a client got.

Rules of this file:
- The model is our scripted checkpoint, so that what it says is known to the character. Most of the
  peers can load it; to the older mlx-lm that they need, it is adapted by a few lines.
- The cases are the project's own (`tests/data/qwen3_coder.jsonl`), less those that are a choice:
  only whole answers of the level "must", without options, on which every parser has to agree.
- White space around text is not looked at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from mlx_tools_server.engine.scripted import write_checkpoint
from mlx_tools_server.templates import read_ours
from tools.bench_client import Answer, ask, model_of
from tools.bench_sections import Lab, Sheet, chat, prose
from tools.peers import Running, known, running

CASES = Path(__file__).parent.parent / "tests" / "data" / "qwen3_coder.jsonl"
LONG_LINES = 60
# A case is at most a few thousand tokens; a server that hangs on one is given up.
CASE_SECONDS = 60.0

# mlx-lm 0.31 keeps the same arrays, but has no method that cuts off what is only reserved.
OLDER = """

from mlx_lm.models.cache import BatchKVCache


def _keys_and_values(cache):
    end = getattr(cache, "_idx", cache.offset)
    return cache.keys[..., :end, :], cache.values[..., :end, :]


for _kind in (KVCache, BatchKVCache):
    if not hasattr(_kind, "keys_and_values"):
        _kind.keys_and_values = _keys_and_values
"""


def calls(lab: Lab) -> Sheet:
    """What a scripted model wrote, and what of it a client got, streamed and whole."""
    sheet, folder = Sheet(), lab.folder / "models" / "scripted"
    write_checkpoint(folder, chat_template=read_ours("qwen3_coder"))
    with (folder / "model.py").open("a") as code:
        code.write(OLDER)
    cases = [json.loads(line) for line in CASES.read_text("utf-8").splitlines()]
    cases = [case for case in cases if _plain(case)][:: 8 if lab.quick else 1]
    for name in (one.name for one in known(lab.serving()) if one.scripted is not None):
        with running([name], folder, lab.folder, scripted=True) as servers:
            server = servers[name]
            model = model_of(server.url)
            _grade(server, model, cases, sheet)
            _stream_long(server, model, sheet)
    return sheet


def _plain(case: Mapping[str, Any]) -> bool:
    """Return whether every parser must agree on a case; the others are this project's choices."""
    return bool(case["level"] == "must" and case["engine_finish"] == "stop") and not (
        case.get("options") or case.get("expected_reasoning")
    )


def _script(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"[[SCRIPT]]{text}[[/SCRIPT]]"}]


def _grade(server: Running, model: str, cases: Sequence[Mapping[str, Any]], sheet: Sheet) -> None:
    for way in ("whole", "streamed"):
        right = exact = 0
        for case in cases:
            more = {"tools": case["tools"], "stream": way == "streamed"}
            body = chat(model, _script(case["model_output"]), 4096, **more)
            answer = ask(server.url, body, CASE_SECONDS)
            got = called(answer)
            if got == case["expected_calls"]:
                right += 1
                same_text = answer.heard.text.strip() == case["expected_content"].strip()
                exact += same_text and answer.heard.finish == case["expected_finish"]
            else:
                sheet.errors.append(f"{server.peer.name}, {way}, {case['id']}: {case['note']}")
        name, count = server.peer.name, f"of {len(cases)}"
        sheet.add(f"calls right, {way}", count, "higher", name, right)
        sheet.add(f"calls, text and finish right, {way}", count, "higher", name, exact)


def called(answer: Answer) -> list[dict[str, Any]] | None:
    """Return the calls of an answer as the cases have them, or None if one isn't JSON."""
    try:
        return [
            {"name": call.name, "arguments": json.loads(call.arguments or "null")}
            for call in answer.heard.calls
        ]
    except ValueError:
        return None


def _stream_long(server: Running, model: str, sheet: Sheet) -> None:
    """Add how a call that writes a file reaches the client."""
    properties = {"path": {"type": "string"}, "content": {"type": "string"}}
    schema = {"type": "object", "properties": properties, "required": [*properties]}
    tool = {"type": "function", "function": {"name": "write_file", "parameters": schema}}
    content = prose(1, LONG_LINES)
    script = (
        "<tool_call>\n<function=write_file>\n<parameter=path>\na.txt\n</parameter>\n"
        f"<parameter=content>\n{content}\n</parameter>\n</function>\n</tool_call>"
    )
    answer = ask(server.url, chat(model, _script(script), 4096, tools=[tool]))
    name = server.peer.name
    good = sheet.note(name, "a long call", answer)
    sheet.add("pieces of a call of 60 lines", "", "higher", name, len(answer.times))
    # A client that hears nothing for long gives up; comments and pings don't count for all of them.
    gaps = [late - early for early, late in pairwise([0.0, *answer.times])]
    silence = 100 * max(gaps) / answer.seconds if good else None
    sheet.add("longest silence in it", "% of its time", "lower", name, silence)
