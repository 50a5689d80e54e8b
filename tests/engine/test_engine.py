"""The engine in this process: prompts in, events out, over mlx-lm's real loop.

Rules of this file:
- An engine lives in a fixture and is gone, model and all, before the interpreter is.
- What a test expects is the text of a script, or what a request gives when it is alone.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from mlx_tools_server.engine.engine import Engine
from mlx_tools_server.engine.scripted import write_checkpoint
from mlx_tools_server.errors import BadRequest, ContextOverflow
from mlx_tools_server.events import (
    Finished,
    PartDelta,
    PartEnded,
    PartStarted,
    Progress,
    Sampled,
    Started,
    fold,
)
from mlx_tools_server.messages import (
    Options,
    Sampling,
    TextRequest,
    ToolChoice,
)

from .running import CALL, READ, WORDS, answer, ask, chat, raw, running, script, together, wait_idle

pytestmark = pytest.mark.mlx


@pytest.fixture(scope="module", params=["plain", "hybrid"])
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """Return an engine of a scripted model, over layers that can be cut back or not."""
    folder = tmp_path_factory.mktemp(request.param)
    write_checkpoint(folder, hybrid=request.param == "hybrid")
    with running(folder, prefill_step_size=256, context_length=8192) as made:
        yield made


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Return an engine that takes 20 ms a step and a second a thousand prompt tokens."""
    folder = tmp_path_factory.mktemp("slow")
    write_checkpoint(folder, step_delay=0.02, prefill_delay_per_1k=1.0)
    with running(folder, prefill_step_size=128, decode_concurrency=2, prompt_concurrency=1) as made:
        yield made


# Prompts.


def test_plain_chat_is_rendered_as_it_is(engine: Engine) -> None:
    """A conversation without control texts has the ids that the tokenizer's own template gives."""
    tokenizer = engine.model_provider.tokenizer
    messages = [{"role": "user", "content": "Füße 🎉\n\n  x"}]
    expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True)

    assert tuple(expected) == engine.prepare_chat(chat("Füße 🎉\n\n  x")).ids


@pytest.mark.parametrize(
    "text", ["<|im_end|>", "<|im_start|>system\n", "<tool_call>", "a</think>b<|endoftext|>"]
)
def test_control_texts_in_content(engine: Engine, text: str) -> None:
    """A message that spells control tokens adds none to the prompt."""
    added = engine.model_provider.tokenizer.added_tokens_decoder

    def control(content: str) -> list[int]:
        return [token for token in engine.prepare_chat(chat(content)).ids if token in added]

    assert control("x") == control(text)


def test_control_texts_of_a_raw_prompt(engine: Engine) -> None:
    """In a raw prompt control tokens count, and ids are taken as they are."""
    end = engine.model_provider.tokenizer.convert_tokens_to_ids("<|im_end|>")

    assert engine.prepare_text(TextRequest("<|im_end|>")).ids == (end,)
    assert engine.prepare_text(TextRequest((1, 2, 3))).ids == (1, 2, 3)


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (TextRequest(""), "prompt"),
        (TextRequest(()), "prompt"),
        (TextRequest((1, -1)), "prompt"),
        (TextRequest((1 << 40,)), "prompt"),
        (TextRequest("x", options=Options(sampling=Sampling(logit_bias={-1: 1}))), "logit_bias"),
        (TextRequest("x", options=Options(sampling=Sampling(logit_bias={9999: 1}))), "logit_bias"),
    ],
    ids=["empty", "no-ids", "negative-id", "huge-id", "negative-bias", "bias-beyond"],
)
def test_refused_prompts(engine: Engine, request_: TextRequest, param: str) -> None:
    """What can't be served is refused before the loop sees it, naming the parameter."""
    with pytest.raises(BadRequest) as refused:
        engine.prepare_text(request_)

    assert refused.value.param == param


@pytest.mark.parametrize(
    ("wanted", "expected"), [(None, 92), (10, 10), (92, 92), (93, 92), (1 << 40, 92)]
)
def test_max_tokens(engine: Engine, wanted: int | None, expected: int) -> None:
    """An answer may be as long as wanted, and as what is left of the context."""
    request = TextRequest((1,) * 8100, options=Options(max_tokens=wanted))

    assert engine.prepare_text(request).max_tokens == expected


@pytest.mark.parametrize("length", [8192, 9000])
def test_context_overflow(engine: Engine, length: int) -> None:
    """A prompt that leaves no room for one token is refused, saying both numbers."""
    with pytest.raises(ContextOverflow) as refused:
        engine.prepare_text(TextRequest((1,) * length))

    assert str(length) in refused.value.message
    assert "8192" in refused.value.message


# Events.


def test_order_of_events(engine: Engine) -> None:
    """Started comes first, then progress, then whole parts one after another, then Finished."""
    events = list(ask(engine, "x " * 600 + script(f"before{CALL}"), tools=(READ,)))
    kinds = [type(event) for event in events]
    parts = [kind for kind in kinds if kind in (PartStarted, PartDelta, PartEnded)]
    progress = [event for event in events if isinstance(event, Progress)]
    first_part = kinds.index(PartStarted)

    assert (kinds[0], kinds[-1]) == (Started, Finished)
    assert set(kinds[1:first_part]) == {Progress}
    assert [p.done for p in progress] == sorted(p.done for p in progress)
    assert progress[-1].done == progress[-1].total == events[0].prompt_tokens  # type: ignore[union-attr]
    assert parts.count(PartStarted) == parts.count(PartEnded) == 2
    assert [part.kind for part in fold(events).parts] == ["text", "tool_call"]


def test_usage(engine: Engine) -> None:
    """Prompt, answer and cached tokens are counted; the token that ends the answer is not."""
    prompt = "count " * 50 + script("a b c")
    first, second = answer(engine, prompt), answer(engine, prompt)

    assert first.finished is not None
    assert second.finished is not None
    usage = second.finished.usage
    assert usage.prompt_tokens == len(engine.prepare_chat(chat(prompt)).ids)
    assert usage.completion_tokens == first.finished.usage.completion_tokens == 3
    assert usage.reasoning_tokens == 0


def test_cached_tokens(slow: Engine) -> None:
    """The same prompt again takes all but its end from the cache."""
    prompt = "cached " * 40 + script("a b c")
    answer(slow, prompt)
    again = answer(slow, prompt)

    assert again.finished is not None
    assert again.finished.usage.cached_tokens >= again.finished.usage.prompt_tokens - 2
    assert again.joined("text") == "a b c"


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_length(engine: Engine, limit: int) -> None:
    """An answer of exactly `max_tokens` tokens is cut there, and says so."""
    whole = raw(engine, script(WORDS))
    cut = raw(engine, script(WORDS), max_tokens=limit)

    assert cut.finished is not None
    assert cut.finished.reason == "length"
    assert cut.finished.usage.completion_tokens == limit
    assert whole.joined("text").startswith(cut.joined("text"))


def test_exact_length_is_no_cut(engine: Engine) -> None:
    """A limit one above the answer's tokens leaves room for its end."""
    whole = answer(engine, script("a b c"))
    assert whole.finished is not None
    tokens = whole.finished.usage.completion_tokens

    fits = answer(engine, script("a b c"), options=Options(max_tokens=tokens + 1))
    cut = answer(engine, script("a b c"), options=Options(max_tokens=tokens))

    assert fits.finished is not None
    assert cut.finished is not None
    assert (fits.finished.reason, cut.finished.reason) == ("stop", "length")
    assert fits.joined("text") == cut.joined("text") == "a b c"


def test_length_inside_a_call(engine: Engine) -> None:
    """A call that is cut stays incomplete, and the reason stays `length`."""
    got = answer(engine, script(CALL), tools=(READ,), options=Options(max_tokens=14))

    assert got.finished is not None
    assert got.finished.reason == "length"
    assert got.calls == []


def test_one_call_only(engine: Engine) -> None:
    """Where one call is allowed, the answer ends with it."""
    got = answer(engine, script(f"{CALL}\n{CALL} more"), tools=(READ,), parallel_tool_calls=False)

    assert [call.name for call in got.calls] == ["read"]
    assert got.joined("text") == ""


def test_no_tools_to_call(engine: Engine) -> None:
    """With tool_choice `none` a call is text."""
    got = answer(engine, script(CALL), tools=(READ,), tool_choice=ToolChoice("none"))

    assert got.joined("text") == CALL


def test_log_probabilities(engine: Engine) -> None:
    """Each token is told with its probability, without the one that ends the answer."""
    events = list(ask(engine, script("a b c"), options=Options(top_logprobs=2)))
    sampled = [event.token for event in events if isinstance(event, Sampled)]

    assert "".join(token.text for token in sampled) == "a b c"
    assert all(len(token.top) == 2 and token.logprob <= 0 for token in sampled)


def test_log_probabilities_beside_other_answers(engine: Engine) -> None:
    """Who asks for log probabilities gets all, whether or not the rest of the batch does."""
    told, untold = together(
        lambda: answer(engine, script(WORDS), options=Options(top_logprobs=2)),
        lambda: answer(engine, script(WORDS)),
    )

    assert "".join(token.text for token in told.logprobs) == told.joined("text")
    assert told.joined("text") == untold.joined("text") == WORDS
    assert all(token.logprob > -1 and token.top[1][1] < -1 for token in told.logprobs)
    assert untold.logprobs == []


def test_stop_string(engine: Engine) -> None:
    """A stop string ends the answer and is left out, and what was computed stays cached."""
    prompt = "stop " * 40 + script(WORDS)
    got = answer(engine, prompt, options=Options(stop=(" fi",)))
    again = answer(engine, prompt)

    assert got.joined("text") == "one two three four"
    assert got.finished is not None
    assert got.finished.reason == "stop"
    assert again.joined("text") == WORDS


# Leaving.


def test_leaving_while_queued(slow: Engine) -> None:
    """A request whose client leaves while it waits is never begun."""
    with closing(ask(slow, script("[[SLOW]]" + WORDS * 5))) as busy:
        assert any(isinstance(event, PartStarted) for event in busy)
        waiting = ask(slow, "w " * 500 + script("never"))
        next(waiting)
        waiting.close()

    assert wait_idle(slow)


def test_leaving_in_prefill(slow: Engine) -> None:
    """A prompt whose client leaves is dropped at its next step."""
    began = time.monotonic()
    events = ask(slow, "p " * 8000 + script("never"))
    while not (isinstance(event := next(events), Progress) and event.done > 200):
        pass
    events.close()

    assert wait_idle(slow)
    assert answer(slow, script("next")).joined("text") == "next"
    assert time.monotonic() - began < 4  # the whole prompt takes sixteen


def test_leaving_in_decode(slow: Engine) -> None:
    """An answer whose client leaves ends at its next token, and its cache is kept."""
    prompt = script(WORDS * 20)
    events = ask(slow, prompt)
    heard: list[PartDelta] = []
    while len(heard) < 12:
        event = next(events)
        heard += [event] if isinstance(event, PartDelta) else []
    events.close()
    assert wait_idle(slow)

    # The prompt that goes on where the answer was left finds it in the cache.
    ids = slow.prepare_chat(chat(prompt)).ids
    said = slow.model.encoder.encode_raw("".join(event.text for event in heard))
    went_on = raw(slow, ids + tuple(said), max_tokens=1)

    assert went_on.finished is not None
    assert went_on.finished.usage.cached_tokens >= len(ids) + 8


def test_leaving_before_beginning(engine: Engine) -> None:
    """A generation that nobody asked for anything is not begun."""
    ask(engine, script(WORDS)).close()

    assert engine.in_flight == 0


def test_nothing_stays(engine: Engine) -> None:
    """Ended requests leave nothing behind but their KV cache, within its bounds."""
    for number in range(15):
        answer(engine, f"{number} " * 20 + script("x"))
    wait_idle(engine)
    gc.collect()
    kept = [job for job in gc.get_objects() if type(job).__name__ == "Job"]

    assert len(kept) <= 1  # the loop holds its last request until the next
    assert engine.prompt_cache.nbytes < 1 << 29


# Several at once.


def test_several_at_once(engine: Engine) -> None:
    """Requests that share a batch each get their own answer."""
    texts = [f"{number}: {WORDS * (number % 4)}" for number in range(12)]

    answers = together(*[lambda t=text: answer(engine, "f " * 37 + script(t)) for text in texts])

    assert texts == [got.joined("text") for got in answers]
