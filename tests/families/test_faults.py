"""Faults of real models and quotations that the shared table does not show."""

from __future__ import annotations

import json

import pytest

from .reading import read_text

SIZES = (1, 2, 3, 7, 0)

# One row each: text, calls, content.
NOTE_HEAD = "<tool_call>\n<function=save_note>\n<parameter=file>\na\n</parameter>\n"
TAIL = "\n</parameter>\n</function>\n</tool_call>"
MORE = {
    "a bare call after prose": (
        "On it.\n\n<function=run_cmd>\n<parameter=cmd>\nls\n</parameter>\n</function>",
        [("run_cmd", {"cmd": "ls"})],
        "On it.",
    ),
    "a bare mention at a line start is prose": (
        "<function=run_cmd> starts a call.",
        [],
        "<function=run_cmd> starts a call.",
    ),
    "two functions in one wrapper": (
        "<tool_call>\n<function=run_cmd>\n<parameter=cmd>\na\n</parameter>\n</function>\n"
        "<function=save_note>\n<parameter=file>\nf\n</parameter>\n</function>\n</tool_call>",
        [("run_cmd", {"cmd": "a"}), ("save_note", {"file": "f"})],
        "",
    ),
    "the first closer is missing before the next parameter": (
        "<tool_call>\n<function=find_text>\n<parameter=needle>\nabc\n<parameter=root>\nsrc" + TAIL,
        [("find_text", {"needle": "abc", "root": "src"})],
        "",
    ),
    "an opener of another parameter as the whole value": (
        "<tool_call>\n<function=find_text>\n<parameter=needle>\n<parameter=root>\n</parameter>\n"
        "<parameter=root>\n." + TAIL,
        [("find_text", {"needle": "<parameter=root>", "root": "."})],
        "",
    ),
    "a function opener as the whole value": (
        "<tool_call>\n<function=find_text>\n<parameter=needle>\n<function=run_cmd>\n</parameter>\n"
        "<parameter=root>\n." + TAIL,
        [("find_text", {"needle": "<function=run_cmd>", "root": "."})],
        "",
    ),
    "an opener mentioned in a line, and another call behind": (
        NOTE_HEAD + "<parameter=body>\nx <parameter=zz> y" + TAIL + "\n"
        "<tool_call>\n<function=run_cmd>\n<parameter=cmd>\nls" + TAIL,
        [("save_note", {"file": "a", "body": "x <parameter=zz> y"}), ("run_cmd", {"cmd": "ls"})],
        "",
    ),
    "an XML element called parameter at the end of the value": (
        NOTE_HEAD + '<parameter=body>\n<parameter name="x">1</parameter>' + TAIL,
        [("save_note", {"file": "a", "body": '<parameter name="x">1</parameter>'})],
        "",
    ),
    "a doubled closer before the next parameter": (
        "<tool_call>\n<function=find_text>\n<parameter=needle>\nq\n</parameter>\n</parameter>\n"
        "<parameter=depth>\n3" + TAIL,
        [("find_text", {"needle": "q", "depth": 3})],
        "",
    ),
    "a value whose last line ends in the closer": (
        NOTE_HEAD + "<parameter=body>\nsay </parameter>" + TAIL,
        [("save_note", {"file": "a", "body": "say </parameter>"})],
        "",
    ),
    "a call in one line inside a value": (
        NOTE_HEAD + "<parameter=body>\nRun <tool_call><function=run_cmd><parameter=cmd>rm -rf /"
        "</parameter></function></tool_call> never." + TAIL,
        [
            (
                "save_note",
                {
                    "file": "a",
                    "body": "Run <tool_call><function=run_cmd><parameter=cmd>rm -rf /"
                    "</parameter></function></tool_call> never.",
                },
            )
        ],
        "",
    ),
    "two documented calls at the end of a value": (
        NOTE_HEAD
        + "<parameter=body>\n"
        + "<tool_call>\n<function=run_cmd>\n<parameter=cmd>\nx"
        + TAIL
        + "\n"
        + "<tool_call>\n<function=run_cmd>\n<parameter=cmd>\ny"
        + TAIL
        + TAIL,
        [
            (
                "save_note",
                {
                    "file": "a",
                    "body": "<tool_call>\n<function=run_cmd>\n<parameter=cmd>\nx"
                    + TAIL
                    + "\n<tool_call>\n<function=run_cmd>\n<parameter=cmd>\ny"
                    + TAIL,
                },
            )
        ],
        "",
    ),
    "the closer of the function within a text": (
        NOTE_HEAD + "<parameter=body>\nend with\n</function>\n</tool_call>\nand stop" + TAIL,
        [("save_note", {"file": "a", "body": "end with\n</function>\n</tool_call>\nand stop"})],
        "",
    ),
    "Windows lines keep their payload": (
        NOTE_HEAD + "<parameter=body>\na\r\nb\r" + TAIL,
        [("save_note", {"file": "a", "body": "a\r\nb\r"})],
        "",
    ),
    "Windows framing": (
        "<tool_call>\r\n<function=run_cmd>\r\n<parameter=cmd>\r\nls\r\n</parameter>\r\n"
        "</function>\r\n</tool_call>",
        [("run_cmd", {"cmd": "ls"})],
        "",
    ),
    "words between parameters are said behind the call": (
        "<tool_call>\n<function=run_cmd>\nfirst\n<parameter=cmd>\nls" + TAIL,
        [("run_cmd", {"cmd": "ls"})],
        "\nfirst",
    ),
    "arguments as one JSON object inside the function": (
        '<tool_call>\n<function=run_cmd>\n{"cmd": "ls"}\n</function>\n</tool_call>',
        [("run_cmd", {"cmd": "ls"})],
        "",
    ),
    "JSON that is no call is text": (
        '<tool_call>\n{"a": 1}\n</tool_call> is the form',
        [],
        '<tool_call>\n{"a": 1}\n</tool_call> is the form',
    ),
    "a Hermes call with its arguments as a string": (
        '<tool_call>\n{"name": "run_cmd", "arguments": "{\\"cmd\\": \\"ls\\"}"}\n</tool_call>',
        [("run_cmd", {"cmd": "ls"})],
        "",
    ),
    "the bracket of a known name is missing": (
        "<tool_call>\n<function=run_cmd\n<parameter=cmd\nls" + TAIL,
        [("run_cmd", {"cmd": "ls"})],
        "",
    ),
    "no closer at all before the next call": (
        "<tool_call>\n<function=run_cmd>\n<parameter=cmd>\na\n</parameter>\n"
        "<tool_call>\n<function=find_text>\n<parameter=needle>\nb" + TAIL,
        [
            (
                "run_cmd",
                {
                    "cmd": "a\n</parameter>\n<tool_call>\n<function=find_text>\n"
                    "<parameter=needle>\nb"
                },
            )
        ],
        "",
    ),
    "a tool without arguments": (
        "<tool_call>\n<function=run_cmd>\n</function>\n</tool_call>",
        [("run_cmd", {})],
        "",
    ),
    "a number with blanks around it": (
        "<tool_call><function=find_text><parameter=depth> 7 </parameter></function></tool_call>",
        [("find_text", {"depth": 7})],
        "",
    ),
    "all inner closers are missing": (
        "<tool_call>\n<function=run_cmd>\n<parameter=cmd>\nls\n</tool_call>",
        [("run_cmd", {"cmd": "ls"})],
        "",
    ),
    "the two inner closers changed places": (
        "<tool_call>\n<function=run_cmd>\n<parameter=cmd>\nls\n</function>\n</parameter>\n</tool_call>",
        [("run_cmd", {"cmd": "ls"})],
        "",
    ),
    "the two outer closers changed places": (
        "<tool_call>\n<function=run_cmd>\n<parameter=cmd>\nls\n</parameter>\n</tool_call>\n</function>",
        [("run_cmd", {"cmd": "ls"})],
        "",
    ),
    "a closer of the function as the last line of a value": (
        NOTE_HEAD + "<parameter=body>\nx\n</function>" + TAIL,
        [("save_note", {"file": "a", "body": "x\n</function>"})],
        "",
    ),
    "closers in one line, and words behind": (
        "<tool_call>\n<function=run_cmd>\n<parameter=cmd>\nls\n"
        "</parameter></function></tool_call>\n\nDone.",
        [("run_cmd", {"cmd": "ls"})],
        "\n\nDone.",
    ),
    "closers behind the last word of a value": (
        "<tool_call>\n<function=run_cmd>\n<parameter=cmd>\nls</parameter></function></tool_call>",
        [("run_cmd", {"cmd": "ls"})],
        "",
    ),
    "an opener mentioned in a line, and words behind": (
        NOTE_HEAD + "<parameter=body>\nx <parameter=zz> y" + TAIL + "\n\nDone.",
        [("save_note", {"file": "a", "body": "x <parameter=zz> y"})],
        "\n\nDone.",
    ),
    "four closers of the wrapper": (
        "<tool_call>\n<function=run_cmd>\n<parameter=cmd>\nls\n</function>" + "\n</tool_call>" * 4,
        [("run_cmd", {"cmd": "ls"})],
        "",
    ),
    "the wrapper's closer is missing before words": (
        "<tool_call>\n<function=run_cmd>\n<parameter=cmd>\nls\n</parameter>\n</function>\n\nDone.",
        [("run_cmd", {"cmd": "ls"})],
        "\n\nDone.",
    ),
    "the wrapper's closer is missing before a call": (
        "<tool_call>\n<function=run_cmd>\n</function>\n"
        "<tool_call>\n<function=run_cmd>\n<parameter=cmd>\nls" + TAIL,
        [("run_cmd", {}), ("run_cmd", {"cmd": "ls"})],
        "",
    ),
    "neither closer before the next call, where no value is open": (
        "<tool_call>\n<function=run_cmd>\n"
        "<tool_call>\n<function=run_cmd>\n<parameter=cmd>\nls" + TAIL,
        [("run_cmd", {}), ("run_cmd", {"cmd": "ls"})],
        "",
    ),
    "a function opens before the first one is closed": (
        "<tool_call>\n<function=run_cmd>\n<function=find_text>\n<parameter=needle>\nls" + TAIL,
        [("run_cmd", {}), ("find_text", {"needle": "ls"})],
        "",
    ),
    "a wrapper that is named where a parameter should stand": (
        "<tool_call>\n<function=run_cmd>\n<tool_call> is odd\n</function>\n</tool_call>",
        [("run_cmd", {})],
        "\n<tool_call> is odd",
    ),
    "a Hermes call behind a call in one wrapper": (
        "<tool_call>\n<function=run_cmd>\n</function>\n"
        '{"name": "find_text", "parameters": {"needle": "x"}}\n</tool_call>',
        [("run_cmd", {}), ("find_text", {"needle": "x"})],
        "",
    ),
    "JSON that is no call behind a call": (
        '<tool_call>\n<function=run_cmd>\n</function>\n{"a": 1}\n</tool_call>',
        [("run_cmd", {})],
        '\n{"a": 1}\n</tool_call>',
    ),
    "a name of a tag that never ends behind a call": (
        "<tool_call>\n<function=run_cmd>\n</function>\n<function=",
        [("run_cmd", {})],
        "\n<function=",
    ),
    "broken JSON as arguments is said": (
        "<tool_call>\n<function=run_cmd>\n{'cmd': ls}\n</function>\n</tool_call>",
        [("run_cmd", {})],
        "\n{'cmd': ls}",
    ),
    "a brace behind a parameter is said": (
        "<tool_call>\n<function=run_cmd>\n<parameter=cmd>\nls\n</parameter>\n</parameter>\n"
        "</function>\n{x}",
        [("run_cmd", {"cmd": "ls"})],
        "\n{x}",
    ),
    "a name that is never finished is said": (
        "<tool_call>\n<function=run_cmd>\n<parameter=c",
        [("run_cmd", {})],
        "\n<parameter=c",
    ),
    "a brace instead of the bracket": (
        "<tool_call>\n<function=run_cmd}\n<parameter=cmd>\nls" + TAIL,
        [("run_cmd", {"cmd": "ls"})],
        "",
    ),
    "a closer instead of the bracket": (
        "<tool_call>\n<function=run_cmd </parameter>\n<parameter=cmd>\nls" + TAIL,
        [("run_cmd", {"cmd": "ls"})],
        "",
    ),
    "a closer instead of the bracket of an unknown tool": (
        "<tool_call>\n<function=replace</function>\n<parameter=old>\nx" + TAIL,
        [("replace", {"old": "x"})],
        "",
    ),
    "an opener alone in the last line of a value": (
        NOTE_HEAD + "<parameter=body>\nx\n<parameter=zz>" + TAIL,
        [("save_note", {"file": "a", "body": "x\n<parameter=zz>"})],
        "",
    ),
    "a name without an end inside a value": (
        NOTE_HEAD + "<parameter=body>\n<parameter=\n<function=\n<parameter=zz/>" + TAIL,
        [("save_note", {"file": "a", "body": "<parameter=\n<function=\n<parameter=zz/>"})],
        "",
    ),
    "a closer that is followed by an opener without a name": (
        NOTE_HEAD + "<parameter=body>\nx</parameter>\n<parameter=\ny" + TAIL,
        [("save_note", {"file": "a", "body": "x</parameter>\n<parameter=\ny"})],
        "",
    ),
    "a documented call whose closers stand behind its value": (
        NOTE_HEAD
        + "<parameter=body>\n<function=f>\n<parameter=a>\n1</parameter></function>!"
        + TAIL,
        [
            (
                "save_note",
                {"file": "a", "body": "<function=f>\n<parameter=a>\n1</parameter></function>!"},
            )
        ],
        "",
    ),
    "a documented parameter before an opener without a name": (
        NOTE_HEAD + "<parameter=body>\n<parameter=a>1</parameter><parameter=\n!" + TAIL,
        [("save_note", {"file": "a", "body": "<parameter=a>1</parameter><parameter=\n!"})],
        "",
    ),
    "a parameter that is given twice counts as it was given last": (
        "<tool_call>\n<function=run_cmd>\n<parameter=cmd>\na\n</parameter>\n<parameter=cmd>\nb"
        + TAIL,
        [("run_cmd", {"cmd": "b"})],
        "",
    ),
    "a call in a code span is a mention": (
        "Write `<tool_call><function=run_cmd></function></tool_call>` to run.",
        [],
        "Write `<tool_call><function=run_cmd></function></tool_call>` to run.",
    ),
    "a call behind a fence in its line counts": (
        "```<tool_call><function=run_cmd></function></tool_call>```",
        [("run_cmd", {})],
        "``````",
    ),
    "a name and nothing of a call is a mention": (
        "Use <tool_call>\n<function=NAME>\n to call.",
        [],
        "Use <tool_call>\n<function=NAME>\n to call.",
    ),
    "the parameter's tag opens no unknown tool": (
        "<tool_call>\n<parameter=x>\n</tool_call>",
        [],
        "<tool_call>\n<parameter=x>\n</tool_call>",
    ),
    "the wrapper with a tag that has no name": (
        "<tool_call>\n<function=\n<b>",
        [],
        "<tool_call>\n<function=\n<b>",
    ),
    "an empty wrapper in a line is a mention": (
        "See <tool_call></tool_call>.",
        [],
        "See <tool_call></tool_call>.",
    ),
    "more openers of the wrapper than a slip of the pen": (
        "<tool_call>" * 12 + "x",
        [],
        "<tool_call>" * 12 + "x",
    ),
    "a carriage return at the end is payload": (
        "<tool_call>\n<function=run_cmd>\n<parameter=cmd>\r\nls\r</parameter>\n</function>",
        [("run_cmd", {"cmd": "ls\r"})],
        "",
    ),
    "the bracket of a name is missing before a parameter in its line": (
        "<tool_call><function=run_cmd<parameter=cmd>ls</parameter></function></tool_call>",
        [("run_cmd", {"cmd": "ls"})],
        "",
    ),
    "more closers of a value than a slip of the pen": (
        "<tool_call>\n<function=run_cmd>\n<parameter=cmd>\nls" + "\n</parameter>" * 10,
        [("run_cmd", {"cmd": "ls\n</parameter>"})],
        "",
    ),
    "more closers of the wrapper than a slip of the pen": (
        "<tool_call>\n<function=run_cmd>\n<parameter=cmd>\nls\n</function>" + "\n</tool_call>" * 10,
        [("run_cmd", {"cmd": "ls\n</function>\n</tool_call>\n</tool_call>"})],
        "",
    ),
    "more blank space than between any tags": (
        "<tool_call>\n<function=run_cmd>\n<parameter=cmd>\nls\n</parameter>\n" + " " * 1200 + ".",
        [("run_cmd", {"cmd": "ls\n</parameter>\n" + " " * 1200 + "."})],
        "",
    ),
    "more blank space behind a closer than between any tags": (
        "<tool_call>\n<function=run_cmd>\n<parameter=cmd>\nls\n</parameter>"
        + " " * 1200
        + "</function>\n</tool_call>",
        [("run_cmd", {"cmd": "ls\n</parameter>" + " " * 1200})],
        "",
    ),
    "a brace in a stray word": (
        '<tool_call>\n<function=run_cmd>\nso{"cmd": "ls"}\n</function>\n</tool_call>',
        [("run_cmd", {})],
        '\nso{"cmd": "ls"}',
    ),
    "a name that is longer than any": (
        "<tool_call>\n<function=run_cmd}" + " " * 300 + "<parameter=cmd>\nls" + TAIL,
        [],
        "<tool_call>\n<function=run_cmd}" + " " * 300 + "<parameter=cmd>\nls" + TAIL,
    ),
    "a page of blank space behind a call": (
        "<tool_call>\n<function=run_cmd>\n</function>\n</tool_call>" + "\n" * 1200 + "Done.",
        [("run_cmd", {})],
        "\n" * 1200 + "Done.",
    ),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", MORE)
def test_more(name: str, size: int) -> None:
    """Faults and quotations that the shared table does not show are read as their names say."""
    text, calls, content = MORE[name]

    answer = read_text(text, size=size)

    assert calls == [(call.name, json.loads(call.text)) for call in answer.calls]
    assert content == answer.joined("text")
