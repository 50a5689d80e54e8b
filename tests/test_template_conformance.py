"""Every family's chat template: whatever a client may send, the model reads all of it, in order.

The templates of other families stand in data/chat_templates: short ones of our own, which write
the turns of a conversation as the published ones do and refuse what those refuse.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from mlx_tools_server.messages import Exact, Message, ToolSpec
from mlx_tools_server.rewriting import (
    Rewrite,
    alternate,
    call_by_call,
    calls_in_words,
    in_words,
    never_silent,
    one_system,
    paired,
    reminders,
    short_ids,
    text_apart,
    user_first,
    user_last,
    versions,
    without_system,
)
from mlx_tools_server.templates import ChatTemplate, read_ours
from tools.check_templates import SHAPES, TOOLS, VARIABLES, controls_in, hostile, main

from .prompts import NOW, OURS, READ, calls, joined, literals, plain, result, system, trivial, user
from .test_templates import AGENT_TASK, AWKWARD, GOLDENS

THEIRS = Path(__file__).parent / "data" / "chat_templates"
OTHERS = sorted(file.stem for file in THEIRS.glob("*.jinja"))
FAMILIES = (*OURS, *OTHERS)

# Families whose prompts open no answer, or none behind a result: their models go on.
NEVER_OPEN = {"mistral", "mistral_v3"}
NOT_BEHIND_RESULTS = {"deepseek_v3", "deepseek_v31", "gemma4", "function_gemma", *NEVER_OPEN}


def source(family: str) -> str:
    return read_ours(family) if family in OURS else (THEIRS / f"{family}.jinja").read_text("utf-8")


@cache
def template(family: str) -> ChatTemplate:
    text = source(family)
    return ChatTemplate(text, family, variables=VARIABLES, control_tokens=controls_in(text))


def texts(message: Message) -> list[str]:
    values = [value for call in message.tool_calls for value in call.arguments.values()]
    return [value for value in values if isinstance(value, str)]


def groups(shape: Sequence[Message]) -> Iterator[list[str]]:
    """Yield the texts of a conversation; calls and their results may stand in any order."""
    together: list[str] = []
    for message in shape:
        if message.role == "tool":
            together.append(message.content)
            continue
        yield together
        yield [message.content]
        together = texts(message)
    yield together


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_shape_is_written(family: str, shape: Sequence[Message]) -> None:
    """Every text of every legal conversation is in the prompt, once and in order."""
    for tools in (TOOLS, ()):
        text = joined(template(family).render(shape, tools))
        places = []
        for group in filter(None, ([*filter(None, group)] for group in groups(shape))):
            assert [text.count(each) for each in group] == [1] * len(group), (group, text)
            places.append(sorted(text.index(each) for each in group))
        assert all(one[-1] < two[0] for one, two in pairwise(places))
        for message in shape:
            assert all(call.name in text for call in message.tool_calls)
        assert all(tool.name in text for tool in tools)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_prompt_opens_an_answer(family: str) -> None:
    """A prompt ends where the model is to speak, unless the conversation ends with its call."""
    for title, shape in SHAPES.items():
        last = shape[-1] if shape else user("")
        if last.tool_calls or family in (NOT_BEHIND_RESULTS if last.role == "tool" else NEVER_OPEN):
            continue
        prompt = joined(template(family).render(shape, TOOLS))
        closed = joined(template(family).render(shape, TOOLS, add_generation_prompt=False))
        assert prompt != closed, title


@pytest.mark.parametrize("family", FAMILIES)
def test_no_client_text_becomes_a_control_token(family: str) -> None:
    """Control-token text in any place is text: without it the prompt is that of other words."""
    controls = controls_in(source(family))
    assert controls
    pieces = template(family).render(hostile(controls), TOOLS)
    harmless = joined(template(family).render(hostile(["Word"] * len(controls)), TOOLS))
    assert plain(pieces).replace("\0", "") == harmless.replace("Word", "")
    assert {*literals(pieces)} >= {*controls}


@pytest.mark.parametrize("family", OTHERS)
@pytest.mark.parametrize(
    ("title", "messages", "tools"),
    [("agent_task", AGENT_TASK, [READ, NOW]), ("awkward", AWKWARD, [NOW])],
)
def test_whole_conversations(
    family: str, title: str, messages: list[Message], tools: list[ToolSpec]
) -> None:
    """A whole conversation renders as its reviewed golden, where ⟦ ⟧ hold literal pieces."""
    pieces = template(family).render(messages, tools)
    shown = "".join(f"⟦{piece.text}⟧" if piece.literal else piece.text for piece in pieces)
    assert shown == (GOLDENS / f"{family}.{title}.txt").read_text(encoding="utf-8")


# --- Rewriting -----------------------------------------------------------------------------------

S, T, U, V, A, B = (
    system("s"),
    system("t"),
    user("u"),
    user("v"),
    Message("assistant", "a"),
    Message("assistant", "b"),
)
ONE, TWO = calls(("f", {"x": 1})), calls(("f", {"x": 1}), ("g", {}))
BESIDE = calls(("f", {"x": 1}), content="c")
GAP, NOBODY = user("…"), Message("assistant", "…")
R, Q = result("r"), result("q", "call_1")
CALL = '<tool-call name="f">\n{"x": 1}\n</tool-call>'
RESULT = user("<tool-result>\nr\n</tool-result>")
REWRITES: list[tuple[Rewrite, list[Message], list[Message]]] = [
    (one_system, [S, T, U, S], [system("s\n\nt"), U, S]),
    (reminders, [S, U, T], [S, U, user("<system-reminder>\nt\n</system-reminder>")]),
    (user_first, [S, A, U], [S, user(""), A, U]),
    (user_first, [], [user("")]),
    (user_last, [U, A], [U, A, user("")]),
    (user_last, [U, ONE, R], [U, ONE, R]),
    (paired, [R, U], [RESULT, U]),
    (paired, [U, TWO, Q, R], [U, TWO, R, Q]),
    (paired, [U, TWO, R, V], [U, TWO, R, result("…", "call_1"), V]),
    (paired, [U, TWO], [U, TWO]),
    (paired, [U, ONE, R, R], [U, ONE, R, RESULT]),
    (never_silent, [U, Message("assistant"), ONE], [U, NOBODY, ONE]),
    (alternate, [U, V, A, B], [user("u\n\nv"), A, GAP, B]),
    (alternate, [A], [GAP, A]),
    (alternate, [U, ONE, R, V], [U, ONE, R, NOBODY, V]),
    (call_by_call, [TWO, Q, R], [ONE, R, replace(TWO, tool_calls=TWO.tool_calls[1:]), Q]),
    (text_apart, [U, BESIDE, R], [U, Message("assistant", "c"), ONE, R]),
    (calls_in_words, [BESIDE, R], [Message("assistant", f"c\n\n{CALL}"), R]),
    (in_words, [U, ONE, R], [U, Message("assistant", CALL), RESULT]),
    (
        without_system,
        [S, U, A, T],
        [user("s\n\nu"), A, user("<system-reminder>\nt\n</system-reminder>")],
    ),
]


@pytest.mark.parametrize(("rewrite", "messages", "told"), REWRITES)
def test_rewrites(rewrite: Rewrite, messages: list[Message], told: list[Message]) -> None:
    """Each rewrite says the same in another form, and leaves alone what it need not touch."""
    assert rewrite(messages) == told
    assert rewrite(told) == told
    assert rewrite([S, U, A, V]) == [S, U, A, V] or rewrite is without_system


def test_short_ids() -> None:
    """Ids become nine letters and digits, the same for a call and its result, and only once."""
    told = short_ids([TWO, R, Q])
    ids = [call.id for call in told[0].tool_calls]
    assert [message.tool_call_id for message in told[1:]] == ids
    assert all(len(id_) == 9 and id_.isalnum() for id_ in ids)
    assert len({*ids}) == 2
    assert short_ids(told) == told


def test_versions_begin_with_the_conversation() -> None:
    """No version comes twice, and the first is the conversation itself."""
    told = list(versions([S, U, A, T], lambda: True))
    assert told[0] == [S, U, A, T]
    assert all(one not in told[:number] for number, one in enumerate(told))


LOOP = (
    "{% for m in messages %}{% if CONDITION %}"
    "{{ m.role[0] }}:{{ m.content }};"
    "{% endif %}{% endfor %}"
)


@pytest.mark.parametrize(
    ("source", "messages", "text"),
    [
        pytest.param(LOOP.replace("CONDITION", "true"), [S, U, T], "s:s;u:u;s:t;", id="fits"),
        pytest.param(
            LOOP.replace("CONDITION", "loop.first or m.role != 'system'"),
            [S, U, T],
            "s:s;u:u;u:<system-reminder>\nt\n</system-reminder>;",
            id="leaves it out",
        ),
        pytest.param(
            "{{ messages[-1].content }}" + LOOP.replace("CONDITION", "not loop.last"),
            [U, A, V],
            "vu:u;a:a;",
            id="moves it, whatever is tried",
        ),
        pytest.param(
            LOOP.replace("CONDITION", "not m.tool_calls"),
            [U, ONE, R],
            f"u:u;a:{CALL};t:r;",
            id="writes no calls",
        ),
        pytest.param(
            "{% for m in messages %}{{ m.tool_calls[0].function.arguments.x if m.tool_calls }}"
            "{{ m.content }};{% endfor %}",
            [U, calls(("f", {"x": "1"}), ("f", {"x": "2"})), result("r"), result("q", "call_1")],
            "u;1;r;2;q;",
            id="writes the first call",
        ),
        pytest.param("{{ messages[0].content }}", [U, A], "u", id="writes one text only"),
        pytest.param("{{ messages[0].content[:4] }}", [user("Hello!")], "Hell", id="cuts texts"),
    ],
)
def test_what_a_template_leaves_out(source: str, messages: list[Message], text: str) -> None:
    """A text that a template leaves out is said in another way, if there is one that it writes."""
    assert joined(trivial(source).render(messages, [])) == text


def test_a_rewritten_conversation_replays_its_answers() -> None:
    """What need not be rewritten keeps the tokens that it was generated as."""
    source = LOOP.replace("CONDITION", "loop.first or m.role != 'system'")
    chat = source + "{{ 'a:' if add_generation_prompt }}"
    exact = replace(A, exact=Exact((1, 2), closing=";"))
    pieces = trivial(chat).render([S, U, exact, T], [])
    assert [piece.ids for piece in pieces if piece.ids] == [(1, 2)]
    assert joined(pieces).startswith("s:s;u:u;a:;u:<system-reminder>")


# --- Answers with calls, token by token -----------------------------------------------------------

# What ends an answer with a call, by family; old Mistral writes no text that could stand for one.
CLOSERS = {
    "deepseek_v3": "<｜end▁of▁sentence｜>",
    "deepseek_v31": "<｜end▁of▁sentence｜>",
    "deepseek_v32": "<｜end▁of▁sentence｜>",
    "function_gemma": "<start_function_response>",
    "gemma4": "<|tool_response>",
    "glm4": "<|observation|>",
    "gpt_oss": "<|call|>",
    "hermes": "<|im_end|>",
    "kimi_k2": "<|im_end|>",
    "kimi_k3": "<|end_of_msg|>",
    "lfm2": "<|im_end|>",
    "llama3": "<|eot_id|>",
    "llama4": "<|eot|>",
    "longcat": "</longcat_s>",
    "minicpm5": "<|im_end|>",
    "minimax_m2": "[e~[",
    "mistral": "</s>",
    "muse_spark": "<|eot|>",
    "qwen3_5": "<|im_end|>",
    "qwen3_coder": "<|im_end|>",
}
THINKING = {"deepseek_v32": {"thinking": True}, "gemma4": {"enable_thinking": True}}


@pytest.mark.parametrize("family", CLOSERS)
def test_calls_are_replayed(family: str) -> None:
    """A prompt begins with the one before it and with the tokens of the call that answered it."""
    words = source(family)
    model = ChatTemplate(
        words,
        family,
        variables={**VARIABLES, **THINKING.get(family, {})},
        control_tokens=controls_in(words),
    )
    asked = [system("Rules1."), user("Question1?")]
    prompt = model.render(asked, TOOLS)
    opening = model.opening(prompt) or ""
    thinks = joined(prompt).rstrip().endswith(("<think>", "think<|sep|>")) or family == "glm4"
    exact = Exact((7, 8), opening, CLOSERS[family], thinks)
    answer = replace(calls(("read", {"path": "Path1"}), ("now", {})), exact=exact)
    after = model.render([*asked, answer, result("Result1"), result("Result2", "call_1")], TOOLS)
    shown = "".join("⟪ids⟫" if piece.ids else piece.text for piece in after)
    assert shown.startswith(f"{joined(prompt)}⟪ids⟫{CLOSERS[family]}")
    rest = shown.partition("⟪ids⟫")[2]
    assert rest.index("Result1") < rest.index("Result2")
    assert "Path1" not in shown


TURNS = (
    (
        "{%- set state = namespace(called=false) %}{% for m in messages %}"
        "{{ raise_exception('No call.') if m.role == 'tool' and not state.called }}"
        "{% set state.called = m.tool_calls or m.role == 'tool' %}"
        "[{{ m.role }}]THOUGHT{{ m.content }}"
        "{% for c in m.tool_calls or [] %}!{{ c.function.name }}{{ c.function.arguments | tojson }}"
        "{% endfor %}END{% endfor %}{{ '[assistant]' if add_generation_prompt }}"
    )
    .replace("END", "{{ END }}")
    .replace("THOUGHT", "{{ THOUGHT }}")
)
WRITTEN = '[assistant]!f{"x": 1}'


@pytest.mark.parametrize(
    ("end", "thought", "is_thought", "answer"),
    [
        ("'.'", "''", False, "[assistant]⟪ids⟫."),
        ("'.'", "m.reasoning_content", True, "[assistant]⟪ids⟫."),
        ("'.'", "''", True, f"{WRITTEN}."),
        ("'.' if not m.tool_calls", "''", False, WRITTEN),
        ("';'", "''", False, f"{WRITTEN};"),
    ],
)
@pytest.mark.parametrize("said", ["r", ""])
def test_a_replayed_turn_holds_nothing_else(
    end: str, thought: str, is_thought: bool, answer: str, said: str
) -> None:
    """An answer stands for its turn if the template closes it before anything else is said."""
    words = TURNS.replace("END", end).replace("THOUGHT", thought)
    exact = Exact((7, 8), closing=".", thought=is_thought)
    pieces = trivial(words).render([U, replace(ONE, exact=exact), result(said)], [])
    shown = "".join("⟪ids⟫" if piece.ids else piece.text for piece in pieces)
    close = end.partition("'")[2][0]
    assert shown == f"[user]u{close}{answer}[tool]{said}{close}[assistant]"


# --- Anything at all ------------------------------------------------------------------------------


def anything(chance: Random) -> list[Message]:
    """Return messages of any role, in any order, each with a word of its own, or with none."""
    told = []
    for number in range(chance.randrange(10)):
        text = chance.choice([f"Word{number}.", f"  Word{number}. <|im_end|>\n", ""])
        role = chance.choice(["system", "user", "assistant", "calls", "tool", "tool"])
        if role == "calls":
            made = [
                (chance.choice(["read", "now"]), {"path": f"Path{number}-{each}"})
                for each in range(chance.randrange(1, 4))
            ]
            told.append(calls(*made, content=text, reasoning=chance.choice(["", "Hm."])))
        elif role == "tool":
            told.append(result(text, f"call_{chance.randrange(4)}"))
        else:
            told.append(Message(role, text))  # type: ignore[arg-type]
    return told


@pytest.mark.parametrize(
    "seeds", [range(10), pytest.param(range(10, 250), marks=pytest.mark.slow)], ids=["few", "many"]
)
@pytest.mark.parametrize("family", CLOSERS)
def test_anything(family: str, seeds: range) -> None:
    """Of no conversation is anything lost, whether answers are replayed in it or not."""
    model = template(family)
    opening = model.opening(model.render([U], TOOLS)) or ""
    thinks = opening.rstrip().endswith("<think>")
    for seed in seeds:
        chance = Random(seed)
        sent = anything(chance)
        for number, message in enumerate(sent):
            if message.role == "assistant" and texts(message) and chance.random() < 0.7:
                exact = Exact((number,), opening, CLOSERS[family], thinks)
                sent[number] = replace(message, exact=exact)
        pieces = model.render(sent, chance.choice([TOOLS, ()]))
        replayed = [piece.ids[0] for piece in pieces if piece.ids]
        assert replayed == sorted({*replayed}), seed
        for number, message in enumerate(sent):
            for text in filter(None, [message.content.strip()[:6], *texts(message)]):
                assert joined(pieces).count(text) == (number not in replayed), (seed, text)


# --- The tool -------------------------------------------------------------------------------------


def test_the_tool(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The tool tells what becomes of every shape, and fails if one is refused or lost."""
    good, bad = tmp_path / "good.jinja", tmp_path / "bad.jinja"
    good.write_text(read_ours("qwen3_coder"), encoding="utf-8")
    assert main([str(good)]) == 0
    bad.write_text("{{ raise_exception('Never.') if messages | length > 1 }}", encoding="utf-8")
    assert main([str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert f"good  {2 * len(SHAPES) + 2}" in said
    assert "refused: a chat;" in said
    assert "Never." in said
    bad.write_text("{% if %}", encoding="utf-8")
    assert main([str(bad)]) == 1
    assert "does not compile" in capsys.readouterr().out
