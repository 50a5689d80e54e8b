"""The scripted checkpoint says what its prompt tells it to, through mlx-lm's own generation.

Rules of this file:
- The model runs in mlx-lm's real loops over real caches; nothing is replaced.
- What a test expects is the text of the script, or why another text must come out.
"""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm import load, stream_generate
from mlx_lm.generate import BatchGenerator
from mlx_lm.models.cache import load_prompt_cache, save_prompt_cache

from mlx_tools_server.engine.scripted import played, write_checkpoint

pytestmark = pytest.mark.mlx

CALL = (
    "<tool_call>\n<function=read>\n<parameter=path>\n"
    " a  \n\n</parameter>\n</function>\n</tool_call>"
)
TEXTS = [
    "short",
    "",
    "def main(args):\n    return 0\n" * 40,
    "ünï e\u0301 🎉 \t\x00\r\n",
    CALL,
    " x",
]


@dataclass(frozen=True)
class Scripted:
    """A loaded checkpoint, and the ways to run it."""

    model: Any
    tokenizer: Any

    def prompt(self, *messages: str, **template: Any) -> list[int]:
        """The tokens of a chat in which user and assistant take turns."""
        chat = [
            {"role": "assistant" if i % 2 else "user", "content": text}
            for i, text in enumerate(messages)
        ]
        return self.tokenizer.apply_chat_template(chat, add_generation_prompt=True, **template)

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def tokens(self, prompt: list[int], limit: int = 1000, **options: Any) -> list[int]:
        """What one row alone says, without the token that ends it."""
        steps = stream_generate(self.model, self.tokenizer, prompt, limit, **options)
        return [s.token for s in steps if s.token not in self.tokenizer.eos_token_ids]

    def say(self, prompt: list[int], limit: int = 1000, **options: Any) -> str:
        return self.tokenizer.decode(self.tokens(prompt, limit, **options))

    def say_together(
        self, prompts: Sequence[list[int]], caches: Sequence[list[Any]] | None = None
    ) -> list[str]:
        """What the rows of a batch say, in the order of their prompts."""
        stops = [[token] for token in self.tokenizer.eos_token_ids]
        batch = BatchGenerator(self.model, stop_tokens=stops, max_tokens=1000, prefill_step_size=64)
        uids = batch.insert(list(prompts), caches=list(caches) if caches else None)
        said: dict[int, list[int]] = {uid: [] for uid in uids}
        running = set(uids)
        while running:
            for step in batch.next_generated():
                if step.finish_reason is None:
                    said[step.uid].append(step.token)
                else:
                    running.remove(step.uid)
        return [self.tokenizer.decode(said[uid]) for uid in uids]


def make(folder: Path, **options: Any) -> Scripted:
    write_checkpoint(folder, **options)
    trust = {"trust_remote_code": True}
    return Scripted(*load(str(folder), tokenizer_config=trust, **trust))


@pytest.fixture(scope="module", params=["plain", "hybrid"])
def scripted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Scripted:
    return make(tmp_path_factory.mktemp(request.param), hybrid=request.param == "hybrid")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Scripted:
    return make(tmp_path_factory.mktemp("only_plain"))


def script(*parts: str) -> str:
    return f"Please. [[SCRIPT]]{'[[NEXT]]'.join(parts)}[[/SCRIPT]] Thanks."


@pytest.mark.parametrize("text", TEXTS)
def test_says_its_script(scripted: Scripted, text: str) -> None:
    """The model says the text of the script, byte for byte."""
    assert text == scripted.say(scripted.prompt(script(text)))


def test_tokenizer_is_byte_exact(plain: Scripted) -> None:
    """Any text decodes to itself, and the marks stay marks whatever stands around them."""
    text = Path(__file__).read_text() + "".join(map(chr, range(0x250))) + "\U0001f600"

    assert text == plain.tokenizer.decode(plain.encode(text))
    assert [len(plain.encode(s)) for s in ("a[[SCRIPT]]a", "[[NEXT]]", "[[[CUT]]]")] == [3, 1, 3]


def test_says_ok_without_a_script(scripted: Scripted) -> None:
    """Without a script, or with one that isn't closed, the model says OK."""
    assert scripted.say(scripted.prompt("hello")) == "OK."
    assert scripted.say(scripted.prompt("hello [[SCRIPT]]never closed")) == "OK."


def test_each_turn_plays_its_part(scripted: Scripted) -> None:
    """The k-th turn after a script plays its k-th part, and OK when none is left."""
    told = script("one", "two\n")

    assert scripted.say(scripted.prompt(told)) == "one"
    assert scripted.say(scripted.prompt(told, "one", "go on")) == "two\n"
    assert scripted.say(scripted.prompt(told, "one", "go on", "two", "more?")) == "OK."
    assert scripted.say(scripted.prompt(told, "one", script("new"))) == "new"


def test_tool_loop(scripted: Scripted) -> None:
    """A call and the answer after its result are scripted in one user message."""
    arguments = {"path": " a  \n"}
    call = {"type": "function", "function": {"name": "read", "arguments": arguments}}
    chat = [
        {"role": "user", "content": script(CALL, "It is empty.")},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "nothing"},
    ]

    rendered = scripted.tokenizer.apply_chat_template(chat, add_generation_prompt=True)

    assert CALL + "<|im_end|>" in scripted.tokenizer.decode(rendered)
    assert scripted.say(rendered) == "It is empty."


def test_raw_prompt(scripted: Scripted) -> None:
    """Without chat markers the script is played after the prompt, also when that goes on."""
    assert scripted.say(scripted.encode("[[SCRIPT]]b b c[[/SCRIPT]]")) == "b b c"
    assert scripted.say(scripted.encode(script("return 1") + "\ndef f(): ")) == "return 1"


def test_batch_of_many_lengths(scripted: Scripted) -> None:
    """Rows of a batch with different prompts and answers don't disturb each other."""
    prompts = [
        scripted.prompt("word " * (37 * i) + script(f"I am {i}. " * (1 + 3 * (i % 4))))
        for i in range(12)
    ]
    expected = [f"I am {i}. " * (1 + 3 * (i % 4)) for i in range(12)]

    assert expected == scripted.say_together(prompts)


def test_goes_on_after_prefill(scripted: Scripted) -> None:
    """A prompt with what was said so far is continued at the right place."""
    prompt = scripted.prompt(script("one two three four five " * 20))
    whole = scripted.tokens(prompt)
    cuts = [1, 2, 50, len(whole) - 1, len(whole)]

    assert [whole[n:] for n in cuts] == [scripted.tokens(prompt + whole[:n]) for n in cuts]


def test_kept_cache_goes_on(scripted: Scripted, tmp_path: Path) -> None:
    """A cache that was saved, loaded and joined into a batch continues like the hot one."""
    prompt = scripted.prompt(script("alpha beta gamma"))
    cache = scripted.model.make_cache()
    scripted.model(mx.array([prompt[:-1]]), cache=cache)
    save_prompt_cache(str(tmp_path / "cache.safetensors"), cache)
    restored = load_prompt_cache(str(tmp_path / "cache.safetensors"))
    fresh = scripted.prompt("x " * 300 + script("delta"))

    said = scripted.say_together([prompt[-1:], fresh], [restored, scripted.model.make_cache()])

    assert said == ["alpha beta gamma", "delta"]


def test_trimmed_cache_plays_the_new_script(plain: Scripted) -> None:
    """After a trim to a common prefix the model follows what was put there since."""
    first, second = (
        plain.prompt("same " * 50 + script("a")),
        plain.prompt("same " * 50 + script("b")),
    )
    common = next(i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
    cache = plain.model.make_cache()

    said = plain.say(first, prompt_cache=cache)
    cache[0].trim(cache[0].offset - common)

    assert [said, plain.say(second[common:], prompt_cache=cache)] == ["a", "b"]


def test_boom_raises_when_a_row_reaches_it(scripted: Scripted) -> None:
    """The forward pass fails exactly at the marker, and the next request is served."""
    prompt = scripted.prompt(script("one two three[[BOOM]]never"))
    steps = stream_generate(scripted.model, scripted.tokenizer, prompt)

    with pytest.raises(RuntimeError, match="scripted failure"):
        list(steps)
    with pytest.raises(RuntimeError, match="scripted failure"):
        scripted.say_together([scripted.prompt(script("a b c d")), prompt])

    assert scripted.say(prompt, 1) == "one"
    assert scripted.say(scripted.prompt(script("again"))) == "again"


def test_boom_in_history_is_harmless(scripted: Scripted) -> None:
    """Marks in an older script, or in a part that isn't played, do nothing."""
    assert (
        scripted.say(scripted.prompt(script("[[BOOM]]"), "fine", script("new", "[[BOOM]]")))
        == "new"
    )


def test_wrong_keys_and_values_show(scripted: Scripted) -> None:
    """Blocks in the wrong order, of another prefix or at other positions give a wrong text."""
    prompt = scripted.prompt("a b c d e f " + script("right"))
    cache = scripted.model.make_cache()
    scripted.model(mx.array([prompt[:-1]]), cache=cache)
    keys, values, offset = cache[-1].state
    order = mx.array([*range(3, 6), *range(3), *range(6, keys.shape[2])])

    def say(*state: Any) -> str:
        damaged = copy.deepcopy(cache)
        damaged[-1].state = state
        return scripted.say(prompt[-1:], prompt_cache=damaged)

    assert say(keys, values, offset) == "right"
    assert say(keys[:, :, order], values[:, :, order], offset) == "MISMATCH"
    assert say(keys, mx.roll(values, 1, 2), offset) == "MISMATCH"
    assert say(keys[:, :, 1:], values[:, :, 1:], offset - 1) == "MISMATCH"


def test_wrong_hybrid_state_shows(tmp_path: Path) -> None:
    """A recurrent state of another position than the keys' gives a wrong text."""
    scripted = make(tmp_path, hybrid=True)
    prompt = scripted.prompt("a b c d e f " + script("right"))
    early, late = scripted.model.make_cache(), scripted.model.make_cache()
    scripted.model(mx.array([prompt[:8]]), cache=early)
    scripted.model(mx.array([prompt[:-1]]), cache=late)

    assert not late[0].is_trimmable()
    assert scripted.say(prompt[-1:], prompt_cache=[early[0], copy.deepcopy(late[1])]) == "MISMATCH"
    assert scripted.say(prompt[-1:], prompt_cache=late) == "right"


def test_cut_and_control_tokens(plain: Scripted) -> None:
    """A cut makes unusual token boundaries, and a mark stands for a control token."""
    cut = plain.tokens(plain.prompt(script("func[[CUT]]tion")))
    call = plain.tokens(plain.prompt(script("[[tool_call]]x[[/tool_call]]")))

    assert plain.encode("func") + plain.encode("tion") == cut != plain.encode("function")
    assert plain.encode("<tool_call>x</tool_call>") == call
    assert len(call) == 3


def test_control_tokens_of_another_family(tmp_path: Path) -> None:
    """A checkpoint may have the control tokens of any family, and end answers with them."""
    controls = ("<|go|>", "[CALL]", "<|done|>")
    template = (
        "{% for m in messages %}<|go|>{{ m.role }}: {{ m.content }}{% endfor %}<|go|>assistant"
    )
    scripted = make(tmp_path, chat_template=template, controls=controls, ends=["<|done|>"])
    first = scripted.prompt(script(played("[CALL]x<|done|>never", controls)))
    said = scripted.tokens(first)

    assert scripted.tokenizer.decode(said) == "[CALL]x"
    assert len(said) == 2
    assert said[1:] == scripted.tokens(first + said[:1])
    assert scripted.say(scripted.prompt(script("one"), "one", script("two"))) == "two"


def test_sampling_stays_in_the_script(plain: Scripted) -> None:
    """High temperatures don't leave the script."""
    text = "one two three " * 20

    assert text == plain.say(
        plain.prompt(script(text)), sampler=lambda logits: mx.random.categorical(logits / 3)
    )


def test_draft_model_verifies(plain: Scripted) -> None:
    """Speculative decoding, in which passes end in drafts that may be taken back, says the same."""
    text = "one two three four five " * 5

    assert text == plain.say(plain.prompt(script(text)), draft_model=plain.model)


def test_thinking_opens_a_thought(tmp_path: Path) -> None:
    """With `thinking` the prompt opens a thought, and the script begins inside it."""
    scripted = make(tmp_path, thinking=True)
    told = script("hm\n[[/think]]\n\nhello")
    closed = scripted.prompt(told, enable_thinking=False)
    said = scripted.tokens(scripted.prompt(told))

    assert scripted.tokenizer.decode(scripted.prompt(told)).endswith("assistant\n<think>\n")
    assert scripted.tokenizer.decode(said) == "hm\n</think>\n\nhello"
    assert said[2:] == scripted.tokens(scripted.prompt(told) + said[:2])
    assert scripted.tokenizer.decode(closed).endswith("<think>\n\n</think>\n\n")
    assert said == scripted.tokens(closed)


def test_thought_of_its_own(plain: Scripted) -> None:
    """A script may open the thought itself where the prompt doesn't."""
    told = plain.prompt(script("[[think]]\nhm\n[[/think]]\n\nhello"))

    assert plain.say(told) == "<think>\nhm\n</think>\n\nhello"


def test_delays(tmp_path: Path) -> None:
    """Prompt and steps take the time that they were given."""
    scripted = make(tmp_path, step_delay=0.01, prefill_delay_per_1k=0.1)
    prompt = scripted.prompt("a " * 2000 + script("one two three four five six seven"))
    *_, last = stream_generate(scripted.model, scripted.tokenizer, prompt)

    assert last.prompt_tokens / last.prompt_tps > 0.2
    assert last.generation_tps < 100


def test_slow_from_the_mark_on(plain: Scripted) -> None:
    """Only the turn in which a slow mark was reached is slow."""
    *_, slow = stream_generate(
        plain.model, plain.tokenizer, plain.prompt(script("one two [[SLOW]]three four five"))
    )
    *_, fast = stream_generate(plain.model, plain.tokenizer, plain.prompt(script("one two three")))

    assert slow.generation_tps < min(40, fast.generation_tps)


def test_given_template(tmp_path: Path) -> None:
    """A chat template that is passed in is the one that is used."""
    template = "{% for m in messages %}<|im_start|>user\n{{ m.content }}{% endfor %}!"
    scripted = make(tmp_path, chat_template=template)

    rendered = scripted.prompt(script("no header"))

    assert scripted.tokenizer.decode(rendered).endswith("Thanks.!")
    assert scripted.say(rendered) == "no header"


def test_writing_needs_no_mlx(tmp_path: Path) -> None:
    """Writing a checkpoint imports none of the heavy libraries."""
    code = (
        "import sys, pathlib; from mlx_tools_server.engine.scripted import write_checkpoint; "
        "write_checkpoint(pathlib.Path(sys.argv[1])); "
        "print({'mlx', 'mlx_lm', 'transformers', 'tokenizers', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "set()"
