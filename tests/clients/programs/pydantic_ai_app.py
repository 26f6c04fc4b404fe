"""pydantic-ai: agents on its models of OpenAI (chat completions and responses), with a tool."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import openai
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from telling import ADDRESS, FEW, QUESTION, TOOL_QUESTION, WEATHER, headers, tell, tell_error


def openai_model(base: str, cls: Any) -> Any:
    """A model of class `cls` at `base`."""
    sdk = openai.AsyncOpenAI(base_url=ADDRESS + base, api_key="sk-test", max_retries=0)
    return cls("gpt-4o-mini", provider=OpenAIProvider(openai_client=sdk))


async def work(client: str, make: Callable[[], Any]) -> None:
    """Every scenario with models of `make`."""

    def agent(scenario: str) -> Agent:
        return Agent(make(), model_settings={"extra_headers": headers(client, scenario), "max_tokens": 200})

    whole = await agent("chat").run(QUESTION)
    tell(client, "chat", text=whole.output, tokens=whole.usage.total_tokens)

    async with agent("stream").run_stream(QUESTION) as stream:
        texts = [text async for text in stream.stream_text(delta=True, debounce_by=None)]
        usage = stream.usage
    tell(client, "stream", text="".join(texts), pieces=len(texts), tokens=usage.total_tokens)

    asked: list[str] = []
    with_tool = agent("tools")

    @with_tool.tool_plain
    def get_weather(city: str) -> str:
        """Tells the weather in a city."""
        asked.append(city)
        return WEATHER

    said = await with_tool.run(TOOL_QUESTION)
    tell(client, "tools", called=["get_weather", {"city": asked[0]}], text=said.output)

    for scenario in ("error", "refusal"):
        try:
            await agent(scenario).run(QUESTION)
        except Exception as error:
            tell_error(client, scenario, error)

    got: list[str] = []
    async with agent("cancel").run_stream(QUESTION) as stream:
        async for text in stream.stream_text(delta=True, debounce_by=None):
            got.append(text)
            if len(got) > FEW:
                await stream.cancel()
                break
    tell(client, "cancel", text="".join(got))


async def main() -> None:
    """One API after the other."""
    await work("pydantic-ai-openai", lambda: openai_model("/v1", OpenAIChatModel))
    await work("pydantic-ai-responses", lambda: openai_model("/upstream/responses/v1", OpenAIResponsesModel))


asyncio.run(main())
