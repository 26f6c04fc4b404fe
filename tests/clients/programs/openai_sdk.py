"""OpenAI's own library for Python: chat completions, responses, embeddings, models."""

from __future__ import annotations

import json
from typing import Any

import openai
from telling import ADDRESS, FEW, QUESTION, TOOL_QUESTION, WEATHER, headers, tell, tell_error

MODEL = "gpt-4o-mini"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}


def chat(client: str = "openai") -> None:
    """Chat completions."""
    sdk = openai.OpenAI(base_url=f"{ADDRESS}/v1", api_key="sk-test", max_retries=0)
    ask: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": QUESTION}]}

    whole = sdk.chat.completions.create(**ask, extra_headers=headers(client, "chat"))
    tell(client, "chat", text=whole.choices[0].message.content, tokens=whole.usage.total_tokens)

    options = {"stream": True, "stream_options": {"include_usage": True}}
    pieces = list(sdk.chat.completions.create(**ask, **options, extra_headers=headers(client, "stream")))
    texts = [piece.choices[0].delta.content or "" for piece in pieces if piece.choices]
    tell(client, "stream", text="".join(texts), pieces=len(texts), tokens=pieces[-1].usage.total_tokens)

    tools = [{"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA, "strict": True}}]
    messages: list[Any] = [{"role": "user", "content": TOOL_QUESTION}]
    called = sdk.chat.completions.create(model=MODEL, messages=messages, tools=tools, extra_headers=headers(client, "tools"))
    call = called.choices[0].message.tool_calls[0]
    messages += [called.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": WEATHER}]
    last = sdk.chat.completions.create(model=MODEL, messages=messages, tools=tools, extra_headers=headers(client, "tools"))
    tell(client, "tools", called=[call.function.name, json.loads(call.function.arguments)], text=last.choices[0].message.content)

    for scenario in ("error", "refusal"):
        try:
            sdk.chat.completions.create(**ask, extra_headers=headers(client, scenario))
        except openai.APIStatusError as error:
            tell_error(client, scenario, error)

    got = []
    with sdk.chat.completions.create(**ask, stream=True, extra_headers=headers(client, "cancel")) as stream:
        for piece in stream:
            got.append(piece.choices[0].delta.content or "")
            if len(got) > FEW:
                break
    tell(client, "cancel", text="".join(got))


def responses(client: str = "openai-responses") -> None:
    """The Responses API."""
    sdk = openai.OpenAI(base_url=f"{ADDRESS}/upstream/responses/v1", api_key="sk-test", max_retries=0)
    ask: dict[str, Any] = {"model": MODEL, "input": QUESTION}

    whole = sdk.responses.create(**ask, extra_headers=headers(client, "chat"))
    tell(client, "chat", text=whole.output_text, tokens=whole.usage.total_tokens)

    events = list(sdk.responses.create(**ask, stream=True, extra_headers=headers(client, "stream")))
    texts = [event.delta for event in events if event.type == "response.output_text.delta"]
    tell(client, "stream", text="".join(texts), pieces=len(texts), tokens=events[-1].response.usage.total_tokens)

    tools = [{"type": "function", "name": "get_weather", "parameters": SCHEMA, "strict": True}]
    items: list[Any] = [{"role": "user", "content": TOOL_QUESTION}]
    called = sdk.responses.create(model=MODEL, input=items, tools=tools, extra_headers=headers(client, "tools"))
    call = called.output[0]
    items += [call, {"type": "function_call_output", "call_id": call.call_id, "output": WEATHER}]
    last = sdk.responses.create(model=MODEL, input=items, tools=tools, extra_headers=headers(client, "tools"))
    tell(client, "tools", called=[call.name, json.loads(call.arguments)], text=last.output_text)

    for scenario in ("error", "refusal"):
        try:
            sdk.responses.create(**ask, extra_headers=headers(client, scenario))
        except openai.APIStatusError as error:
            tell_error(client, scenario, error)

    got = []
    with sdk.responses.create(**ask, stream=True, extra_headers=headers(client, "cancel")) as stream:
        for event in stream:
            got += [event.delta] if event.type == "response.output_text.delta" else []
            if len(got) > FEW:
                break
    tell(client, "cancel", text="".join(got))


chat()
responses()
