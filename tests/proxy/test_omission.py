"""Whose content is not stored: by task, by key, by header; and what the relay then writes down."""

from __future__ import annotations

from typing import Any

import pytest

from capture.capture_settings import CaptureSettings
from capture.records import OMIT
from capture.settings import Settings, load_settings
from proxy.identify import BadTagError, Identity, identify
from proxy.omission import Omission, asks_to_omit, hash_of_key
from proxy.peek import Peek
from proxy.reading import Asked
from proxy.route import Target
from tests.proxy.scripting import Upstream, kept, relaying, talk

ASK = b'{"model": "gpt-5", "messages": [{"role": "user", "content": "hello"}]}'
SECRET_KEY = "sk-quiet-client"


def test_what_is_known_of_a_head_does_not_grow_with_the_tasks_that_its_bodies_name() -> None:
    omission = Omission(CaptureSettings(omit_content_tasks=("quiet-*",)))
    known: dict[Any, Any] = {}
    for number in range(1_000):
        for task, expected in ((f"loud-{number}", ""), (f"quiet-{number}", OMIT)):
            asked = Asked(
                "POST", Target("/v1/chat/completions", ""), "openai", {}, b"", Peek(), Identity(task), None, None, {}, known
            )  # fmt: skip
            assert omission.content_of(asked) == expected
    assert len(known) < 100


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], False),
        ([("X-Potstill-Store", "no")], True),
        ([("x-potstill-store", "yes")], False),
        ([("x-potstill-store", "nope")], True),
        ([("x-potstill-store", "yes"), ("X-Potstill-Store", "no")], True),
        ([("Helicone-Omit-Request", "true")], True),
        ([("Helicone-Omit-Response", "TRUE")], True),
        ([("Helicone-Omit-Request", "false")], False),
        ([("x-litellm-enable-message-redaction", "true")], True),
        ([("x-bf-disable-content-logging", "1")], True),
        ([("cf-aig-collect-log", "false")], True),
        ([("cf-aig-collect-log", "true")], False),
        ([("cf-aig-collect-log", "false"), ("x-potstill-store", "yes")], False),
    ],
)
def test_headers_ask_to_leave_the_content_out(headers: list[tuple[str, str]], expected: bool) -> None:
    assert asks_to_omit(headers) is expected


def test_a_malformed_wish_is_refused_with_the_reason() -> None:
    with pytest.raises(BadTagError, match="it must be yes or no"):
        identify([("x-potstill-store", "maybe")], "", Peek())


def test_a_hash_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="hash-key"):
        CaptureSettings(omit_content_keys=("sk-plain",))


@pytest.fixture
def omitting(relay_config: Settings) -> Settings:
    """Settings that leave out what the tasks hr-* and one client key say."""
    assert relay_config.path is not None
    with relay_config.path.open("a") as file:
        file.write(f'[capture]\nomit_content_tasks = ["hr-*"]\nomit_content_keys = ["{hash_of_key(SECRET_KEY)}"]\n')
    return load_settings(relay_config.path, environ={})


@pytest.mark.parametrize(
    ("headers", "status", "content"),
    [
        ("", 200, ""),
        ("x-potstill-store: no\r\n", 200, OMIT),
        ("Helicone-Omit-Request: true\r\n", 200, OMIT),
        ("x-potstill-store: perhaps\r\n", 400, OMIT),
        ("x-potstill-task: hr-leave\r\n", 200, OMIT),
        ("x-potstill-task: hr-leave\r\nx-potstill-store: yes\r\n", 200, OMIT),
        ("x-potstill-task: hr-leave\r\nx-potstill-purpose: no-such\r\n", 400, OMIT),
        ("x-potstill-task: other\r\n", 200, ""),
        (f"Authorization: Bearer {SECRET_KEY}\r\n", 200, OMIT),
        (f"Authorization: bearer  {SECRET_KEY}\r\n", 200, OMIT),
        (f"x-api-key: {SECRET_KEY}\r\n", 200, OMIT),
    ],
)
async def test_a_relay_writes_down_whose_content_stays_out(
    headers: str, status: int, content: str, omitting: Settings, upstream: Upstream
) -> None:
    assert omitting.path is not None
    credential = "" if "uthorization" in headers or "api-key" in headers else "Authorization: Bearer sk-test\r\n"
    async with relaying(omitting.path.parent) as worker:
        reply = await talk(worker.port, "POST /v1/chat/completions", credential + headers, ASK)
    (exchange,) = kept(omitting)
    assert reply.status == status and exchange.begin is not None and exchange.begin.content == content
    assert [name for received in upstream.received for name, _ in received.headers if "store" in name.lower()] == []
