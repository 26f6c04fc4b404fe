"""Every way to say who asks and what for, on every endpoint and stream mode, through a real relay: always the same result."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from capture.settings import Settings
from proxy.worker import Worker
from tests.proxy.scripting import CHAT_ANSWER, Received, Upstream, chunk, chunked_head, http_answer, kept, talk

SESSION = "57a121ec-f78c-48c3-a745-e3036a3ecc33"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
BASE = {"host", "authorization", "content-type", "content-length"}

ENDPOINTS = {
    "chat": ("POST", "/v1/chat/completions", "openai"),
    "chat, base URL without /v1": ("POST", "/chat/completions", "openai"),
    "chat, /v1 twice": ("POST", "/v1/v1/chat/completions", "openai"),
    "chat, upstream named": ("POST", "/upstream/openai/v1/chat/completions", "openai"),
    "completions": ("POST", "/v1/completions", "openai"),
    "embeddings": ("POST", "/v1/embeddings", "openai"),
    "responses": ("POST", "/v1/responses", "openai"),
    "moderations": ("POST", "/v1/moderations", "raw"),
    "images": ("POST", "/v1/images/generations", "raw"),
    "speech": ("POST", "/v1/audio/speech", "raw"),
    "batches": ("POST", "/v1/batches", "raw"),
    "models": ("GET", "/v1/models", "raw"),
    "cancel": ("POST", "/v1/responses/resp_1/cancel", "raw"),
    "messages": ("POST", "/v1/messages", "anthropic"),
    "count_tokens": ("POST", "/v1/messages/count_tokens", "raw"),
    "message batches": ("POST", "/v1/messages/batches", "raw"),
}


@dataclass(frozen=True)
class Source:
    """One product's way to tag a request, what it must come to, and the headers of it that are the upstream's too."""

    headers: tuple[str, ...] = ()
    body: dict[str, Any] = field(default_factory=dict)
    prefix: str = ""
    task: str = ""
    user: str = ""
    session: str = ""
    environment: str = ""
    unit: tuple[str, str] = ("", "")
    tags: dict[str, str] = field(default_factory=dict)
    trace: str = ""
    passed_on: tuple[str, ...] = ()


EVERYTHING: dict[str, Any] = {"task": "triage", "user": "u1", "session": "s1", "environment": "prod", "unit": ("u1", "user")}
SOURCES = {
    "nothing": Source(),
    "our headers": Source(
        ("x-potstill-task: triage", "X-Potstill-User: u1", "x-potstill-session: s1", "x-potstill-environment: prod",
         "x-potstill-tag-team: search", f"traceparent: {TRACEPARENT}", "tracestate: a=b"),
        tags={"team": "search"}, trace=TRACE, passed_on=("traceparent", "tracestate"), **EVERYTHING),
    "path prefix": Source(
        ("x-potstill-user: u1", "x-potstill-session: s1", "x-potstill-environment: prod"), prefix="/task/triage", **EVERYTHING),
    "Helicone": Source(
        ("Helicone-Auth: Bearer h", "Helicone-Prompt-Id: triage", "Helicone-User-Id: u1", "Helicone-Session-Id: s1",
         "Helicone-Session-Path: /a", "Helicone-Property-Team: search", "Helicone-Cache-Enabled: true"),
        task="triage", user="u1", session="s1", unit=("u1", "user"), tags={"team": "search", "session_path": "/a"}),
    "LiteLLM": Source(
        ("x-litellm-api-key: k", "x-litellm-end-user-id: u1", "x-litellm-session-id: s1", "x-litellm-tags: batch",
         'x-litellm-spend-logs-metadata: {"team": "search"}'),
        user="u1", session="s1", unit=("u1", "user"), tags={"batch": "true", "team": "search"}),
    "LiteLLM's older names": Source(
        ("x-litellm-customer-id: u1", "x-litellm-trace-id: s1"), user="u1", session="s1", unit=("u1", "user")),
    "LiteLLM in the body": Source(
        body={"litellm_session_id": "s1", "litellm_metadata": {"tags": ["batch"], "team": "search"}, "user": "u1"},
        user="u1", session="s1", unit=("u1", "user"), tags={"batch": "true", "team": "search"}),
    "Portkey": Source(
        ("x-portkey-api-key: k", "x-portkey-virtual-key: v", "x-portkey-trace-id: s1",
         'x-portkey-metadata: {"_user": "u1", "_environment": "prod", "_prompt": "triage", "team": "search"}'),
        tags={"team": "search"}, **EVERYTHING),
    "Inference.net": Source(
        ("x-inference-observability-api-key: k", "x-inference-task-id: triage", "x-inference-environment: prod",
         "x-inference-metadata-team: search"),
        task="triage", environment="prod", tags={"team": "search"}),
    "Langfuse": Source(
        ("langfuse_trace_user_id: u1", "langfuse_session_id: s1", "Langfuse-Environment: prod", "langfuse_tags: batch"),
        prefix="/task/triage", tags={"batch": "true"}, **EVERYTHING),
    "Langfuse's baggage": Source(
        (f"traceparent: {TRACEPARENT}", "baggage: langfuse_user_id=u1,langfuse_session_id=s1,langfuse_metadata_team=search"),
        user="u1", session="s1", unit=("u1", "user"), tags={"team": "search"}, trace=TRACE, passed_on=("traceparent", "baggage")),
    "Langfuse in the body": Source(
        body={"metadata": {"langfuse_user_id": "u1", "langfuse_session_id": "s1", "team": "search"}},
        user="u1", session="s1", unit=("u1", "user"), tags={"team": "search"}),
    "OpenAI's body": Source(
        body={"metadata": {"team": "search", "n": "1"}, "safety_identifier": "u1", "prompt_cache_key": "app"},
        user="u1", unit=("u1", "user"), tags={"team": "search", "n": "1", "prompt_cache_key": "app"}),
    "OpenAI's user and conversation": Source(
        body={"user": "u1", "conversation": {"id": "conv_1"}}, user="u1", unit=("conv_1", "conversation")),
    "Anthropic's body": Source(body={"metadata": {"user_id": "u1"}}, user="u1", unit=("u1", "user")),
    "Claude Code": Source(
        ("User-Agent: claude-cli/2.1.90 (external, cli)", "x-app: cli", f"X-Claude-Code-Session-Id: {SESSION}",
         "x-claude-code-agent-id: a1", "anthropic-version: 2023-06-01", "anthropic-beta: claude-code-20250219,a"),
        {"metadata": {"user_id": json.dumps({"device_id": "d1", "account_uuid": "", "session_id": SESSION})}},
        user="d1", session=SESSION, unit=(SESSION, "session"), tags={"agent": "a1"},
        passed_on=(
            *("user-agent", "x-app", "x-claude-code-session-id", "x-claude-code-agent-id"),
            *("anthropic-version", "anthropic-beta"))),
    "Claude Code before 2.1.78": Source(
        ("User-Agent: claude-cli/1.0.90 (external, cli)", "anthropic-version: 2023-06-01"),
        {"metadata": {"user_id": f"user_{'0f' * 32}_account__session_{SESSION}"}},
        user=f"user_{'0f' * 32}", session=SESSION, unit=(SESSION, "session"), passed_on=("user-agent", "anthropic-version")),
    "Codex": Source(
        ("User-Agent: codex_cli_rs/0.60.1 (Linux)", "originator: codex_cli_rs", f"session_id: {SESSION}",
         f"conversation_id: {SESSION}", "x-openai-subagent: review", "OpenAI-Beta: responses=experimental"),
        {"prompt_cache_key": SESSION, "store": False},
        session=SESSION, unit=(SESSION, "session"), tags={"agent": "review"},
        passed_on=("user-agent", "originator", "session_id", "conversation_id", "x-openai-subagent", "openai-beta")),
    "Aider": Source(
        ("User-Agent: OpenAI/Python 1.99.1", "HTTP-Referer: https://aider.chat", "X-Title: Aider"),
        tags={"app": "Aider"}, passed_on=("user-agent", "http-referer", "x-title")),
    "ours before an alias before the body": Source(
        ("x-potstill-task: triage", "Helicone-Prompt-Id: other", "Helicone-User-Id: u1", "x-potstill-tag-team: search",
         "Helicone-Property-Team: other"),
        {"user": "other", "metadata": {"team": "other", "n": "1"}}, prefix="/task/another",
        task="triage", user="u1", unit=("u1", "user"), tags={"team": "search", "n": "1"}),
}  # fmt: skip


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_who_asks_and_what_for_is_the_same_on_every_endpoint_in_every_way(
    endpoint: str, is_stream: bool, relay: Worker, upstream: Upstream, relay_config: Settings
) -> None:
    method, path, protocol = ENDPOINTS[endpoint]

    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked_head() + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n" if is_stream else http_answer(CHAT_ANSWER))

    upstream.script = script
    has_body = method == "POST"
    chosen = {name: each for name, each in SOURCES.items() if has_body or not each.body}
    for source in chosen.values():
        body = json.dumps({"model": "gpt-5", "stream": is_stream, **source.body}).encode() if has_body else b""
        lines = ["Authorization: Bearer sk-test", "Content-Type: application/json", *source.headers, ""]
        reply = await talk(relay.port, f"{method} {source.prefix}{path}", "\r\n".join(lines), body)
        assert reply.status == 200
        assert reply.header("x-potstill-exchange-id").startswith("ex_")
        assert reply.header("x-potstill-upstream") in ("openai", "anthropic")
        sent = upstream.received[-1]
        assert sent.body == body
        expected = BASE | set(source.passed_on) if has_body else (BASE | set(source.passed_on)) - {"content-length"}
        assert {name.lower() for name, _ in sent.headers} == expected
        given = dict(line.split(": ", 1) for line in source.headers)
        assert [sent.header(name) for name in source.passed_on] == [
            value for wanted in source.passed_on for name, value in given.items() if name.lower() == wanted
        ]
    stored = kept(relay_config)
    assert len(stored) == len(chosen)
    for (name, source), exchange in zip(chosen.items(), stored, strict=True):
        begin = exchange.begin
        assert begin is not None
        assert begin.protocol == protocol, name
        assert (begin.model_asked, begin.is_stream) == (("gpt-5", is_stream) if has_body else ("", False)), name
        assert (begin.task, begin.user_name, begin.session_name, begin.environment) == (
            source.task,
            source.user,
            source.session,
            source.environment,
        ), name
        assert (begin.unit, begin.unit_source) == source.unit, name
        assert (begin.tags, begin.trace_id) == (source.tags, source.trace), name
