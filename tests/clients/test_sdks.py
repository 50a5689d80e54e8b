"""The SDKs of Python, each playing the task in a loop of its own against a real server.

Rules of this file:
- A library's own loop is used where it has one; nothing here parses what the server sends.
- A loop is right when the file on disk is: a call that is lost, doubled or broken leaves it wrong.
- Imports are within the tests: each library takes a second or two, and only its own test needs it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

import pytest

from tests.http.live import Live

from . import task
from .conftest import CALLS, Hands
from .task import Call

pytestmark = pytest.mark.mlx

KINDS = {"path": "string", "old": "string", "new": "string", "command": "string"}
STEPS = 6


def prompt(hands: Hands, library: str) -> str:
    """Return the task for a library; its name keeps the conversations of this server apart."""
    return f"{library} {task.script(CALLS, hands.folder)}"


def schema(call: Call) -> dict[str, Any]:
    """Return the schema of a tool's parameters."""
    kinds = {key: {"type": KINDS.get(key, "integer")} for key in call.arguments}
    return {"type": "object", "properties": kinds, "required": list(kinds)}


def assert_done(hands: Hands, text: str) -> None:
    """The library said the last text, and the folder is as the task wants it."""
    assert text.strip() == task.FINAL
    assert task.undone(hands.folder) == ""


def test_openai_chat(live: Live, hands: Hands) -> None:
    """The official client streams the chat dialect and carries its own messages on."""
    import openai

    tools: list[Any] = [
        {"type": "function", "function": {"name": c.name, "parameters": schema(c)}} for c in CALLS
    ]
    messages: list[Any] = [{"role": "user", "content": prompt(hands, "openai")}]
    cached = []
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="local") as client:
        for _ in range(STEPS):
            with client.chat.completions.stream(
                model="m", messages=messages, tools=tools, stream_options={"include_usage": True}
            ) as stream:
                answer = stream.get_final_completion()
            assert answer.usage is not None
            assert answer.usage.prompt_tokens_details is not None
            cached.append(answer.usage.prompt_tokens_details.cached_tokens or 0)
            message = answer.choices[0].message
            messages.append(message)
            if not message.tool_calls:
                break
            messages += [
                {
                    "role": "tool",
                    "tool_call_id": call.id,
                    "content": hands.do(call.function.name, json.loads(call.function.arguments)),
                }
                for call in message.tool_calls
            ]

    assert_done(hands, message.content or "")
    assert cached == sorted(cached)


def test_openai_responses(live: Live, hands: Hands) -> None:
    """The official client streams the responses dialect and carries its own items on."""
    import openai

    tools: list[Any] = [
        {"type": "function", "name": c.name, "parameters": schema(c), "strict": False}
        for c in CALLS
    ]
    items: list[Any] = [{"role": "user", "content": prompt(hands, "responses")}]
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="local") as client:
        for _ in range(STEPS):
            with client.responses.stream(
                model="m", input=items, tools=tools, store=False
            ) as stream:
                answer = stream.get_final_response()
            items += answer.output
            calls = [item for item in answer.output if item.type == "function_call"]
            if not calls:
                break
            items += [
                {
                    "type": "function_call_output",
                    "call_id": call.call_id,
                    "output": hands.do(call.name, json.loads(call.arguments)),
                }
                for call in calls
            ]

    assert_done(hands, answer.output_text)


def test_anthropic(live: Live, hands: Hands) -> None:
    """The official client streams the messages dialect and carries its own blocks on."""
    import anthropic

    tools: list[Any] = [{"name": c.name, "input_schema": schema(c)} for c in CALLS]
    messages: list[Any] = [{"role": "user", "content": prompt(hands, "anthropic")}]
    with anthropic.Anthropic(base_url=live.url, api_key="local") as client:
        for _ in range(STEPS):
            with client.messages.stream(
                model="m", max_tokens=512, messages=messages, tools=tools
            ) as stream:
                answer = stream.get_final_message()
            messages.append({"role": "assistant", "content": answer.content})
            results = [
                {
                    "type": "tool_result",
                    "tool_use_id": block.id,
                    "content": hands.do(block.name, dict(block.input)),
                }
                for block in answer.content
                if block.type == "tool_use"
            ]
            if not results:
                break
            messages.append({"role": "user", "content": results})

    assert_done(hands, "".join(b.text for b in answer.content if b.type == "text"))


@pytest.mark.parametrize("dialect", ["chat", "responses"])
def test_openai_agents(live: Live, hands: Hands, dialect: str) -> None:
    """The agents SDK streams its own loop, with the strict schemas that it writes."""
    agents = pytest.importorskip("agents", reason="openai-agents is not installed")
    import openai

    async def play() -> str:
        agents.set_tracing_disabled(True)
        models = {
            "chat": agents.OpenAIChatCompletionsModel,
            "responses": agents.OpenAIResponsesModel,
        }
        async with openai.AsyncOpenAI(base_url=f"{live.url}/v1", api_key="local") as client:
            agent = agents.Agent(
                name="worker",
                instructions="Use the tools.",
                model=models[dialect]("m", openai_client=client),
                tools=[agents.function_tool(getattr(hands, c.name)) for c in CALLS],
            )
            run = agents.Runner.run_streamed(agent, prompt(hands, f"agents {dialect}"))
            async for _ in run.stream_events():
                pass
            return str(run.final_output)

    assert_done(hands, asyncio.run(play()))


@pytest.mark.parametrize("dialect", ["chat", "responses", "messages"])
def test_pydantic_ai(live: Live, hands: Hands, dialect: str) -> None:
    """Pydantic AI plays its own loop, streamed, with the schemas that it writes."""
    pydantic_ai = pytest.importorskip("pydantic_ai", reason="pydantic-ai is not installed")

    async def play() -> str:
        async with _pydantic_model(dialect, live.url) as model:
            agent = pydantic_ai.Agent(model, tools=[getattr(hands, c.name) for c in CALLS])
            async with agent.run_stream(prompt(hands, f"pydantic {dialect}")) as run:
                return str(await run.get_output())

    assert_done(hands, asyncio.run(play()))


@asynccontextmanager
async def _pydantic_model(dialect: str, url: str) -> AsyncIterator[Any]:
    """Give the library a client that is closed: its own stays open until Python ends."""
    family = "anthropic" if dialect == "messages" else "openai"
    models = import_module(f"pydantic_ai.models.{family}")
    providers = import_module(f"pydantic_ai.providers.{family}")
    if dialect == "messages":
        import anthropic

        async with anthropic.AsyncAnthropic(base_url=url, api_key="local") as other:
            provider = providers.AnthropicProvider(anthropic_client=other)
            yield models.AnthropicModel("m", provider=provider)
        return
    import openai

    kinds = {"chat": models.OpenAIChatModel, "responses": models.OpenAIResponsesModel}
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="local") as client:
        yield kinds[dialect]("m", provider=providers.OpenAIProvider(openai_client=client))
