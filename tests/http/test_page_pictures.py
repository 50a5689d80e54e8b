"""What a terminal showed, as the HTML that pictures of it are taken of."""

from __future__ import annotations

import pytest

from tools.screenshots import to_html

SHOWN = {
    "plain text": ("a <b> & c\r\n", "a &lt;b&gt; &amp; c\n"),
    "a colour": ("\x1b[32mok\x1b[0m x", '<span class="green">ok</span> x'),
    "two at once": ("\x1b[1;31mno\x1b[m", '<span class="bold red">no</span>'),
    "one in another": (
        "\x1b[2ma\x1b[33mb\x1b[0mc",
        '<span class="dim">a<span class="yellow">b</span></span>c',
    ),
    "a colour that is not ended": ("\x1b[36mx", '<span class="cyan">x</span>'),
    "a colour that we don't have": ("\x1b[95mx\x1b[0m", "x"),
    "a line that was overwritten": ("loading 3%\rloading 9%\r\x1b[Kdone\n", "done\n"),
}


@pytest.mark.parametrize("name", SHOWN)
def test_to_html(name: str) -> None:
    """Colours become classes, markup becomes text, and of a line its last state stays."""
    written, expected = SHOWN[name]

    assert to_html(written) == expected
