"""OpenAI's own library for Python: chat completions, responses, and what else it has."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
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


def others(client: str = "openai-other") -> None:
    """Endpoints that nobody on the way understands; the provider is told what to answer."""
    sdk = openai.OpenAI(base_url=f"{ADDRESS}/v1", api_key="sk-test", max_retries=0)
    file = {
        "id": "file-1",
        "object": "file",
        "bytes": 9,
        "created_at": 1,
        "filename": "a.jsonl",
        "purpose": "batch",
        "status": "processed",
    }
    batch = {"id": "batch_1", "object": "batch", "completion_window": "24h", "created_at": 1, "endpoint": "/v1/chat/completions"}
    job = {
        "id": "ftjob-1",
        "object": "fine_tuning.job",
        "created_at": 1,
        "model": MODEL,
        "status": "queued",
        "training_file": "file-1",
    }
    judged = {
        "id": "modr-1",
        "model": "omni-moderation-latest",
        "results": [{"flagged": True, "categories": {}, "category_scores": {}}],
    }
    picture = {"created": 1, "data": [{"b64_json": "iVBORw0KGgo="}]}
    calls: dict[str, tuple[Any, Callable[[dict[str, Any]], Any]]] = {
        "models": ({"object": "list", "data": [{"id": "m", "object": "model"}]}, lambda more: sdk.models.list(**more).data[0].id),
        "moderations": (judged, lambda more: sdk.moderations.create(input="x", **more).results[0].flagged),
        "images": (picture, lambda more: sdk.images.generate(prompt="x", **more).data[0].b64_json),
        "speech": (
            bytes(range(256)),
            lambda more: len(sdk.audio.speech.create(model="tts-1", voice="ash", input="x", **more).content),
        ),
        "transcriptions": (
            {"text": "hello"},
            lambda more: sdk.audio.transcriptions.create(model="whisper-1", file=("a.wav", bytes(range(256))), **more).text,
        ),
        "files": (file, lambda more: sdk.files.create(file=("a.jsonl", b'{"a": 1}\n'), purpose="batch", **more).id),
        "content": (b'{"a": 1}\r\n\x00', lambda more: sdk.files.content("file-1", **more).content.decode()),
        "batches": (
            batch,
            lambda more: (
                sdk.batches.create(input_file_id="file-1", endpoint="/v1/chat/completions", completion_window="24h", **more).id
            ),
        ),
        "fine-tuning": (job, lambda more: sdk.fine_tuning.jobs.create(model=MODEL, training_file="file-1", **more).status),
    }
    for scenario, (answer, call) in calls.items():
        is_json = isinstance(answer, dict)
        raw = base64.b64encode(json.dumps(answer).encode() if is_json else answer).decode()
        script = {"raw": [raw], "content_type": "application/json" if is_json else "application/octet-stream"}
        found = call({"extra_headers": {**headers(client, scenario), "x-script": json.dumps(script)}})
        tell(client, scenario, found=found, body=raw)


chat()
responses()
others()
