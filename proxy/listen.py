"""Sockets to listen on: one port may be shared by all workers of this relay, and by nobody else."""

from __future__ import annotations

import errno
import socket

from capture.errors import PortTakenError, SettingsError

_BACKLOG = 1024


def claim_port(host: str, port: int, setting: str) -> socket.socket:
    """Takes `port` of `host` for this relay; the socket keeps the number, `listen` sockets share it.

    Port 0 takes a free one. PortTakenError when somebody listens there; `setting` is the key that names the port.
    """
    _bind(host, port, setting, is_shared=False).close()  # a shared one would not notice another relay of ours
    return _bind(host, port, setting, is_shared=True)


def listen(host: str, port: int, setting: str) -> socket.socket:
    """A listening socket that shares `port` with other workers; PortTakenError when the port is not shareable."""
    found = _bind(host, port, setting, is_shared=True)
    found.listen(_BACKLOG)
    found.setblocking(False)
    return found


def listen_alone(host: str, port: int, setting: str) -> socket.socket:
    """A listening socket that shares its port with nobody; PortTakenError."""
    found = _bind(host, port, setting, is_shared=False)
    found.listen(_BACKLOG)
    found.setblocking(False)
    return found


def _bind(host: str, port: int, setting: str, *, is_shared: bool) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise SettingsError(f"Host {host!r} cannot be listened on: {error}.", "Mend host in [relay] of potstill.toml.") from error
    found = socket.socket(family, kind, protocol)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        found.bind(address)
    except OSError as error:
        found.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTakenError(
                f"Port {port} of {host} is taken by another process.",
                f"Stop that one, or set {setting} in [relay] of potstill.toml (or POTSTILL_RELAY__{setting.upper()}).",
            ) from error
        if error.errno in (errno.EACCES, errno.EADDRNOTAVAIL):
            raise SettingsError(
                f"Port {port} of {host} cannot be listened on: {error.strerror}.",
                f"Mend host or {setting} in [relay] of potstill.toml.",
            ) from error
        raise
    return found
