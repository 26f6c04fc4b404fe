"""Python's clients of language models, as their users write them, through the relay and into the store."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from capture import feed
from capture.exchange import COMPLETE
from tests.clients.house import ENVIRONMENT, PROGRAMS, House, need, run_program, told
from tests.clients.scenarios import SCENARIOS, Client, Told

RESPONSES = "/v1/responses"
CLIENTS = (
    Client("openai", "openai_sdk"),
    Client("openai-responses", "openai_sdk", RESPONSES),
    Client("anthropic", "anthropic_sdk", "/v1/messages", "anthropic"),
    Client("langchain-openai", "langchain_app"),
    Client("langchain-responses", "langchain_app", RESPONSES),
    Client("langchain-anthropic", "langchain_app", "/v1/messages", "anthropic"),
    Client("llama-index", "llama_index_app"),
    Client("llama-index-responses", "llama_index_app", RESPONSES),
    Client("pydantic-ai-openai", "pydantic_ai_app", shows_retry_after=False),
    Client("pydantic-ai-responses", "pydantic_ai_app", RESPONSES, shows_retry_after=False),
    Client("instructor", "instructor_app", is_typed=True),
)

OTHERS = {
    "models": ("GET", "/v1/models", "m"),
    "moderations": ("POST", "/v1/moderations", True),
    "images": ("POST", "/v1/images/generations", "iVBORw0KGgo="),
    "speech": ("POST", "/v1/audio/speech", 256),
    "transcriptions": ("POST", "/v1/audio/transcriptions", "hello"),
    "files": ("POST", "/v1/files", "file-1"),
    "content": ("GET", "/v1/files/file-1/content", '{"a": 1}\r\n\x00'),
    "batches": ("POST", "/v1/batches", "batch_1"),
    "fine-tuning": ("POST", "/v1/fine_tuning/jobs", "queued"),
}
"""Method, path, and what an app makes of the scripted answer."""
UPLOADS = {"files": b'{"a": 1}\n', "transcriptions": bytes(range(256))}

pytestmark = pytest.mark.clients


@pytest.fixture(scope="module")
def runs() -> dict[str, dict[str, Told]]:
    """What each program told; a program runs once, when its first test asks."""
    return {}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_it_works_as_without_the_relay_and_is_stored(
    client: Client, scenario: Callable[[Client, Told, House], None], house: House, runs: dict[str, dict[str, Told]]
) -> None:
    scenario(client, _told(client.program, house, runs)[f"{client.name}/{scenario.__name__}"], house)


@pytest.mark.parametrize("scenario", OTHERS)
def test_other_endpoints_pass_and_are_kept_byte_for_byte(scenario: str, house: House, runs: dict[str, dict[str, Told]]) -> None:
    method, path, found = OTHERS[scenario]
    said = _told("openai_sdk", house, runs)[f"openai-other/{scenario}"]
    assert said["found"] == found
    (exchange,) = house.stored(f"task:openai-other tag.scenario:{scenario}")
    assert (exchange.method, exchange.path, exchange.status, exchange.state) == (method, path, 200, COMPLETE)
    content = feed.content(house.database, exchange)
    assert content.response_body == base64.b64decode(said["body"])
    assert UPLOADS.get(scenario, b"") in content.request_body


def _told(program: str, house: House, runs: dict[str, dict[str, Told]]) -> dict[str, Any]:
    """What `program` told; it runs when it is asked for the first time."""
    if program not in runs:
        python = need(ENVIRONMENT / "bin" / "python")
        runs[program] = told(run_program([str(python), str(PROGRAMS / f"{program}.py"), house.address], env={}, cwd=house.folder))
    return runs[program]
