"""Connections to upstreams: opened where they may be, kept while they are worth it, and never to a place that was not meant."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from proxy.wire.pool import Origin
from proxy.wire.reply import ConnectFailedError, PrivateAddressError
from tests.proxy.certificates import make_certificate
from tests.proxy.scripting import free_port, until
from tests.proxy.wire.serving import LONGEST_S, answering, peer, resolving
from tests.proxy.wire.test_upstream import BODY, GET, PATIENT, WHOLE, ask, pooled, whole


async def test_a_connection_that_was_closed_while_at_rest_is_not_used() -> None:
    async with peer(answering(WHOLE, closes=True)) as upstream, pooled() as pool:
        assert isinstance(upstream.address, int)
        for count in range(1, 4):
            connection = await pool.take(Origin("127.0.0.1", upstream.address), LONGEST_S)
            assert await whole(connection.ask("GET", GET, b"", PATIENT)) == BODY
            await until(lambda connection=connection: not connection.is_open)  # type: ignore[misc]
            assert upstream.opened == count


async def test_one_that_says_something_unasked_is_not_used() -> None:
    may_say = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(WHOLE)
        await may_say.wait()
        writer.write(WHOLE.replace(b"whole", b"false"))
        assert await reader.read() == b""

    async with peer(talk) as upstream, pooled() as pool:
        assert await ask(pool, upstream) == BODY
        may_say.set()
        await until(lambda: upstream.ended == 1)
        assert await ask(pool, upstream) == BODY


async def test_connections_rest_only_so_long() -> None:
    async with peer(answering(WHOLE)) as upstream, pooled(keepalive_s=0.2) as pool:
        await asyncio.gather(*(ask(pool, upstream) for _ in range(5)))
        assert upstream.opened == 5
        await until(lambda: upstream.ended == 5, LONGEST_S)


async def test_as_many_are_open_as_were_at_work_at_a_time() -> None:
    async with peer(answering(WHOLE)) as upstream, pooled() as pool:
        assert isinstance(upstream.address, int)
        connections = [await pool.take(Origin("127.0.0.1", upstream.address), LONGEST_S) for _ in range(3)]
        for connection in connections:
            assert await whole(connection.ask("GET", GET, b"", PATIENT)) == BODY
        for _ in range(10):
            assert await ask(pool, upstream) == BODY
        assert upstream.opened == 3


async def test_a_unix_socket_is_an_origin_like_any_other(tmp_path: Path) -> None:
    async with peer(answering(WHOLE), path=str(tmp_path / "up.sock")) as upstream, pooled() as pool:
        assert [await ask(pool, upstream) for _ in range(3)] == [BODY] * 3
        assert upstream.opened == 1


async def test_over_tls_a_connection_is_asked_again_and_cut_like_any_other(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shown.load_cert_chain(certificate, key)
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with peer(answering(WHOLE), tls=shown) as upstream, pooled() as pool:
        assert isinstance(upstream.address, int)
        for _ in range(3):
            connection = await pool.take(Origin("localhost", upstream.address, trusting), LONGEST_S)
            assert await whole(connection.ask("GET", GET, b"", PATIENT)) == BODY
        assert upstream.opened == 1
        with pytest.raises(ConnectFailedError, match="CERTIFICATE_VERIFY_FAILED"):
            await pool.take(Origin("localhost", upstream.address, ssl.create_default_context()), LONGEST_S)


# --- no connection


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-name.test", "two..dots", "x" * 70])
async def test_who_cannot_be_reached_is_told_and_nothing_stays_open(host: str) -> None:
    async with pooled() as pool:
        with pytest.raises(ConnectFailedError):
            await pool.take(Origin(host, free_port()), LONGEST_S)


async def test_who_accepts_nothing_is_waited_for_only_so_long() -> None:
    async def silent(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with peer(silent) as upstream, pooled() as pool:
        assert isinstance(upstream.address, int)
        with pytest.raises(ConnectFailedError, match=r"no connection within 0\.2 s"):
            await pool.take(Origin("127.0.0.1", upstream.address, ssl.create_default_context()), 0.2)


async def test_a_pool_that_was_closed_meanwhile_keeps_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    may_resolve = asyncio.Event()
    async with peer(answering(WHOLE)) as upstream, pooled() as pool:
        assert isinstance(upstream.address, int)
        port = upstream.address
        resolving(monkeypatch, "127.0.0.1", may_resolve)
        taking = asyncio.ensure_future(pool.take(Origin("up.test", port), LONGEST_S))
        await asyncio.sleep(0)
        pool.close()
        may_resolve.set()
        with pytest.raises(ConnectFailedError, match="closed its connections"):
            await taking
        await until(lambda: upstream.ended == 1)


# --- where names lead


async def test_a_public_name_at_a_private_address_is_not_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    async with peer(answering(WHOLE)) as upstream, pooled() as pool:
        assert isinstance(upstream.address, int)
        for address in ("127.0.0.1", "::1", "10.9.8.7", "169.254.169.254", "::ffff:127.0.0.1"):
            resolving(monkeypatch, address)
            with pytest.raises(PrivateAddressError, match=f"its name leads to {address}, which is no address of the public"):
                await pool.take(Origin("api.openai.com", upstream.address, is_private_allowed=False), LONGEST_S)
        assert upstream.opened == 0


async def test_it_is_connected_where_the_settings_allow_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with peer(answering(WHOLE)) as upstream, pooled() as pool:
        assert isinstance(upstream.address, int)
        resolving(monkeypatch, "127.0.0.1")
        connection = await pool.take(Origin("llm.company.com", upstream.address, is_private_allowed=True), LONGEST_S)
        assert await whole(connection.ask("GET", GET, b"", PATIENT)) == BODY


async def test_a_name_that_changes_its_address_is_looked_at_again_for_every_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async with peer(answering(WHOLE)) as upstream, pooled() as pool:
        assert isinstance(upstream.address, int)
        monkeypatch.setattr("proxy.wire.pool.is_public_address", lambda address: address == "127.0.0.1")
        origin = Origin("api.openai.com", upstream.address, is_private_allowed=False)
        resolving(monkeypatch, "127.0.0.1")
        (await pool.take(origin, LONGEST_S)).close()
        resolving(monkeypatch, "127.0.0.2")
        with pytest.raises(PrivateAddressError):
            await pool.take(origin, LONGEST_S)
        resolving(monkeypatch, "127.0.0.2", None, "127.0.0.1")
        assert await whole((await pool.take(origin, LONGEST_S)).ask("GET", GET, b"", PATIENT)) == BODY
        assert upstream.opened == 2
