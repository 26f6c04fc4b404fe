"""A provider's no, its silence and its broken streams, told in the client's own shape with the provider's status and words."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from tests.proxy.scripting import Received, Upstream, chunk, chunked_head
from tests.proxy.translation.conftest import HEADER, KEY
from tests.proxy.translation.providers import EVENTS, answering, converse, event_stream, gemini, sse, streaming

SAY = [{"role": "user", "content": "Say hello."}]
GEMINI, NOVA = "gemini/gemini-2.5-flash", "bedrock/us.amazon.nova-lite-v1:0"
BINARY = "application/vnd.amazon.eventstream"
QUOTA = {
    "error": {
        "code": 429,
        "message": "You exceeded your current quota.",
        "status": "RESOURCE_EXHAUSTED",
        "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "33.4s"}],
    }
}
PATHS = [
    ("/v1/chat/completions", {"messages": SAY}),
    ("/v1/messages", {"max_tokens": 9, "messages": SAY}),
    ("/v1/responses", {"input": "Hi."}),
]


async def ask(client: aiohttp.ClientSession, path: str, body: dict[str, Any], upstream: str = "gemini") -> tuple[int, Any, Any]:
    """Status, headers and error of an answer that says no."""
    async with client.post(path, json=body, headers={HEADER: upstream}) as answer:
        return answer.status, answer.headers, (await answer.json())["error"]


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(("path", "rest"), PATHS)
async def test_a_providers_no_keeps_its_status_its_words_and_how_long_to_wait(
    client: aiohttp.ClientSession, provider: Upstream, path: str, rest: dict[str, Any], is_stream: bool
) -> None:
    provider.script = answering(json.dumps(QUOTA, indent=2).encode(), status="429 Too Many Requests")
    status, headers, error = await ask(client, path, {"model": GEMINI, "stream": is_stream, **rest})
    assert (status, headers["Retry-After"]) == (429, "34")
    assert (error["type"], error["message"]) == ("rate_limit_error", "You exceeded your current quota.")
    assert error.get("code") in (None, "RESOURCE_EXHAUSTED")
    assert len(provider.received) == 1  # nobody asks again on his own


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(
    ("status", "openai", "anthropic"),
    [
        (400, "invalid_request_error", "invalid_request_error"),
        (401, "invalid_request_error", "authentication_error"),
        (403, "invalid_request_error", "permission_error"),
        (404, "invalid_request_error", "not_found_error"),
        (413, "invalid_request_error", "request_too_large"),
        (429, "rate_limit_error", "rate_limit_error"),
        (500, "server_error", "api_error"),
        (503, "overloaded_error", "overloaded_error"),
        (529, "overloaded_error", "overloaded_error"),
    ],
)
async def test_every_status_has_the_type_that_sdks_know(
    client: aiohttp.ClientSession, provider: Upstream, status: int, openai: str, anthropic: str, is_stream: bool
) -> None:
    for upstream, model, body in (
        ("gemini", GEMINI, {"error": {"code": status, "message": "No.", "status": "NO"}}),
        ("bedrock", NOVA, {"message": "No."}),
    ):
        provider.script = answering(json.dumps(body).encode(), status=f"{status} No", headers={"Retry-After": "7"})
        for (path, rest), kind in zip(PATHS[:2], (openai, anthropic), strict=True):
            seen, headers, error = await ask(client, path, {"model": model, "stream": is_stream, **rest}, upstream)
            assert (seen, error["type"], error["message"], headers["Retry-After"]) == (status, kind, "No.", "7"), (upstream, path)


async def test_an_error_that_repeats_the_key_does_not_show_it(client: aiohttp.ClientSession, provider: Upstream) -> None:
    words = {"error": {"code": 400, "message": f"API key {KEY} is not valid, see https://x/?key={KEY}&a=1", "status": "INVALID"}}
    provider.script = answering(json.dumps(words).encode(), status="400 Bad")
    for path, rest in PATHS:
        _, _, error = await ask(client, path, {"model": GEMINI, **rest})
        assert KEY not in json.dumps(error) and "[key]" in error["message"]


@pytest.mark.parametrize(("path", "rest"), PATHS)
async def test_a_provider_that_cannot_be_reached_is_a_502(
    client: aiohttp.ClientSession, provider: Upstream, path: str, rest: dict[str, Any]
) -> None:
    for is_stream in (False, True):
        status, _, error = await ask(client, path, {"model": GEMINI, "stream": is_stream, **rest}, "nowhere")
        assert status == 502 and "nowhere could not be reached" in error["message"]


async def test_an_answer_that_is_no_json_is_a_failure_of_the_provider(client: aiohttp.ClientSession, provider: Upstream) -> None:
    provider.script = answering(b"<html>busy</html>", status="502 Bad Gateway", headers={"Content-Type": "text/html"})
    status, _, error = await ask(client, "/v1/chat/completions", {"model": GEMINI, "messages": SAY})
    assert status == 502 and "Traceback" not in error["message"]


FINISHED = ('"finish_reason":"stop"', "message_stop", "response.completed", "[DONE]", "message_delta")


@pytest.mark.parametrize("is_cut", [True, False], ids=["reset", "closed in good order"])
@pytest.mark.parametrize(
    ("upstream", "model", "pieces", "kind"),
    [
        ("gemini", GEMINI, sse([gemini([{"text": "Hel"}], None)]), EVENTS),
        ("bedrock", NOVA, event_stream(converse(["Hel"])[:2]), BINARY),
    ],
)
@pytest.mark.parametrize(("path", "rest"), PATHS)
async def test_a_stream_that_the_provider_cut_never_looks_finished(
    client: aiohttp.ClientSession,
    provider: Upstream,
    path: str,
    rest: dict[str, Any],
    upstream: str,
    model: str,
    pieces: list[bytes],
    kind: str,
    is_cut: bool,
) -> None:
    provider.script = streaming(pieces, kind, is_cut=is_cut)
    body = {"model": model, "stream": True, **rest}
    async with client.post(path, json=body, headers={HEADER: upstream}) as answer:
        text = await answer.text()
    assert "Hel" in text and not any(word in text for word in FINISHED), text
    last = json.loads(text.rstrip().rpartition("data: ")[2])
    assert (last.get("error") or last["response"]["error"])["message"]
    if path.endswith("responses"):
        numbers = [json.loads(line[6:])["sequence_number"] for line in text.splitlines() if line.startswith("data: ")]
        assert last["type"] == "response.failed" and numbers == list(range(len(numbers)))


async def test_a_cut_at_every_byte_never_looks_finished(client: aiohttp.ClientSession, provider: Upstream) -> None:
    whole = {
        "gemini": (GEMINI, b"".join(sse([gemini([{"text": "He"}], None), gemini([{"text": "y"}])])), EVENTS),
        "bedrock": (NOVA, b"".join(event_stream(converse(["He", "y"])[:-1])), BINARY),
    }
    for upstream, (model, data, kind) in whole.items():
        ends = b'"finishReason": "STOP"' if upstream == "gemini" else b"stopReason"
        for length in range(1, data.index(ends), 7):
            provider.script = _cut_after(data[:length], kind)
            body = {"model": model, "messages": SAY, "stream": True}
            async with client.post("/v1/chat/completions", json=body, headers={HEADER: upstream}) as answer:
                text = await answer.text()
            assert not any(word in text for word in FINISHED) and '"error"' in text, (upstream, length, text)


def _cut_after(data: bytes, kind: str) -> Any:
    async def script(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked_head(kind) + chunk(data) + b"0\r\n\r\n")

    return script
