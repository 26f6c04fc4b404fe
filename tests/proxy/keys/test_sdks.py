"""What the official SDKs make of the gate's refusals: the errors that their users catch, and no retry that cannot help."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from capture.database import open_database
from capture.settings import load_settings
from proxy.keys.key_store import add_key
from proxy.keys.limits import Limits
from proxy.keys.pepper import make_pepper, pepper_path
from proxy.keys.virtual_key import new_key
from proxy.provider import ProviderOptions, serving
from proxy.worker import Worker, start_worker

ASK: Any = [{"role": "user", "content": "hello"}]
Sdk = openai.AsyncOpenAI | anthropic.AsyncAnthropic


@pytest.fixture(autouse=True)
def key_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POTSTILL_TEST_UPSTREAM_KEY", "sk-of-the-house")


@asynccontextmanager
async def relaying(folder: Path, limits: Limits) -> AsyncIterator[tuple[Worker, str]]:
    """A relay that wants virtual keys, in front of the scripted provider, and a key with `limits`."""
    async with serving(ProviderOptions(latency_ms=0)) as provider:
        path = folder / "potstill.toml"
        path.write_text(
            '[store]\ndata_folder = "data"\n[relay]\nport = 0\nadmin_port = 0\n[keys]\nrequired = true\n'
            f'[upstreams.openai]\nurl = "{provider}/v1"\nkey = "env:POTSTILL_TEST_UPSTREAM_KEY"\n'
            f'[upstreams.anthropic]\nurl = "{provider}"\nprotocol = "anthropic"\nkey = "env:POTSTILL_TEST_UPSTREAM_KEY"\n'
        )
        settings = load_settings(path, environ={})
        with closing(open_database(settings.database_url)) as database:
            key, _ = add_key(database, make_pepper(pepper_path(settings)), "app", limits=limits)
        worker = await start_worker(settings)
        try:
            yield worker, key
        finally:
            await worker.drain(0.0)


def sdk_of(family: str, worker: Worker, key: str) -> Sdk:
    """The SDK as its users make it, with its own retries."""
    address = f"http://127.0.0.1:{worker.port}"
    if family == "openai":
        return openai.AsyncOpenAI(base_url=f"{address}/v1", api_key=key)
    return anthropic.AsyncAnthropic(base_url=address, api_key=key)


async def ask(sdk: Sdk) -> None:
    """One question, whose answer may have so many tokens that it costs more than a cent."""
    if isinstance(sdk, openai.AsyncOpenAI):
        await sdk.chat.completions.create(model="gpt-4o", max_tokens=4_000, messages=ASK)
    else:
        await sdk.messages.create(model="claude-3-5-sonnet-20241022", max_tokens=4_000, messages=ASK)


@pytest.mark.parametrize("family", ["openai", "anthropic"])
async def test_a_virtual_key_serves_as_the_api_key_and_a_wrong_one_is_an_authentication_error(
    tmp_path: Path, family: str
) -> None:
    async with relaying(tmp_path, Limits()) as (worker, key):
        async with sdk_of(family, worker, key) as sdk:
            await ask(sdk)
        async with sdk_of(family, worker, new_key()[0]) as sdk:
            with pytest.raises((openai.AuthenticationError, anthropic.AuthenticationError), match="is unknown"):
                await ask(sdk)
        assert worker.status()["requests"] == 2


@pytest.mark.parametrize("family", ["openai", "anthropic"])
async def test_a_spent_budget_is_told_once_and_not_asked_for_again(tmp_path: Path, family: str) -> None:
    async with relaying(tmp_path, Limits(day_microusd=9_000)) as (worker, key), sdk_of(family, worker, key) as sdk:
        with pytest.raises((openai.RateLimitError, anthropic.APIStatusError)) as refused:
            await ask(sdk)
        assert "a budget of $0.009 a day" in str(refused.value)
        assert refused.value.status_code == (429 if family == "openai" else 402)
        assert getattr(refused.value, "code", None) == ("insufficient_quota" if family == "openai" else None)
        assert worker.status()["requests"] == 1


@pytest.mark.parametrize("family", ["openai", "anthropic"])
async def test_an_sdk_waits_for_its_turn_as_long_as_it_is_told(tmp_path: Path, family: str) -> None:
    async with relaying(tmp_path, Limits(requests_per_minute=30)) as (worker, key), sdk_of(family, worker, key) as sdk:
        patient: Any = sdk.with_options(max_retries=0)
        with pytest.raises((openai.RateLimitError, anthropic.RateLimitError)) as refused:
            while True:
                await ask(patient)
        assert refused.value.response.headers["retry-after"] in ("1", "2")
        await ask(sdk)  # which tries again when it was told to
