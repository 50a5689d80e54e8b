"""How the server logs."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

from mlx_tools_server.logs import REQUEST

CODE = """
import logging
from mlx_tools_server.logs import REQUEST, set_up
set_up("INFO", {form!r})
REQUEST.set("req_1")
log = logging.getLogger("a.b")
log.info("said %s", "one\\ntwo\\x1b[31m", extra={{"facts": {{"tokens": 3}}}})
log.debug("not asked for")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed")
"""


def logged(form: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(form=form)], capture_output=True, text=True, check=True
    )
    return done.stderr


def test_json() -> None:
    """As JSON a log has one object a line, with the request, its facts and what was raised."""
    first, second = map(json.loads, logged("json").splitlines())

    assert (first["level"], first["logger"], first["request"]) == ("INFO", "a.b", "req_1")
    assert first["message"] == "said one\ntwo\x1b[31m"
    assert first["tokens"] == 3
    assert "ZeroDivisionError" in second["exception"]


def test_text() -> None:
    """As text each line has the request that it belongs to; no message begins another."""
    lines = logged("text").splitlines()

    assert lines[0].endswith("INFO [req_1] said one\\ntwo\\x1b[31m")
    assert any("ZeroDivisionError" in line for line in lines)


def test_threads_have_their_own_request() -> None:
    """A thread that serves no request logs none."""

    seen = []
    REQUEST.set("mine")
    thread = threading.Thread(target=lambda: seen.append(REQUEST.get()))
    thread.start()
    thread.join()
    REQUEST.set("-")

    assert seen == ["-"]
