"""LlamaIndex: its model of OpenAI, with a tool that it calls itself."""

from __future__ import annotations

from typing import Any

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai import OpenAI, OpenAIResponses
from telling import ADDRESS, FEW, QUESTION, TOOL_QUESTION, WEATHER, headers, tell, tell_error


def model(client: str, scenario: str) -> Any:
    """A model under the headers of `scenario`."""
    is_responses = client.endswith("responses")
    return (OpenAIResponses if is_responses else OpenAI)(
        model="gpt-4o-mini",
        api_base=f"{ADDRESS}/upstream/responses/v1" if is_responses else f"{ADDRESS}/v1",
        api_key="sk-test",
        max_retries=0,
        default_headers=headers(client, scenario),
    )


def work(client: str) -> None:
    """Every scenario."""
    ask = [ChatMessage(role="user", content=QUESTION)]
    whole = model(client, "chat").chat(ask)
    tell(client, "chat", text=whole.message.content, tokens=whole.raw.usage.total_tokens)

    pieces = list(model(client, "stream").stream_chat(ask))
    tell(client, "stream", text=pieces[-1].message.content, pieces=sum(bool(piece.delta) for piece in pieces))

    asked = []

    def get_weather(city: str) -> str:
        """Tells the weather in a city."""
        asked.append(city)
        return WEATHER

    tools, llm = [FunctionTool.from_defaults(get_weather)], model(client, "tools")
    called = llm.chat_with_tools(tools, TOOL_QUESTION)
    use = llm.get_tool_calls_from_response(called)[0]
    result = tools[0](**use.tool_kwargs)
    kwargs = {"call_id": use.tool_id} if client.endswith("responses") else {"tool_call_id": use.tool_id}
    history = [
        ChatMessage(role="user", content=TOOL_QUESTION),
        called.message,
        ChatMessage(role="tool", content=str(result), additional_kwargs=kwargs),
    ]
    last = llm.chat_with_tools(tools, chat_history=history)
    tell(client, "tools", called=[use.tool_name, {"city": asked[0]}], text=last.message.content)

    for scenario in ("error", "refusal"):
        try:
            model(client, scenario).chat(ask)
        except Exception as error:
            tell_error(client, scenario, error)

    got = []
    stream = model(client, "cancel").stream_chat(ask)
    for piece in stream:
        got += [piece.delta] if piece.delta else []
        if len(got) > FEW:
            break
    stream.close()
    tell(client, "cancel", text="".join(got))


work("llama-index")
work("llama-index-responses")
