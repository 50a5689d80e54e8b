"""Take the pictures of docs/images: the status page, and two commands in a terminal.

Rules of this file:
- The built-in model serves, real requests are asked, real commands run in a terminal. Only the
  agents' names are borrowed: this file asks in their place, and the documents say so.
- Nothing of whoever takes them is shown: a home folder becomes ~.
- A picture is small, since it stays in the history: one that is not makes the exit code 1.
- Run it with `make screenshots`; it needs Chromium.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import html
import json
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import urllib.request
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlx_tools_server.child import serving
from mlx_tools_server.demo import WISHES, Tools
from tests.http.chromium import PROGRAM, Browser, browse

IMAGES = Path(__file__).parents[1] / "docs" / "images"
MOST_BYTES = 150_000
COLOURS_KEPT = 96
COLUMNS = 100
# Scrollbars are noise, and coloured edges of letters take room.
FLAGS = ("--hide-scrollbars", "--disable-lcd-text")
WIDTH = 1120
AGENTS = ("opencode/1.2.0", "qwen-code/0.3.1")
# Seconds for anything that has to be seen.
PATIENCE = 60.0
PARTLY = (
    "[...document.querySelectorAll('#live-list progress')]"
    ".some(bar => bar.value > 0.2 && bar.value < 1)"
)
READY = "document.getElementById('state').dataset.state === 'ok'"
COMMANDS = {
    "demo.png": ["demo", "--once"],
    "doctor.png": ["doctor", "--model-path", "demo"],
}


def main() -> int:
    """Take all pictures; return the exit code."""
    if PROGRAM is None:
        print("This needs Chromium. Install the package chromium.", file=sys.stderr)
        return 2
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name, browse(Path(name), *FLAGS) as browser:
        folder = Path(name)
        _take_page(browser, folder)
        for image, arguments in COMMANDS.items():
            _take_terminal(browser, folder, image, arguments)
    too_large = [one.name for one in IMAGES.glob("*.png") if one.stat().st_size > MOST_BYTES]
    for one in too_large:
        print(f"{one} has more than {MOST_BYTES} bytes", file=sys.stderr)
    return 1 if too_large else 0


def _save(browser: Browser, image: str, data: bytes) -> None:
    data = _smaller(browser, data)
    (IMAGES / image).write_bytes(data)
    print(f"docs/images/{image}: {len(data):,} bytes")


def _smaller(browser: Browser, data: bytes) -> bytes:
    """Return a picture with its most frequent colours only; the browser reads it."""
    given = json.dumps(f"data:image/png;base64,{base64.b64encode(data).decode()}")
    read = browser.run(f"({REDUCE})({given}, {COLOURS_KEPT})")
    width, height = read["width"], read["height"]
    pixels = base64.b64decode(read["pixels"])
    rows = (b"\0" + pixels[start : start + width] for start in range(0, width * height, width))
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", bytes(read["palette"])),
            _chunk(b"IDAT", zlib.compress(b"".join(rows), 9)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


# The picture's size, its palette, and for each pixel the nearest colour of that.
REDUCE = """async (url, most) => {
    const image = new Image();
    image.src = url;
    await image.decode();
    const { naturalWidth: width, naturalHeight: height } = image;
    const context = new OffscreenCanvas(width, height).getContext('2d');
    context.drawImage(image, 0, 0);
    const data = context.getImageData(0, 0, width, height).data;
    const counts = new Map();
    const at = index => data[index] << 16 | data[index + 1] << 8 | data[index + 2];
    for (let index = 0; index < data.length; index += 4)
        counts.set(at(index), (counts.get(at(index)) ?? 0) + 1);
    const kept = [...counts].sort((a, b) => b[1] - a[1]).slice(0, most).map(([color]) => color);
    const parts = color => [color >> 16, color >> 8 & 255, color & 255];
    const distance = (one, other) =>
        parts(one).reduce((sum, part, index) => sum + (part - parts(other)[index]) ** 2, 0);
    const nearest = new Map();
    for (const color of counts.keys()) {
        let best = 0;
        for (let index = 1; index < kept.length; index++)
            if (distance(color, kept[index]) < distance(color, kept[best])) best = index;
        nearest.set(color, best);
    }
    const pixels = new Uint8Array(width * height);
    pixels.forEach((_, index) => { pixels[index] = nearest.get(at(index * 4)); });
    return { width, height, palette: kept.flatMap(parts), pixels: pixels.toBase64?.()
        ?? btoa(Array.from(pixels, pixel => String.fromCharCode(pixel)).join('')) };
}"""


# The page.


def _take_page(browser: Browser, folder: Path) -> None:
    flags = ("--demo", "--kv-dir", str(folder / "kv"), "--prefill-step-size", "256")
    with serving(*flags) as child:
        _play(child.url, folder)
        browser.open(f"{child.url}/")
        browser.wait(READY)
        with _at_work(child.url):
            browser.wait(PARTLY)
            for scheme in ("light", "dark"):
                _fit(browser, scheme, "#connect")
                _save(browser, f"status-{scheme}.png", browser.picture())
        _take_playground(browser)


def _take_playground(browser: Browser) -> None:
    for script in (
        "document.querySelector('input[value=messages]').click()",
        "document.getElementById('example').click()",
        "document.getElementById('send').click()",
    ):
        browser.run(script)
    browser.wait("document.getElementById('asked').innerText.startsWith('Finished')")
    browser.view(WIDTH, 1000)
    browser.run("document.getElementById('tools-part').open = false")
    box = browser.run(
        "(() => { const at = document.getElementById('playground').getBoundingClientRect();"
        " return {x: at.x - 12, y: at.y + scrollY - 12, width: at.width + 24,"
        " height: at.height + 24, scale: 1}; })()"
    )
    _save(browser, "playground.png", browser.picture(clip=box))


def _fit(browser: Browser, scheme: str, end: str) -> None:
    """Give the page a window that ends where an element begins."""
    browser.view(WIDTH, 900, scheme)
    find = f"document.querySelector({json.dumps(end)}).getBoundingClientRect().top + scrollY"
    browser.view(WIDTH, int(browser.run(find)), scheme)
    browser.run("new Promise(done => setTimeout(done, 600))")  # until bars have moved


def _play(url: str, folder: Path) -> None:
    """Let a few agents work, in different dialects."""
    tools = Tools(folder)
    for agent in AGENTS:
        messages: list[dict[str, Any]] = []
        for wish in WISHES[:2]:
            messages.append({"role": "user", "content": wish})
            _converse(url, agent, messages, tools)
    theirs = [
        {"name": one["name"], "description": one["description"], "input_schema": one["parameters"]}
        for one in (spec["function"] for spec in tools.specs)
    ]
    asked = {"messages": [{"role": "user", "content": WISHES[3]}], "tools": theirs}
    _post(url, "/v1/messages", {**asked, "max_tokens": 200}, "claude-cli/2.1.0")
    _post(url, "/v1/responses", {"input": "Thank you!", "store": False}, "codex_cli/0.50.0")


def _converse(url: str, agent: str, messages: list[dict[str, Any]], tools: Tools) -> None:
    """Ask, and answer the calls, until there are none; a lost model is left after three."""
    for _ in range(3):
        body = {"messages": messages, "tools": tools.specs, "max_tokens": 60}
        answer = _post(url, "/v1/chat/completions", body, agent)["choices"][0]["message"]
        messages.append({key: value for key, value in answer.items() if value is not None})
        calls = answer.get("tool_calls") or []
        for call in calls:
            result = tools.call(call["function"]["name"], call["function"]["arguments"])
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})
        if not calls:
            return


@contextlib.contextmanager
def _at_work(url: str) -> Iterator[None]:
    """Keep two requests at work until the block ends: one in its prefill, one in its answer."""
    long = {"prompt": "one two three " * 12, "max_tokens": 20_000}
    words = " ".join(f"word{number}{time.monotonic_ns()}" for number in range(700))
    bodies = (
        ("/v1/completions", {**long, "stream": True}, "aider/0.90"),
        ("/v1/completions", {"prompt": words * 2, "max_tokens": 1, "stream": True}, "pi/0.9.2"),
    )
    with contextlib.ExitStack() as stack:
        for path, body, agent in bodies:
            response = stack.enter_context(_open(url, path, body, agent))
            thread = threading.Thread(target=_drain, args=(response,), daemon=True)
            thread.start()
            time.sleep(0.7)
        yield


def _drain(response: Any) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        for _ in response:
            pass


def _open(url: str, path: str, body: Mapping[str, Any], agent: str) -> Any:
    headers = {"Content-Type": "application/json", "User-Agent": agent}
    request = urllib.request.Request(f"{url}{path}", json.dumps(body).encode(), headers)
    return urllib.request.urlopen(request, timeout=PATIENCE)


def _post(url: str, path: str, body: Mapping[str, Any], agent: str) -> Any:
    with _open(url, path, body, agent) as response:
        return json.load(response)


# A terminal.


def _take_terminal(browser: Browser, folder: Path, image: str, arguments: Sequence[str]) -> None:
    shown = _run([sys.executable, "-m", "mlx_tools_server", *arguments])
    shown = shown.replace(str(Path.home()), "~")
    page = folder / f"{image}.html"
    page.write_text(TERMINAL % (f"$ mlx-tools-server {' '.join(arguments)}\n" + to_html(shown)))
    browser.open(page.as_uri())
    browser.view(WIDTH, 100)
    size = browser.run(
        "(() => { const at = document.querySelector('pre').getBoundingClientRect();"
        " return [at.width, at.height]; })()"
    )
    browser.view(int(size[0]) + 1, int(size[1]) + 1)
    _save(browser, image, browser.picture())


def _run(command: Sequence[str]) -> str:
    """Return what a command writes to a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    clean = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    environment = {**clean, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=environment
    ):
        os.close(theirs)
        pieces = []
        with contextlib.suppress(OSError):  # which is how a terminal ends on Linux
            while piece := os.read(ours, 1 << 16):
                pieces.append(piece)
        os.close(ours)
    return b"".join(pieces).decode(errors="replace")


COLOURS = {31: "red", 32: "green", 33: "yellow", 34: "blue", 35: "magenta", 36: "cyan"}
STYLES = {1: "bold", 2: "dim", **COLOURS}
_CODE = re.compile(r"\x1b\[([\d;]*)([A-Za-z])")


def to_html(written: str) -> str:
    """Return what a terminal shows as HTML: colours as classes, and lines that were overwritten."""
    lines = (line.rstrip("\r").rpartition("\r")[2] for line in written.split("\n"))
    text, open_spans = [], 0
    for index, piece in enumerate(_CODE.split("\n".join(lines))):
        if index % 3 == 0:
            text.append(html.escape(piece))
        elif index % 3 == 1:
            codes = [int(code or 0) for code in piece.split(";")]
        elif piece == "m":
            names = " ".join(STYLES[code] for code in codes if code in STYLES)
            text.append("</span>" * open_spans if 0 in codes else "")
            open_spans = 0 if 0 in codes else open_spans
            text.append(f'<span class="{names}">' if names else "")
            open_spans += bool(names)
    return "".join(text) + "</span>" * open_spans


TERMINAL = """<!doctype html><meta charset="utf-8"><style>
body { margin: 0; background: #12161c; }
pre { display: inline-block; box-sizing: border-box; margin: 0; padding: 20px 24px; color: #dfe5ec;
  width: calc(100ch + 48px); white-space: pre-wrap; overflow-wrap: anywhere;
  font: 14px/1.45 "DejaVu Sans Mono", Menlo, Consolas, monospace; background: #12161c; }
.bold { font-weight: 700; } .dim { color: #8d99a6; } .red { color: #f29a96; }
.green { color: #7fd0a8; } .yellow { color: #e8b56a; } .blue { color: #86bdf0; }
.magenta { color: #d3a4e8; } .cyan { color: #7cc7d6; }
</style><pre>%s</pre>"""


if __name__ == "__main__":
    sys.exit(main())
