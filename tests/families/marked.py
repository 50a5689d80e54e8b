"""The families of marked calls, and texts that are made of their markers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from mlx_tools_server.families import FAMILIES, Family
from mlx_tools_server.families.shapes import marks
from mlx_tools_server.families.shapes.marked_call import MarkedCallParser

FORMS = {
    "glm4": marks.GLM4,
    "longcat": marks.LONGCAT,
    "minimax_m2": marks.MINIMAX_M2,
    "deepseek_v32": marks.DEEPSEEK_V32,
    "muse_spark": marks.MUSE_SPARK,
    "minicpm5": marks.MINICPM5,
    "kimi_k3": marks.KIMI_K3,
}


@dataclass(frozen=True)
class Marked:
    """One family, its markers, and how it writes parts of a call."""

    family: Family
    form: marks.Marks

    @property
    def head(self) -> str:
        """The opener of a call of `save_note`, up to the first key."""
        opener = self.form.section_openers[0] + self.form.newline if self.form.sections else ""
        return f"{opener}{self.form.call.text('save_note', '1')}{self.form.newline}"

    def key(self, name: str) -> str:
        """What stands before a value."""
        return self.form.key.text(name, _said(self.form.key.extra)) + self.form.value

    def write(self, name: str, arguments: dict[str, Any]) -> str:
        """Return a call as the family writes it."""
        return self.family.shape.write(name, arguments)

    def parser(self, tools: dict[str, Any], **options: Any) -> MarkedCallParser:
        """Return a parser for these parameter schemas."""
        return MarkedCallParser(tools, marks=self.form, **options)

    @property
    def fragments(self) -> list[str]:
        """Markers, whole and in part, and what stands between them."""
        form = self.form
        tags = [form.call.text(name, "1") for name in ("run_cmd", "save_note", "zz")]
        tags += [form.call.before, form.call.head, form.key.head, form.key.before, form.key.end]
        tags += [self.key(name) for name in ("cmd", "body", "file", "mode", "zz")]
        tags += [form.end_call, form.end_value, form.value, *form.cdata, *form.block]
        tags += [*form.section_openers, *form.section_closers, *form.frames, *form.header]
        tags += [tag[: len(tag) // 2] for tag in (*tags, form.end_value)]
        tags += [self.head, self.head + self.key("body"), f"{form.end_value}{form.end_call}"]
        thinking = self.family.thinking
        tags += [thinking.open, thinking.close] if thinking else []
        return [*dict.fromkeys(tag for tag in tags if tag), *_COMMON]


_COMMON = ["<", "</", '{"name": "run_cmd", "arguments": {"cmd": "x"}}', '{"cmd": "x"}', "{", "}",
           "\n", "\n\n", " ", "\r\n", "12", "null", "[1]", "stop", "`", ".", "run_cmd", "'cmd'",
           " " * 1100]  # fmt: skip
_WORDS = st.integers(0, 9999).map("w{}".format)


def _said(attribute: str) -> str:
    return {"string": "true", "type": "string"}.get(attribute, "")


MARKED = {
    family.name: Marked(family, FORMS[family.name]) for family in FAMILIES if family.name in FORMS
}
FAMILY = st.sampled_from(sorted(MARKED)).map(MARKED.__getitem__)


@st.composite
def texts(draw: st.DrawFn) -> tuple[Marked, str]:
    """Return a family, and a text that is made of its fragments."""
    marked = draw(FAMILY)
    piece = st.one_of(st.sampled_from(marked.fragments), _WORDS)
    return marked, "".join(draw(st.lists(piece, max_size=30)))
