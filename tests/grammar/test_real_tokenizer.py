"""Grammars over a vocabulary of real size: that of the tokenizer.json named by TOKENIZER_JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jsonschema
import pytest

from ..families.reading import CODER
from .test_laws import OFFER
from .worlds import END, HEAD, parameter, parsed, world

FILE = os.environ.get("TOKENIZER_JSON", "")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not FILE, reason="needs TOKENIZER_JSON")]


def test_first_grammar() -> None:
    """The first grammar of a model is as strict as the others, whatever its tables take."""
    real = world(Path(FILE).read_text("utf-8"))
    first = CODER.grammar(OFFER, real.grammars)
    assert first is not None
    assert not first.notes
    assert first == CODER.grammar(OFFER, real.grammars)

    said = f"{HEAD}Read>\n{parameter('path', 'a')}{END}"

    assert real.accepts(first.whole, said)


def test_random_answers() -> None:
    """Whatever a model draws from the masks is, once it has ended, a valid call."""
    real = world(Path(FILE).read_text("utf-8"))
    grammar = CODER.grammar(OFFER, real.grammars, strict={spec.name for spec in OFFER})
    assert grammar is not None
    schemas = {spec.name: spec.parameters for spec in OFFER}
    whole = 0
    for seed in range(60):
        said, ended = real.draw(grammar.whole, seed, 200)
        answer, _ = parsed(OFFER, said, cut=not ended)
        whole += ended
        for part in answer.calls:
            checker = jsonschema.FormatChecker()
            validator = jsonschema.Draft202012Validator(schemas[part.name], format_checker=checker)
            assert not list(validator.iter_errors(json.loads(part.text))), said
    assert whole > 10
