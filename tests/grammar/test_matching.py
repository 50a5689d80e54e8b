"""Grammars at work: masks, what they count, and what happens where they end."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mlx_tools_server.grammar.matching import KEPT, GrammarError, Grammars

from .worlds import call, calls, small, tool

# Digits, since no token holds two of them.
ABC = '%llguidance {}\nstart: "1" ("2" | "3") "4"\n'


def test_tail_is_masked() -> None:
    """Logits beyond the tokenizer's tokens are never allowed, whatever the grammar."""
    world = small()
    size = world.tokenizer.get_vocab_size()
    matcher = world.grammars.compile("%llguidance {}\nstart: /(?s:.*)/\n").matcher()

    assert world.grammars.vocabulary > size
    assert max(world.allowed(matcher)) < size


def test_end() -> None:
    """An answer may end where its grammar does, by any token that ends answers."""
    world = small()
    matcher = world.grammars.compile(ABC).matcher()
    assert not matcher.accepting
    for token in world.encode("124"):
        assert not matcher.stopped
        matcher.consume(token)

    assert matcher.accepting
    assert world.allowed(matcher) == set(world.eos)
    assert matcher.consume(world.eos[0])
    assert matcher.stopped


def test_failure() -> None:
    """A token that may not come makes a matcher fail for good, and all is allowed from then on."""
    world = small()
    matcher = world.grammars.compile(ABC).matcher()
    row = np.zeros(world.grammars.words, dtype=np.int32)

    assert not matcher.consume(world.encode("9")[0])
    assert matcher.failed
    assert matcher.error
    assert not matcher.consume(world.encode("1")[0])
    matcher.mask(row)
    assert (row == -1).all()
    assert not matcher.accepting
    assert not matcher.stopped
    assert not matcher.rollback(1)


def test_text_that_came_before() -> None:
    """A matcher takes text that it did not choose, and fails where that does not fit."""
    world = small()
    matcher = world.grammars.compile(ABC).matcher()
    assert matcher.consume_text("")
    assert matcher.consume_text("12")
    assert matcher.consume(world.encode("4")[0])
    assert matcher.accepting

    assert not world.grammars.compile(ABC).matcher().consume_text("2")


def test_copies() -> None:
    """Matchers of one grammar don't see each other."""
    world = small()
    grammar = world.grammars.compile(ABC)
    first, second = grammar.matcher(), grammar.matcher()
    first.consume(world.encode("1")[0])

    assert world.allowed(second) == world.allowed(grammar.matcher())
    assert world.allowed(first) != world.allowed(second)


def test_forced_tokens() -> None:
    """Tokens without a rival are counted, once their mask was asked for."""
    world = small()
    matcher = world.grammars.compile('%llguidance {}\nstart: "1" /[23]/ "4"\n').matcher()
    for token in world.encode("124"):
        world.allowed(matcher)
        matcher.consume(token)

    assert (matcher.taken, matcher.forced) == (3, 2)
    assert matcher.rollback(2)
    assert (matcher.taken, matcher.forced) == (1, 1)
    assert world.allowed(matcher) == {world.encode(text)[0] for text in "23"}


def test_rows() -> None:
    """Many answers are masked at once; those without a grammar are left alone."""
    world = small()
    matcher = world.grammars.compile(ABC).matcher()
    bitmask = np.zeros((2, world.grammars.words), dtype=np.int32)

    world.grammars.fill([matcher, None], bitmask)

    assert (bitmask[1] == -1).all()
    assert np.unpackbits(bitmask[0].view(np.uint8)).sum() == 1


def test_compiled_once() -> None:
    """A grammar is compiled once, also for many threads, and the oldest are forgotten."""
    grammars = small().grammars
    with ThreadPoolExecutor(8) as pool:
        assert len({id(g) for g in pool.map(grammars.compile, [ABC] * 20)}) <= 8
    assert grammars.compile(ABC) is grammars.compile(ABC)

    kept = grammars.compile(ABC)
    for i in range(KEPT):
        grammars.compile(f'%llguidance {{}}\nstart: "{i}"\n')
    assert grammars.compile(ABC) is not kept


@pytest.mark.parametrize("text", ["", "start: x\n", '%llguidance {}\nstart: "a\n', "a" * 3_000_000])
def test_refused(text: str) -> None:
    """A text that is no grammar, or too long, is refused with a reason."""
    with pytest.raises(GrammarError) as refused:
        small().grammars.compile(text)

    assert str(refused.value)


def test_tokenizer_that_can_not_be_read() -> None:
    """A tokenizer that llguidance doesn't know makes grammars impossible, not the server."""
    grammars = Grammars('{"added_tokens": []}', 10, [0])

    with pytest.raises(GrammarError, match="tokenizer"):
        grammars.compile(ABC)
    assert grammars.check(ABC)


def test_tags_that_are_no_tokens() -> None:
    """Where a tokenizer has no tokens for tags, they are spelled."""
    description = json.loads(small().tokenizer.to_str())
    names = ("<tool_call>", "</tool_call>")
    description["added_tokens"] = [
        token for token in description["added_tokens"] if token["content"] not in names
    ]
    grammars = Grammars(json.dumps(description), small().grammars.vocabulary, small().eos)
    family_grammar = calls(tool("f", "x", x={"type": "string"}))
    assert "<tool_call> " in family_grammar.whole

    from ..families.reading import CODER

    grammar = CODER.grammar([tool("f", "x", x={"type": "string"})], grammars)
    assert grammar is not None
    matcher = grammars.compile(grammar.whole).matcher()
    said = call("f", "<parameter=x>\na\n</parameter>\n")
    assert matcher.consume_text(said)
    assert matcher.accepting


def test_grammars_are_written_without_the_engine() -> None:
    """Building grammars imports neither llguidance nor mlx."""
    import subprocess

    code = (
        "import sys; import mlx_tools_server.families; "
        "print([m for m in ('llguidance', 'mlx', 'mlx_lm') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ran.stdout.strip() == "[]"
