"""The client's side of a connection: every request once, in order, within its limits, and nothing left of those who leave."""

from __future__ import annotations

import asyncio

import pytest

from proxy.wire.call import Call
from proxy.wire.limits import Limits
from tests.proxy.scripting import until
from tests.proxy.wire.serving import LONGEST_S, NoSocket, answer, client, passed, request, serving

MANY = 200


# --- requests sent without waiting


@pytest.mark.parametrize("size", [1, 7, 1000, 2**20], ids=["bytes", "odd pieces", "packets", "at once"])
async def test_requests_sent_without_waiting_are_answered_once_and_in_order(size: int) -> None:
    asked = [request(f"/{n}", body=b"%d" % n * (n % 5)) for n in range(MANY if size > 1 else 20)]

    async def serve(call: Call) -> None:
        if len(call.body) % 2:
            await asyncio.sleep(0)
        answer(call, call.raw_path.encode() + b" " + call.body)

    async with serving(serve) as found, client(found.port) as one:
        data = b"".join(asked)

        async def send() -> None:
            for at in range(0, len(data), size):
                one.writer.write(data[at : at + size])
                await one.writer.drain()

        sending = asyncio.ensure_future(send())
        replies = [await one.reply() for _ in asked]
        await sending
        assert [reply.body for reply in replies] == [b"/%d " % n + b"%d" % n * (n % 5) for n in range(len(asked))]
        assert len(found.calls) == len(asked)


async def test_what_was_sent_before_something_malformed_is_answered_and_the_rest_is_not_served() -> None:
    async with serving() as found, client(found.port) as one:
        one.writer.write(request(body=b"a") + request(body=b"b") + b"POST / HTTP/1.1\r\nno colon\r\n\r\n" + request(body=b"c"))
        replies = [await one.reply() for _ in range(3)]
        assert [(reply.status, reply.body) for reply in replies] == [(200, b"a"), (200, b"b"), (400, b"bad_request")]
        assert replies[-1].header("connection") == "close"
        assert await one.rest() == b""
        assert [call.body for call in found.calls if call.problem is None] == [b"a", b"b"]


async def test_who_leaves_with_requests_waiting_takes_them_along() -> None:
    async def serve(_call: Call) -> None:
        await asyncio.Event().wait()

    async with serving(serve) as found:
        async with client(found.port) as one:
            one.writer.write(request(body=b"first"))
            await until(lambda: len(found.calls) == 1)
            one.writer.write(request(body=b"x" * 100_000, headers="X-Half: 1\r\n")[:-1])
            await until(lambda: found.budget.held == 100_005)
        await until(lambda: found.is_empty)
        assert len(found.calls) == 1


async def test_the_next_request_is_not_begun_while_the_client_has_not_read_the_last_answers() -> None:
    """Who asks on and on without reading would otherwise fill our memory with answers."""
    body = bytes(2**20)

    async def serve(call: Call) -> None:
        answer(call, body)

    async with serving(serve) as found, client(found.port, limit=2**10) as one:
        one.writer.transport.pause_reading()  # type: ignore[attr-defined]
        one.writer.write(request(method="GET") * MANY)
        await until(lambda: any(each.unsent for each in found.server.connections))
        await until(lambda: not found.server.tasks)
        begun = len(found.calls)
        assert begun < 30, "what the sockets hold, and no more"
        assert sum(each.unsent for each in found.server.connections) < 3 * len(body)
        one.writer.transport.resume_reading()  # type: ignore[attr-defined]
        for _ in range(MANY):
            assert len((await one.reply()).body) == len(body)


async def test_a_request_that_waits_half_sent_behind_slow_ones_is_not_taken_for_a_slow_client() -> None:
    """The time that others take is not the client's."""
    may_end = asyncio.Event()

    async def serve(call: Call) -> None:
        if call.raw_path == "/slow":
            await may_end.wait()
        answer(call, call.body)

    limits = Limits(body_bytes=2**20, head_s=1.0, body_idle_s=1.0)
    whole = request("/third", body=b"third")
    for cut in (20, len(whole) - 2):
        may_end.clear()
        async with serving(serve, limits) as found, client(found.port) as one:
            one.writer.write(request("/slow", body=b"first") + request("/slow", body=b"second") + whole[:cut])
            await until(lambda found=found: found.calls)  # type: ignore[misc]
            await passed(1.3)
            may_end.set()
            assert [(await one.reply()).body for _ in range(2)] == [b"first", b"second"]
            await passed(0.4)
            assert (await one.ask(whole[cut:])).body == b"third"


async def test_a_client_that_leaves_is_noticed_though_it_asked_for_more() -> None:
    async def serve(call: Call) -> None:
        if call.raw_path == "/first":
            answer(call, b"")
        else:
            await asyncio.Event().wait()

    async with serving(serve) as found:
        async with client(found.port) as one:
            one.writer.write(request("/first") + request("/second"))
            await until(lambda: len(found.calls) == 2)
        await until(lambda: found.is_empty)


async def test_more_than_was_announced_after_the_last_request_does_not_take_its_answer_away() -> None:
    body = b"x" * 5_000_000

    async def serve(call: Call) -> None:
        answer(call, body)

    async with serving(serve) as found, client(found.port) as one:
        one.writer.write(request("/", "Connection: close\r\n", b"a") + request("/", body=b"b") * 50_000)
        reply = await one.reply()
        assert (reply.body, reply.is_whole) == (body, True)
        assert len(found.calls) == 1


# --- who stays and who goes


@pytest.mark.parametrize(
    ("version", "headers", "stays"),
    [
        ("1.1", "", True),
        ("1.1", "Connection: close\r\n", False),
        ("1.1", "Connection: keep-alive, close\r\n", False),
        ("1.0", "", False),
        ("1.0", "Connection: keep-alive\r\n", True),
        ("1.0", "Connection: Keep-Alive\r\n", True),
        ("1.0", "Connection: close\r\n", False),
    ],
)
async def test_a_connection_stays_open_when_the_client_wants_it(version: str, headers: str, stays: bool) -> None:
    async with serving() as found, client(found.port) as one:
        for _ in range(3 if stays else 1):
            reply = await one.ask(request("/", headers, b"body", version=version))
            assert (reply.body, reply.is_whole) == (b"body", True)
            said = "" if stays and version == "1.1" else "keep-alive" if stays else "close"
            assert reply.header("connection") == said
        if not stays:
            assert await one.rest() == b""


async def test_an_old_client_that_asked_to_stay_learns_the_end_of_an_answer_of_unknown_size_by_the_connections() -> None:
    async def serve(call: Call) -> None:
        call.start(200, "OK", b"", has_length=False)
        call.write(b"one ")
        call.finish(b"two")

    async with serving(serve) as found, client(found.port) as one:
        reply = await one.ask(request("/", "Connection: keep-alive\r\n", version="1.0"))
        assert (reply.body, reply.header("connection"), reply.header("transfer-encoding")) == (b"one two", "close", "")


async def test_an_old_client_with_a_transfer_encoding_is_refused() -> None:
    async with serving() as found, client(found.port) as one:
        reply = await one.ask(request("/", "Transfer-Encoding: chunked\r\n", version="1.0") + b"1\r\na\r\n0\r\n\r\n")
        assert (reply.status, reply.body) == (400, b"bad_request")


async def test_a_slow_reader_gets_the_whole_of_a_last_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that a refused client has to go away is not the time that a slow one has to read."""
    monkeypatch.setattr("proxy.wire.server._LINGER_S", 0.5)
    body = bytes(20_000_000)

    async def serve(call: Call) -> None:
        answer(call, body)

    async with serving(serve) as found, client(found.port, limit=2**14) as one:
        one.writer.transport.pause_reading()  # type: ignore[attr-defined]
        one.writer.write(request("/", "Connection: close\r\n"))
        await until(lambda: found.calls and not found.server.tasks)
        await passed(1.5)
        one.writer.transport.resume_reading()  # type: ignore[attr-defined]
        reply = await one.reply()
        assert (len(reply.body), reply.is_whole) == (len(body), True)


async def test_an_empty_line_before_a_request_is_passed_over() -> None:
    async with serving() as found, client(found.port) as one:
        assert (await one.ask(b"\r\n" + request(body=b"a"))).body == b"a"
        assert (await one.ask(b"\r\n\r\n" + request(body=b"b"))).body == b"b"


# --- 100-continue and upgrades


async def test_who_waits_for_100_continue_behind_another_request_is_told_when_its_turn_is_come() -> None:
    may_end = asyncio.Event()

    async def serve(call: Call) -> None:
        if call.raw_path == "/slow":
            await may_end.wait()
        answer(call, call.body)

    async with serving(serve) as found, client(found.port) as one:
        one.writer.write(request("/slow") + request("/next", "Expect: 100-continue\r\nContent-Length: 4\r\n"))
        await until(lambda: found.calls)
        may_end.set()
        assert (await one.reply()).status == 200
        async with asyncio.timeout(LONGEST_S):
            assert await one.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert (await one.ask(b"late")).body == b"late"


H2C = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nX-Kept: 1\r\n"


@pytest.mark.parametrize("size", [1, 50, 2**20])
async def test_an_offer_of_another_protocol_is_passed_over_wherever_its_bytes_are_cut(size: int) -> None:
    asked = [
        request("/", H2C, b"counted"),
        request("/", H2C + "Transfer-Encoding: chunked\r\n") + b"7\r\nchunked\r\n0\r\n\r\n",
        request("/", H2C, method="GET"),
        request(body=b"after"),
    ]
    data = b"".join(asked)
    async with serving() as found, client(found.port) as one:
        for at in range(0, len(data), size):
            one.writer.write(data[at : at + size])
            await one.writer.drain()
            await asyncio.sleep(0)
        assert [(await one.reply()).body for _ in asked] == [b"counted", b"chunked", b"", b"after"]
        assert [call.headers.get("x-kept") for call in found.calls] == ["1", "1", "1", None]
        assert not any({"upgrade", "http2-settings", "connection"} & {*map(str.lower, call.headers)} for call in found.calls)


async def test_a_websocket_takes_its_connection_and_the_bytes_behind_its_head_along() -> None:
    made: list[NoSocket] = []

    def upgrade() -> NoSocket:
        made.append(NoSocket())
        return made[-1]

    async with serving(upgrade=upgrade) as found, client(found.port) as one:
        assert (await one.ask(request(body=b"before"))).body == b"before"
        head = request("/v1/realtime", "Connection: Upgrade\r\nUpgrade: websocket\r\n", method="GET")
        one.writer.write(head + b"\x81\x00")
        await until(lambda: made and made[0].received.endswith(b"\x81\x00"))
        one.writer.write(b"more")
        await until(lambda: made[0].received.endswith(b"\x81\x00more"))
        assert made[0].received.startswith(b"GET /v1/realtime HTTP/1.1\r\nHost: relay\r\n")
        assert not found.server.connections


# --- refusals


ODD = {
    "a length with thousands of zeros": request("/", f"Content-Length: {'0' * 5_000}4\r\n") + b"body",
    "a header without a value": request("/", "X-Empty:\r\n", b"body"),
    "bytes beyond ASCII in a value": request("/", "X-Odd: \xe4\xf6\xfc\r\n", b"body"),
}


@pytest.mark.parametrize("name", ODD)
async def test_what_is_odd_but_allowed_is_served(name: str) -> None:
    async with serving() as found, client(found.port) as one:
        assert (await one.ask(ODD[name])).body == b"body"


@pytest.mark.parametrize("framing", ["Content-Length: 50000000\r\n", "Transfer-Encoding: chunked\r\n"], ids=["length", "chunked"])
async def test_a_refusal_can_be_read_by_a_client_that_is_still_sending(framing: str) -> None:
    async with serving(limits=Limits(body_bytes=1_000)) as found, client(found.port) as one:
        one.writer.write(request("/", framing))

        async def send() -> None:
            for _ in range(500):
                one.writer.write(b"186a0\r\n" + bytes(100_000) + b"\r\n")
                await one.writer.drain()

        sending = asyncio.ensure_future(send())
        reply = await one.reply()
        assert (reply.status, reply.body, reply.header("connection")) == (413, b"body_too_large", "close")
        await asyncio.gather(sending, return_exceptions=True)
        await until(lambda: not found.budget.held)


async def test_bodies_share_one_budget_and_the_refused_give_their_part_back() -> None:
    may_end = asyncio.Event()

    async def serve(call: Call) -> None:
        if call.problem is None:
            await may_end.wait()
        answer(call, b"")

    async with (
        serving(serve, budget=10_000) as found,
        client(found.port) as one,
        client(found.port) as two,
        client(found.port) as three,
    ):
        one.writer.write(request(body=bytes(6_000)))
        await until(lambda: found.budget.held == 6_000)
        assert (await two.ask(request(body=bytes(6_000)))).body == b"overloaded"
        chunked = request("/", "Transfer-Encoding: chunked\r\n") + (b"7d0\r\n" + bytes(2_000) + b"\r\n") * 3
        assert (await three.ask(chunked)).body == b"overloaded"
        await until(lambda: found.budget.held == 6_000)
        may_end.set()
        assert (await one.reply()).status == 200
        await until(lambda: found.budget.held == 0)


async def test_a_call_that_fails_or_is_not_answered_ends_its_connection() -> None:
    async def silent(_call: Call) -> None:
        return

    async with serving(silent) as found, client(found.port) as one:
        one.writer.write(request())
        assert await one.rest() == b""
        await until(lambda: found.is_empty)


async def test_an_error_while_serving_is_told_to_the_event_loop_and_ends_the_connection() -> None:
    async def fail(_call: Call) -> None:
        raise ValueError("on purpose")

    async with serving(fail) as found, client(found.port) as one:
        one.writer.write(request())
        assert await one.rest() == b""
        assert [str(fault["exception"]) for fault in found.faults] == ["on purpose"]
        found.faults.clear()
        await until(lambda: found.is_empty)
