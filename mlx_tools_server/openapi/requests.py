"""What the server reads: a schema for the body of each route.

Rules of this file:
- A schema says what the parser of its dialect accepts: an optional field may be null, and unknown
  fields are ignored.
- What a schema can't say (a tool that must be among the tools) is left to the parser's message.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..dialects import chat, responses
from ..dialects.base import MAX_TOOLS, MEDIA
from ..thinking import SCALE
from ..wire import MAX_NAME, MAX_TOKENS
from .schemas import (
    FLAG,
    NULL,
    OBJECT,
    TEXT,
    Schema,
    asked,
    default,
    either,
    kind,
    many,
    number,
    or_null,
    other,
    ref,
    whole,
    words,
)

WORD: Schema = {**TEXT, "maxLength": 256}
STOP = either(WORD, many(WORD, maxItems=16))
LIMIT: Schema = {**whole(-1, MAX_TOKENS), "not": {"const": 0}}
NAME: Schema = {**TEXT, "maxLength": MAX_NAME}
SOME: Schema = {**TEXT, "minLength": 1}
ONE: Schema = {"enum": [1]}
TOOL_NAME: Schema = {**SOME, "maxLength": 256, "pattern": "^[^<>\\r\\n]+$"}
SAMPLING: Mapping[str, Schema] = {
    "temperature": number(0, 100),
    "top_p": number(0, 1),
    "top_k": whole(0),
    "min_p": number(0, 1),
    "xtc_probability": number(0, 1),
    "xtc_threshold": number(0, 0.5),
    "repetition_penalty": number(0, 100),
    "repetition_context_size": whole(0),
    "presence_penalty": number(-100, 100),
    "presence_context_size": whole(0),
    "frequency_penalty": number(-100, 100),
    "frequency_context_size": whole(0),
    "logit_bias": {
        "type": "object",
        "description": "Token ids, and what is added to their logits.",
        "propertyNames": {"pattern": "^(0|[1-9][0-9]{0,8})$"},
        "additionalProperties": or_null(number(-10_000, 10_000)),
    },
    "seed": whole(-(1 << 63), (1 << 64) - 1),
}
OPENAI: Mapping[str, Schema] = {
    "model": NAME,
    **SAMPLING,
    "stop": STOP,
    "stream": FLAG,
    "stream_options": asked(include_usage=FLAG),
}
BUDGET: Schema = {
    **whole(-1, MAX_TOKENS),
    "description": "The most tokens of thought; -1 is no limit, 0 no thought.",
}
EFFORT: Schema = {**NAME, "description": f"One of {', '.join(SCALE)}; others say nothing."}
KWARGS: Schema = {
    **asked(enable_thinking=FLAG, thinking=FLAG, thinking_budget=BUDGET),
    "maxProperties": 100,
    "propertyNames": {"maxLength": 80},
    "description": "Variables that the chat template reads; of others, switches of thought are "
    "ignored, and the rest is refused.",
}
# How much is to be thought, in the forms of several APIs; `reasoning` has more fields in some.
THINKING: Mapping[str, Schema] = {
    "reasoning_effort": EFFORT,
    "thinking": asked(type=TEXT, budget_tokens=BUDGET),
    "enable_thinking": FLAG,
    "thinking_budget": BUDGET,
    "chat_template_kwargs": KWARGS,
}
REASONING: Mapping[str, Schema] = {"effort": EFFORT, "enabled": FLAG, "max_tokens": BUDGET}


def text_part(*others: str) -> Schema:
    """Return a part that is read by its text, whatever its type but for those read otherwise."""
    return asked({"text": TEXT}, type=other(others))


def one_call(needed: Mapping[str, Schema] | None = None, /, **optional: Schema) -> Schema:
    """Return a function call of the history."""
    fields = {"arguments": either(TEXT, OBJECT), **optional}
    return asked({**(needed or {}), "name": TEXT}, **fields)


def requests() -> dict[str, Schema]:
    """Return the schemas of all requests, and of what they hold, by their names."""
    return {
        **_shared(),
        **_chat_request(),
        **_text_request(),
        **_messages_request(),
        **_responses_request(),
    }


def _shared() -> dict[str, Schema]:
    """Return what several of OpenAI's requests hold."""
    refusal = asked({**kind("refusal"), "refusal": TEXT})
    strict = {"schema": OBJECT}
    return {
        "TextPart": either(text_part("refusal", *MEDIA), refusal),
        "Content": either(TEXT, many(ref("TextPart"))),
        "ResultContent": either(
            TEXT, many(either(ref("TextPart"), asked({"type": words(*MEDIA)})))
        ),
        "OutputFormat": either(
            asked({"type": words("text", "json_object")}),
            asked({**kind("json_schema"), "json_schema": asked(strict, strict=FLAG)}),
            asked({**kind("json_schema"), **strict}, strict=FLAG, json_schema=NULL),
        ),
    }


def _chat_request() -> dict[str, Schema]:
    function = asked({"name": TOOL_NAME}, description=TEXT, parameters=OBJECT, strict=FLAG)
    calls = many(asked({"function": one_call()}, id=TEXT))
    roles = {
        role: words(*(name for name, meant in chat.ROLES.items() if meant == role))
        for role in chat.ROLES.values()
    }
    said = {"role": words(*roles["system"]["enum"], *roles["user"]["enum"])}
    answer: dict[str, Schema] = {"reasoning_content": TEXT, "reasoning": TEXT}
    answer |= {"tool_calls": calls, "function_call": one_call()}
    choice = either(
        words("auto", "none", "required"),
        asked({**kind("function"), "function": asked({"name": TEXT})}),
    )
    body = asked(
        {"messages": many(ref("ChatMessage"), minItems=1)},
        **OPENAI,
        max_tokens=LIMIT,
        max_completion_tokens=LIMIT,
        n=ONE,
        logprobs=FLAG,
        top_logprobs=whole(0, 20),
        tools=many(asked({"function": function}, type=words("function")), maxItems=MAX_TOOLS),
        tool_choice=default("auto", choice),
        parallel_tool_calls=FLAG,
        response_format=ref("OutputFormat"),
        **THINKING,
        reasoning=asked(**REASONING),
        chat_template=NULL,
    )
    return {
        "ChatMessage": either(
            asked(said, content=ref("Content"), name=TEXT),
            asked({"role": roles["assistant"]}, content=ref("Content"), name=TEXT, **answer),
            asked(
                {"role": roles["tool"]}, content=ref("ResultContent"), name=TEXT, tool_call_id=TEXT
            ),
        ),
        "ChatRequest": body,
    }


def _text_request() -> dict[str, Schema]:
    tokens = many(whole(0), minItems=1, description="Token ids.")
    alone = [many(item, minItems=1, maxItems=1) for item in (SOME, tokens)]
    prompt = either(SOME, tokens, *alone)
    return {
        "TextRequest": asked(
            {"prompt": prompt},
            **OPENAI,
            max_tokens=LIMIT,
            n=ONE,
            best_of=ONE,
            echo=FLAG,
            logprobs=either(FLAG, whole(0, 20)),
            suffix={**TEXT, "maxLength": 0},
        )
    }


# Blocks that are read in a way of their own.
READ = ("tool_reference", "document", "search_result")


def _read_blocks(texts: Schema, *sources: Schema) -> list[Schema]:
    """Return the blocks that hold other blocks, or stand for a tool."""
    source = either(
        asked({**kind("text"), "data": TEXT}), asked(kind("content"), content=texts), *sources
    )
    return [
        asked({**kind("tool_reference"), "tool_name": TEXT}),
        asked({**kind("document"), "source": source}, title=TEXT, context=TEXT),
        asked(kind("search_result"), title=TEXT, source=TEXT, content=texts),
    ]


def _message_blocks() -> dict[str, Schema]:
    """Return what messages hold; what is no text is noted in the result of a tool only."""
    noted = either(text_part(), asked({"type": other(("text",))}))
    in_results = _read_blocks(
        either(TEXT, many(noted)), asked({"type": other(("text", "content"))})
    )
    seen = either(text_part(*READ), *in_results, asked({"type": other(("text", *READ))}))
    result = asked(
        kind("tool_result"), tool_use_id=TEXT, is_error=FLAG, content=either(TEXT, many(seen))
    )
    thought = asked(kind("thinking"), thinking=TEXT)
    hidden = asked(kind("redacted_thinking"))
    call = asked({**kind("tool_use"), "name": TEXT}, id=TEXT, input=OBJECT)
    read = _read_blocks(ref("Texts"))
    return {
        "Texts": either(TEXT, many(text_part())),
        "UserBlock": either(text_part("tool_result", *READ), *read, result),
        "AssistantBlock": either(
            text_part("thinking", "redacted_thinking", "tool_use", *READ),
            *read,
            thought,
            hidden,
            call,
        ),
    }


def _messages_request() -> dict[str, Schema]:
    said = [
        asked({"role": words(role.lower())}, content=either(TEXT, many(ref(f"{role}Block"))))
        for role in ("User", "Assistant")
    ]
    choice = either(
        asked({"type": words("auto", "none", "any")}, disable_parallel_tool_use=FLAG),
        asked({**kind("tool"), "name": TEXT}, disable_parallel_tool_use=FLAG),
    )
    tool = asked(
        {"name": TOOL_NAME},
        type=words("custom"),
        description=TEXT,
        input_schema=OBJECT,
        defer_loading=FLAG,
        strict=FLAG,
    )
    conversation: dict[str, Schema] = {
        "model": NAME,
        "system": ref("Texts"),
        "tools": many(tool, maxItems=MAX_TOOLS),
        "tool_choice": default({"type": "auto"}, choice),
        "thinking": THINKING["thinking"],
        "output_config": asked(effort=EFFORT, format=ref("OutputFormat")),
    }
    needed = {"messages": many(ref("Message"), minItems=1)}
    limits = {"max_tokens": whole(1, MAX_TOKENS), **needed}
    return {
        **_message_blocks(),
        "Message": either(*said, asked({"role": words("system")}, content=ref("Texts"))),
        "CountRequest": asked(needed, **conversation),
        "MessagesRequest": asked(
            limits, **conversation, **SAMPLING, stop_sequences=STOP, stream=FLAG
        ),
    }


def _responses_request() -> dict[str, Schema]:
    format_ = {"text": asked(format=ref("OutputFormat"))}
    choice = either(
        words("auto", "none", "required"),
        asked({"type": words("function", "custom"), "name": TEXT}, namespace=TEXT),
        asked(kind("allowed_tools"), mode=words("auto", "none", "required")),
        asked({"type": other(("function", "custom", "allowed_tools"))}),
    )
    reasoning = asked(**REASONING, summary=TEXT, generate_summary=TEXT)
    unsupported = {name: {"enum": [False]} for name in responses.UNSUPPORTED}
    body = asked(
        **OPENAI,
        **format_,
        **unsupported,
        instructions=TEXT,
        previous_response_id=default(None, NAME),
        store=FLAG,
        max_output_tokens=LIMIT,
        tools=many(ref("ResponsesTool")),
        tool_choice=default("auto", choice),
        parallel_tool_calls=FLAG,
        reasoning=reasoning,
        **THINKING,
        metadata=OBJECT,
        prompt_cache_key=NAME,
        truncation=NAME,
        user=NAME,
    )
    # Without an input, there is a response to go on from.
    body["properties"]["input"] = either(TEXT, many(ref("InputItem")))
    parent = {"previous_response_id": NAME}
    body |= either({"required": ["input"]}, {"properties": parent, "required": list(parent)})
    return {
        "ResponsesTool": _responses_tool(),
        "InputItem": either(*_input_items()),
        "ResponsesRequest": body,
    }


def _responses_tool() -> Schema:
    named = {"name": TOOL_NAME}
    form = either(
        asked(kind("grammar"), syntax=TEXT, definition=TEXT), asked(type=other(("grammar",)))
    )
    return either(
        asked(named, type=words("function"), description=TEXT, parameters=OBJECT, strict=FLAG),
        asked({**kind("custom"), **named}, description=TEXT, format=form, strict=FLAG),
        asked({**kind("namespace"), **named}, tools=many(ref("ResponsesTool"))),
        asked({"type": other(("function", "custom", "namespace"))}),
    )


def _input_items() -> list[Schema]:
    ids = {"call_id": TEXT, "id": TEXT}
    thoughts = many(asked({"text": TEXT}))
    plain = ("message", "reasoning", "item_reference", "additional_tools")
    return [
        asked({"role": words(*responses.ROLES)}, type=words("message"), content=ref("Content")),
        asked(kind("reasoning"), content=ref("Content"), summary=thoughts),
        one_call(kind("function_call"), namespace=TEXT, **ids),
        asked({**kind("custom_tool_call"), "name": TEXT}, namespace=TEXT, input=TEXT, **ids),
        *(
            asked(kind(call), **{name: OBJECT}, **ids)
            for call, name in responses.CLIENT_RUN.items()
        ),
        asked({"type": words(*sorted(responses.RESULTS))}, output=ref("ResultContent"), **ids),
        asked({"id": NAME}, type=words("item_reference")),
        asked(kind("additional_tools"), tools=many(ref("ResponsesTool"))),
        asked({"type": other({*plain, *responses.CALLS, *responses.RESULTS})}),
    ]
