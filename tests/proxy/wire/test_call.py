"""What becomes of a request's bytes: the same call however they are cut, and one head for the same bytes alone."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.call import Call
from tests.proxy.scripting import until
from tests.proxy.wire.serving import HOST, answer, client, request, serving

Header = tuple[str, str]

names = st.sampled_from(["X-A", "x-a", "X-B", "Accept", "Cookie", "Authorization", "Content-Type", "X-A-"])
values = st.text(st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\x7f"), max_size=6)
headers = st.lists(st.tuples(names, values), max_size=5)
targets = st.sampled_from(["/", "/a", "/A", "/a?b", "/a?b=c", "//a", "/%61"])
methods = st.sampled_from(["GET", "POST", "PUT"])
bodies = st.binary(max_size=30)


def as_bytes(method: str, target: str, lines: Sequence[Header], body: bytes, *, is_chunked: bool = False, step: int = 7) -> bytes:
    """A request with these headers, in order."""
    said = "".join(f"{name}: {value}\r\n" for name, value in lines)
    if not is_chunked:
        return request(target, said, body, method=method)
    chunks = [body[at : at + step] for at in range(0, len(body), step)]
    coded = b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in chunks) + b"0\r\n\r\n"
    return request(target, said + "Transfer-Encoding: chunked\r\n", method=method) + coded


def served(packets: list[bytes], count: int) -> list[Call]:
    """The calls that come of these packets on one connection."""

    async def run() -> list[Call]:
        async with serving() as found, client(found.port) as one:
            for packet in packets:
                one.writer.write(packet)
                await one.writer.drain()
                await asyncio.sleep(0)
            for _ in range(count):
                assert (await one.reply()).status == 200
            assert found.budget.held == 0
            return found.calls

    return uvloop.run(run())


@given(lines=headers, target=targets, method=methods, first=bodies, second=bodies, is_chunked=st.booleans())
def test_the_same_head_is_the_same_object_whatever_the_length(
    lines: list[Header], target: str, method: str, first: bytes, second: bytes, is_chunked: bool
) -> None:
    packets = [as_bytes(method, target, lines, body, is_chunked=is_chunked) for body in (first, second)]
    one, two = served(packets, 2)
    assert one.head is two.head
    assert (one.body, two.body) == (first, second)
    assert one.length == (None if is_chunked or not first else str(len(first)))


@given(one=st.tuples(methods, targets, headers), two=st.tuples(methods, targets, headers))
def test_two_heads_that_differ_are_never_taken_for_one(
    one: tuple[str, str, list[Header]], two: tuple[str, str, list[Header]]
) -> None:
    calls = served([as_bytes(*one, b"") + as_bytes(*two, b"")], 2)
    assert (calls[0].head is calls[1].head) == (one == two)
    for call, (method, target, lines) in zip(calls, (one, two), strict=True):
        assert (call.method, call.raw_path) == (method, target)
        sent = [(name, value.encode("latin-1").decode("utf-8", "surrogateescape")) for name, value in lines]
        assert list(call.headers.items()) == [("Host", "relay"), *sent]


@given(data=st.data(), lines=headers)
def test_a_head_with_its_headers_in_another_order_case_or_number_is_another(data: st.DataObject, lines: list[Header]) -> None:
    lines = [("X-Last", "1"), *lines]
    other = data.draw(
        st.one_of(
            st.permutations(lines),
            st.just([*lines, lines[0]]),
            st.just(lines[1:]),
            st.just([(name.swapcase(), value) for name, value in lines]),
            st.just([(lines[0][0], lines[0][1] + "2"), *lines[1:]]),
            st.just([(lines[0][0] + "1", ""), *lines[1:]]),
        )
    )
    one, two = served([as_bytes("POST", "/", lines, b"a") + as_bytes("POST", "/", other, b"b")], 2)
    assert (one.head is two.head) == (lines == other)


def test_a_version_or_a_host_makes_another_head() -> None:
    keep = "Connection: keep-alive\r\n"
    asked = [request("/", keep), request("/", keep, version="1.0"), request("/", keep, host=HOST.lower()), request("/", keep)]
    calls = served(asked, len(asked))
    assert len({id(call.head) for call in calls}) == 3
    assert calls[0].head is calls[3].head


def test_what_was_concluded_is_forgotten_on_demand_and_after_many_heads() -> None:
    async def run() -> None:
        async with serving() as found, client(found.port) as one:
            await one.ask(request("/kept"))
            found.server.forget_heads()
            await one.ask(request("/kept"))
            assert found.calls[0].head is not found.calls[1].head
            for n in range(2_000):
                await one.ask(request(f"/{n}"))
            assert len(found.server.heads) <= 512

    uvloop.run(run())


@given(
    asked=st.lists(st.tuples(methods, targets, headers, bodies, st.booleans(), st.integers(1, 9)), min_size=1, max_size=3),
    cuts=st.lists(st.integers(0, 400), max_size=8),
)
def test_requests_are_the_same_wherever_their_bytes_are_cut(
    asked: list[tuple[str, str, list[Header], bytes, bool, int]], cuts: list[int]
) -> None:
    data = b"".join(
        as_bytes(method, target, lines, body, is_chunked=is_chunked, step=step)
        for method, target, lines, body, is_chunked, step in asked
    )
    edges = sorted({0, len(data), *(at for at in cuts if at < len(data))})
    calls = served([data[a:b] for a, b in itertools.pairwise(edges)], len(asked))
    whole = served([data], len(asked))
    assert [_seen(call) for call in calls] == [_seen(call) for call in whole]
    assert [(call.method, call.raw_path, call.body) for call in calls] == [(each[0], each[1], each[3]) for each in asked]


def _seen(call: Call) -> tuple[object, ...]:
    return call.method, call.raw_path, call.version, list(call.headers.items()), call.length, call.body, call.problem


CHUNKED = {
    "one": b"4\r\nbody\r\n0\r\n\r\n",
    "zeros and capitals": b"0004\r\nbody\r\n000\r\n\r\n",
    "extensions": b'2;a=b;c="d;\xe4"\r\nbo\r\n2;x\r\ndy\r\n0;y\r\n\r\n',
    "trailers": b"4\r\nbody\r\n0\r\nX-Sum: 1\r\nHost: evil\r\n\r\n",
}


@pytest.mark.parametrize("name", CHUNKED)
def test_chunks_cut_at_any_byte_are_the_same_body(name: str) -> None:
    head = request("/", "Transfer-Encoding: chunked\r\n")
    data = CHUNKED[name]
    for at in range(1, len(data)):
        (call,) = served([head + data[:at], data[at:]], 1)
        assert (call.body, call.length, call.headers.getall("host")) == (b"body", None, ["relay"])


# --- the answer


async def test_an_answer_is_framed_as_the_client_can_read_it() -> None:
    async def serve(call: Call) -> None:
        call.start(int(call.raw_path[1:]), "Odd \xe4", b"X-Ours: 1\r\n", has_length=False)
        call.write(b"one ")
        call.finish(b"two" if call.body else b"")

    async with serving(serve) as found, client(found.port) as one:
        for body, said in ((b"more", b"one two"), (b"", b"one ")):
            reply = await one.ask(request("/200", body=body))
            assert (reply.body, reply.is_whole, reply.header("transfer-encoding")) == (said, True, "chunked")
        assert found.calls[0].sent_bytes == 7


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_an_answer_that_may_have_no_body_has_no_framing_of_one(method: str, status: int) -> None:
    async def serve(call: Call) -> None:
        call.start(status, "OK", b"", has_length=False)
        call.finish()

    async with serving(serve) as found, client(found.port) as one:
        for _ in range(2):
            one.writer.write(request(method=method))
            reply = await one.reply(has_body=False)
            assert (reply.status, reply.header("transfer-encoding"), reply.header("connection")) == (status, "", "")


@pytest.mark.parametrize("is_aborted", [False, True])
async def test_an_answer_that_breaks_off_is_never_whole(is_aborted: bool) -> None:
    is_read = asyncio.Event()

    async def serve(call: Call) -> None:
        call.start(200, "OK", b"", has_length=False)
        call.write(b"half")
        if is_aborted:
            await is_read.wait()  # a reset takes back what is still on its way
            call.abort()
        else:
            call.close()

    for version in ("1.1", "1.0"):
        async with serving(serve) as found, client(found.port) as one:
            one.writer.write(request(version=version))
            head = await one.reader.readuntil(b"\r\n\r\n")
            is_read.set()
            rest = b""
            try:
                while data := await one.reader.read(100):
                    rest += data
            except ConnectionResetError:
                assert is_aborted
                rest += b"!reset"
            assert b"0\r\n\r\n" not in rest
            assert rest.endswith(b"!reset") == is_aborted
            assert (b"chunked" in head) == (version == "1.1")


async def test_the_end_of_a_connection_is_known() -> None:
    gone: list[bool] = []

    async def serve(call: Call) -> None:
        assert not call.is_gone
        try:
            await asyncio.Event().wait()
        finally:
            gone.append(call.is_gone)

    async with serving(serve) as found:
        async with client(found.port) as one:
            one.writer.write(request())
            await until(lambda: found.calls)
        await until(lambda: gone)
    assert gone == [True]


async def test_answers_in_one_go_and_in_pieces_are_the_same_bytes() -> None:
    async def serve(call: Call) -> None:
        if call.raw_path == "/whole":
            answer(call, call.body)
            return
        call.start(200, "OK", b"Content-Length: %d\r\n" % len(call.body), has_length=True)
        call.flush()
        for at in range(0, len(call.body), 100_000):
            call.write(call.body[at : at + 100_000])
        call.finish()

    body = bytes(range(256)) * 20_000
    async with serving(serve) as found, client(found.port) as one:
        for target in ("/whole", "/pieces"):
            assert (await one.ask(request(target, body=body))).body == body
