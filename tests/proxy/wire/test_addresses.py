"""Which names may lead into a private network, and which addresses lie in one."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.addresses import is_private_name, is_public_address

PRIVATE_NAMES = (
    *("127.0.0.1", "10.0.0.5", "8.8.8.8", "::1", "fe80::1", "localhost", "LOCALHOST", "localhost.", "vllm", "gpu-box"),
    *(
        "printer.local",
        "api.corp.internal",
        "nas.lan",
        "nas.home",
        "llm.corp",
        "vllm.models.svc",
        "vllm.models.svc.cluster.local",
    ),
    *("any.test", "app.localhost", "far.example", "A.TEST", "any.test."),
)
PUBLIC_NAMES = (
    *("api.openai.com", "api.anthropic.com.", "local.dev", "internal.io", "mylocal.com", "x.notlocal", "10.0.0.5.nip.io"),
    *("localhost.evil.com", "127.0.0.1.evil.com", "0x7f.0.0.1", "test.org"),
)


@pytest.mark.parametrize("name", PRIVATE_NAMES)
def test_an_address_or_a_private_name_is_what_it_says(name: str) -> None:
    assert is_private_name(name)


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_a_public_name_is_none_whatever_it_holds(name: str) -> None:
    assert not is_private_name(name)


NOT_PUBLIC = (
    *("127.0.0.1", "127.255.0.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254"),
    *("100.64.0.1", "198.18.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1"),
    *("fec0::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2001:db8::1"),
    *("", "api.openai.com", "127.1"),
)
PUBLIC = ("8.8.8.8", "172.32.0.1", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::")


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_of_a_private_network_is_none_of_the_internet_in_whatever_form(address: str) -> None:
    assert not is_public_address(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_internet_is_one(address: str) -> None:
    assert is_public_address(address)


@given(st.ip_addresses(v=4))
def test_an_address_is_as_public_as_what_is_wrapped_into_it(address: ipaddress.IPv4Address) -> None:
    wrapped = (f"::ffff:{address}", str(ipaddress.IPv6Address((0x64FF9B << 96) | int(address))))
    assert {is_public_address(each) for each in wrapped} == {is_public_address(str(address))}
