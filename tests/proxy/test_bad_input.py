"""Every rejection of ours names its reason in the shape of the client's protocol, reaches no upstream and is counted.

One table of everything that is refused, over both families: on a real worker, and once more under `potstill up` with what
/metrics shows of it.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from capture.settings import Settings
from tests.abuse.house import house_in
from tests.abuse.wire import HOST, PATIENCE_S, request, said, send
from tests.proxy.scripting import Reply, Upstream, kept, relay_settings, relaying, talk

KEY = "Authorization: Bearer sk-test\r\n"
OPENAI, ANTHROPIC = "/v1/chat/completions", "/v1/messages"
BODY = b'{"model": "m", "messages": []}'
LIMITS = {"max_body_mib": 1, "max_held_mib": 2, "body_idle_s": 1, "body_total_s": 3, "head_timeout_s": 1}


@dataclass(frozen=True)
class Bad:
    """A request that is refused: its bytes for a path, the statuses that say so, and a word that the reason must have."""

    data: str
    statuses: tuple[int, ...]
    word: str
    is_kept: bool = True
    """Whether an exchange is left: not of what is not even a request."""


def line(path: str, headers: str = KEY, *, method: str = "POST", host: str = HOST, body: bytes = BODY) -> str:
    """A whole request as text."""
    return request(f"{method} {path}", headers, body, host=host).decode("latin-1")


def head(path: str, *headers: str) -> str:
    """The head of a request alone."""
    return f"POST {path} HTTP/1.1\r\n{HOST}{KEY}" + "".join(each + "\r\n" for each in headers) + "\r\n"


def table(path: str) -> dict[str, Bad]:
    """Everything that is refused on `path`."""
    deep = f"/upstream/nobody{path}"
    return {
        "no such upstream": Bad(line(deep), (404,), "nobody"),
        "a way out of the path": Bad(line(f"/upstream/openai/v1/../..{path}"), (400,), "path"),
        "a task that is none": Bad(line(path, f"{KEY}x-potstill-task: two words\r\n"), (400,), "x-potstill-task"),
        "a task that is none in the path": Bad(line(f"/task/two%20words{path}"), (400,), "task"),
        "a header of ours that does not exist": Bad(line(path, f"{KEY}x-potstill-taks: a\r\n"), (400,), "x-potstill-task"),
        "a tag given twice": Bad(line(path, f"{KEY}x-potstill-tag-a: 1\r\nx-potstill-tag-a: 2\r\n"), (400,), "twice"),
        "a tag that is too long": Bad(line(path, f"{KEY}x-potstill-tag-a: {'v' * 600}\r\n"), (400,), "600"),
        "a purpose that does not exist": Bad(line(path, f"{KEY}x-potstill-purpose: fun\r\n"), (400,), "purpose"),
        "no key": Bad(line(path, ""), (401,), "key"),
        "an empty key": Bad(line(path, "Authorization: Bearer \r\n"), (401,), "key"),
        "a name that is not ours": Bad(line(path, host="Host: evil.example\r\n"), (403,), "evil.example"),
        "a body that says it is too long": Bad(head(path, f"Content-Length: {2 * 2**20}"), (413,), "1 MiB"),
        "a body that is too long": Bad(
            head(path, "Transfer-Encoding: chunked") + f"{2**20 + 1:x}\r\n" + " " * (2**20 + 1) + "\r\n0\r\n\r\n", (413,), "1 MiB"
        ),
        "a body that stands still": Bad(head(path, "Content-Length: 99") + "{", (408,), "1 s"),
        "a body that is no chunks": Bad(head(path, "Transfer-Encoding: chunked") + "zz\r\n", (400,), "chunk", False),
        "two lengths": Bad(head(path, "Content-Length: 2", "Content-Length: 3") + "{}", (400,), "", False),
        "a length and chunks": Bad(
            head(path, "Content-Length: 5", "Transfer-Encoding: chunked") + "0\r\n\r\n", (400,), "", False
        ),
        "two hosts": Bad(head(path, "Host: localhost", "Content-Length: 2") + "{}", (400,), "Host", False),
        "a header that is none": Bad(head(path, "no colon here", "Content-Length: 2") + "{}", (400,), "", False),
        "too many headers": Bad(head(path, *(f"X-{n}: v" for n in range(500))), (400, 431), "headers", False),
        "a header that is too long": Bad(head(path, "X-Long: " + "v" * 100_000), (400, 431), "bytes", False),
        "a target that is too long": Bad(line(f"{path}?{'q' * 100_000}"), (400, 414, 431), "bytes", False),
        "a head that never ends": Bad(f"POST {path} HTTP/1.1\r\n{HOST}X-Slow: ", (408,), "1 s", False),
        "an expectation that nobody meets": Bad(line(path, f"{KEY}Expect: a miracle\r\n"), (417,), "100-continue", False),
        "a version that does not exist": Bad(line(path).replace("HTTP/1.1", "HTTP/3.7"), (400, 505), "", False),
        "a method that echoes": Bad(line(path, method="TRACE", body=b""), (405,), "TRACE"),
    }


CASES = [(family, path, name) for family, path in (("openai", OPENAI), ("anthropic", ANTHROPIC)) for name in table(path)]


async def refused(port: int, bad: Bad) -> Reply:
    """The one answer to it."""
    (reply,) = await send(port, bad.data.encode("latin-1"))
    return reply


@pytest.mark.parametrize(("family", "path", "name"), CASES, ids=[f"{family}: {name}" for family, _, name in CASES])
async def test_a_rejection_names_its_reason_in_the_clients_shape_and_reaches_nobody(
    family: str, path: str, name: str, tmp_path: Path, upstream: Upstream
) -> None:
    bad = table(path)[name]
    settings = relay_settings(tmp_path, upstream.url, **LIMITS)
    async with relaying(tmp_path) as worker:
        reply = await refused(worker.port, bad)
        assert reply.status in bad.statuses
        message = said(reply, family)
        assert bad.word.lower() in message.lower()
        assert len(message) > 20 and message.endswith((".", "?", "!"))
        assert "sk-test" not in message
        assert upstream.received == []
        assert (await talk(worker.port, f"POST {path}", KEY, BODY)).status == 200, "the relay goes on"
    check_kept(settings, bad, reply)


def check_kept(settings: Settings, bad: Bad, reply: Reply) -> None:
    """The refused request is an exchange that says so, or left none; the one after it is there."""
    exchanges = kept(settings)
    assert len(exchanges) == 1 + bad.is_kept
    assert all(exchange.end is not None for exchange in exchanges)
    if bad.is_kept:
        end = exchanges[0].end
        assert end is not None
        assert end.status == reply.status
        assert end.error_kind
        assert reply.header("x-potstill-exchange-id")


@pytest.mark.parametrize("family", ["openai", "anthropic"])
async def test_a_path_that_leads_nowhere_is_told_in_the_shape_that_the_headers_ask_for(
    family: str, tmp_path: Path, upstream: Upstream
) -> None:
    relay_settings(tmp_path, upstream.url)
    headers = KEY + ("anthropic-version: 2023-06-01\r\n" if family == "anthropic" else "")
    async with relaying(tmp_path) as worker:
        for target in ("/nowhere", "/admin", "/v1", "/v2/chat/completions"):
            (reply,) = await send(worker.port, request(f"GET {target}", headers))
            assert reply.status == 404
            assert "/v1" in said(reply, family)
    assert upstream.received == []


@pytest.mark.parametrize("upgrade", ["", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"])
async def test_a_web_page_cannot_spend_a_key_of_ours(
    upgrade: str, tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_UPSTREAM_KEY", "sk-ours")
    path = relay_settings(tmp_path, upstream.url).path
    assert path is not None
    written = path.read_text("utf-8").replace("[upstreams.anthropic]", 'key = "env:TEST_UPSTREAM_KEY"\n[upstreams.anthropic]')
    path.write_text(written, "utf-8")
    secret = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" if upgrade else ""
    async with relaying(tmp_path) as worker:
        for origin in ("http://evil.example", "null"):
            data = f"GET /v1/realtime?model=m HTTP/1.1\r\n{HOST}Origin: {origin}\r\n{secret}{upgrade}"
            reply = (await send(worker.port, (data + ("" if upgrade else "Connection: close\r\n") + "\r\n").encode()))[0]
            assert reply.status == 403
            assert "Origin" in said(reply, "openai") or "page" in said(reply, "openai")
    assert upstream.received == []


@pytest.mark.parametrize("data", [b"\xff\xfe\xfd", b"/v1/\xff\xfe", b"/v1/chat/\x80", "/v1/grüße".encode()])
async def test_bytes_that_are_no_text_in_a_target_are_no_error_of_ours(data: bytes, tmp_path: Path, upstream: Upstream) -> None:
    relay_settings(tmp_path, upstream.url)
    async with relaying(tmp_path) as worker:
        replies = await send(worker.port, b"GET " + data + b" HTTP/1.1\r\n" + f"{HOST}{KEY}Connection: close\r\n\r\n".encode())
    assert [reply.status for reply in replies if reply.status not in (200, 400, 404)] == []
    assert len(replies) == 1


async def test_header_values_that_are_no_text_pass_or_are_refused_but_break_nothing(tmp_path: Path, upstream: Upstream) -> None:
    settings = relay_settings(tmp_path, upstream.url)
    async with relaying(tmp_path) as worker:
        for name in (
            "User-Agent",
            "x-potstill-user",
            "helicone-user-id",
            "traceparent",
            "x-potstill-task",
            "X-Any",
            "Content-Type",
        ):
            data = f"POST {OPENAI} HTTP/1.1\r\n{HOST}{KEY}".encode() + name.encode() + b": \xff\xfe\xc3\x28\r\n"
            data += f"Content-Length: {len(BODY)}\r\nConnection: close\r\n\r\n".encode() + BODY
            (reply,) = await send(worker.port, data)
            assert reply.status == (400 if name.startswith("x-potstill-") else 200), name
    assert len(kept(settings)) == 7


async def test_what_a_client_cannot_be_told_is_told_to_nobody_else(tmp_path: Path, upstream: Upstream) -> None:
    relay_settings(tmp_path, upstream.url)
    async with relaying(tmp_path) as worker:
        _, writer = await asyncio.open_connection("127.0.0.1", worker.port)
        writer.write(head(OPENAI, "Content-Length: 2", "Content-Length: 3").encode() + b"{}")
        writer.transport.abort()
        reply = await talk(worker.port, f"POST {OPENAI}", KEY, BODY)
        assert reply.status == 200
        assert b"error" not in reply.body


def counted(metrics: str) -> dict[str, int]:
    """Refusals by kind, as Prometheus reads them."""
    found = re.findall(r'^potstill_refusals_total\{kind="([a-z0-9_]+)"\} ([0-9.e+]+)$', metrics, re.MULTILINE)
    return {kind: int(float(count)) for kind, count in found}


async def test_every_rejection_is_visible_in_the_metrics(tmp_path: Path, upstream: Upstream) -> None:
    cases = [bad for path in (OPENAI, ANTHROPIC) for bad in table(path).values()]
    async with house_in(tmp_path, upstream.url, **LIMITS) as house:
        before = sum(counted((await house.get("/metrics"))[1]).values())
        replies = [await refused(house.port, bad) for bad in cases]
        assert all(reply.status in bad.statuses for reply, bad in zip(replies, cases, strict=True))
        async with asyncio.timeout(PATIENCE_S):
            while sum(counted((await house.get("/metrics"))[1]).values()) < before + len(cases):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        by_kind = counted((await house.get("/metrics"))[1])
    assert sum(by_kind.values()) == before + len(cases)
    assert {"not_found", "bad_path", "bad_tag", "missing_key", "foreign_host", "body_too_large", "body_timeout"} <= set(by_kind)
    assert upstream.received == []
