"""The names of OpenTelemetry's conventions for generative AI, in one place because they keep moving.

Source: https://github.com/open-telemetry/semantic-conventions-genai (status Development), which left the core conventions
after version 1.41. Whoever changes a name here changes `VERSION`, which every export carries.
"""

from __future__ import annotations

from collections.abc import Mapping

VERSION = "genai-2026-05"
SCOPE = "potstill"
SERVICE = "service.name"

NAMES: Mapping[str, str] = {
    "operation": "gen_ai.operation.name",
    "provider": "gen_ai.provider.name",
    "session": "gen_ai.conversation.id",
    "model_asked": "gen_ai.request.model",
    "is_stream": "gen_ai.request.stream",
    "model_served": "gen_ai.response.model",
    "response_id": "gen_ai.response.id",
    "finish_reasons": "gen_ai.response.finish_reasons",
    "first_byte_s": "gen_ai.response.time_to_first_chunk",
    "tokens_in": "gen_ai.usage.input_tokens",
    "tokens_out": "gen_ai.usage.output_tokens",
    "tokens_cached": "gen_ai.usage.cache_read.input_tokens",
    "tokens_cache_written": "gen_ai.usage.cache_creation.input_tokens",
    "tokens_reasoning": "gen_ai.usage.reasoning.output_tokens",
    "system": "gen_ai.system_instructions",
    "input": "gen_ai.input.messages",
    "output": "gen_ai.output.messages",
    "error": "error.type",
    "user": "user.id",
    "environment": "deployment.environment.name",
    "method": "http.request.method",
    "status": "http.response.status_code",
    "path": "url.path",
    "id": "potstill.exchange.id",
    "task": "potstill.task",
    "purpose": "potstill.purpose",
    "state": "potstill.state",
    "variant": "potstill.variant",
    "release": "potstill.release",
    "fallback": "potstill.fallback.reason",
    "upstream": "potstill.upstream",
    "usage_source": "potstill.usage.source",
    "cost_usd": "potstill.cost.usd",
    "content": "potstill.content",
    "tag": "potstill.tag.",
    "evaluation": "gen_ai.evaluation.result",
    "evaluation_name": "gen_ai.evaluation.name",
    "evaluation_value": "gen_ai.evaluation.score.value",
    "evaluation_label": "gen_ai.evaluation.score.label",
    "evaluation_words": "gen_ai.evaluation.explanation",
}
"""Name of an attribute or event by what it says; those that the conventions lack begin with potstill."""

PARAMETERS: Mapping[str, str] = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "max_output_tokens": "gen_ai.request.max_tokens",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
    "n": "gen_ai.request.choice.count",
    "stop": "gen_ai.request.stop_sequences",
    "stop_sequences": "gen_ai.request.stop_sequences",
}
"""Name of an attribute by the field of a request's body."""

OPERATIONS: Mapping[str, str] = {
    "chat": "chat",
    "responses": "chat",
    "messages": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
}
"""Operation by the form of an exchange."""

PROVIDERS: Mapping[str, str] = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "cohere": "cohere",
    "deepseek": "deepseek",
    "gemini": "gcp.gemini",
    "groq": "groq",
    "vertex": "gcp.vertex_ai",
    "mistral": "mistral_ai",
    "perplexity": "perplexity",
    "xai": "x_ai",
}
"""Provider by the name of an upstream that the conventions know by this or another name."""

PROTOCOLS: Mapping[str, str] = {"openai": "openai", "anthropic": "anthropic"}
"""Provider by the protocol of any other upstream: the conventions' attribute tells the flavour of the telemetry."""

FINISH_REASONS: Mapping[str, str] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "tool_calls": "tool_call",
    "tool_use": "tool_call",
    "function_call": "tool_call",
    "refusal": "content_filter",
}
"""Finish reason of a message by the provider's word, where they differ."""
