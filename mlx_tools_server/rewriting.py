"""Other ways to write a conversation, for chat templates that don't take it as it was sent.

Rules of this file:
- Nothing that was said is left out, and it keeps its order; what is added is empty, an ellipsis, or
  tags around what somebody else said.
- A message that need not change stays as it is, with the tokens that it was generated as.
- `versions` has the conversation itself, then each rewrite alone, then one on top of the other, a
  step at a time. The first version that the template takes, with nothing lost, is used, so that
  little is rewritten.
- Every rewrite is linear in the number of messages.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby, takewhile
from typing import TypeAlias

from .jsontext import dumps
from .messages import Message

Messages: TypeAlias = list[Message]
Rewrite: TypeAlias = Callable[[Sequence[Message]], Messages]

# What stands for a turn that nobody took, where a template demands one.
ELLIPSIS = "…"

_THOUGHT = re.compile(r"\s*<think>(.*?)</think>\n*", re.DOTALL)
_SHORT = re.compile(r"[A-Za-z0-9]{9}")


def versions(messages: Sequence[Message], refused: Callable[[], bool]) -> Iterator[Messages]:
    """Yield the conversation as it is, and then as rewritten ones say it, the mildest first.

    `refused` says whether the template has refused it, not only left something out.
    """
    tried: list[Messages] = []
    for version in _candidates(messages, refused):
        if version not in tried:
            tried.append(version)
            yield version


def with_thought_apart(message: Message) -> Message:
    """Take the thought out of the content of an answer, where many clients leave it."""
    if message.role != "assistant" or message.reasoning:
        return message
    match = _THOUGHT.match(message.content)
    if match is None:
        return message
    return replace(message, content=message.content[match.end() :], reasoning=match[1].strip("\n"))


def may_be_mute(messages: Sequence[Message]) -> bool:
    """Return whether some template may not let the model answer this: nobody else spoke last.

    Some wait for a user, and some for the results of all calls.
    """
    last = messages[-1] if messages else Message("system")
    if last.role != "tool":
        return last.role != "user" and not last.tool_calls
    results = sum(1 for _ in takewhile(lambda message: message.role == "tool", reversed(messages)))
    return results < len(messages) and results < len(messages[-results - 1].tool_calls)


def with_ids(messages: Sequence[Message], form: str) -> Messages:
    """Give calls ids of this form, with {name} and {index}, counted over the whole conversation.

    A result has the id of the call that it answers, and its own where there is none. Without a
    form all ids stay as they are.
    """
    if not form:
        return list(messages)
    ids: dict[str, str] = {}
    told: Messages = []
    index = 0
    for message in messages:
        calls = []
        for call in message.tool_calls:
            ids[call.id] = form.format(name=call.name, index=index)
            calls.append(replace(call, id=ids[call.id]))
            index += 1
        answered = ids.get(message.tool_call_id, message.tool_call_id)
        told.append(replace(message, tool_calls=tuple(calls), tool_call_id=answered))
    return told


# --- The rewrites, as they are tried ------------------------------------------------------------


def short_ids(messages: Sequence[Message]) -> Messages:
    """Give calls ids of nine letters and digits, for templates that take no others (Mistral)."""
    return [
        replace(
            message,
            tool_calls=tuple(replace(call, id=_short(call.id)) for call in message.tool_calls),
            tool_call_id=_short(message.tool_call_id) if message.role == "tool" else "",
        )
        for message in messages
    ]


def one_system(messages: Sequence[Message]) -> Messages:
    """Join the system messages at the beginning, for templates that look at the first only."""
    lead, rest = _lead(messages)
    if len(lead) < 2:
        return list(messages)
    return [Message("system", "\n\n".join(message.content for message in lead)), *rest]


def reminders(messages: Sequence[Message]) -> Messages:
    """Say later system messages as reminders from the user, for templates that know one only."""
    lead, rest = _lead(one_system(messages))
    return [*lead, *(_as_reminder(message) for message in rest)]


def user_first(messages: Sequence[Message]) -> Messages:
    """Let an empty message of the user begin, for templates in which nobody else can."""
    lead, rest = _lead(messages)
    if rest and rest[0].role == "user":
        return list(messages)
    return [*lead, Message("user"), *rest]


def user_last(messages: Sequence[Message]) -> Messages:
    """Let an empty message of the user end, for templates in which nobody else is answered."""
    if messages and messages[-1].role in ("user", "tool"):
        return list(messages)
    return [*messages, Message("user")]


def paired(messages: Sequence[Message]) -> Messages:
    """Let the results of calls follow them, each once and in order, and say others in words.

    A call without a result gets an ellipsis, unless the conversation ends with the call.
    """
    told: Messages = []
    for message, results in _groups(messages):
        told.append(message)
        own = _by_call(results)
        open_end = not results and any(message is last for last in messages[-1:])
        for call in message.tool_calls if not open_end else ():
            found = own.get(call.id)
            told.append(
                found.popleft() if found else Message("tool", ELLIPSIS, tool_call_id=call.id)
            )
        told += [_result_in_words(each) for left in own.values() for each in left]
    return told[1:]


def never_silent(messages: Sequence[Message]) -> Messages:
    """Let an ellipsis stand for an answer without text and calls, where none may be empty."""
    return [
        replace(message, content=ELLIPSIS, exact=None)
        if message.role == "assistant" and not (message.content or message.tool_calls)
        else message
        for message in messages
    ]


def alternate(messages: Sequence[Message]) -> Messages:
    """Let user and assistant take turns, not counting calls, for templates that demand it.

    Messages of the user in a row are joined; between others an ellipsis stands for the turn.
    """
    told: Messages = []
    turn = "assistant"
    for is_user, run in groupby(messages, lambda message: message.role == "user"):
        together = [*run]
        for message in [_joined(together)] if is_user and len(together) > 1 else together:
            if message.role in ("user", "assistant") and not message.tool_calls:
                if message.role == turn:
                    told.append(Message("user" if turn == "assistant" else "assistant", ELLIPSIS))
                turn = message.role
            told.append(message)
    return told


def call_by_call(messages: Sequence[Message]) -> Messages:
    """Give each of several calls a message of its own, for templates that take one at a time."""
    told: Messages = []
    for message, results in _groups(messages):
        if len(message.tool_calls) < 2:
            told += [message, *results]
            continue
        own = _by_call(results)
        for number, call in enumerate(message.tool_calls):
            alone = Message("assistant", tool_calls=(call,))
            told.append(alone if number else replace(message, tool_calls=(call,), exact=None))
            found = own.get(call.id)
            told += [found.popleft()] if found else []
        told += [each for left in own.values() for each in left]
    return told[1:]


def text_apart(messages: Sequence[Message]) -> Messages:
    """Say what stands beside calls in a message before them, for templates that leave it out."""
    told: Messages = []
    for message in messages:
        if message.tool_calls and message.content.strip():
            told.append(replace(message, tool_calls=(), exact=None))
            message = Message("assistant", tool_calls=message.tool_calls)
        told.append(message)
    return told


def without_system(messages: Sequence[Message]) -> Messages:
    """Begin the first message of the user with the system's, for templates that know no system."""
    lead, rest = _lead(user_first(reminders(messages)))
    return alternate([_joined([*lead, rest[0]]), *rest[1:]] if lead else rest)


def calls_in_words(messages: Sequence[Message]) -> Messages:
    """Say calls in words, for templates that write results but no calls."""
    return [_call_in_words(message) if message.tool_calls else message for message in messages]


def in_words(messages: Sequence[Message]) -> Messages:
    """Say calls and results in words, for templates that know nothing of tools."""
    return alternate(
        [
            _result_in_words(message) if message.role == "tool" else message
            for message in calls_in_words(messages)
        ]
    )


# In three steps: what keeps the form of all it touches, what takes the form of the system prompt
# away, and what takes the form of calls and results, where nothing else is left.
STEPS: tuple[tuple[Rewrite, ...], ...] = (
    (
        one_system,
        reminders,
        user_first,
        user_last,
        paired,
        never_silent,
        alternate,
        call_by_call,
        text_apart,
        alternate,
    ),
    (without_system,),
    (calls_in_words, in_words),
)


# --- Parts of them ------------------------------------------------------------------------------


def _candidates(messages: Sequence[Message], refused: Callable[[], bool]) -> Iterator[Messages]:
    yield list(messages)
    # An id that a template takes never makes it leave something out.
    start = piled = short_ids(messages) if refused() else list(messages)
    yield start
    for rewrites in STEPS:
        for rewrite in rewrites:
            yield _rewritten(rewrite, start)
        for rewrite in rewrites:
            piled = _rewritten(rewrite, piled)
            yield piled


def _rewritten(rewrite: Rewrite, messages: Messages) -> Messages:
    try:
        return rewrite(messages)
    except RecursionError:  # arguments that are too deep to be said in words
        return messages


def _lead(messages: Sequence[Message]) -> tuple[Messages, Messages]:
    """Return the system messages at the beginning, and the others."""
    lead = list(takewhile(lambda message: message.role == "system", messages))
    return lead, list(messages[len(lead) :])


def _groups(messages: Sequence[Message]) -> list[tuple[Message, Messages]]:
    """Return each message that is no result with the results behind it; the first is made up."""
    groups: list[tuple[Message, Messages]] = [(Message("user"), [])]
    for message in messages:
        if message.role == "tool":
            groups[-1][1].append(message)
        else:
            groups.append((message, []))
    return groups


def _by_call(results: Sequence[Message]) -> dict[str, deque[Message]]:
    """Return results by the ids of their calls."""
    found: dict[str, deque[Message]] = {}
    for each in results:
        found.setdefault(each.tool_call_id, deque()).append(each)
    return found


def _joined(messages: Sequence[Message]) -> Message:
    return Message("user", "\n\n".join(each.content for each in messages if each.content))


def _as_reminder(message: Message) -> Message:
    if message.role != "system":
        return message
    return Message("user", f"<system-reminder>\n{message.content}\n</system-reminder>")


def _result_in_words(message: Message) -> Message:
    return Message("user", f"<tool-result>\n{message.content}\n</tool-result>")


def _call_in_words(message: Message) -> Message:
    calls = [
        f'<tool-call name="{call.name}">\n{dumps(call.arguments)}\n</tool-call>'
        for call in message.tool_calls
    ]
    content = "\n\n".join(filter(None, [message.content, *calls]))
    return replace(message, content=content, tool_calls=(), exact=None)


def _short(id_: str) -> str:
    return (
        id_
        if _SHORT.fullmatch(id_)
        else hashlib.sha256(id_.encode(errors="surrogatepass")).hexdigest()[:9]
    )
