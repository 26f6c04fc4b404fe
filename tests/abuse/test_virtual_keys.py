"""Virtual keys under attack: guessed, forged, flooded with, and while the store is down."""

from __future__ import annotations

import asyncio
import hmac
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.abuse.house import PATIENCE_S, House, house_in
from tests.abuse.wire import ASK, CHAT, request, said, send
from tests.capture.planting import raw_bytes
from tests.faults.network import FaultyNetwork, socket_of, through
from tests.proxy.scripting import Received, Upstream, http_answer, talk

pytestmark = pytest.mark.abuse

REQUIRED = ("[keys]", "required = true")
OURS = {"TEST_UPSTREAM_KEY": "sk-ours-for-the-upstream"}


async def with_key_of_ours(house: House) -> None:
    """The upstream's key becomes ours, by a reload."""
    assert house.settings.path is not None
    text = house.settings.path.read_text("utf-8")
    house.settings.path.write_text(text.replace("[upstreams.anthropic]", 'key = "env:TEST_UPSTREAM_KEY"\n[upstreams.anthropic]'))


async def add_key(house: House, name: str, *options: str) -> str:
    """A new virtual key, once the relay takes it."""
    told = await asyncio.to_thread(house.command, "key", "add", name, "--json", *options)
    assert told.returncode == 0, told.stderr
    shown: dict[str, Any] = json.loads(told.stdout)
    (key,) = (value for value in shown.values() if isinstance(value, str) and value.startswith("ps-") and len(value) > 40)
    async with asyncio.timeout(PATIENCE_S):
        while (await ask(house, key))[0] == 401:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return str(key)


async def ask(house: House, key: str) -> tuple[int, bytes]:
    """One request with `key`."""
    reply = await talk(house.port, CHAT, f"Authorization: Bearer {key}\r\n", ASK)
    return reply.status, reply.body


async def test_a39_one_key_that_floods_leaves_the_others_their_place(tmp_path: Path, upstream: Upstream) -> None:
    open_at_once, most_at_once = 0, 0

    async def script(received: Received, writer: asyncio.StreamWriter) -> None:
        nonlocal open_at_once, most_at_once
        if b"flood" in received.body:
            open_at_once += 1
            most_at_once = max(most_at_once, open_at_once)
            await asyncio.sleep(0.2)
            open_at_once -= 1
        writer.write(http_answer(b"{}"))

    upstream.script = script
    more = (*REQUIRED,)
    async with house_in(tmp_path, upstream.url, more=more, environ=OURS) as house:
        await with_key_of_ours(house)
        assert house.settings.path is not None
        house.process.send_signal(signal.SIGHUP)
        flooder = await add_key(house, "flooder", "--concurrent", "4")
        other = await add_key(house, "other")
        stop = asyncio.Event()
        statuses: list[int] = []

        async def flood() -> None:
            while not stop.is_set():
                reply = await talk(house.port, CHAT, f"Authorization: Bearer {flooder}\r\n", b'{"model": "m", "user": "flood"}')
                statuses.append(reply.status)
                if reply.status == 429:
                    assert int(reply.header("retry-after")) >= 1
                    await asyncio.sleep(0.01)

        floods = [asyncio.ensure_future(flood()) for _ in range(20)]
        served = [(await ask(house, other))[0] for _ in range(100)]
        stop.set()
        await asyncio.gather(*floods)
    assert served == [200] * 100
    assert set(statuses) == {200, 429}
    assert most_at_once <= 4
    assert statuses.count(429) > statuses.count(200)


async def test_a07_only_the_whole_key_opens_and_none_is_repeated(tmp_path: Path, upstream: Upstream) -> None:
    async with house_in(tmp_path, upstream.url, more=REQUIRED, environ=OURS) as house:
        await with_key_of_ours(house)
        house.process.send_signal(signal.SIGHUP)
        key = await add_key(house, "app")
        upstream.received.clear()
        id = key.split("-")[1]
        other = "A" if key[-1] != "A" else "B"
        wrong = [key[:-1], key + "A", key[:-1] + other, key.upper(), f"ps-{id}-", f"ps-{id}-{'A' * 43}", "ps-", "ps--"]
        wrong += [f"ps-{'z' * len(id)}-{'A' * 43}", OURS["TEST_UPSTREAM_KEY"], "'; DROP TABLE keys; --", "x" * 5_000]
        for each in wrong:
            for header in ("Authorization: Bearer ", "x-api-key: ", "api-key: "):
                (reply,) = await send(house.port, request(CHAT, f"{header}{each}\r\n", ASK))
                assert reply.status in (400, 401, 403), each
                assert each not in said(reply, "openai") or len(each) < 5
        assert upstream.received == []
        assert (await ask(house, key))[0] == 200
        assert upstream.received[-1].header("authorization") == f"Bearer {OURS['TEST_UPSTREAM_KEY']}"
        await house.stored(2)
        await house.stop()
        secret = key.split("-", 2)[2].encode()
        assert secret not in raw_bytes(tmp_path)
        assert key not in house.unpacked()


def test_a07_keys_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from proxy import admin_token
    from proxy.keys import virtual_key

    compared: list[tuple[object, object]] = []
    real = hmac.compare_digest

    def watched(one: Any, other: Any) -> bool:
        compared.append((one, other))
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    assert admin_token.is_authorised("Bearer right", "right") and not admin_token.is_authorised("Bearer wrong", "right")
    assert len(compared) == 2
    assert virtual_key.hmac is hmac, "the keys go through the same function"


async def test_a07_keys_that_were_good_stay_good_while_the_store_is_down(
    tmp_path: Path, upstream: Upstream, postgresql_url: str
) -> None:
    with FaultyNetwork(socket_of(postgresql_url)) as network:
        store = through(network, postgresql_url)
        async with house_in(tmp_path, upstream.url, store=store, more=REQUIRED, environ=OURS) as house:
            await with_key_of_ours(house)
            house.process.send_signal(signal.SIGHUP)
            key = await add_key(house, "app")
            network.refuse()
            for _ in range(50):
                assert (await ask(house, key))[0] == 200
            assert (await ask(house, key[:-1]))[0] in (401, 403)
            network.heal()
