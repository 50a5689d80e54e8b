"""The built-in traffic: what an agent asks for, turn by turn.

Rules of this file:
- Nothing depends on what the model does: where it calls, each call gets the result that stands
  here; where it does not, the user hands the same text over.
- A size is that of the full traffic; `scale` makes all of it smaller or larger.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .conversation import Conversation, Said, Tool
from .offered import tools
from .texts import system_prompt, text

SYSTEM_SIZE = 14_000
# What all that is said adds up to at scale 1, tools included; the longest conversation.
FULL_SIZE = 64_000
# Characters a token that even a small tokenizer has, such as the demo model's.
FEWEST_CHARACTERS = 1.5
FURTHER = "Done."
TITLE = "Give this conversation a title of three to five words. Write nothing else."


@dataclass(frozen=True, slots=True)
class Step:
    """One request of a session: what is new in it, before the model answers.

    `kind`, `size` and `start` make the result of what the model called for in the step before.
    """

    session: str
    turn: int
    label: str
    wish: str = ""
    kind: str = ""
    size: int = 0
    start: int = 0

    def result(self, scale: float) -> str:
        """Return the text of the result; none if nothing was asked for."""
        return text(self.kind, max(40, round(self.size * scale)), self.start) if self.kind else ""


def _turns(session: str, *steps: tuple[str, str, str, int]) -> list[Step]:
    return [
        Step(session, turn, label, wish, kind, size, turn * 100)
        for turn, (label, wish, kind, size) in enumerate(steps, 1)
    ]


MAIN = _turns(
    "main",
    ("list", "List the folder reports.", "", 0),
    ("listing", "", "listing", 500),
    ("read", "Read the file src/queue/plan_order.py.", "", 0),
    ("file", "", "code", 3_000),
    ("write", "Write the text 'milk and bread' into the file notes.txt.", "", 0),
    ("search", "Search all files for close_order.", "log", 200),
    ("matches", "", "matches", 6_000),
    ("read more", "Read the file src/router/find_route.py.", "", 0),
    ("long file", "", "code", 12_000),
    ("write code", "Write the file src/clock/today.py with a function for each weekday.", "", 0),
    ("log", "", "log", 20_000),
)
SIDE = [Step("side", 1, "title", "Fix the queue, which forgets orders at midnight.")]
SECOND, THIRD = (
    _turns(
        session,
        ("list", f"List the folder {folder}.", "", 0),
        ("listing", "", "listing", 1_000),
        ("read", f"Read the file {folder}/check_van.py.", "", 0),
        ("file", "", "code", 4_000),
    )
    for session, folder in (("second", "src/rules"), ("third", "src/store"))
)


def steps() -> list[Step]:
    """Return all requests in their order.

    An agent with a side request; then two others at once, who share its system prompt.
    """
    pairs = [step for pair in zip(SECOND, THIRD, strict=True) for step in pair]
    return [*MAIN[:2], *SIDE, *MAIN[2:], *pairs]


def scale_for(context: int, max_tokens: int) -> float:
    """Return the largest scale, at most 1, whose longest conversation fits into a context."""
    room = context - len(MAIN) * max_tokens - 1_000
    return max(0.01, min(1.0, room * FEWEST_CHARACTERS / FULL_SIZE))


class Agent:
    """The sessions of one player: builds each request from what the model has said so far."""

    def __init__(self, scale: float, nonce: str, number: int = 0) -> None:
        self._scale = scale
        self._head = f"Session {nonce}.\n" if nonce else ""
        self._tools = tools(scale)
        self._system = self._head + system_prompt(round(SYSTEM_SIZE * scale))
        self._greeting = f"I am developer {number}. " if number else ""
        self._said: dict[str, list[Said]] = {}

    def conversation(self, step: Step) -> Conversation:
        """Return what a step's request says."""
        said = self._said.setdefault(step.session, [])
        said += _news(step, said, self._scale, self._greeting)
        if step.session == "side":
            return Conversation(self._head + TITLE, (), tuple(said))
        return Conversation(self._system, self._tools, tuple(said))

    def hear(self, step: Step, answer: Said) -> None:
        """Take the answer to a step."""
        self._said[step.session].append(answer)

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools that are offered."""
        return self._tools


def _news(step: Step, said: list[Said], scale: float, greeting: str) -> Iterable[Said]:
    """Return the messages between the last answer and this step's."""
    result, calls = step.result(scale), said[-1].calls if said else ()
    for number, call in enumerate(calls):
        yield Said("tool", (result if not number else "") or FURTHER, call_id=call.id)
    texts = [] if calls or not result else [f"Here it is:\n{result}"]
    if step.wish:
        texts.append(f"{'' if said else greeting}{step.wish}")
    if texts or not calls:
        yield Said("user", "\n\n".join(texts) or "Go on.")
