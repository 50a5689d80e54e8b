"""How a chat template is told how much to think, whatever names and words it has for that.

Rules of this file:
- What a client wishes is one `ThinkingWish`, whatever its dialect; here it becomes the variables
  that a template reads. A wish that the template has no switch for changes nothing.
- Which values a template takes is learnt by rendering it with each of them, once: templates check
  them, pass them on and give them other names in too many ways to be read.
- A value that a template does not take becomes the nearest one that it does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from .messages import ThinkingWish

# The efforts that clients know, the least first.
SCALE = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
# What models are trained on whose template writes any word into the prompt.
_WRITTEN = ("low", "medium", "high")
_NONSENSE = "xyzzy"

# The names that templates have for switches of thought, by what they hold.
_FLAGS = ("enable_thinking", "thinking", "add_thinking", "enable_reasoning", "reasoning")
_EFFORTS = ("reasoning_effort", "thinking_effort", "reasoning_strength")
_MODES = ("thinking_mode", "thinking_option")
_BUDGET = "thinking_budget"
# Switches that keep the thoughts of earlier turns, and what to say to them for that.
KEEP_THOUGHTS: Mapping[str, bool] = {
    "preserve_thinking": True,
    "preserved_thinking": True,
    "keep_past_thinking": True,
    "clear_thinking": False,
    "drop_thinking": False,
    "truncate_history_thinking": False,
}
# A client may send these to any template; they say nothing to one that does not read them.
SWITCHES = frozenset((*_FLAGS, *_EFFORTS, *_MODES, _BUDGET, *KEEP_THOUGHTS))
# What no effort is called.
_NO_EFFORTS = ("none", "no_think", "off", "disabled")
# What a mode is called when it is on, and when it is off.
_PAIRS: Sequence[tuple[Any, Any]] = (
    ("enabled", "disabled"),
    ("thinking", "chat"),
    ("on", "off"),
    ("think", "no_think"),
    (True, False),
)

# Renders a short conversation with these variables; None if the template refuses.
Rendered: TypeAlias = Callable[[Mapping[str, Any]], str | None]


@dataclass(frozen=True, slots=True)
class Efforts:
    """The efforts that a template takes, each with its own word.

    `least` stands for no thought, and `usual` for some where the template's default is none.
    """

    words: Mapping[str, str]
    least: str = ""
    usual: str = ""

    def nearest(self, effort: str) -> str:
        """Return the template's word for what is nearest to an effort; of two, the greater."""
        place = SCALE.index(effort)
        known = sorted(self.words, key=SCALE.index, reverse=True)
        return self.words[min(known, key=lambda other: abs(SCALE.index(other) - place))]

    def wanted(self, on: bool | None, effort: str | None, *, switched: bool) -> str:
        """Return the word to tell, if any; `switched` says that another switch tells of `on`."""
        if on is False:
            return "" if switched else self.least
        if effort is not None:
            return self.nearest(effort)
        return "" if on is None or switched else self.usual


@dataclass(frozen=True, slots=True)
class Switches:
    """The switches of one template, each with the values that it takes.

    `modes` are the words for on and for off.
    """

    flags: Mapping[str, Collection[bool]] = field(default_factory=dict)
    efforts: Mapping[str, Efforts] = field(default_factory=dict)
    modes: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    has_budget: bool = False

    def variables(self, wish: ThinkingWish) -> dict[str, Any]:
        """Return the variables that tell a template what is wished."""
        on, effort = wish.on, wish.effort
        if effort == "none" or (effort == "minimal" and not self.efforts):
            # Without efforts to choose from, least is none.
            on, effort = (False if on is None else on), None
        made: dict[str, Any] = {}
        if on is not None:
            made |= {name: on for name, taken in self.flags.items() if on in taken}
            made |= {name: words[not on] for name, words in self.modes.items()}
        if self.has_budget and (on is False or wish.budget is not None):
            made[_BUDGET] = 0 if on is False else wish.budget
        switched = bool(made) and on is not None
        for name, efforts in self.efforts.items():
            if word := efforts.wanted(on, effort, switched=switched):
                made[name] = word
        return made


def settled(wish: ThinkingWish, thinks: bool) -> ThinkingWish:
    """Return a wish, with what the operator wants where a client leaves open whether to think."""
    return replace(wish, on=False) if wish.on is None and not thinks else wish


def learn(reads: Collection[str], rendered: Rendered) -> Switches:
    """Return the switches of a template that reads these variables.

    One that refuses even a plain question can't be asked; it is taken to take all.
    """
    if rendered({}) is None:
        return learn(reads, lambda _: "")
    flags = {
        name: tuple(on for on in (True, False) if rendered({name: on}) is not None)
        for name in _FLAGS
        if name in reads
    }
    efforts = {name: _efforts(name, rendered) for name in _EFFORTS if name in reads}
    modes = {name: _modes(name, rendered) for name in _MODES if name in reads}
    return Switches(
        flags,
        {name: known for name, known in efforts.items() if known},
        {name: words for name, words in modes.items() if words},
        _BUDGET in reads and rendered({_BUDGET: 0}) is not None,
    )


def _efforts(name: str, rendered: Rendered) -> Efforts | None:
    unknown = rendered({name: _NONSENSE})
    said = {word: rendered({name: word}) for word in (*SCALE, *_NO_EFFORTS)}
    said = {word: text for word, text in said.items() if text is not None}
    # Words that a template does more with than to pass them on, or to take them for any other.
    meant = [word for word, text in said.items() if text != _repeated(unknown, word)]
    if unknown is not None and _NONSENSE in unknown:
        said = {word: text for word, text in said.items() if word in (*_WRITTEN, *meant)}
    words = {word: word for word in SCALE if word in said}
    none = [word for word in _NO_EFFORTS if word in said]
    if none:
        words["none"] = none[0]
    if not words:
        return None
    made = Efforts(words)
    least = next((word for word in (*none, "minimal") if word in meant), made.nearest("none"))
    usual = made.nearest("high") if none and said.get(least) == rendered({}) else ""
    return Efforts(words, least, usual)


def _modes(name: str, rendered: Rendered) -> tuple[Any, Any] | None:
    unknown = rendered({name: _NONSENSE})
    for words in _PAIRS:
        said = [rendered({name: word}) for word in words]
        meant = [text != _repeated(unknown, word) for text, word in zip(said, words, strict=True)]
        if None not in said and said[0] != said[1] and any(meant):
            return words
    return None


def _repeated(unknown: str | None, word: Any) -> str | None:
    """Return what a template says to a word that means no more to it than any other."""
    return None if unknown is None else unknown.replace(_NONSENSE, str(word))
