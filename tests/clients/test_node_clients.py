"""Node's clients of language models, as their users write them, through the relay and into the store."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.clients.house import PROGRAMS, House, need_node, run_program, told
from tests.clients.scenarios import SCENARIOS, Client, Told

RESPONSES = "/v1/responses"
CLIENTS = (
    Client("openai-node", "openai_node"),
    Client("openai-node-responses", "openai_node", RESPONSES),
    Client("anthropic-node", "anthropic_node", "/v1/messages", "anthropic"),
    Client("vercel-openai", "vercel_node"),
    Client("vercel-responses", "vercel_node", RESPONSES),
    Client("vercel-anthropic", "vercel_node", "/v1/messages", "anthropic"),
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
        need_node()
        command = ["node", str(PROGRAMS / f"{client.program}.mjs"), house.address]
        runs[client.program] = told(run_program(command, env={}, cwd=house.folder))
    scenario(client, runs[client.program][f"{client.name}/{scenario.__name__}"], house)
