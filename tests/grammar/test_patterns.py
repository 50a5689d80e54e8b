"""Patterns of schemas as regular expressions of whole texts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_tools_server.grammar.patterns import FORMATS, searching

from .worlds import small

# Pattern, texts in which it finds something, texts in which it does not.
PATTERNS: dict[str, tuple[str, list[str], list[str]]] = {
    "anchored": ("^ab?$", ["a", "ab"], ["", "abb", "xa"]),
    "free": ("b", ["b", "abc", "a\nb"], ["", "a"]),
    "half anchored": ("^a", ["a", "ab"], ["ba"]),
    "choices": ("^a$|^b", ["a", "bc"], ["ac", "cb"]),
    "choices in a group": ("^(a|b)$", ["a", "b"], ["c"]),
    "a named class": (r"^\d+\.\w$", ["1.a"], ["1a", "٣.a"]),
    "a class": ("^[a-c_\\-]$", ["a", "_", "-"], ["d"]),
    "a class of special characters": ("^[[&~/^.]$", ["[", "&", "~", "/", "^", "."], ["a"]),
    "a negated class": ("^[^/]+$", ["ab"], ["a/b", ""]),
    "a slash": ("^/a", ["/ab"], ["a"]),
    "counts": ("^a{2,3}$", ["aa", "aaa"], ["a", "aaaa"]),
    "a lazy count": ("^a+?$", ["a", "aa"], [""]),
    "an escape": (r"^\u0041\x42\t$", ["AB\t"], ["AB"]),
    "any character": ("^.$", ["a", "日"], ["\n", "ab"]),
    "nothing": ("", ["", "a"], []),
    "an empty choice": ("^(|a)$", ["", "a"], ["b"]),
    "punctuation that is escaped": (r"^\@\-\/\:$", ["@-/:"], ["@"]),
}


@pytest.mark.parametrize("name", PATTERNS)
def test_patterns(name: str) -> None:
    """A pattern holds for the same texts as in a schema."""
    pattern, found, missed = PATTERNS[name]
    regex = searching(pattern)
    assert regex is not None
    grammar = f"%llguidance {{}}\nstart: T\nT: /{regex}/\n"

    for text in found:
        assert small().accepts(grammar, text), text
    for text in missed:
        assert not small().accepts(grammar, text), text


@pytest.mark.parametrize(
    "pattern",
    ["(?=a)", "(?!a)b", r"(a)\1", r"\bword\b", "a(^b)", "a$b", "(?i)a", "(", "[", "a{3000}",
     "((a{99}){99}){99}", "a" * 3000, r"\p{L}", "[]a]", "(?P<n>a)", "\\ud800", "a*+", ")a(", "a)"],
)  # fmt: skip
def test_patterns_that_can_not_be_said(pattern: str) -> None:
    """What a lexer can't say, or not in reasonable time, is left out."""
    assert searching(pattern) is None


PIECES = st.sampled_from(
    ["a", "b", ".", "[ab]", "[^a]", r"\d", r"\w", r"\s", r"\D", r"\W", "(", ")", "(?:", "|", "*",
     "+", "?", "{1,2}", "^", "$", "-", "/", "\\.", "{", "}", "é", " ", "\n"]
)  # fmt: skip
PROBES = st.text("ab1 -_.é\n/{}٣", max_size=5)


@settings(max_examples=300)
@given(st.lists(PIECES, max_size=6).map("".join), st.lists(PROBES, min_size=1, max_size=5))
def test_never_more(pattern: str, texts: list[str]) -> None:
    """Whatever a grammar says of a pattern, the texts it accepts are found by Python too."""
    try:
        re.compile(pattern)
    except re.error:
        return
    regex = searching(pattern)
    if regex is None or small().grammars.check(f"%llguidance {{}}\nstart: T\nT: /{regex}/\n"):
        return
    for text in texts:
        if small().accepts(f"%llguidance {{}}\nstart: T\nT: /{regex}/\n", text):
            assert re.search(pattern, text), (pattern, text)


@pytest.mark.parametrize("name", FORMATS)
def test_formats(name: str) -> None:
    """Texts of a format are known as such."""
    samples = {
        "date": "2024-02-29",
        "time": "23:59:59Z",
        "date-time": "2024-01-31T00:00:00+01:00",
        "duration": "P3D",
        "email": "a.b@example.org",
        "hostname": "example.org",
        "ipv4": "127.0.0.1",
        "ipv6": "fe80::1",
        "uri": "https://example.org/a?b=c#d",
        "uuid": "01234567-89ab-cdef-0123-456789abcdef",
    }

    grammar = f"%llguidance {{}}\nstart: T\nT: /{FORMATS[name]}/\n"

    assert small().accepts(grammar, samples[name])
    assert not small().accepts(grammar, "?")
