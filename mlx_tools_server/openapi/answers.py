"""What the server writes: a schema for each whole answer, and for errors.

Rules of this file:
- A schema names every field that the server writes; clients must expect others beside them.
- Streams are described by their media type: their events are those of the API's own makers.
"""

from __future__ import annotations

from typing import get_args

from ..dialects.messages import ERROR_TYPES, STOP_REASONS
from ..events import FinishReason
from .schemas import (
    COUNT,
    FLAG,
    NULL,
    OBJECT,
    TEXT,
    Schema,
    either,
    kind,
    many,
    number,
    or_null,
    ref,
    told,
    words,
)

LOGPROB = number(-9999, 0)
OCTETS = many({"type": "integer", "minimum": 0, "maximum": 255})
REASON = words(*get_args(FinishReason))


def answers() -> dict[str, Schema]:
    """Return the schemas of all answers, and of what they hold, by their names."""
    return {
        **_errors(),
        **_about_itself(),
        **_status(),
        **_chat_answer(),
        **_text_answer(),
        **_messages_answer(),
        **_response(),
    }


def _errors() -> dict[str, Schema]:
    types = {*ERROR_TYPES.values(), "invalid_request_error", "api_error"}
    error = told(message=TEXT, type=TEXT, param=or_null(TEXT), code=or_null(TEXT))
    theirs = told(type=words(*sorted(types)), message=TEXT)
    return {
        "OpenAIError": told(error=error),
        "AnthropicError": told(type=words("error"), error=theirs),
    }


def _about_itself() -> dict[str, Schema]:
    sizes = {"loaded_context_length": COUNT, "max_context_length": COUNT}
    model = told(
        {"context_length": COUNT, **sizes},
        id=TEXT,
        object=words("model"),
        created=COUNT,
        owned_by=TEXT,
        type=words("model"),
        display_name=TEXT,
        created_at={**TEXT, "format": "date-time"},
    )
    texts = ("publisher", "arch", "compatibility_type", "state")
    lm_studio = told(
        sizes, id=TEXT, object=words("model"), type=words("llm"), **dict.fromkeys(texts, TEXT)
    )
    figures = {"waiting": COUNT, "in_flight": COUNT}
    figures |= dict.fromkeys(("counts", "kv_cache", "grammars"), OBJECT)
    return {
        "Live": told(status=TEXT),
        "Health": told(
            figures | {"resting": FLAG}, status=TEXT, live=FLAG, ready=FLAG, version=TEXT
        ),
        "Model": model,
        "Models": _listed(ref("Model"), first_id=TEXT, last_id=TEXT, has_more=FLAG),
        "LMStudioModel": lm_studio,
        "LMStudioModels": _listed(ref("LMStudioModel")),
    }


def _status() -> dict[str, Schema]:
    seconds: Schema = {"type": "number", "minimum": 0}
    counts = ("prompt_tokens", "cached_tokens", "completion_tokens")
    seen = {"id": TEXT, "when": seconds, "route": TEXT, "client": TEXT, "seconds": seconds}
    seen |= dict.fromkeys(counts, COUNT)
    maybe = ("first_token_seconds", "decode_seconds", "tokens_per_second")
    model = told(name=TEXT, family=TEXT, why=TEXT, template=TEXT, context_length=or_null(COUNT))
    figures = ("kv_cache", "grammars", "counts", "tokens", "tool_calls")
    queue = told(waiting=COUNT, in_flight=COUNT)
    loaded = dict.fromkeys(figures, OBJECT) | {
        "model": model,
        "live": many(ref("LiveTurn")),
        "recent": many(ref("RecentTurn")),
        "queue": queue,
        "resting": FLAG,
        "memory": told(bytes=COUNT, capacity=COUNT),
    }
    return {
        "LiveTurn": told(**seen, phase=words("queued", "prefill", "decode"), done_tokens=COUNT),
        "RecentTurn": told(
            **seen,
            finish=words(*get_args(FinishReason), "error", "cancelled"),
            reasoning_tokens=COUNT,
            queued_seconds=seconds,
            calls=OBJECT,
            loss=TEXT,
            **dict.fromkeys(maybe, or_null(seconds)),
        ),
        "Status": told(
            loaded,
            status=words("loading", "ok", "stopping", "failed"),
            version=TEXT,
            now=seconds,
            uptime_seconds=seconds,
            clients=OBJECT,
        ),
    }


def _listed(items: Schema, **ends: Schema) -> Schema:
    return told(object=words("list"), data=many(items), **ends)


def _chat_answer() -> dict[str, Schema]:
    call = told(id=TEXT, **kind("function"), function=told(name=TEXT, arguments=TEXT))
    said = {"reasoning_content": TEXT, "tool_calls": many(call, minItems=1)}
    message = told(said, role=words("assistant"), content=or_null(TEXT))
    token = {"token": TEXT, "logprob": LOGPROB, "bytes": OCTETS}
    logprobs = told(content=many(told(**token, top_logprobs=many(told(**token)))), refusal=NULL)
    choice = told(index=COUNT, message=message, logprobs=or_null(logprobs), finish_reason=REASON)
    return {
        "OpenAIUsage": told(
            prompt_tokens=COUNT,
            completion_tokens=COUNT,
            total_tokens=COUNT,
            prompt_tokens_details=told(cached_tokens=COUNT),
            completion_tokens_details=told(reasoning_tokens=COUNT),
        ),
        "ChatCompletion": _completion("chat.completion", choice),
    }


def _completion(name: str, choice: Schema) -> Schema:
    return told(
        id=TEXT,
        object=words(name),
        created=COUNT,
        model=TEXT,
        system_fingerprint=TEXT,
        choices=many(choice, minItems=1, maxItems=1),
        usage=ref("OpenAIUsage"),
    )


def _text_answer() -> dict[str, Schema]:
    logprobs = told(
        tokens=many(TEXT),
        token_logprobs=many(LOGPROB),
        top_logprobs=many({"type": "object", "additionalProperties": LOGPROB}),
        text_offset=many(COUNT),
    )
    choice = told(index=COUNT, text=TEXT, logprobs=or_null(logprobs), finish_reason=REASON)
    return {"TextCompletion": _completion("text_completion", choice)}


def _messages_answer() -> dict[str, Schema]:
    block = either(
        told(**kind("text"), text=TEXT),
        told(**kind("thinking"), thinking=TEXT, signature=TEXT),
        told(**kind("tool_use"), id=TEXT, name=TEXT, input=OBJECT),
    )
    usage = told(
        input_tokens=COUNT,
        cache_creation_input_tokens=COUNT,
        cache_read_input_tokens=COUNT,
        output_tokens=COUNT,
        output_tokens_details=told(thinking_tokens=COUNT),
    )
    message = told(
        id=TEXT,
        type=words("message"),
        role=words("assistant"),
        model=TEXT,
        content=many(block),
        stop_reason=words(*STOP_REASONS.values(), "stop_sequence"),
        stop_sequence=or_null(TEXT),
        usage=usage,
    )
    return {"MessageAnswer": message, "TokenCount": told(input_tokens=COUNT)}


def _output_items() -> list[Schema]:
    known = {"id": TEXT, "status": words("completed", "incomplete")}
    text = told(**kind("output_text"), annotations=many(OBJECT), logprobs=many(OBJECT), text=TEXT)
    thought = told(**kind("reasoning_text"), text=TEXT)
    summary = told(**kind("summary_text"), text=TEXT)
    call: dict[str, Schema] = {**known, "call_id": TEXT, "name": TEXT}
    place = {"namespace": TEXT}
    return [
        told(**known, **kind("message"), role=words("assistant"), content=many(text)),
        told({"content": many(thought)}, **known, **kind("reasoning"), summary=many(summary)),
        told(place, **call, **kind("function_call"), arguments=TEXT),
        told(place, **call, **kind("custom_tool_call"), input=TEXT),
    ]


def _response() -> dict[str, Schema]:
    usage = told(
        input_tokens=COUNT,
        input_tokens_details=told(cached_tokens=COUNT, cache_write_tokens=COUNT),
        output_tokens=COUNT,
        output_tokens_details=told(reasoning_tokens=COUNT),
        total_tokens=COUNT,
    )
    texts = ("instructions", "previous_response_id", "prompt_cache_key", "user")
    body = told(
        id=TEXT,
        object=words("response"),
        created_at=COUNT,
        status=words("completed", "incomplete"),
        error=NULL,
        incomplete_details=or_null(told(reason=words("max_output_tokens"))),
        model=TEXT,
        output=many(either(*_output_items())),
        background=FLAG,
        max_output_tokens=or_null(COUNT),
        metadata=OBJECT,
        parallel_tool_calls=FLAG,
        reasoning=OBJECT,
        store=FLAG,
        temperature={"type": "number"},
        text=OBJECT,
        tool_choice=either(TEXT, OBJECT),
        tools=many(OBJECT),
        top_p={"type": "number"},
        truncation=TEXT,
        usage=usage,
        **dict.fromkeys(texts, or_null(TEXT)),
    )
    ends = or_null(TEXT)
    return {
        "Response": body,
        "Forgotten": told(id=TEXT, object=words("response"), deleted=FLAG),
        "InputItems": _listed(OBJECT, first_id=ends, last_id=ends, has_more=FLAG),
    }
