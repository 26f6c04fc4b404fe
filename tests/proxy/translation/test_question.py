"""What a request may ask: named fields only, no address, no key, nothing to fetch; everything else is refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.translation.question import CHAT, MESSAGES, PATHS, Question, Refusal, read_question

SAY = [{"role": "user", "content": "Say hello."}]
CHATS, ANTHROPIC = "/v1/chat/completions", "/v1/messages"
GEMINI = "gemini/gemini-2.5-flash"
LEAST: dict[str, dict[str, Any]] = {
    CHATS: {"messages": SAY},
    "/v1/completions": {"prompt": "x"},
    "/v1/embeddings": {"input": "x"},
    "/v1/images/generations": {"prompt": "x"},
    "/v1/responses": {"input": "x"},
    ANTHROPIC: {"messages": SAY, "max_tokens": 5},
    "/v1/messages/count_tokens": {"messages": SAY},
}
"""What each path needs besides a model."""


def read(path: str, body: Any) -> Question | Refusal:
    """What `body` comes to."""
    return read_question("POST", path, json.dumps(body).encode())


def refused(path: str, body: Any) -> Refusal:
    """The refusal that `body` must come to."""
    found = read(path, body)
    assert isinstance(found, Refusal), found
    assert found.status in (400, 404) and found.message
    return found


def test_what_is_read_is_what_was_asked() -> None:
    found = read(CHATS, {"model": GEMINI, "messages": SAY, "temperature": 0.2, "stream": True, "user": None})
    assert isinstance(found, Question)
    assert (found.operation, found.model, found.is_stream) == (CHAT, GEMINI, True)
    assert found.arguments == {"messages": SAY, "temperature": 0.2, "stream": True}
    found = read(ANTHROPIC, {"model": GEMINI, "messages": SAY, "max_tokens": 5, "system": "Be brief."})
    assert isinstance(found, Question) and found.operation == MESSAGES


@pytest.mark.parametrize(
    "field",
    [
        *("api_base", "base_url", "api_key", "api_version", "custom_llm_provider", "extra_headers", "headers", "mock_response"),
        *("aws_access_key_id", "aws_bedrock_runtime_endpoint", "vertex_credentials", "vertex_project", "fallbacks", "model_list"),
        *("callbacks", "success_callback", "litellm_metadata", "prompt_id", "num_retries", "timeout", "client", "drop_params"),
        *("extra_body", "mcp_servers", "previous_response_id", "__class__", "organization", "proxy_server_request", "logger_fn"),
    ],
)
def test_a_field_that_would_steer_litellm_is_refused_by_name_everywhere(field: str) -> None:
    for path in PATHS:
        body = {"model": GEMINI, **LEAST[path]}
        assert isinstance(read(path, body), Question), path
        assert field in refused(path, {**body, field: "x"}).message


@pytest.mark.parametrize(
    "model",
    [
        None,
        7,
        "",
        "x" * 300,
        "gemini/../x",
        "huggingface/https://evil.example/x",
        "a b",
        "a\r\nb",
        "vllm/x",
        "petals/x",
        "-x",
        "gemini/x?key=1",
    ],
)
def test_a_model_that_is_no_name_of_one_is_refused(model: Any) -> None:
    assert "model" in refused(CHATS, {"model": model, "messages": SAY}).message


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/", "https://x.example/a.png", "file:///etc/passwd", "/etc/passwd", "gs://b/o", "ftp://x"]
)
@pytest.mark.parametrize("path", [CHATS, ANTHROPIC])
def test_nothing_is_fetched_for_a_request(path: str, url: str) -> None:
    parts: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "image_url", "image_url": url},
        {"type": "image", "source": {"type": "url", "url": url}},
        {"type": "document", "source": {"type": "url", "url": url}},
        {"type": "file", "file": {"file_id": url}},
        {"type": "file", "file": {"file_data": url}} if ":" in url else {"type": "file", "file": {"file_id": url}},
        {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": {"type": "url", "url": url}}]},
        {"type": "video_url", "video_url": {"url": url}},
    ]
    for part in parts:
        body = {"model": GEMINI, "max_tokens": 5, "messages": [{"role": "user", "content": [part]}]}
        assert "fetched" in refused(path, body).message, part
    body = {
        "model": GEMINI,
        "max_tokens": 5,
        "messages": [{"role": "assistant", "content": "x", "images": [{"image_url": {"url": url}}]}],
    }
    assert "fetched" in refused(path, body).message


def test_addresses_in_text_and_in_what_tools_get_are_none_of_our_business() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "get", "arguments": '{"url": "https://x.example"}'}}
    use = {"type": "tool_use", "id": "c", "name": "get", "input": {"url": "https://x.example", "source": {"url": "http://y"}}}
    found = {
        "type": "search_result",
        "source": "https://x.example",
        "title": "t",
        "content": [{"type": "text", "text": "http://z"}],
    }
    talk = [*SAY, {"role": "assistant", "content": "https://x.example", "tool_calls": [call]}]
    assert isinstance(read(CHATS, {"model": GEMINI, "messages": talk}), Question)
    talk = [*SAY, {"role": "assistant", "content": [use]}, {"role": "user", "content": [found]}]
    assert isinstance(read(ANTHROPIC, {"model": GEMINI, "max_tokens": 5, "messages": talk}), Question)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"model": GEMINI}, "messages is missing"),
        ({"model": GEMINI, "messages": "hi"}, "messages"),
        ({"model": GEMINI, "messages": []}, "messages"),
        ({"model": GEMINI, "messages": ["hi"]}, "messages[0]"),
        ({"model": GEMINI, "messages": [{"role": "robot", "content": "x"}]}, "messages[0]"),
        ({"model": GEMINI, "messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"model": GEMINI, "messages": SAY, "stream": "yes"}, "stream"),
        ({"model": GEMINI, "messages": SAY, "tools": "x"}, "tools"),
        ({"model": GEMINI, "messages": SAY, "tools": [{"type": "mcp", "server_url": "litellm_proxy"}]}, "mcp"),
        ({"model": GEMINI, "messages": SAY, "tools": [{"type": "function", "function": "x"}]}, "tools[0]"),
        ([], "object"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(body: Any, word: str) -> None:
    assert word in refused(CHATS, body).message


def test_a_body_that_is_no_json_too_deep_or_for_another_path_is_refused() -> None:
    for body in (b"", b"{", b"\xff", b"[" * 100_000, b'{"a":' * 100_000):
        assert isinstance(read_question("POST", CHATS, body), Refusal)
    deep: Any = "x"
    for _ in range(150):
        deep = [deep]
    assert "deep" in refused(CHATS, {"model": GEMINI, "messages": SAY, "logit_bias": deep}).message
    found = read_question("GET", "/v1/models", b"")
    assert isinstance(found, Refusal) and found.status == 404


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_json_is_read_or_refused_and_never_raises(body: Any) -> None:
    for path in PATHS:
        assert isinstance(read_question("POST", path, json.dumps(body).encode()), Question | Refusal)
        nested = {"model": GEMINI, "messages": body, "input": body, "prompt": body, "max_tokens": 5, "tools": body}
        assert isinstance(read_question("POST", path, json.dumps(nested).encode()), Question | Refusal)


@given(st.binary())
def test_any_bytes_are_read_or_refused_and_never_raise(body: bytes) -> None:
    assert isinstance(read_question("POST", CHATS, body), Refusal)
