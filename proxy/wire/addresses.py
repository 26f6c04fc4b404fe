"""Which addresses lie within somebody's own network, and which names may lead there without a word in the settings.

A name of the public internet that suddenly leads to a loopback or private address has been taken over, or set up to make us
knock at doors of this network with a key in hand (DNS rebinding). Names that are private by their form, and addresses written
as such, are what they say.
"""

from __future__ import annotations

import ipaddress

_PRIVATE_ENDINGS = (
    *(".local", ".internal", ".lan", ".home", ".corp", ".svc", ".cluster.local"),
    *(".test", ".localhost", ".example"),
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_IPV4_BYTES = 4


def is_private_name(host: str) -> bool:
    """True for a literal address, a name without dots such as localhost, and names under a private or reserved ending."""
    name = host.rstrip(".").lower()
    return "." not in name or _parsed(name) is not None or name.endswith(_PRIVATE_ENDINGS)


def is_public_address(address: str) -> bool:
    """True for an address that anybody on the internet reaches; what is no address is none."""
    found = _parsed(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        found = _within(found) or found
    return found is not None and found.is_global and not (isinstance(found, ipaddress.IPv6Address) and found.is_site_local)


def _within(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that packets to `address` really go to."""
    if address in _NAT64:
        return ipaddress.IPv4Address(address.packed[-_IPV4_BYTES:])
    return address.ipv4_mapped or address.sixtofour


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(address)
    except ValueError:
        return None
