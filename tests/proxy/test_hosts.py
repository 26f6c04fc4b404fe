"""By which names the relay may be called, and which pages may use a key that is not theirs."""

from __future__ import annotations

import pytest

from proxy.hosts import is_known_host, is_loopback, is_own_origin


@pytest.mark.parametrize("host", ["127.0.0.1:8484", "10.0.0.7", "localhost", "LOCALHOST:1", "[::1]", "[::1]:8484", "box.lan:80"])
def test_addresses_localhost_and_named_hosts_are_known(host: str) -> None:
    assert is_known_host(host, ("Box.lan",))


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:8484", "127.0.0.1.evil.example", "", "[::1", "box.lan"])
def test_other_hosts_are_foreign(host: str) -> None:
    assert not is_known_host(host)


@pytest.mark.parametrize(
    ("origin", "is_own"),
    [
        ("http://localhost:3000", True),
        ("http://127.0.0.1", True),
        ("http://10.0.0.7:8484", True),
        ("https://box.lan", True),
        ("https://evil.example", False),
        ("http://10.0.0.8:8484", False),
        ("null", False),
        ("", False),
    ],
)
def test_only_the_relays_own_pages_are_own(origin: str, is_own: bool) -> None:
    assert is_own_origin(origin, "10.0.0.7:8484", ("box.lan",)) is is_own


@pytest.mark.parametrize(("host", "expected"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False)])
def test_a_loopback_address_is_recognised(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
