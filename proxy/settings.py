"""Section [relay], where the relay listens and how long it waits; and all upstreams, checked against each other.

Upstreams come from here alone; nothing in a request can choose a host.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from capture.errors import SettingsError
from capture.settings import Settings
from proxy.upstream_settings import (
    ANTHROPIC,
    FAMILIES,
    HIGHEST,
    KEY_FROM_CLIENT,
    LITELLM,
    NO_KEY,
    OPENAI,
    PUBLIC,
    Upstream,
    UpstreamSettings,
    filled,
)
from serve.settings import HIGHEST_PORT

__all__ = [
    "ANTHROPIC",
    "FAMILIES",
    "KEY_FROM_CLIENT",
    "LITELLM",
    "NO_KEY",
    "OPENAI",
    "PUBLIC",
    "RelaySettings",
    "Upstream",
    "UpstreamSettings",
    "read_upstreams",
    "translation_socket",
    "upstream_problems",
]

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_TRANSLATION_SOCKET = ("run", "translation.sock")
_LONGEST_SOCKET_PATH = 107


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """How the relay listens and how long it waits. Seconds and MiB where a name says so."""

    host: str = "127.0.0.1"
    """Address of the relay and of the admin listener."""
    port: int = 8484
    """Port that apps talk to; 0 takes a free one."""
    admin_port: int = 8485
    """Port of /health, /status, /metrics and /reload; 0 takes a free one."""
    admin_token_file: str = ""
    """File with the token that the admin listener then asks for, as Authorization: Bearer; relative to potstill.toml."""
    workers: int = 1
    """Relay processes; each has its own spool."""
    max_body_mib: int = 64
    """Largest request body; more is answered with 413."""
    max_held_mib: int = 1024
    """Most memory that the request bodies of one worker may take together; more is answered with 503."""
    max_headers: int = 128
    """Most headers of a request; more is answered with 400."""
    max_header_bytes: int = 8190
    """Longest header of a request with its name, and longest target; more is answered with 400."""
    body_idle_s: float = 30.0
    """Longest pause of a client while it sends its body."""
    body_total_s: float = 600.0
    """Longest time that a request's body may take."""
    max_head_kib: int = 64
    """Largest request line and headers together; more is answered with 400."""
    head_timeout_s: float = 30.0
    """Longest time that a request's line and headers may take."""
    client_keepalive_s: float = 75.0
    """How long a client's connection may rest between two requests."""
    client_stall_s: float = 300.0
    """How long a client may leave what was sent to it unread; then its connection is closed."""
    connect_timeout_s: float = 10.0
    """Longest wait for a TCP connection to an upstream."""
    idle_timeout_s: float = 600.0
    """Longest silence of an upstream, before its first byte and between two."""
    student_timeout_s: float = 30.0
    """Longest wait for the student's first byte; then the teacher answers."""
    websocket_idle_s: float = 3600.0
    """How long both ends of a WebSocket may send neither message nor ping; then it is closed."""
    websocket_message_mib: int = 16
    """Largest message of a WebSocket; a larger one closes it."""
    keepalive_s: float = 15.0
    """How long an idle connection to an upstream is kept; must be shorter than the upstream's own limit."""
    drain_timeout_s: float = 25.0
    """How long open streams may finish after SIGTERM."""
    hosts: tuple[str, ...] = ()
    """Names, besides localhost and addresses, by which apps may call a relay that listens on a loopback address."""

    def __post_init__(self) -> None:
        for name in ("port", "admin_port"):
            if not 0 <= getattr(self, name) <= HIGHEST_PORT:
                raise ValueError(f"{name} is {getattr(self, name)}, not between 0 and {HIGHEST_PORT}")
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, not at least 1")
        for name in _POSITIVE:
            if not 0 < getattr(self, name) < HIGHEST:
                raise ValueError(f"{name} is {getattr(self, name)}, not above 0 and below {HIGHEST:,}")
        for name in _MAY_BE_ZERO:
            if not 0 <= getattr(self, name) < HIGHEST:
                raise ValueError(f"{name} is {getattr(self, name)}, not between 0 and {HIGHEST:,}")

    @property
    def max_body_bytes(self) -> int:
        """Largest request body in bytes."""
        return self.max_body_mib * 2**20


_AT_LEAST_ONE = (
    *("workers", "max_body_mib", "max_held_mib", "max_head_kib", "max_headers", "max_header_bytes"),
    "websocket_message_mib",
)
_POSITIVE = (
    *("body_idle_s", "body_total_s", "head_timeout_s", "client_stall_s", "connect_timeout_s", "idle_timeout_s"),
    *("student_timeout_s", "websocket_idle_s"),
)
_MAY_BE_ZERO = ("client_keepalive_s", "keepalive_s", "drain_timeout_s")
"""Seconds of which none at all makes sense: close at once, cut at once."""


def read_upstreams(settings: Settings) -> dict[str, Upstream]:
    """The configured upstreams by name in the order of the file; `PUBLIC` when there are none. SettingsError."""
    found, problems = _read_upstreams(settings)
    for error in problems:
        raise error
    return found


def upstream_problems(settings: Settings) -> list[SettingsError]:
    """All that is wrong with the upstreams together, where `read_upstreams` tells the first thing only.

    SettingsError when one by itself is wrong, or [relay] is.
    """
    return _read_upstreams(settings)[1]


def _read_upstreams(settings: Settings) -> tuple[dict[str, Upstream], list[SettingsError]]:
    relay = settings.section("relay", RelaySettings)
    named = settings.named_sections("upstreams", UpstreamSettings) or dict(PUBLIC)
    problems = [
        SettingsError(f"Upstream name {name!r} is not usable in a path.", "Use a-z, 0-9, '.', '_' and '-'.")
        for name in named
        if not _NAME.fullmatch(name)
    ]
    found = {
        name: filled(
            name,
            given,
            settings.folder,
            connect_timeout_s=relay.connect_timeout_s,
            idle_timeout_s=relay.idle_timeout_s,
            socket=str(translation_socket(settings)) if given.protocol == LITELLM else "",
        )
        for name, given in named.items()
    }
    for upstream in found.values():
        checks = [partial(_check_files, upstream)]
        checks += [partial(_check_fallback, upstream, name, found) for name in upstream.fallbacks]
        for check in checks:
            try:
                check()
            except SettingsError as error:
                problems.append(error)
    return found, problems


def translation_socket(settings: Settings) -> Path:
    """Where the process that translates listens for the relay workers of this installation; SettingsError."""
    path = settings.data_folder.joinpath(*_TRANSLATION_SOCKET)
    if len(os.fsencode(path)) > _LONGEST_SOCKET_PATH:
        raise SettingsError(
            f"{path} is too long for a Unix socket, which an upstream of protocol litellm needs.",
            f"Choose a data_folder in [store] so that it has no more than {_LONGEST_SOCKET_PATH} letters.",
        )
    return path


def _check_files(upstream: Upstream) -> None:
    if not upstream.ca_file:
        return
    try:
        ssl.create_default_context(cafile=upstream.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"section [upstreams.{upstream.name}]: ca_file {upstream.ca_file} cannot be read: {error}.",
            "Give a file of certificates in PEM form.",
        ) from error


def _check_fallback(upstream: Upstream, name: str, upstreams: Mapping[str, Upstream]) -> None:
    """SettingsError when `name` cannot stand in: unknown, of another protocol, or about to get a key meant for somebody else."""
    where = f"section [upstreams.{upstream.name}]: fallbacks names {name!r}"
    other = upstreams.get(name)
    if other is None or other is upstream:
        others = ", ".join(each for each in upstreams if each != upstream.name)
        raise SettingsError(f"{where}, which is no other upstream.", f"Use some of: {others}." if others else "Leave it out.")
    if LITELLM not in (upstream.protocol, other.protocol) and other.protocol != upstream.protocol:
        raise SettingsError(
            f"{where}, which speaks {other.protocol} and not {upstream.protocol}.",
            "Only an upstream of the same protocol, or of litellm, can stand in.",
        )
    if other.key == KEY_FROM_CLIENT and urlsplit(other.root).netloc != urlsplit(upstream.root).netloc:
        raise SettingsError(
            f"{where}, which would get the client's key for {upstream.name}.",
            f"Give [upstreams.{name}] a key of its own: env:NAME, file:PATH or none.",
        )
