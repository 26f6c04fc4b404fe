"""LangChain: its models of OpenAI (chat completions and responses) and Anthropic, and an agent with a tool on each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from telling import ADDRESS, FEW, QUESTION, TOOL_QUESTION, WEATHER, headers, tell, tell_error


@tool
def get_weather(city: str) -> str:
    """Tells the weather in a city."""
    asked.append(city)
    return WEATHER


asked: list[str] = []


def openai_model(given: dict[str, str]) -> Any:
    """Chat completions."""
    return ChatOpenAI(model="gpt-4o-mini", base_url=f"{ADDRESS}/v1", api_key="sk-test", max_retries=0, default_headers=given)


def responses_model(given: dict[str, str]) -> Any:
    """The Responses API."""
    base = f"{ADDRESS}/upstream/responses/v1"
    return ChatOpenAI(
        model="gpt-4o-mini", base_url=base, api_key="sk-test", max_retries=0, use_responses_api=True, default_headers=given
    )


def anthropic_model(given: dict[str, str]) -> Any:
    """Messages."""
    return ChatAnthropic(
        model="claude-haiku-4-5", base_url=ADDRESS, api_key="sk-ant-test", max_retries=0, max_tokens=200, default_headers=given
    )


def work(client: str, make: Callable[[dict[str, str]], Any]) -> None:
    """Every scenario with models of `make`."""
    whole = make(headers(client, "chat")).invoke(QUESTION)
    tell(client, "chat", text=whole.text, tokens=whole.usage_metadata["total_tokens"])

    pieces = list(make(headers(client, "stream")).stream(QUESTION))
    tell(client, "stream", text="".join(piece.text for piece in pieces), pieces=len(pieces))

    asked.clear()
    agent = create_agent(make(headers(client, "tools")), [get_weather])
    said = agent.invoke({"messages": [{"role": "user", "content": TOOL_QUESTION}]})
    tell(client, "tools", called=["get_weather", {"city": asked[0]}], text=said["messages"][-1].text)

    for scenario in ("error", "refusal"):
        try:
            make(headers(client, scenario)).invoke(QUESTION)
        except Exception as error:
            tell_error(client, scenario, error)

    got = []
    stream = make(headers(client, "cancel")).stream(QUESTION)
    for piece in stream:
        got.append(piece.text)
        if len(got) > FEW:
            break
    stream.close()
    tell(client, "cancel", text="".join(got))


work("langchain-openai", openai_model)
work("langchain-responses", responses_model)
work("langchain-anthropic", anthropic_model)
