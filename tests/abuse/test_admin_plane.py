"""The admin listener gives nothing away: not without its token, not to a web page, not by another spelling of a path."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.abuse.house import House, begin
from tests.abuse.wire import KEY, request, said, send
from tests.proxy.scripting import Reply, free_port

pytestmark = pytest.mark.abuse

TOKEN = "5d0f3a9be1c84277a6d2b90f4e8c13a7d5609b2ef8c41d63"
HELD = f"Authorization: Bearer {TOKEN}\r\n"
OPEN = {("GET", "/health/live"), ("GET", "/health/ready")}
"""What probes may ask without a token. Everything else that there ever is must ask for it."""
SPOKEN = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "PROPFIND")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house whose admin listener has a token."""
    folder = tmp_path_factory.mktemp("admin")
    (folder / "admin.token").touch(mode=0o600)
    (folder / "admin.token").write_text(TOKEN + "\n")
    found = begin(folder, f"http://127.0.0.1:{free_port()}", admin_token_file='"admin.token"')
    try:
        asyncio.run(found.takes_requests())
        yield found
    finally:
        asyncio.run(found.stop())


async def ask(house: House, line: str, headers: str = "", *, host: str = "Host: 127.0.0.1\r\n", body: bytes = b"") -> Reply:
    """The one answer of the admin listener."""
    (reply,) = await send(house.admin_port, request(line, headers, body, host=host))
    return reply


async def described(house: House) -> set[tuple[str, str]]:
    """Method and path of everything that the listener says it serves."""
    document = json.loads((await ask(house, "GET /openapi.json", HELD)).body)
    return {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}


@pytest.mark.parametrize(
    "credential",
    [
        "",
        KEY,
        "Authorization: Bearer\r\n",
        "Authorization: Bearer \r\n",
        f"Authorization: Basic {TOKEN}\r\n",
        f"Authorization: {TOKEN}\r\n",
        f"Authorization: Bearer {TOKEN[:-1]}\r\n",
        f"Authorization: Bearer {TOKEN}x\r\n",
        f"Authorization: Bearer {TOKEN.upper()}\r\n",
        f"Authorization: Bearer {TOKEN}\xff\r\n",
        f"x-api-key: {TOKEN}\r\n",
        f"Cookie: token={TOKEN}\r\n",
        f"X-Authorization: Bearer {TOKEN}\r\n",
    ],
    ids=str,
)
async def test_a16_every_route_asks_for_the_token(credential: str, house: House) -> None:
    routes = await described(house)
    assert {("GET", "/status"), ("GET", "/metrics"), ("POST", "/reload"), ("GET", "/openapi.json")} <= routes
    for method, path in sorted(routes - OPEN):
        reply = await ask(house, f"{method} {path}", credential)
        assert reply.status in (401, 403), (method, path)
        assert TOKEN.encode() not in reply.body
        assert set(json.loads(reply.body)) == {"error", "next_step"}
        allowed = await ask(house, f"{method} {path}", HELD)
        assert allowed.status not in (401, 403, 404, 405), (method, path)


async def test_a16_the_token_is_taken_from_no_address(house: House) -> None:
    for query in (f"token={TOKEN}", f"access_token={TOKEN}", f"authorization=Bearer%20{TOKEN}"):
        assert (await ask(house, f"GET /status?{query}")).status == 401


async def test_a16_what_is_open_says_nothing_but_health(house: House) -> None:
    for method, path in sorted(OPEN):
        reply = await ask(house, f"{method} {path}")
        assert reply.status == 200
        assert set(json.loads(reply.body)) <= {"is_live", "is_ready", "is_degraded", "ailing"}


async def test_a16_two_tokens_in_one_request_do_not_help(house: House) -> None:
    for pair in (f"Authorization: Bearer x\r\n{HELD}", f"Authorization: Bearer x, Bearer {TOKEN}\r\n"):
        assert (await ask(house, "GET /status", pair)).status in (400, 401)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1/health/live?", "127.0.0.1/health/live#", "127.0.0.1:8485/health/live?x=", "x/health/ready?"),
        *("evil.example", "evil.example:80", "127.0.0.1.evil.example", "127.0.0.1@evil.example", "evil.example#127.0.0.1"),
    ],
)
async def test_a17_the_host_header_opens_no_route(host: str, house: House) -> None:
    for line in ("GET /status", "POST /reload", "GET /metrics"):
        assert (await ask(house, line, host=f"Host: {host}\r\n")).status in (400, 401, 403), line


@pytest.mark.parametrize("host", ["evil.example", "rebound.attacker.test", "localhost.evil.example", ""])
async def test_a18_a_name_that_points_here_is_refused_even_with_the_token(host: str, house: House) -> None:
    for line in ("GET /status", "POST /reload", "GET /health/ready"):
        reply = await ask(house, line, HELD, host=f"Host: {host}\r\n")
        assert reply.status in (400, 403), line


@pytest.mark.parametrize("origin", ["http://evil.example", "https://127.0.0.1.evil.example", "null", "file://", "evil"])
async def test_a18_a_web_page_is_refused_even_with_the_token(origin: str, house: House) -> None:
    for line in ("GET /status", "POST /reload", "GET /metrics"):
        reply = await ask(house, line, f"{HELD}Origin: {origin}\r\n")
        assert reply.status == 403, line
        assert not any(name.lower().startswith("access-control-") for name, _ in reply.headers)


async def test_a18_a_preflight_is_never_granted(house: House) -> None:
    wanted = "Origin: http://evil.example\r\nAccess-Control-Request-Method: POST\r\n"
    for path in ("/status", "/reload", "/health/live"):
        reply = await ask(house, f"OPTIONS {path}", HELD + wanted)
        assert reply.status in (403, 404, 405)
        assert not any(name.lower().startswith("access-control-") for name, _ in reply.headers)


SPELLINGS = [
    *("/status/", "//status", "/./status", "/x/../status", "/STATUS", "/Status", "/status;a=b", "/status%00", "/status%20"),
    *("/%73tatus", "/%2fstatus", "/status%2f", "/%2e/status", "/health/../status", "/health/live/../../status", "/health%2flive"),
    *("/health/live/status", "/health/live;/status", "/health/live%2f..%2f..%2fstatus", "/status.json", "/reload/", "/metrics/"),
    *("http://127.0.0.1/status", "http://evil.example/status", "//evil.example/status"),
]


@pytest.mark.parametrize("target", SPELLINGS)
async def test_a19_no_spelling_of_a_path_gets_around_the_token(target: str, house: House) -> None:
    for method in ("GET", "POST"):
        reply = await ask(house, f"{method} {target}")
        assert reply.status in (400, 401, 403, 404, 405), method
        assert b"workers" not in reply.body


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "_method"])
async def test_a19_no_header_changes_the_method(header: str, house: House) -> None:
    reply = await ask(house, "GET /status", f"{header}: POST\r\n")
    assert reply.status == 401
    reply = await ask(house, "GET /reload", f"{HELD}{header}: POST\r\n")
    assert reply.status == 405
    for name in ("X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Prefix"):
        assert (await ask(house, "GET /status", f"{name}: /health/live\r\n")).status == 401


@pytest.mark.parametrize("method", SPOKEN)
async def test_a19_a_method_that_a_route_does_not_have_is_refused(method: str, house: House) -> None:
    routes = await described(house)
    for path in sorted({path for _, path in routes}):
        if (method, path) in routes:
            continue
        without = await ask(house, f"{method} {path}")
        assert without.status in (400, 401, 403, 405), path
        assert b"workers" not in without.body
        if method not in ("HEAD", "TRACE"):
            assert (await ask(house, f"{method} {path}", HELD)).status == 405, path


async def test_a20_the_data_plane_serves_no_admin_path(house: House) -> None:
    routes = {path for _, path in await described(house)}
    for path in sorted(routes | {"/admin", "/v1/../status", "/debug", "/flags", "/keys", "/docs", "/v1/load_lora_adapter"}):
        for method in ("GET", "POST"):
            for headers in (KEY, HELD):
                (reply,) = await send(house.port, request(f"{method} {path}", headers))
                if path == "/v1/load_lora_adapter":
                    assert reply.status in (404, 502), "it is a path like any other of the upstream, never the engine's"
                    assert reply.header("x-potstill-upstream") != "engine"
                    continue
                assert reply.status in (400, 404), (method, path)
                assert said(reply, "openai")


async def test_a20_the_admin_plane_relays_nothing(house: House) -> None:
    for path in (
        "/v1/chat/completions",
        "/v1/messages",
        "/task/t/v1/chat/completions",
        "/upstream/openai/v1/models",
        "/feedback",
    ):
        assert (await ask(house, f"POST {path}", HELD, body=b"{}")).status == 404


async def test_a16_a_reload_with_a_body_takes_nothing_from_it(house: House) -> None:
    body = json.dumps({"upstreams": {"openai": {"url": "http://evil.example"}}, "config": "/etc/passwd"}).encode()
    before = json.loads((await ask(house, "GET /status", HELD)).body)["address"]
    reply = await ask(house, "POST /reload?config=/etc/passwd", f"{HELD}Content-Type: application/json\r\n", body=body)
    assert reply.status == 200
    assert json.loads(reply.body) == {"changed": [], "needs_restart": []}
    assert json.loads((await ask(house, "GET /status", HELD)).body)["address"] == before


async def test_a16_the_token_stands_in_no_log_and_no_status(house: House) -> None:
    for line in ("GET /status", "GET /metrics", "GET /openapi.json", f"GET /status?token={TOKEN}"):
        assert TOKEN.encode() not in (await ask(house, line, HELD)).body
    assert TOKEN not in house.logs()


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o606])
def test_a16_a_token_that_others_may_read_is_no_token(mode: int, tmp_path: Path) -> None:
    token = tmp_path / "admin.token"
    token.write_text(TOKEN)
    token.chmod(mode)
    house = begin(tmp_path, f"http://127.0.0.1:{free_port()}", admin_token_file='"admin.token"')
    assert house.process.wait(120) != 0
    assert TOKEN not in house.logs()
    assert "chmod 600" in house.logs()
