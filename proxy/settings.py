"""Sections [relay] and [upstreams.NAME]: where the relay listens, and whom it may talk to.

Upstreams come from here alone; nothing in a request can choose a host.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from capture.errors import SettingsError
from capture.settings import Settings
from serve.settings import HIGHEST_PORT

OPENAI, ANTHROPIC = "openai", "anthropic"
FAMILIES = (OPENAI, ANTHROPIC)
"""The two families of wire formats that the relay knows by name."""

KEY_FROM_CLIENT, NO_KEY = "client", "none"
_KEY_FROM_ENVIRONMENT = "env:"
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """How the relay listens and how long it waits. Seconds and MiB where a name says so."""

    host: str = "127.0.0.1"
    """Address of the relay and of the admin listener."""
    port: int = 8484
    """Port that apps talk to; 0 takes a free one."""
    admin_port: int = 8485
    """Port of /health and /status; 0 takes a free one."""
    workers: int = 1
    """Relay processes; each has its own spool."""
    max_body_mib: int = 64
    """Largest request body; more is answered with 413."""
    max_held_mib: int = 1024
    """Most memory that the request bodies of one worker may take together; more is answered with 503."""
    body_idle_s: float = 30.0
    """Longest pause of a client while it sends its body."""
    connect_timeout_s: float = 10.0
    """Longest wait for a TCP connection to an upstream."""
    idle_timeout_s: float = 600.0
    """Longest silence of an upstream, before its first byte and between two."""
    student_timeout_s: float = 30.0
    """Longest wait for the student's first byte; then the teacher answers."""
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
        for name, lowest in (("workers", 1), ("max_body_mib", 1), ("max_held_mib", 1)):
            if getattr(self, name) < lowest:
                raise ValueError(f"{name} is {getattr(self, name)}, not at least {lowest}")

    @property
    def max_body_bytes(self) -> int:
        """Largest request body in bytes."""
        return self.max_body_mib * 2**20


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """One place that answers: section [upstreams.NAME]."""

    url: str
    """Base address as its SDK takes it: OpenAI's ends with /v1, Anthropic's does not; either way is understood."""
    protocol: str = OPENAI
    """openai or anthropic."""
    key: str = KEY_FROM_CLIENT
    """client: pass on the client's key; none: send no key; env:NAME: send the key from environment variable NAME."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"url is {self.url!r}, not an address like https://api.openai.com/v1")
        if parts.username is not None:
            raise ValueError("url holds a user name or password; name a key with env:NAME instead")
        if self.protocol not in FAMILIES:
            raise ValueError(f"protocol is {self.protocol!r}, not one of {', '.join(FAMILIES)}")
        if self.key not in (KEY_FROM_CLIENT, NO_KEY) and not self.key_variable:
            raise ValueError(f"key is {self.key!r}, not client, none or env:NAME")

    @property
    def key_variable(self) -> str:
        """The environment variable that holds the key; '' when the key is not ours."""
        return self.key.removeprefix(_KEY_FROM_ENVIRONMENT) if self.key.startswith(_KEY_FROM_ENVIRONMENT) else ""


@dataclass(frozen=True, slots=True)
class Upstream:
    """An upstream with its name; `root` is its address before any /v1, `base` the one that stands for /v1."""

    name: str
    protocol: str
    key: str
    key_variable: str
    root: str
    base: str


PUBLIC: Mapping[str, UpstreamSettings] = {
    OPENAI: UpstreamSettings("https://api.openai.com/v1", OPENAI),
    ANTHROPIC: UpstreamSettings("https://api.anthropic.com", ANTHROPIC),
}
"""What an installation without any [upstreams] talks to."""


def read_upstreams(settings: Settings) -> dict[str, Upstream]:
    """The configured upstreams by name in the order of the file; `PUBLIC` when there are none."""
    named = settings.named_sections("upstreams", UpstreamSettings) or dict(PUBLIC)
    for name in named:
        if not _NAME.fullmatch(name):
            raise SettingsError(f"Upstream name {name!r} is not usable in a path.", "Use a-z, 0-9, '.', '_' and '-'.")
    return {name: _upstream(name, value) for name, value in named.items()}


def _upstream(name: str, given: UpstreamSettings) -> Upstream:
    url = given.url.rstrip("/")
    path = urlsplit(url).path
    if given.protocol == ANTHROPIC or not path:
        root = url.removesuffix("/v1")
        base = root + "/v1"
    else:
        root, base = url.removesuffix("/v1"), url
    return Upstream(name, given.protocol, given.key, given.key_variable, root, base)
