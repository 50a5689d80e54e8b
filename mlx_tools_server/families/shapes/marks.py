"""The markers of a marked call: each argument of it stands between markers of its own.

Rules of this file:
- A family's form is one `Marks`; nothing else knows its markers. All of them begin with `<`.
- How a tag is read is told here too: quotes around a name may be missing or single, blanks may
  stand around it, and further attributes may follow.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

from ...jsontext import dumps
from ...schema import KINDS, UNTYPED_STRING, Parameters, ValueType, kind_of
from ..tape import Steps, Tape

# A name in quotes that lack their end, too.
_ATTRIBUTE = re.compile(r"""([\w:-]+)\s*=\s*(?:"([^"]*)(?:"|$)|'([^']*)(?:'|$)|([^\s"'=]+))""")
_BLANK = " \t"


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag with a name in it: `head`, the name, `end`.

    With an `attribute` the name is the value of that, in quotes; `extra` is one more attribute.
    """

    head: str
    end: str
    attribute: str = ""
    extra: str = ""

    @property
    def before(self) -> str:
        """What stands before the name."""
        return f'{self.head} {self.attribute}="' if self.attribute else self.head

    def text(self, name: str, extra: str = "") -> str:
        """Return the tag of this name."""
        more = f' {self.extra}="{extra}"' if self.extra else ""
        quote = '"' if self.attribute else ""
        return f"{self.before}{name}{quote}{more}{self.end}"


@dataclass(frozen=True, slots=True)
class Marks:
    """The markers of one family.

    A `call` is opened by a tag with the tool's name; GLM's has no end, since what follows is one.
    A `key` is opened by a tag with its name, its value by `value` if that has a marker of its own.
    Calls stand in one of the `sections`, if there are any; the first is the family's own way. A
    `block` is around all arguments as one JSON object, `cdata` around a text with special
    characters. `escapes` says that names have `&` and quotes escaped. `frames` stand around
    texts and are no part of them, and neither is a `header` between its two markers; those in
    `leads` may come right before an answer.
    """

    call: Tag
    end_call: str
    key: Tag
    end_value: str
    value: str = ""
    sections: tuple[tuple[str, str], ...] = ()
    newline: str = "\n"
    block: tuple[str, str] = ("", "")
    cdata: tuple[str, str] = ("", "")
    escapes: bool = False
    frames: tuple[str, ...] = ()
    leads: tuple[str, ...] = ()
    header: tuple[str, str] = ("", "")

    @property
    def section_openers(self) -> tuple[str, ...]:
        """The markers that open sections."""
        return tuple(opener for opener, _ in self.sections)

    @property
    def section_closers(self) -> tuple[str, ...]:
        """The markers that close sections."""
        return tuple(closer for _, closer in self.sections)

    @property
    def texts(self) -> tuple[str, ...]:
        """The markers that hold no name, the opener of calls first."""
        opener = self.section_openers[0] if self.sections else self.call.head
        texts = (opener, *self.section_closers, self.end_call, self.end_value, self.key.head)
        more = (self.key.end, self.value)
        return tuple(dict.fromkeys([*texts, *(text for text in more if text[:1] == "<")]))

    @property
    def value_head(self) -> str:
        """What every opener of a value begins with."""
        return self.value or self.key.head


def write(name: str, arguments: Mapping[str, Any], *, marks: Marks) -> str:
    """Return a call as the family's template writes it: strings raw, all else as JSON."""
    opener, closer = marks.sections[0] if marks.sections else ("", "")
    lines = [opener, marks.call.text(_escaped(name, marks), "1")]
    for key, value in arguments.items():
        tag = marks.key.text(_escaped(key, marks), _extra(marks.key.extra, value))
        text = value if isinstance(value, str) else dumps(value)
        if marks.cdata[0] and isinstance(value, str) and set(text) & set("<&\n"):
            text = text.join(marks.cdata)
        between = marks.newline if marks.value else ""
        lines.append(f"{tag}{between}{marks.value}{text}{marks.end_value}")
    return marks.newline.join(line for line in [*lines, marks.end_call, closer] if line)


def _escaped(name: str, marks: Marks) -> str:
    return name.replace("&", "&amp;").replace('"', "&quot;") if marks.escapes else name


def _extra(attribute: str, value: object) -> str:
    """Return what a tag says of its value's type."""
    if attribute == "string":
        return "true" if isinstance(value, str) else "false"
    return json_kind(value)


def json_kind(value: object) -> str:
    """Return the JSON type of a value; all numbers are one."""
    kind = kind_of(value)
    return "number" if kind == "integer" else kind


def value_type(parameters: Parameters, name: str, said: str, attribute: str) -> ValueType:
    """Return a parameter's type: the schema's, or where that is silent, what its tag has `said`."""
    known = parameters.type_of(name)
    if not said or not (known is UNTYPED_STRING or known.kinds is None):
        return known
    if attribute == "string":
        return UNTYPED_STRING if said == "true" else ValueType(KINDS - {"string"})
    return ValueType(frozenset({said})) if said in KINDS else known


@dataclass(frozen=True, slots=True)
class Found:
    """A tag that was read: its name, the offset behind it, and what its extra attribute says.

    `plain` ones are written as they should be.
    """

    name: str
    behind: int
    extra: str = ""
    plain: bool = True


def read_tag(
    tape: Tape, offset: int, tag: Tag, known: Container[str], marks: Marks
) -> Steps[Found | None]:
    """Read the tag whose head ends at the offset; one of a known name may lack its end."""
    raw, behind, _ = yield from tape.name(offset)
    end = yield from tape.literal(behind, (tag.end,))
    name, extra, plain = _named(raw, tag, marks)
    if not name:
        return None
    if not end:
        # Some models forget the end of a key before its value.
        follows = yield from tape.literal(behind, (marks.value,) if marks.value else ())
        if not follows and name not in known:
            return None
    return Found(name, behind + len(end), extra, plain=plain and bool(end))


def _named(raw: str, tag: Tag, marks: Marks) -> tuple[str, str, bool]:
    """Return the name that a tag's inside spells, its extra attribute, and whether it is plain."""
    if not tag.attribute:
        name = raw.strip(_BLANK)
        return name.strip("\"'`"), "", raw == name.strip("\"'`")
    values = {word: a or b or c for word, a, b, c in _ATTRIBUTE.findall(raw)}
    name = values.get(tag.attribute, "")
    plain = raw.startswith(f' {tag.attribute}="{name}"') and values.keys() >= {tag.extra} - {""}
    if not name and raw[:1] in ("", *" \t=\"'") and "=" not in raw.strip(" ="):
        name = raw.strip(" \t=\"'")
    name = name.strip()
    if marks.escapes:
        name = name.replace("&quot;", '"').replace("&amp;", "&")
    return name, values.get(tag.extra, ""), plain


def _glm(prefix: str = "") -> Marks:
    """Return the markers of GLM, each with a prefix in its tag."""
    call, key, value = (f"{prefix}{word}>" for word in ("tool_call", "arg_key", "arg_value"))
    return Marks(
        call=Tag(f"<{call}", ""),
        end_call=f"</{call}",
        key=Tag(f"<{key}", f"</{key}"),
        value=f"<{value}",
        end_value=f"</{value}",
    )


def _invoke(prefix: str, *sections: str, **more: Any) -> Marks:
    """Return the markers of calls that `invoke` with a `parameter` each, with a prefix in both."""
    extra = more.pop("extra", "")
    return Marks(
        call=Tag(f"<{prefix}invoke", ">", "name"),
        end_call=f"</{prefix}invoke>",
        key=Tag(f"<{prefix}parameter", ">", "name", extra),
        end_value=f"</{prefix}parameter>",
        sections=tuple((f"<{section}>", f"</{section}>") for section in sections),
        **more,
    )


GLM4 = _glm()
LONGCAT = _glm("longcat_")
MINIMAX_M2 = _invoke("", "minimax:tool_call")
# The next version has another name for its section.
DEEPSEEK_V32 = _invoke("｜DSML｜", "｜DSML｜function_calls", "｜DSML｜tool_calls", extra="string")
MUSE_SPARK = _invoke(
    "atem:",
    "atem:function_calls",
    escapes=True,
    frames=("<|start|>assistant", "<|eom|>", "<|eot|>"),
    leads=("<|start|>assistant",),
    header=("to=", "<|message|>"),
)
MINICPM5 = Marks(
    call=Tag("<function", ">", "name"),
    end_call="</function>",
    key=Tag("<param", ">", "name"),
    end_value="</param>",
    newline="",
    cdata=("<![CDATA[", "]]>"),
)
KIMI_K3 = Marks(
    call=Tag("<|open|>call", "<|sep|>", "tool", "index"),
    end_call="<|close|>call<|sep|>",
    key=Tag("<|open|>argument", "<|sep|>", "key", "type"),
    end_value="<|close|>argument<|sep|>",
    sections=(("<|open|>tools<|sep|>", "<|close|>tools<|sep|>"),),
    newline="",
    block=('<|open|>json type="object"<|sep|>', "<|close|>json<|sep|>"),
    escapes=True,
    frames=(
        "<|open|>response<|sep|>",
        "<|close|>response<|sep|>",
        "<|close|>message<|sep|>",
        "<|end_of_msg|>",
    ),
    leads=("<|open|>response<|sep|>", "<|close|>response<|sep|>"),
)
