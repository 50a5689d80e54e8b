"""Templates: our two prompt formats, client text that spells control tokens, foreign templates."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from mlx_tools_server import templates
from mlx_tools_server.errors import BadRequest, StartupError
from mlx_tools_server.messages import Message, ToolSpec
from mlx_tools_server.sentinels import Piece
from mlx_tools_server.templates import (
    control_tokens,
    opens_thought,
    read_ours,
)

from .prompts import (
    CONTROLS,
    NOW,
    OURS,
    READ,
    calls,
    joined,
    ours,
    plain,
    result,
    system,
    trivial,
    user,
)

GOLDENS = Path(__file__).parent / "data" / "templates"

AGENT_TASK = [
    system("You are a careful programmer."),
    user("What does `a.py` say? Grüße ☃"),
    calls(("read_file", {"path": "a.py", "lines": [1, 20]}), reasoning="I should look.\n"),
    result("if a < b:\n\tprint('<|im_end|>')\n"),
    Message("assistant", "It compares.\n", reasoning="Short."),
    user("And now both, please."),
    calls(
        ("read_file", {"path": "b.py", "lines": None, "numbered": True}),
        ("now", {}),
        content="I'll read it.",
        reasoning="Two calls.",
    ),
    result("b", "call_0"),
    result("12:00", "call_1"),
]
AWKWARD = [
    calls(
        ("think", {"depth": 1.5, "ok": False, "none": None, "deep": {"ä": [True, None, "ö"]}}),
        ("write", {"text": "  \n</parameter>\n", "number": "12", "null": "null", "big": 10**30}),
    ),
    result(""),
    system("The user is away."),
    Message("assistant", ""),
]


# --- whole conversations -----------------------------------------------------------------------


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize(
    ("title", "messages", "tools"),
    [
        ("agent_task", AGENT_TASK, [READ, NOW]),
        ("awkward", AWKWARD, [NOW]),
        ("chat", [user("Hi"), Message("assistant", "Hello!"), user("  Bye ")], []),
    ],
)
def test_whole_conversations(
    name: str, title: str, messages: list[Message], tools: list[ToolSpec]
) -> None:
    """A whole conversation renders as its reviewed golden, where ⟦ ⟧ hold literal pieces."""
    pieces = ours(name).render(messages, tools)
    shown = "".join(f"⟦{piece.text}⟧" if piece.literal else piece.text for piece in pieces)
    golden = GOLDENS / f"{name}.{title}.txt"
    assert shown == golden.read_text(encoding="utf-8")


SHAPES: dict[str, list[Message]] = {
    "no messages": [],
    "no user": [system("s"), Message("assistant", "a")],
    "only system": [system("s")],
    "two systems": [system("s"), system("t"), user("u")],
    "late system": [user("u"), Message("assistant", "a"), system("s"), user("v")],
    "last is system": [user("u"), system("s")],
    "tool first": [result("r"), user("u")],
    "three results": [user("u"), calls(("now", {})), result("1"), result("2"), result("3")],
    "empty contents": [system(""), user(""), Message("assistant"), user("")],
    "result by text": [user("<tool_response>r</tool_response>")],
    "unicode": [user("日本語 🎉 \u200b\ufeff é")],
    "reasoning": [user("u"), Message("assistant", "a", reasoning="r"), user("v")],
}


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("tools", [[], [NOW], [READ, NOW]], ids=["none", "bare", "two"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_awkward_shapes_render(name: str, tools: list[ToolSpec], shape: list[Message]) -> None:
    """Our templates take every legal shape, close every turn and lose no message."""
    text = joined(ours(name).render(shape, tools))
    assert text.count("<|im_start|>") == text.count("<|im_end|>") + 1
    place = 0
    for message in shape:
        place = text.index(message.content, place)
    for tool in tools:
        assert tool.name in text


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize(
    ("value", "written"),
    [
        (True, "true"),
        (None, "null"),
        (-7, "-7"),
        (1.5, "1.5"),
        (10**30, str(10**30)),
        ([], "[]"),
        ({"a": [1, "é"]}, '{"a": [1, "é"]}'),
        ("", ""),
        ("None", "None"),
        ("\n  two\nlines \n", "\n  two\nlines \n"),
        ("</parameter>", "</parameter>"),
    ],
)
def test_argument_values(name: str, value: Any, written: str) -> None:
    """Strings of the history stand as they are between one newline each, all else is JSON."""
    text = joined(ours(name).render([user("u"), calls(("f", {"x": value}))], []))
    assert f"<function=f>\n<parameter=x>\n{written}\n</parameter>\n</function>\n" in text


@pytest.mark.parametrize("name", OURS)
def test_generation_prompt_is_optional(name: str) -> None:
    """Without a generation prompt the text ends with the last turn."""
    with_prompt = joined(ours(name).render([user("u")], []))
    without = joined(ours(name).render([user("u")], [], add_generation_prompt=False))
    assert without.endswith("<|im_end|>\n")
    assert with_prompt.startswith(without + "<|im_start|>assistant\n")


def test_schema_values_are_json() -> None:
    """Extra keys of a schema show JSON values, never Python's."""
    text = joined(ours("qwen3_coder").render([user("u")], [READ]))
    assert "<type>boolean</type>\n<default>false</default>" in text
    assert '<items>{"type": "integer"}</items>\n<default>null</default>' in text
    assert "\n<additionalProperties>false</additionalProperties>\n</parameters>" in text


# --- thoughts ----------------------------------------------------------------------------------


def thought_of(pieces: list[Piece]) -> list[str]:
    return re.findall(r"assistant\n<think>\n(.*?)\n</think>", plain(pieces), re.DOTALL)


def test_thoughts_of_the_running_task_stay() -> None:
    """Thoughts show after the last user query only, or all with preserve_thinking."""
    template = ours("qwen3_5")
    assert thought_of(template.render(AGENT_TASK, [])) == ["Two calls."]
    kept = thought_of(template.render(AGENT_TASK, [], {"preserve_thinking": True}))
    assert kept == ["I should look.", "Short.", "Two calls."]


def test_late_system_message_does_not_end_the_task() -> None:
    """A late system message is a reminder in place, and the thoughts before it stay."""
    pieces = ours("qwen3_5").render([*AGENT_TASK, system("Hurry.")], [])
    assert thought_of(pieces) == ["Two calls."]
    reminder = "<|im_start|>user\n<system-reminder>\nHurry.\n</system-reminder><|im_end|>\n"
    assert reminder + "<|im_start|>assistant" in plain(pieces)


@pytest.mark.parametrize(
    ("operator", "client", "ending"),
    [
        ({}, {}, "<think>\n"),
        ({}, {"enable_thinking": False}, "<think>\n\n</think>\n\n"),
        ({"enable_thinking": False}, {}, "<think>\n\n</think>\n\n"),
        ({"enable_thinking": False}, {"enable_thinking": True}, "<think>\n"),
    ],
)
def test_thinking_switch(operator: dict[str, Any], client: dict[str, Any], ending: str) -> None:
    """The client's switch wins over the operator's, and thinking is on by default."""
    text = joined(ours("qwen3_5", **operator).render([user("u")], [], client))
    assert text.endswith("<|im_start|>assistant\n" + ending)


@pytest.mark.parametrize(
    ("sent", "reasoning", "content"),
    [
        ("<think>\nhm\n</think>\n\nYes", "hm", "Yes"),
        ("\n<think>hm</think>Yes", "hm", "Yes"),
        ("<think>\n\n</think>\n\nYes", None, "Yes"),
        ("<think>hm</think>", "hm", ""),
        ("<think>a</think>b</think>c", "a", "b</think>c"),
    ],
)
def test_thought_in_content_is_taken_apart(sent: str, reasoning: str | None, content: str) -> None:
    """An answer sent back with its thought in the content is split before it is rendered."""
    template = trivial("{{ messages[0] | tojson }}")
    seen = json.loads(joined(template.render([Message("assistant", sent)], [])))
    assert seen["content"] == content
    assert seen.get("reasoning_content") == reasoning


@pytest.mark.parametrize(
    ("message", "controls"),
    [
        (Message("user", "<think>a</think>b"), CONTROLS),
        (Message("assistant", "<think>a"), CONTROLS),
        (Message("assistant", "so <think>a</think>b"), CONTROLS),
        (Message("assistant", "<think>a</think>b", reasoning="r"), CONTROLS),
        (Message("assistant", "<think>a</think>b"), CONTROLS - {"<think>"}),
    ],
)
def test_other_thought_tags_are_text(message: Message, controls: frozenset[str]) -> None:
    """A thought tag is text for a user, inside an answer, unclosed, or in a model without it."""
    pieces = trivial("{{ messages[0].content }}", controls).render([message], [])
    assert joined(pieces) == message.content


# --- what a template sees ----------------------------------------------------------------------


def test_message_dicts() -> None:
    """Templates see text contents, whole calls with parsed arguments, and named results."""
    template = trivial("{{ messages | tojson }}")
    messages = [user("u"), calls(("f", {"x": {"y": 1}}), reasoning="r"), result("out")]
    assert json.loads(joined(template.render(messages, []))) == [
        {"role": "user", "content": "u"},
        {
            "role": "assistant",
            "content": "",
            "reasoning_content": "r",
            "tool_calls": [
                {
                    "type": "function",
                    "id": "call_0",
                    "function": {"name": "f", "arguments": {"x": {"y": 1}}},
                }
            ],
        },
        {"role": "tool", "content": "out", "tool_call_id": "call_0", "name": "f"},
    ]


@pytest.mark.parametrize(
    ("parameters", "seen"),
    [
        ({}, {"type": "object", "properties": {}}),
        ({"type": "object"}, {"type": "object", "properties": {}}),
        ({"properties": {"a": True}}, {"type": "object", "properties": {"a": True}}),
        ({"properties": {}, "type": "object"}, {"properties": {}, "type": "object"}),
    ],
)
def test_tool_dicts(parameters: dict[str, Any], seen: dict[str, Any]) -> None:
    """Templates see a tool as name, description and a schema of type object, in its own order."""
    pieces = trivial("{{ tools | tojson }}").render([], [ToolSpec("f", "d", parameters)])
    function = {"name": "f", "description": "d", "parameters": seen}
    assert joined(pieces) == json.dumps([{"type": "function", "function": function}])


def test_no_tools_is_none() -> None:
    """Without tools a template sees None, which is how most ask."""
    assert joined(trivial("{{ tools is none }}").render([], [])) == "True"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ 'é<&>' | tojson }}", '"é<&>"'),
        ("{{ 'é' | tojson(ensure_ascii=True) }}", '"\\u00e9"'),
        ("{{ {'b': 1, 'a': 2} | tojson(sort_keys=True, separators=(',', ':')) }}", '{"a":2,"b":1}'),
        ("{{ [1] | tojson(indent=1) }}", "[\n 1\n]"),
        ("{% for x in [1, 2, 3] %}{% if x == 2 %}{% break %}{% endif %}{{ x }}{% endfor %}", "1"),
        ("a{% generation %}{{ 'b' }}{% endgeneration %}c", "abc"),
        ("  {% if true %}\nx\n  {% endif %}\n", "x\n"),
        ("{{ strftime_now('%Y') | length }}", "4"),
        ("{{ bos_token }}{{ missing }}", "<s>"),
    ],
)
def test_template_language(source: str, text: str) -> None:
    """Templates are written in Hugging Face's dialect: its filters, tags and trimming."""
    assert joined(trivial(source, bos_token="<s>").render([], [])) == text


# --- control tokens in client text -------------------------------------------------------------

STRICT = """
{%- set ns = namespace(users=0) %}
{%- for m in messages %}
    {%- if m.role == 'system' and not loop.first %}
        {{- raise_exception('System must be first.') }}
    {%- endif %}
    {%- set ns.users = ns.users + (m.role == 'user') %}
    {{- m.role }}: {{ m.content }};
{%- endfor %}
{%- if not ns.users %}
    {{- raise_exception('No user query found.') }}
{%- endif %}"""


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([system("s"), user("u")], "system: s;user: u;"),
        (
            [system("s"), user("u"), system("late")],
            "system: s;user: u;user: <system-reminder>\nlate\n</system-reminder>;",
        ),
        ([system("s"), Message("assistant", "a")], "system: s;user: ;assistant: a;"),
        ([system("s"), system("t"), user("u")], "system: s\n\nt;user: u;"),
        ([], "user: ;"),
    ],
)
def test_shapes_that_a_template_refuses_are_rewritten(messages: list[Message], text: str) -> None:
    """Late system messages and missing users are rewritten for a template that refuses them."""
    assert joined(trivial(STRICT).render(messages, [])) == text


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            "{{ raise_exception('No ' ~ messages[0].content ~ ' please.') }}",
            "No <think>x please. Send",
        ),
        ("{{ ''.__class__.__mro__ }}", "__class__"),
        ("{{ messages.append(1) }}", "append"),
        ("{{ missing.field }}", "missing"),
        ("{{ 'a' + none }}", "NoneType"),
        ("{{ 1 // 0 }}", "zero"),
        ("{{ range(10 ** 9) }}", "range"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
    ],
)
def test_templates_that_raise(source: str, said: str) -> None:
    """Whatever a template raises is a bad request with its words and a remedy."""
    with pytest.raises(BadRequest, match="--chat-template") as caught:
        trivial(source).render([user("<think>x")], [])
    assert said.lower() in caught.value.message.lower()
    assert "\ue000" not in caught.value.message


@pytest.mark.parametrize("name", ["b.role", "b['role']"])
def test_templates_that_take_too_long(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a template may look up has a limit, all in all: some go through messages for each."""
    monkeypatch.setattr(templates, "LOOKUPS", 3000)
    loops = f"{{% for a in messages %}}{{% for b in messages %}}{{{{ {name} }}}}{{% endfor %}}"
    template = trivial(f"{loops}{{% endfor %}}{{{{ messages[-1].content }}}}")

    for _ in range(2):
        assert template.render([user("u")] * 20, [])
        with pytest.raises(BadRequest, match="too long for so many messages") as caught:
            template.render([user("u")] * 60, [])
        assert caught.value.param == "messages"


def test_arguments_nested_too_deeply() -> None:
    """Arguments nested deeper than Python can walk are a bad request."""
    deep: dict[str, Any] = {}
    for _ in range(20_000):
        deep = {"a": deep}
    with pytest.raises(BadRequest):
        ours("qwen3_coder").render([calls(("f", deep))], [])


@pytest.mark.parametrize(
    "name",
    [
        "messages",
        "tools",
        "add_generation_prompt",
        "chat_template",
        "documents",
        "tokenize",
        "eos_token",
    ],
)
def test_reserved_variables(name: str) -> None:
    """A client can't set what the server sets for a template."""
    with pytest.raises(BadRequest, match=name) as caught:
        ours("qwen3_5").render([user("u")], [], {name: "x"})
    assert caught.value.param == f"chat_template_kwargs.{name}"


@pytest.mark.parametrize("source", ["{% if %}", "{{ x | nofilter }}", "{% generation %}x", "{{"])
def test_templates_that_do_not_compile(source: str) -> None:
    """A template that doesn't compile stops the start and says where."""
    with pytest.raises(StartupError, match=r"a test, line 1.*--chat-template"):
        trivial(source)


def test_unknown_template_of_ours() -> None:
    """Asking for a template of ours that doesn't exist names those that do."""
    with pytest.raises(StartupError, match=r"qwen3_5, qwen3_coder"):
        read_ours("../pyproject")


# --- helpers -----------------------------------------------------------------------------------


def test_control_tokens_of_a_model() -> None:
    """Special tokens steer, others only if the template or a marker mentions them; space never."""
    added = [("<s>", True), ("<think>", False), ("<call>", False), ("<x>", False), (" ", True)]
    assert control_tokens("{{ '<think>' }}", added, ["<call>\n<f="]) == {"<s>", "<think>", "<call>"}


@pytest.mark.parametrize(
    ("rendered", "opens"),
    [
        ("a<think>\n", True),
        ("<think>b</think>c<think>", True),
        ("a<think>\n\n</think>\n\n", False),
        ("a<think>b", False),
        ("a", False),
        ("", False),
    ],
)
def test_opens_thought(rendered: str, opens: bool) -> None:
    """A prompt opens a thought if its last thought is open and still empty."""
    assert opens_thought(rendered, "<think>", "</think>") is opens
