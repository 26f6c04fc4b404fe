"""The admin listener of a real house: who may ask what, and what it says."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from capture.errors import SettingsError
from proxy.admin_routes import ROUTES
from proxy.admin_token import read_token
from tests.proxy.housing import House, house_in, until_async
from tests.proxy.scripting import CHAT_ANSWER, Upstream, talk

TOKEN = "d6a1f0c3b2e49788"
KEY = "Authorization: Bearer sk-test\r\n"
CHAT = "POST /v1/chat/completions"
ASK = b'{"model": "m"}'
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def write_token(folder: Path) -> Path:
    path = folder / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o600)
    return path


def own_address() -> str:
    """An address of this machine that is not loopback; '' when it has none. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.51.100.1", 9))
        except OSError:
            return ""
        return str(probe.getsockname()[0])


async def test_it_serves_its_routes_and_nothing_else_and_describes_them(tmp_path: Path, upstream: Upstream) -> None:
    served = {(route.method, route.path) for route in ROUTES}
    async with house_in(tmp_path, upstream.url) as house:
        for path in sorted({route.path for route in ROUTES} | {"/", "/keys", "/metrics/", "/v1/chat/completions"}):
            for method in METHODS:
                status, body, headers = await house.ask(method, path)
                if (method, path) in served:
                    assert status == 200, (method, path, body)
                    continue
                assert status == (405 if any(path == each for _, each in served) else 404), (method, path, body)
                assert json.loads(body).keys() == {"error", "next_step"}
                assert status == 404 or headers["Allow"]
        _, described = await house.get("/openapi.json")
        assert {(method.upper(), path) for path, of in described["paths"].items() for method in of} == served
        references = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(described)))
        assert references <= described["components"]["schemas"].keys()


async def test_where_a_token_is_set_only_health_is_open_without_it(tmp_path: Path, upstream: Upstream) -> None:
    write_token(tmp_path)
    async with house_in(tmp_path, upstream.url, admin_token_file='"token"') as house:
        for route in ROUTES:
            status, body, headers = await house.ask(route.method, route.path)
            assert status == (200 if route.is_open else 401), route
            assert route.is_open or headers["WWW-Authenticate"].startswith("Bearer")
            assert TOKEN.encode() not in body
            for wrong in ("Bearer no", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer", "Bearer \u00e9"):
                status, _, _ = await house.ask(route.method, route.path, {"Authorization": wrong})
                assert status == (200 if route.is_open else 401), (route, wrong)
            status, _, _ = await house.ask(route.method, route.path, {"Authorization": f"bearer {TOKEN}"})
            assert status == 200, route


async def test_without_a_token_only_this_machine_learns_more_than_health(tmp_path: Path, upstream: Upstream) -> None:
    own = own_address()
    if not own:
        pytest.skip("this machine has no address but loopback")
    async with house_in(tmp_path, upstream.url, host='"0.0.0.0"') as house, aiohttp.ClientSession() as session:
        for route in ROUTES:
            async with session.request(route.method, f"http://{own}:{house.admin_port}{route.path}") as answer:
                assert answer.status == (200 if route.is_open else 403), route
            status, _, _ = await house.ask(route.method, route.path)
            assert status == 200, route


async def test_web_pages_may_not_ask(tmp_path: Path, upstream: Upstream) -> None:
    async with house_in(tmp_path, upstream.url) as house:
        status, body, _ = await house.ask("POST", "/reload", {"Origin": "https://evil.example"})
        assert status == 403 and "evil.example" in json.loads(body)["error"]
        assert (await house.ask("POST", "/reload", {"Host": "evil.example"}))[0] == 403
        assert (await house.status())["reloads"] == {"done": 0, "refused": 0}


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (TOKEN, 0o644, "open to others"),
        (TOKEN, 0o620, "open to others"),
        ("short", 0o600, "no token of at least 16"),
        ("two words and more than sixteen", 0o600, "no token of at least 16"),
        (None, 0, "cannot be read"),
    ],
)
def test_a_token_file_that_will_not_do_is_refused_with_the_reason(
    tmp_path: Path, content: str | None, mode: int, said: str
) -> None:
    if content is not None:
        (tmp_path / "token").write_text(content)
        (tmp_path / "token").chmod(mode)
    with pytest.raises(SettingsError, match=said) as caught:
        read_token(tmp_path, "token")
    assert content is None or content not in str(caught.value)


async def test_metrics_never_go_back_when_a_worker_is_killed(tmp_path: Path, upstream: Upstream) -> None:
    requests = ("potstill_requests_total", frozenset[tuple[str, str]]())

    async def asked(house: House) -> float:
        return (await house.metrics())[requests]

    async with house_in(tmp_path, upstream.url, workers=2) as house:
        for _ in range(6):
            assert (await talk(house.port, CHAT, KEY, ASK)).body == CHAT_ANSWER
        await talk(house.port, CHAT, "", ASK)
        await until_async(lambda: asked(house), lambda count: count == 7)
        for worker in (await house.status())["workers"]:
            os.kill(worker["pid"], signal.SIGKILL)

        def is_mended(status: dict[str, Any]) -> bool:
            return not status["ailing"] and all(worker["restarts"] == 1 for worker in status["workers"])

        await until_async(house.status, is_mended)
        assert await asked(house) == 7
        assert (await talk(house.port, CHAT, KEY, ASK)).body == CHAT_ANSWER
        await until_async(lambda: asked(house), lambda count: count == 8)
        await until_async(house.metrics, lambda samples: samples["potstill_stored_total", frozenset()] == 8)
        samples = await house.metrics()
        assert samples["potstill_refusals_total", frozenset({("kind", "missing_key")})] == 1
        assert samples["potstill_child_restarts_total", frozenset({("child", "relay worker 1")})] == 1
        assert samples["potstill_store_lag_seconds", frozenset()] < 60
        assert samples["potstill_child_resident_bytes", frozenset({("child", "store writer")})] > 2**20
        ended = {dict(labels)["status"]: count for (name, labels), count in samples.items() if name == "potstill_exchanges_total"}
        assert ended == {"200": 7, "401": 1}
