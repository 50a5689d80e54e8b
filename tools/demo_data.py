"""Synthetic tool-calling dialogues, from which the demo model learns to call tools.

Rules of this file:
- Copying pays, memorising does not: names, values and texts are drawn freshly, many are nonsense.
- `held_out` dialogues use tool names, and words in values, that training dialogues never use.
- The same seed gives the same dialogues on every machine; nothing is read or downloaded.
- What can be asked for is in `demo_operations` and `demo_phrases`; here it becomes a conversation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlx_tools_server.messages import Message, ToolCall, ToolSpec
from tools.demo_kinds import Operation, Param
from tools.demo_operations import OPERATIONS
from tools.demo_phrases import (
    CHAT,
    ENDINGS,
    ERRORS,
    FAILED,
    QUESTIONS,
    REFUSALS,
    SYSTEMS,
    UNKNOWN_WISHES,
)
from tools.demo_values import Values, held_out_text

FILE_TOOLS = ("list", "read", "write", "replace", "add")


@dataclass(frozen=True, slots=True)
class Call:
    """A call that is expected: of the offered tool with this index."""

    name: str
    arguments: dict[str, Any]
    result: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One assistant turn that is expected, behind `before` messages of the dialogue."""

    kind: str
    before: int
    calls: tuple[Call, ...] = ()
    quotes: tuple[str, ...] = ()


@dataclass(slots=True)
class Dialogue:
    """A conversation, with what is expected of each of its assistant turns."""

    tools: list[ToolSpec]
    messages: list[Message] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Offer:
    """An operation that is on offer as a tool; `names` are its parameters' names by role."""

    operation: Operation
    spec: ToolSpec
    names: dict[str, str]


def shared_words(one: str, other: str) -> str:
    """Return the words that both wishes start with, with the space behind them."""
    if one == other:
        return ""
    size = 0
    words = zip(one.split(" "), other.split(" ")[:-1], strict=False)
    for mine, theirs in words:
        if mine != theirs:
            break
        size += len(mine) + 1
    return other[:size]


class Writer(Values):
    """Draws dialogues from one random sequence."""

    def __init__(self, seed: int, *, held_out: bool = False) -> None:
        super().__init__(seed, held_out=held_out)
        self.template = ""

    def join_name(self, words: Sequence[str]) -> str:
        style = self.rng.random()
        if style < 0.75:
            return "_".join(words)
        if style < 0.9:
            return words[0] + "".join(word.capitalize() for word in words[1:])
        return "-".join(words)

    def tool_name(self, operation: Operation) -> str:
        """Return a name, of words that fit or of nonsense."""
        while True:
            verb, noun = self.rng.choice(operation.verbs), self.rng.choice(operation.nouns)
            kind = self.rng.random()
            if kind < 0.04:
                verb = self.pseudo_word()
            elif kind < 0.1:
                noun = self.pseudo_word()
            elif kind < 0.16:
                verb, noun = self.pseudo_word(), (self.chance(0.5) and self.pseudo_word()) or ""
            elif kind < 0.22:
                noun = ""
            words = [word for word in (verb, noun) if word]
            if held_out_text("".join(words)) == self.held_out:
                break
        return self.join_name(words)

    def param_name(self, param: Param) -> str:
        kind = self.rng.random()
        if kind < 0.1:
            return self.pseudo_word()
        name = self.rng.choice(param.names)
        if kind < 0.14:
            return self.join_name([self.rng.choice(self.words), name])
        return self.join_name(name.split("_")) if kind < 0.2 else name

    def offer(self, operation: Operation, *, canonical: bool = False) -> Offer:
        """Return the operation as a tool, under its canonical or fresh names."""
        params = [p for p in operation.params if p.required or canonical or self.chance(0.5)]
        if canonical:
            params = [param for param in params if param.required]
        while True:
            names = {p.role: p.names[0] if canonical else self.param_name(p) for p in params}
            if len(set(names.values())) == len(names):
                break
        described = 1.0 if canonical and self.chance(0.5) else self.rng.choice((0.0, 0.8, 1.0))
        properties = {names[p.role]: self.property(p, described, names) for p in params}
        schema: dict[str, Any] = {"type": "object", "properties": properties}
        if params and self.chance(0.85):
            schema["required"] = [names[param.role] for param in params if param.required]
        name = operation.canonical if canonical else self.tool_name(operation)
        description = self.rng.choice(operation.descriptions)
        if self.chance(0.15):
            description = description.rstrip(".")
        return Offer(operation, ToolSpec(name, description, schema), names)

    def property(self, param: Param, described: float, names: dict[str, str]) -> dict[str, Any]:
        kind = {"int": "integer", "bool": "boolean"}.get(param.kind, "string")
        # A nonsense name says nothing, so its parameter is always described.
        nonsense = names[param.role].split("_")[-1] not in param.names
        if nonsense or self.chance(described):
            return {"type": kind, "description": self.rng.choice(param.descriptions)}
        return {"type": kind}

    def offers(self) -> list[Offer]:
        """Return 1 to 5 tools, whose names and operations differ."""
        if self.chance(0.3):
            keys = list(FILE_TOOLS)
            if self.chance(0.4):
                keys = self.rng.sample(keys, self.rng.randint(2, 4))
        else:
            keys = self.rng.sample(sorted(OPERATIONS), self.rng.randint(1, 4))
        if self.chance(0.5):
            self.rng.shuffle(keys)
        canonical = not self.held_out and self.chance(0.25)
        while True:
            offers = [self.offer(OPERATIONS[key], canonical=canonical) for key in keys]
            if len({offer.spec.name for offer in offers}) == len(offers):
                return offers

    def wish(self, offer: Offer) -> tuple[str, Call, dict[str, Any]]:
        """Return what the user says, the call that it asks for, and the values by role."""
        operation = offer.operation
        values, said = self.in_words(offer)
        arguments = {name: values[role] for role, name in offer.names.items() if role in values}
        failed = self.chance(0.05)
        template = self.rng.choice(ERRORS if failed else operation.results or ("",))
        result = self.fill(template, values)
        if not failed and operation.compute:
            result = operation.compute(values)
        return said, Call(offer.spec.name, arguments, result), values

    def in_words(self, offer: Offer) -> tuple[dict[str, Any], str]:
        operation = offer.operation
        values: dict[str, Any] = {}
        said: dict[str, str] = {}
        added = ""
        template = self.template or self.rng.choice(operation.wishes)
        for param in operation.params:
            if param.role not in offer.names or (not param.required and self.chance(0.5)):
                continue
            # A flag that can only be asked for is left out otherwise.
            value = True if param.kind == "bool" and not param.required else self.value(param)
            said[param.role] = self.said(value, param.kind)
            if param.phrases:
                phrase = self.rng.choice(param.phrases if value is not False else param.phrases_off)
                said[param.role] = phrase.format(said[param.role])
            if f"{{{param.role}}}" not in template:
                added += said[param.role]
            values[param.role] = value
        return values, template.format_map(said) + added

    def fill(self, template: str, values: dict[str, Any]) -> str:
        """Fill roles in, and `<word>`, `<text>`, `<file>`, `<int>` with fresh ones."""
        makers: dict[str, Callable[[], Any]] = {
            "<word>": self.word,
            "<text>": self.text,
            "<file>": lambda: self.path().split("/")[-1],
            "<int>": self.number,
        }
        text = template
        for mark, make in makers.items():
            while mark in text:
                text = text.replace(mark, str(make()), 1)
        for role, value in values.items():
            text = text.replace(f"{{{role}}}", str(value))
        return text

    def answer(self, offer: Offer, call: Call, values: dict[str, Any]) -> str:
        """Return a final answer that quotes the result."""
        templates = offer.operation.answers
        if any(call.result.startswith(error.split("{")[0].split("<")[0]) for error in ERRORS):
            templates = FAILED
        template = self.rng.choice(templates)
        text = self.fill(template.replace("{result}", "\0"), values)
        return text.replace("\0", call.result)

    def dialogue(self, *, simple: bool = False) -> Dialogue:
        """Return a conversation of one to six user turns; a `simple` one is short."""
        if self.chance(0.03):
            return self.chat_only()
        offers = self.offers()
        if simple:
            offers = offers[: self.rng.randint(1, 2)]
        dialogue = Dialogue([offer.spec for offer in offers])
        if self.chance(0.35):
            dialogue.messages.append(Message("system", self.rng.choice(SYSTEMS)))
        length = 1 if simple else self.rng.choice((1, 1, 1, 2, 2, 2, 3, 4, 6))
        for _ in range(length):
            self.user_turn(dialogue, offers)
        return dialogue

    def user_turn(self, dialogue: Dialogue, offers: list[Offer]) -> None:
        """Add what the user says and all that follows from it."""
        kind = self.rng.random()
        if kind < 0.05:
            self.say(dialogue, "chat", *self.small_talk())
        elif kind < 0.13:
            self.say(dialogue, "refusal", self.unknown_wish(offers), self.rng.choice(REFUSALS))
        elif kind < 0.84:
            self.act(dialogue, [self.rng.choice(offers)])
        else:
            pool = offers if self.chance(0.6) else [self.rng.choice(offers)]
            self.act(dialogue, [self.rng.choice(pool), self.rng.choice(pool)])

    def small_talk(self) -> tuple[str, str]:
        questions, answers = self.rng.choice(CHAT)
        question, answer = self.rng.choice(questions), self.rng.choice(answers)
        if "<name>" in question + answer:
            name = self.word().capitalize()
            question, answer = question.replace("<name>", name), answer.replace("<name>", name)
        return question, answer

    def unknown_wish(self, offers: list[Offer]) -> str:
        """Return a wish that none of the tools can fulfil."""
        taken = {key for o in offers for key in (o.operation.key, *o.operation.kin)}
        others = [op for key, op in OPERATIONS.items() if key not in taken]
        if not others or self.chance(0.3):
            return self.fill(self.rng.choice(UNKNOWN_WISHES), {})
        return self.ended(self.in_words(self.offer(self.rng.choice(others)))[1])

    def say(self, dialogue: Dialogue, kind: str, question: str, answer: str) -> None:
        dialogue.messages.append(Message("user", question))
        self.expect(dialogue, Turn(kind, len(dialogue.messages)), answer)

    def expect(self, dialogue: Dialogue, turn: Turn, answer: str) -> None:
        calls = tuple(
            ToolCall(f"call_{turn.before}_{i}", call.name, call.arguments)
            for i, call in enumerate(turn.calls)
        )
        dialogue.turns.append(turn)
        dialogue.messages.append(Message("assistant", answer, tool_calls=calls))
        for call, made in zip(turn.calls, calls, strict=True):
            dialogue.messages.append(Message("tool", call.result, tool_call_id=made.id))

    def act(self, dialogue: Dialogue, offers: list[Offer]) -> None:
        """Add a wish for one call of each of these tools, all at once, and what follows."""
        alike = len(offers) > 1 and len({id(offer) for offer in offers}) == 1
        templates = offers[0].operation.wishes if alike and self.chance(0.7) else ()
        self.template = self.rng.choice(templates) if templates else ""
        wishes = [self.wish(offer) for offer in offers]
        self.template = ""
        question = self.polite(self.join([said for said, _, _ in wishes]))
        dialogue.messages.append(Message("user", question))
        calls = tuple(call for _, call, _ in wishes)
        kind = "parallel" if len(calls) > 1 else "single"
        self.expect(dialogue, Turn(kind, len(dialogue.messages), calls), "")
        answers = [
            self.answer(offer, call, values)
            for offer, (_, call, values) in zip(offers, wishes, strict=True)
        ]
        quotes = tuple(call.result for call in calls)
        turn = Turn("answer", len(dialogue.messages), quotes=quotes)
        self.expect(dialogue, turn, "\n".join(answers))

    def join(self, wishes: list[str]) -> str:
        text = wishes[0].rstrip(".?")
        for wish in wishes[1:]:
            shared = shared_words(wishes[0], wish)
            if shared not in ("", "In ", wish) and self.chance(0.5):
                text += self.rng.choice((" and ", " and ", ", and ")) + wish[len(shared) :]
                continue
            between = self.rng.choice((" and ", ", and ", ". Also ", " and also "))
            text += between + wish[0].lower() + wish[1:]
        return text

    def polite(self, wish: str) -> str:
        kind = self.rng.random()
        if kind < 0.15 and wish[1:2].islower() and not wish.startswith(QUESTIONS):
            start = self.rng.choice(("Please ", "Can you ", "Could you ", "Now ", "I want you to "))
            wish = start + wish[0].lower() + wish[1:]
        elif kind < 0.18:
            wish = wish[0].lower() + wish[1:]
        return self.ended(wish)

    def ended(self, wish: str) -> str:
        """Return the wish with what it may end with."""
        if wish.endswith(("?", ".")):
            return wish
        if wish.startswith(QUESTIONS) and self.chance(0.7):
            return wish + "?"
        return wish + self.rng.choice(ENDINGS)

    def chat_only(self) -> Dialogue:
        """Return small talk without tools."""
        dialogue = Dialogue([])
        for _ in range(self.rng.choice((1, 1, 2))):
            self.say(dialogue, "chat", *self.small_talk())
        return dialogue
