"""What bodies and headers of providers say again and again: zstd starts from it, so that a short body packs small.

The store's frames cannot be read without it: it is never changed. A better one gets a number of its own in `DICTIONARIES`.
"""

from __future__ import annotations

from collections.abc import Mapping

_ASKED = (
    '{"model":"claude-sonnet-4-5","max_tokens":1024,"system":"You are a helpful assistant.","messages":[{"role":"user","content":'
    '[{"type":"text","text":"","cache_control":{"type":"ephemeral"}}]}],"tools":[{"name":"","description":"","input_schema":'
    '{"type":"object","properties":{"":{"type":"string","description":""}},"required":[""],"additionalProperties":false}}],'
    '"metadata":{"user_id":""},"stream":true,"temperature":0,"tool_choice":{"type":"auto"}}'
    '{"model":"gpt-4o-mini","input":[{"role":"user","content":[{"type":"input_text","text":""}]}],"instructions":"","store":false,'
    '"reasoning":{"effort":"low","summary":"auto"},"text":{"format":{"type":"text"}},"max_output_tokens":null,'
    '"previous_response_id":null,"parallel_tool_calls":true,"truncation":"disabled"}'
    '{"messages": [{"role": "system", "content": "You are a helpful assistant. Answer in one word. Reply with JSON only."}, '
    '{"role": "user", "content": ""}, {"role": "assistant", "content": null, "tool_calls": [{"id": "call_", "type": "function", '
    '"function": {"name": "", "arguments": "{\\"}"}}]}, {"role": "tool", "tool_call_id": "call_", "content": ""}], '
    '"model": "gpt-4o-mini", "max_tokens": 200, "temperature": 0, "top_p": 1, "frequency_penalty": 0, "presence_penalty": 0, '
    '"response_format": {"type": "json_schema", "json_schema": {"name": "", "strict": true, "schema": {"type": "object"}}}, '
    '"seed": 1, "n": 1, "stop": null, "user": "", "tools": [{"type": "function", "function": {"name": "", "description": "", '
    '"parameters": {"type": "object", "properties": {}, "required": []}}}], "stream": true, '
    '"stream_options": {"include_usage": true}}'
    '{"model":"gpt-4o-mini","messages":[{"role":"system","content":""},{"role":"user","content":""}],"temperature":0,'
    '"max_tokens":200,"stream":true,"stream_options":{"include_usage":true}}'
)
_STREAMED = (
    'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_01","type":"message","role":"assistant","model":'
    '"claude-sonnet-4-5-20250929","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":25,'
    '"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"cache_creation":{"ephemeral_5m_input_tokens":0,'
    '"ephemeral_1h_input_tokens":0},"output_tokens":1,"service_tier":"standard"}}}\n\n'
    'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n'
    'event: ping\ndata: {"type": "ping"}\n\n'
    'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":""}}\n\n'
    'event: content_block_delta\ndata: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta",'
    '"partial_json":""}}\n\n'
    'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
    'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":'
    '{"output_tokens":15}}\n\nevent: message_stop\ndata: {"type":"message_stop"}\n\n'
    'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","sequence_number":4,"item_id":"msg_",'
    '"output_index":0,"content_index":0,"delta":"","logprobs":[]}\n\n'
    'data: {"id":"chatcmpl-","object":"chat.completion.chunk","created":1760000000,"model":"gpt-4o-mini-2024-07-18",'
    '"service_tier":"default","system_fingerprint":"fp_","choices":[{"index":0,"delta":{"role":"assistant","content":"",'
    '"refusal":null},"logprobs":null,"finish_reason":null}],"usage":null}\n\n'
    'data: {"id": "chatcmpl-", "created": 1760000000, "model": "gpt-4o-mini-2024-07-18", "service_tier": "default", '
    '"system_fingerprint": "fp_", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": " the"}, '
    '"logprobs": null, "finish_reason": null}], "usage": null}\n\n'
    'data: {"id":"chatcmpl-","object":"chat.completion.chunk","created":1760000000,"model":"gpt-4o-mini-2024-07-18",'
    '"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":100,'
    '"completion_tokens":10,"total_tokens":110}}\n\ndata: [DONE]\n\n'
)
_ANSWERED = (
    '{"id":"msg_01","type":"message","role":"assistant","model":"claude-sonnet-4-5-20250929","content":[{"type":"text","text":""}],'
    '"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":100,"cache_creation_input_tokens":0,'
    '"cache_read_input_tokens":0,"output_tokens":10,"service_tier":"standard"}}'
    '{"id":"resp_","object":"response","created_at":1760000000,"status":"completed","error":null,"incomplete_details":null,'
    '"instructions":null,"max_output_tokens":null,"model":"gpt-4o-mini-2024-07-18","output":[{"type":"message","id":"msg_",'
    '"status":"completed","role":"assistant","content":[{"type":"output_text","text":"","annotations":[]}]}],'
    '"usage":{"input_tokens":36,"input_tokens_details":{"cached_tokens":0},"output_tokens":87,"output_tokens_details":'
    '{"reasoning_tokens":0},"total_tokens":123},"user":null,"metadata":{}}'
    '{"error":{"message":"","type":"invalid_request_error","param":null,"code":null}}'
    '{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.0]}],"model":"text-embedding-3-small"}'
    '{"id": "chatcmpl-", "object": "chat.completion", "created": 1760000000, "model": "gpt-4o-mini-2024-07-18", "choices": '
    '[{"index": 0, "message": {"role": "assistant", "content": "", "refusal": null, "annotations": []}, "logprobs": null, '
    '"finish_reason": "stop"}], "usage": {"prompt_tokens": 170, "completion_tokens": 150, "total_tokens": 320, '
    '"prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0, '
    '"audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}}, "service_tier": "default", '
    '"system_fingerprint": "fp_"}'
    '{\n  "id": "chatcmpl-",\n  "object": "chat.completion",\n  "created": 1760000000,\n  "model": "gpt-4o-mini-2024-07-18",\n'
    '  "choices": [\n    {\n      "index": 0,\n      "message": {\n        "role": "assistant",\n        "content": "",\n'
    '        "refusal": null,\n        "annotations": []\n      },\n      "logprobs": null,\n      "finish_reason": "stop"\n'
    "    }\n"
    '  ],\n  "usage": {\n    "prompt_tokens": 19,\n    "completion_tokens": 10,\n    "total_tokens": 29,\n'
    '    "prompt_tokens_details": {\n      "cached_tokens": 0,\n      "audio_tokens": 0\n    },\n'
    '    "completion_tokens_details": {\n'
    '      "reasoning_tokens": 0,\n      "audio_tokens": 0,\n      "accepted_prediction_tokens": 0,\n'
    '      "rejected_prediction_tokens": 0\n    }\n  },\n  "service_tier": "default",\n  "system_fingerprint": "fp_"\n}\n'
    '{"id":"chatcmpl-","object":"chat.completion","created":1760000000,"model":"gpt-4o-mini-2024-07-18","choices":[{"index":0,'
    '"message":{"role":"assistant","content":"","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":'
    '{"prompt_tokens":170,"completion_tokens":150,"total_tokens":320,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},'
    '"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,'
    '"rejected_prediction_tokens":0}},"service_tier":"default","system_fingerprint":"fp_"}'
)
_HEADERS = (
    "accept application/json accept-encoding gzip, deflate, br, zstd identity content-type application/json text/event-stream; "
    "charset=utf-8 content-length connection keep-alive user-agent OpenAI/Python 2.0.0 AsyncOpenAI Anthropic/Python 0.70.0 "
    "python-httpx/0.28.1 x-stainless-lang python x-stainless-package-version 2.0.0 x-stainless-os Linux MacOS x-stainless-arch "
    "x64 arm64 x-stainless-runtime CPython x-stainless-runtime-version 3.11.9 3.12.4 x-stainless-async false async:asyncio "
    "x-stainless-retry-count 0 x-stainless-read-timeout 600 x-stainless-timeout 600 anthropic-version 2023-06-01 anthropic-beta "
    "traceparent 00- -01 date Mon, Tue, Wed, Thu, Fri, Sat, Sun, Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec 2025 2026 2027 "
    ":00:00 GMT server cloudflare uvicorn cf-ray cf-cache-status DYNAMIC transfer-encoding chunked strict-transport-security "
    "max-age=31536000; includeSubDomains; preload x-content-type-options nosniff alt-svc h3=\":443\"; ma=86400 "
    "access-control-expose-headers X-Request-ID openai-organization openai-processing-ms openai-version 2020-10-01 "
    "openai-project proj_ x-envoy-upstream-service-time x-ratelimit-limit-requests 10000 x-ratelimit-limit-tokens 2000000 "
    "x-ratelimit-remaining-requests 9999 x-ratelimit-remaining-tokens 1999 x-ratelimit-reset-requests 6ms 8.64s "
    "x-ratelimit-reset-tokens 0s x-request-id req_ request-id anthropic-organization-id "
    "anthropic-ratelimit-input-tokens-limit anthropic-ratelimit-input-tokens-remaining anthropic-ratelimit-requests-reset "
    "cache-control no-cache x-accel-buffering no vary Origin via 1.1 google "
)  # fmt: skip
# The commonest last: zstd spells short distances cheapest.
DICTIONARIES: Mapping[int, bytes] = {1: (_ASKED + _STREAMED + _ANSWERED + _HEADERS).encode()}
LATEST = 1
