"""What is concluded from a request's head is concluded once, and no client can make us remember more than a little."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from multidict import CIMultiDict

from proxy.budget import Budget, Holder
from proxy.reading import Asked, read_call, read_request
from proxy.settings import RelaySettings
from proxy.upstream_settings import Upstream
from proxy.wire.call import Call, Connection, Head

UPSTREAMS = {"openai": Upstream("openai", "openai", "client", "", "http://up", "http://up/v1")}
HEADERS = {"Host": "127.0.0.1", "x-potstill-task": "triage", "x-potstill-user": "u1", "Authorization": "Bearer k"}


def head(path: str = "/v1/chat/completions", **headers: str) -> Head:
    return Head("POST", path, "1.1", CIMultiDict({**HEADERS, **headers}))


def ask(given: Head, body: bytes) -> Asked:
    transport = cast(asyncio.Transport, None)
    call = Call(cast(Connection, None), transport, given, str(len(body)), Holder(Budget(1)), True)
    call.body = body
    return read_call(call, RelaySettings(), UPSTREAMS, given.known_under(UPSTREAMS))


@pytest.mark.parametrize(
    "bodies",
    [
        (b'{"model":"a"}', b'{"model":"b","stream":true}', b'{"model":"a","stream":true}'),
        (b'{"model":"a"}', b'{"model":"a","user":"u2","metadata":{"k":"v"}}', b'{"model":"a"}'),
        (b"", b"[]", b'{"model":"a"}', b"\xff"),
    ],
)
def test_a_request_is_read_alike_however_often_its_head_came_before(bodies: tuple[bytes, ...]) -> None:
    known = head()
    for body in bodies * 2:
        again, fresh = ask(known, body), ask(head(), body)
        assert (again.target, again.identity, again.peeked, again.route, again.failure, again.stored, again.body) == (
            fresh.target, fresh.identity, fresh.peeked, fresh.route, fresh.failure, fresh.stored, body
        )  # fmt: skip


def test_the_plain_way_and_the_short_one_agree() -> None:
    given = head()
    call = Call(cast(Connection, None), cast(asyncio.Transport, None), given, None, Holder(Budget(1)), True)
    call.body = b'{"model":"a"}'
    plain = read_request(call, RelaySettings(), UPSTREAMS)
    short = read_call(call, RelaySettings(), UPSTREAMS, given.known_under(UPSTREAMS))
    assert (plain.identity, plain.route, plain.stored) == (short.identity, short.route, short.stored)


def test_what_a_client_makes_up_is_not_remembered() -> None:
    given = head()
    for number in range(100):
        ask(given, b'{"model":"%d"}' % number)
    ask(given, b'{"model":"%s"}' % (b"x" * 100_000))
    known = given.known_under(UPSTREAMS)
    assert 0 < len(known) <= 16
    assert all(len(str(each)) < 5_000 for each in known)
    refused = head(**{"x-potstill-tsak": "typo"})
    assert ask(refused, b'{"model":"a"}').failure is not None
    assert refused.known_under(UPSTREAMS) == {}


def test_what_was_concluded_under_one_configuration_is_forgotten_under_another() -> None:
    given = head()
    moved = {"openai": Upstream("openai", "openai", "client", "", "http://elsewhere", "http://elsewhere/v1")}
    first = ask(given, b'{"model":"a"}')
    first.known["key of the first"] = "secret"
    call = Call(cast(Connection, None), cast(asyncio.Transport, None), given, None, Holder(Budget(1)), True)
    call.body = b'{"model":"a"}'
    second = read_call(call, RelaySettings(), moved, given.known_under(moved))
    assert first.route is not None
    assert second.route is not None
    assert (first.route.upstream.root, second.route.upstream.root) == ("http://up", "http://elsewhere")
    assert "key of the first" not in second.known
