"""Python's clients of language models, as their users write them, through the relay and into the store."""

from __future__ import annotations

from collections.abc import Callable

import pytest

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
    if client.program not in runs:
        python = need(ENVIRONMENT / "bin" / "python")
        command = [str(python), str(PROGRAMS / f"{client.program}.py"), house.address]
        runs[client.program] = told(run_program(command, env={}, cwd=house.folder))
    scenario(client, runs[client.program][f"{client.name}/{scenario.__name__}"], house)
