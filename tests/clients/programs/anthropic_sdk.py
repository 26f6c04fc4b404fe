"""Anthropic's own library for Python: messages, streamed and not."""

from __future__ import annotations

from typing import Any

import anthropic
from telling import ADDRESS, FEW, QUESTION, TOOL_QUESTION, WEATHER, headers, tell, tell_error

CLIENT = "anthropic"
MODEL: dict[str, Any] = {"model": "claude-haiku-4-5", "max_tokens": 200}
TOOLS: list[Any] = [
    {"name": "get_weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}
]

sdk = anthropic.Anthropic(base_url=ADDRESS, api_key="sk-ant-test", max_retries=0)
ask: dict[str, Any] = {**MODEL, "messages": [{"role": "user", "content": QUESTION}]}

whole = sdk.messages.create(**ask, extra_headers=headers(CLIENT, "chat"))
tell(CLIENT, "chat", text=whole.content[0].text, tokens=whole.usage.input_tokens + whole.usage.output_tokens)

with sdk.messages.stream(**ask, extra_headers=headers(CLIENT, "stream")) as stream:
    texts = list(stream.text_stream)
    usage = stream.get_final_message().usage
tell(CLIENT, "stream", text="".join(texts), pieces=len(texts), tokens=usage.input_tokens + usage.output_tokens)

messages: list[Any] = [{"role": "user", "content": TOOL_QUESTION}]
called = sdk.messages.create(**MODEL, messages=messages, tools=TOOLS, extra_headers=headers(CLIENT, "tools"))
use = next(block for block in called.content if block.type == "tool_use")
messages += [
    {"role": "assistant", "content": called.content},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id, "content": WEATHER}]},
]
last = sdk.messages.create(**MODEL, messages=messages, tools=TOOLS, extra_headers=headers(CLIENT, "tools"))
tell(CLIENT, "tools", called=[use.name, use.input], text=last.content[0].text)

for scenario in ("error", "refusal"):
    try:
        sdk.messages.create(**ask, extra_headers=headers(CLIENT, scenario))
    except anthropic.APIStatusError as error:
        tell_error(CLIENT, scenario, error)

got = []
with sdk.messages.stream(**ask, extra_headers=headers(CLIENT, "cancel")) as stream:
    for text in stream.text_stream:
        got.append(text)
        if len(got) > FEW:
            break
tell(CLIENT, "cancel", text="".join(got))
