"""A request whose head came before is not parsed again, and is the very call that parsing would have made."""

from __future__ import annotations

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.call import Call
from proxy.wire.known_heads import KnownHeads
from tests.proxy.wire.serving import client, request, serving

BODIES = st.binary(max_size=40)
LINES = ("", "X-A: 1\r\n", "x-a: 1\r\n", "X-A: 1\r\nX-A: 1\r\n", "Connection: close\r\n", "Expect: 100-continue\r\n")


def one_by_one(packets: list[bytes]) -> tuple[list[Call], KnownHeads]:
    """The calls of requests of which each is sent when the one before is answered, and what is known after them."""

    async def run() -> tuple[list[Call], KnownHeads]:
        async with serving() as found:
            for packet in packets:
                async with client(found.port) as once:
                    assert (await once.ask(packet)).status == 200
            async with client(found.port) as again:
                for packet in packets:
                    if b"close" not in packet:
                        assert (await again.ask(packet)).status == 200
            assert found.budget.held == 0
            return found.calls, found.server.heads

    return uvloop.run(run())


@given(asked=st.lists(st.tuples(st.sampled_from(["/a", "/b"]), st.sampled_from(LINES[:5]), BODIES), min_size=1, max_size=5))
def test_a_known_request_is_the_same_call_as_a_new_one(asked: list[tuple[str, str, bytes]]) -> None:
    packets = [request(path, lines, body) for path, lines, body in asked]
    calls, heads = one_by_one(packets)
    for call, (path, lines, body) in zip(calls, asked, strict=False):
        assert (call.method, call.raw_path, call.body) == ("POST", path, body)
        assert call.is_keepalive == ("close" not in lines)
        assert call.length == (str(len(body)) if body else None)
        assert [f"{name}: {value}\r\n" for name, value in call.headers.items()][1:] == lines.splitlines(keepends=True)
    for packet, (_, _, body) in zip(packets, asked, strict=True):
        assert (heads.recognise(packet) is not None) == bool(body)


@given(data=st.data())
def test_nothing_but_the_digits_of_the_length_may_differ(data: st.DataObject) -> None:
    packet = request("/v1/chat/completions", "X-A: 1\r\n", b"hello")
    _, heads = one_by_one([packet])
    assert heads.recognise(packet) is not None
    assert heads.recognise(request("/v1/chat/completions", "X-A: 1\r\n", b"x" * 123)) is not None
    at = data.draw(st.integers(0, packet.index(b"\r\n\r\n") + 3))
    put = data.draw(st.binary(min_size=1, max_size=2).filter(lambda found: found != packet[at : at + 1]))
    other = packet[:at] + put + packet[at + 1 :]
    found = heads.recognise(other)
    assert found is None or (found.length.isdigit() and int(found.length) == len(other) - found.body_at)


@pytest.mark.parametrize("change", [b"more", b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n"])
def test_a_request_with_more_behind_it_or_less_is_left_to_the_parser(change: bytes) -> None:
    packet = request("/a", "", b"hello")
    _, heads = one_by_one([packet])
    assert heads.recognise(packet) is not None
    assert heads.recognise(packet + change) is None
    assert heads.recognise(packet[:-1]) is None


@pytest.mark.parametrize("digits", [b"+5", b" 5", b"5 ", b"0x5", b"5,5", b"", b"0000000005"])
def test_a_length_that_is_not_plain_is_left_to_the_parser(digits: bytes) -> None:
    packet = request("/a", "", b"hello")
    _, heads = one_by_one([packet])
    assert heads.recognise(packet.replace(b"Content-Length: 5", b"Content-Length: " + digits)) is None


@pytest.mark.parametrize("lines", ["Expect: 100-continue\r\n", f"X-Large: {'x' * 7_000}\r\n"])
def test_what_is_unusual_or_large_is_not_learnt(lines: str) -> None:
    packet = request("/a", lines, b"hello")

    async def run() -> None:
        async with serving() as found, client(found.port) as one:
            one.writer.write(packet)
            if "Expect" in lines:
                await one.reader.readuntil(b"100 Continue\r\n\r\n")
            assert (await one.reply()).status == 200
            assert found.server.heads.recognise(packet) is None

    uvloop.run(run())


def test_a_body_beyond_the_bounds_is_refused_though_its_head_is_known() -> None:
    async def run() -> None:
        async with serving() as found, client(found.port) as one:
            await one.ask(request("/a", "", b"hello"))
            found.budget.limit = 3
            assert found.server.heads.recognise(request("/a", "", b"hello")) is not None
            assert (await one.ask(request("/a", "", b"hello"))).status == 503

    uvloop.run(run())
