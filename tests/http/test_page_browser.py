"""The status page in a real browser: what it shows, what it does, who can use it.

Rules of this file:
- What a person would look for is read from the page, not from its scripts.
- At the end of each test the browser has complained of nothing: no exception, no refused script.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mlx_tools_server.config import ServerConfig

from .chromium import PROGRAM, Browser, browse
from .live import Live, call, tool

pytestmark = [
    pytest.mark.mlx,
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="needs chromium"),
]

READY = "document.getElementById('state').dataset.state === 'ok'"
READ = tool("read", path="string")
WIDTHS = (1200, 390)
SCHEMES = ("light", "dark")
# What a keyboard must reach, in this order.
CONTROLS = [
    "Skip to content",
    "At work",
    "Copy the settings of Claude Code",
    "Chat completions",
    "Message",
    "Tools",
    "Longest answer, in tokens",
    "Send",
    "Answer",
    "Events, as they came",
]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Return a browser."""
    folder: Path = tmp_path_factory.mktemp("browser")
    with browse(folder) as made:
        yield made


@pytest.fixture
def browser(running: Browser) -> Iterator[Browser]:
    """Return a browser that complains of nothing."""
    running.problems.clear()
    yield running
    assert running.problems == []


@pytest.fixture
def page(browser: Browser, live: Live) -> Browser:
    """Return a browser that shows the page of a server with a turn behind it."""
    live.chat(f"Fine.{call('read', path='x')}", tools=[READ])
    browser.open(f"{live.url}/")
    browser.wait(READY)
    browser.wait("document.querySelectorAll('#turns-rows tr').length > 0")
    return browser


def text(browser: Browser, where: str) -> str:
    """Return what a person reads in an element."""
    return str(browser.run(f"document.querySelector({json.dumps(where)}).innerText"))


def type_into(browser: Browser, field: str, words: str) -> None:
    """Type into a field."""
    browser.run(f"document.getElementById({json.dumps(field)}).select()")
    browser.run(f"document.getElementById({json.dumps(field)}).focus()")
    browser.ask("Input.insertText", text=words)


def press(browser: Browser, key: str, code: int) -> None:
    """Press and release a key."""
    said = {"text": "\r"} if key == "Enter" else {}
    named = {"key": key, "code": key, "windowsVirtualKeyCode": code}
    browser.ask("Input.dispatchKeyEvent", type="keyDown", **named, **said)
    browser.ask("Input.dispatchKeyEvent", type="keyUp", **named)


def named(browser: Browser) -> list[tuple[str, str]]:
    """Return role and name of all that assistive technology is told of."""
    nodes = browser.ask("Accessibility.getFullAXTree")["nodes"]
    return [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node["ignored"]
    ]


def test_shows_the_server(page: Browser) -> None:
    """The page names the model, its family and context, and the last turn with its figures."""
    assert text(page, "#state") == "Ready"
    assert "qwen3_coder" in text(page, "#facts")
    assert "8,192 tokens" in text(page, "#facts")
    row = text(page, "#turns-rows tr")
    assert all(word in row for word in ("cached", "first token", "tool_calls", "1 call ok"))
    assert "ANTHROPIC_BASE_URL=" in text(page, "#clients")
    assert page.run("document.querySelectorAll('#turns-rows .bar span').length") > 2


def test_hidden_page_rests(page: Browser) -> None:
    """A page that is hidden asks for nothing, and asks again once it is seen."""
    counted = (
        "performance.getEntriesByType('resource').filter(e => e.name.endsWith('status')).length"
    )
    hide = """hidden => { Object.defineProperty(document, 'hidden', {get: () => hidden,
        configurable: true}); document.dispatchEvent(new Event('visibilitychange')); }"""
    page.run(f"({hide})(true)")
    page.run("new Promise(done => setTimeout(done, 300))")
    before = page.run(counted)
    page.run("new Promise(done => setTimeout(done, 1500))")
    assert page.run(counted) == before

    page.run(f"({hide})(false)")
    page.wait(f"{counted} > {before}")


def test_live_request(browser: Browser, slow: Live) -> None:
    """A request at work is shown with its prefill going on, then its tokens, then as a turn."""
    browser.open(f"{slow.url}/")
    browser.wait(READY)
    body = slow.body("word " * 120)
    body["messages"].insert(0, {"role": "system", "content": "Be brief. " * 800})
    headers = {"User-Agent": "pi/1.0", "X-Request-Id": "mine.9"}
    bar = "document.querySelector('#live-list progress')"

    with ThreadPoolExecutor() as pool:
        answer = pool.submit(slow.post, "/v1/chat/completions", body, headers=headers)
        partly = f"{bar} && {bar}.value > 0 && {bar}.value < 1"
        shown = browser.wait(f"{partly} && document.querySelector('#live-list').innerText")
        assert all(word in shown for word in ("pi/1.0", "prefill", "mine.9"))
        assert ("progressbar", "Prompt of mine.9") in named(browser)
        browser.wait("document.querySelector('#live-list').innerText.includes('generated')")
        assert answer.result().status_code == 200
    browser.wait("document.querySelector('#turns-rows').innerText.includes('mine.9')")
    browser.wait("!document.querySelector('#live-list li')")


@pytest.mark.parametrize("dialect", ["chat", "messages", "responses"])
def test_playground(dialect: str, page: Browser) -> None:
    """A message is streamed by each dialect: raw events, and thoughts, text and calls as read."""
    page.run(f"document.querySelector('input[value={dialect}]').click()")
    page.run("document.querySelector('#tools-part summary').click()")
    script = f"I write it.{call('write_file', path='a.txt', content='<b>milk</b>')}"
    type_into(page, "message", f"[[SCRIPT]]{script}[[/SCRIPT]]")
    page.run("document.getElementById('example').click()")
    page.run("document.getElementById('send').click()")
    page.wait("document.getElementById('asked').innerText.startsWith('Finished')")

    shown = text(page, "#answer")
    assert "I write it." in shown
    assert "Tool call: write_file" in shown
    read = page.run(
        "Object.fromEntries([...document.querySelectorAll('#answer dl > div')]"
        ".map(pair => [pair.children[0].innerText, pair.children[1].innerText]))"
    )
    assert read == {"path": "a.txt", "content": "<b>milk</b>"}
    assert text(page, "#events").count("data:") > 5
    # The conversation is gone from the form of the turn that it left.
    page.wait("document.querySelector('#turns-rows').innerText.includes('browser')")
    assert "milk" not in text(page, "#turns-rows")


def test_playground_cancels(browser: Browser, slow: Live) -> None:
    """Cancelling ends the stream, and the generation on the server."""
    browser.open(f"{slow.url}/")
    browser.wait(READY)
    type_into(browser, "message", f"[[SCRIPT]]{'word ' * 500}[[/SCRIPT]]")
    browser.run("document.getElementById('send').click()")
    browser.wait("document.getElementById('answer').innerText.includes('word word')")

    browser.run("document.getElementById('cancel').click()")

    browser.wait("document.getElementById('asked').innerText === 'Cancelled.'")
    assert slow.wait_idle()
    browser.wait("document.querySelector('#turns-rows').innerText.includes('cancelled')")


BAD_TOOLS = {
    "no JSON": ("[{", "can’t be read"),
    "no name": ("[{}]", "no name"),
    "no list": ("{}", "list"),
}


@pytest.mark.parametrize("name", BAD_TOOLS)
def test_playground_says_what_is_wrong(name: str, page: Browser) -> None:
    """Tools that can't be read are not sent, and the page says why."""
    given, expected = BAD_TOOLS[name]
    page.run("document.querySelector('#tools-part').open = true")
    type_into(page, "message", "hi")
    type_into(page, "tools", given)
    page.run("document.getElementById('send').click()")

    page.wait(
        f"document.getElementById('tools-problem').innerText.includes({json.dumps(expected)})"
    )
    assert text(page, "#events") == ""


def test_key(browser: Browser) -> None:
    """With a key set, the page asks for it, says if it is wrong, and keeps it in this tab only."""
    from mlx_tools_server.server import ToolsServer

    with ToolsServer(ServerConfig(port=0, api_key="s3cret")) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        browser.open(f"{server.url}/")
        browser.wait("!document.getElementById('key').hidden")
        for key, expected in (("wrong", "does not know"), ("s3cret", "")):
            type_into(browser, "key-field", key)
            press(browser, "Enter", 13)
            shown = "document.getElementById('key-error').innerText"
            if expected:
                browser.wait(f"{shown}.includes({json.dumps(expected)})")
        browser.wait("document.getElementById('key').hidden")
        kept = browser.run("[{...localStorage}, Object.values(sessionStorage), document.cookie]")
        browser.open("about:blank")
        server.shutdown()

    assert kept == [{}, ["s3cret"], ""]
    # The browser's own note of each 401 is no fault of the page.
    browser.problems[:] = [one for one in browser.problems if "401" not in one]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_looks(scheme: str, width: int, page: Browser) -> None:
    """In both themes, wide or narrow, nothing sticks out and all text stands out."""
    page.view(width, 900, scheme)

    assert page.run("document.documentElement.scrollWidth <= innerWidth")
    assert page.run(f"matchMedia('(prefers-color-scheme: {scheme})').matches")
    assert page.run(CONTRASTS) == []
    page.view(1200, 900)


# Texts whose contrast with what is behind them is below 4.5, by the formula of WCAG.
CONTRASTS = """(() => {
    const rgb = color => color.match(/[\\d.]+/g).map(Number);
    const light = color => { const [r, g, b] = rgb(color).slice(0, 3).map(part => {
        const s = part / 255; return s <= 0.03928 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4; });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    const ground = element => { for (let at = element; at; at = at.parentElement) {
        const color = getComputedStyle(at).backgroundColor;
        if (rgb(color)[3] !== 0) return color; } return 'rgb(255, 255, 255)'; };
    const poor = [];
    for (const element of document.querySelectorAll('body *')) {
        const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
        if (!own || !element.checkVisibility() || element.disabled) continue;
        const [one, other] = [light(getComputedStyle(element).color), light(ground(element))];
        const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        if (ratio < 4.5) poor.push(`${element.innerText} ${ratio.toFixed(2)}`);
    }
    return poor; })()"""


def test_keyboard(page: Browser) -> None:
    """By Tab alone one reaches every control in the order of the page, and sees where one is."""
    page.run("document.activeElement.blur(); scrollTo(0, 0)")
    reached = []
    for _ in range(40):
        press(page, "Tab", 9)
        focused: Any = page.run(FOCUSED)
        assert focused is None or focused["outline"] != "none"
        reached.append(focused["name"] if focused else "")
    places = [reached.index(name) for name in CONTROLS]

    assert places == sorted(places)


FOCUSED = """(() => { const at = document.activeElement;
    if (!at || at === document.body) return null;
    const labelled = at.getAttribute('aria-labelledby');
    const label = at.getAttribute('aria-label') || at.labels?.[0]?.innerText
        || (labelled && document.getElementById(labelled).innerText) || at.innerText;
    return {name: label.trim(), outline: getComputedStyle(at).outlineStyle}; })()"""


# What assistive technology must find, by role and the start of the name.
NAMES: dict[str, Callable[[str], bool]] = {
    "banner": lambda name: True,
    "main": lambda name: True,
    "navigation": lambda name: name == "Sections",
    "heading": lambda name: name.startswith("Recent turns"),
    "table": lambda name: name.startswith("The last turns"),
    "columnheader": lambda name: name == "Tokens",
    "status": lambda name: True,
    "meter": lambda name: name == "Memory in use",
    "textbox": lambda name: name == "Message",
    "spinbutton": lambda name: name == "Longest answer, in tokens",
    "radio": lambda name: name == "Messages",
}
# Roles that say nothing without a name.
NEED_NAMES = {"button", "link", "textbox", "radio", "spinbutton", "meter", "table", "region"}


def test_names(page: Browser) -> None:
    """Assistive technology is told of each landmark, table and control, all of them with names."""
    found = named(page)

    for role, fits in NAMES.items():
        assert any(role == one and fits(name) for one, name in found), role
    assert [role for role, name in found if role in NEED_NAMES and not name.strip()] == []
