"""By which names we may be called: what keeps a web page in somebody's browser from using a listener on this machine.

A page can point a name of its own at a loopback address (DNS rebinding), and can send simple requests to any address.
The first shows in the Host header, the second in the Origin header; a browser lets no page change either.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from urllib.parse import urlsplit

_LOCALHOST = "localhost"


@lru_cache(1024)
def is_known_host(host: str, names: tuple[str, ...] = ()) -> bool:
    """True for a Host header that is an IP address, localhost or one of `names`, with or without a port."""
    name = _name_of("//" + host)
    return name == _LOCALHOST or _address(name) is not None or _is_among(name, names)


@lru_cache(1024)
def is_own_origin(origin: str, host: str, names: tuple[str, ...] = ()) -> bool:
    """True for the Origin header of a page from `host` (the Host header), from this machine's loopback or one of `names`."""
    name = _name_of(origin)
    return bool(name) and (name == _name_of("//" + host) or is_loopback(name) or _is_among(name, names))


@lru_cache(16)
def is_loopback(host: str) -> bool:
    """True for localhost and for addresses that only this machine reaches."""
    address = _address(host)
    return host == _LOCALHOST if address is None else address.is_loopback


def _name_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_among(name: str, names: tuple[str, ...]) -> bool:
    return name in [each.lower() for each in names]
