"""Section [upstreams.NAME]: one place that answers, what it takes, how long it is waited for, and who stands in for it.

`UpstreamSettings` is what a person writes, `Upstream` what the relay works with: every default filled in, every name
checked, every path absolute. Credentials are named here (environment, file), never held.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

OPENAI, ANTHROPIC, LITELLM = "openai", "anthropic", "litellm"
FAMILIES = (OPENAI, ANTHROPIC)
"""The two families of wire formats that the relay knows by name."""
PROTOCOLS = (*FAMILIES, LITELLM)
"""What an upstream can speak: one of the families itself, or anything that litellm translates both of them to."""

KEY_FROM_CLIENT, NO_KEY = "client", "none"
AUTHORIZATION, X_API_KEY, API_KEY = "authorization", "x-api-key", "api-key"
KEY_HEADERS = (AUTHORIZATION, X_API_KEY, API_KEY)
_FROM_ENVIRONMENT, _FROM_FILE = "env:", "file:"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_AZURE_HOSTS = (".openai.azure.com", ".openai.azure.us", ".cognitiveservices.azure.com", ".services.ai.azure.com")
_API_VERSION = re.compile(r"[A-Za-z0-9._-]{1,40}")
_LOWEST_STATUS, _HIGHEST_STATUS = 400, 599


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """One place that answers: section [upstreams.NAME]."""

    url: str = ""
    """Base address as its SDK takes it: OpenAI's ends with /v1, Anthropic's does not; either way is understood."""
    protocol: str = OPENAI
    """openai, anthropic, or litellm for everything that must be translated."""
    key: str = ""
    """client: pass on the client's key; none: send no key; env:NAME or file:PATH: that key. Empty: client, for litellm none."""
    key_header: str = ""
    """Header that carries our key: authorization, x-api-key or api-key. Empty: the one that the protocol wants."""
    api_version: str = ""
    """Azure only: the api-version of addresses with deployments, such as 2024-10-21; empty: Azure's /openai/v1 addresses."""
    models: tuple[str, ...] = ()
    """Models that go here, with * for any part; the first match in the file counts. Empty: what no other upstream names."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Names that apps may ask for and the model that is sent instead: {fast = "gpt-5-mini"}."""
    fallbacks: tuple[str, ...] = ()
    """Upstreams that stand in, in this order, when this one fails before its answer began; of the same protocol."""
    fallback_on: tuple[int, ...] = (429, 500, 502, 503, 504, 529)
    """Statuses that count as such a failure, besides no connection, no answer in time and an open circuit."""
    retries: int = 0
    """How often one request is sent again: only when nothing of it was sent, or after a status of retry_on."""
    retry_on: tuple[int, ...] = (429, 503, 529)
    """Statuses by which this upstream says that it did not begin to work on the request."""
    retry_longest_s: float = 5.0
    """Longest wait before sending again; an upstream that asks for a longer one is not asked again."""
    connect_timeout_s: float = 0.0
    """Longest wait for a connection; 0: as in [relay]."""
    first_byte_timeout_s: float = 0.0
    """Longest wait for the head of an answer; 0: idle_timeout_s."""
    idle_timeout_s: float = 0.0
    """Longest silence within an answer; 0: as in [relay]."""
    total_timeout_s: float = 0.0
    """Longest time from the request to the last byte; 0: no limit."""
    max_concurrent: int = 0
    """Most requests and open WebSockets at a time from one relay worker; 0: no limit."""
    max_waiting: int = 100
    """Most requests of one worker that wait for their turn when max_concurrent is reached; more are answered with 503."""
    longest_wait_s: float = 5.0
    """Longest wait for a turn when max_concurrent is reached; then 503 with retry-after."""
    circuit_failures: int = 5
    """Failures in a row after which an upstream that has fallbacks is left alone for circuit_rest_s; 0: never."""
    circuit_rest_s: float = 10.0
    """How long it is left alone before one request tries again."""
    proxy: str = ""
    """HTTP proxy to reach it through, such as http://proxy.example:3128, or env:NAME when the address holds a password."""
    ca_file: str = ""
    """File of certificates to trust in place of the system's, relative to potstill.toml."""
    warm_connections: int = 0
    """Connections that each worker opens at its start and keeps open while idle."""
    allow_private: bool = False
    """Whether a public name in url may lead to an address of a private network; literal addresses and private names may."""

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"protocol is {self.protocol!r}, not one of {', '.join(PROTOCOLS)}")
        if self.key not in ("", KEY_FROM_CLIENT, NO_KEY) and not self.key_variable and not self.key_file:
            raise ValueError("key is not client, none, env:NAME or file:PATH")
        if self.key_header.lower() not in ("", *KEY_HEADERS):
            raise ValueError(f"key_header is {self.key_header!r}, not one of {', '.join(KEY_HEADERS)}")
        if self.api_version and (self.protocol != OPENAI or not _API_VERSION.fullmatch(self.api_version)):
            raise ValueError(f"api_version is {self.api_version!r}; it is for Azure's OpenAI alone, and looks like 2024-10-21")
        for name in ("fallback_on", "retry_on"):
            for status in getattr(self, name):
                if not _LOWEST_STATUS <= status <= _HIGHEST_STATUS:
                    raise ValueError(f"{name} has {status}, not a status between {_LOWEST_STATUS} and {_HIGHEST_STATUS}")
        for name in _NOT_NEGATIVE:
            if not 0 <= getattr(self, name) < HIGHEST:
                raise ValueError(f"{name} is {getattr(self, name)}, not between 0 and {HIGHEST:,}")
        for asked, sent in self.aliases.items():
            if not asked or not sent:
                raise ValueError(f"aliases has {asked!r} = {sent!r}; both must name a model")
        if "" in self.models:
            raise ValueError("models has an empty pattern")
        if self.protocol == LITELLM and (self.proxy or self.ca_file):
            raise ValueError(
                "litellm takes a proxy from HTTPS_PROXY and certificates from SSL_CERT_FILE, not from these settings"
            )
        proxy = urlsplit(self.proxy)
        if self.proxy and not variable_of(self.proxy):
            if proxy.username is not None:
                raise ValueError("proxy holds a user name or password; name the address with env:NAME instead")
            if proxy.scheme != "http" or not proxy.hostname:
                raise ValueError(f"proxy is {self.proxy!r}, not an address like http://proxy.example:3128, nor env:NAME")
        _check_url(self.url, self.protocol)

    @property
    def key_variable(self) -> str:
        """The environment variable that holds the key; '' when it is not there."""
        return variable_of(self.key)

    @property
    def key_file(self) -> str:
        """The file that holds the key; '' when it is not there."""
        return self.key.removeprefix(_FROM_FILE) if self.key.startswith(_FROM_FILE) else ""


_NOT_NEGATIVE = (
    *("retries", "retry_longest_s", "connect_timeout_s", "first_byte_timeout_s", "idle_timeout_s", "total_timeout_s"),
    *("max_concurrent", "max_waiting", "longest_wait_s", "circuit_failures", "circuit_rest_s", "warm_connections"),
)
HIGHEST = 10_000_000
"""Beyond any sensible number of seconds, requests or connections."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """An upstream with its name; `root` is its address before any /v1, `base` the one that stands for /v1.

    Of Azure, `root` is the resource. Times of 0 do not occur, but in `total_timeout_s`, where they mean no limit.
    """

    name: str
    protocol: str
    key: str
    key_variable: str
    root: str
    base: str
    key_file: str = ""
    key_header: str = AUTHORIZATION
    is_azure: bool = False
    api_version: str = ""
    models: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    fallbacks: tuple[str, ...] = ()
    fallback_on: frozenset[int] = frozenset()
    retries: int = 0
    retry_on: frozenset[int] = frozenset()
    retry_longest_s: float = 5.0
    connect_timeout_s: float = 10.0
    first_byte_timeout_s: float = 600.0
    idle_timeout_s: float = 600.0
    total_timeout_s: float = 0.0
    max_concurrent: int = 0
    max_waiting: int = 100
    longest_wait_s: float = 5.0
    circuit_failures: int = 5
    circuit_rest_s: float = 10.0
    proxy: str = ""
    """As in the settings: an address, or env:NAME."""
    ca_file: str = ""
    warm_connections: int = 0
    allow_private: bool = False
    """Whether a public name in `root` may lead to an address of a private network."""
    socket: str = ""
    """Path of the unix socket to connect to in place of the host of `root`; '' for TCP."""

    def speaks(self, family: str) -> bool:
        """True when a client of `family` can be answered from here."""
        return self.protocol in (family, LITELLM)


def filled(
    name: str, given: UpstreamSettings, folder: Path, *, connect_timeout_s: float, idle_timeout_s: float, socket: str = ""
) -> Upstream:
    """`given` with every default filled in; files are looked for from `folder`, `socket` is where translation listens."""
    root, base, is_azure = addresses(given)
    idle = given.idle_timeout_s or idle_timeout_s
    is_translated = given.protocol == LITELLM
    default_header = X_API_KEY if given.protocol == ANTHROPIC else API_KEY if is_azure else AUTHORIZATION
    return Upstream(
        name=name,
        protocol=given.protocol,
        key=given.key or (NO_KEY if is_translated else KEY_FROM_CLIENT),
        key_variable=given.key_variable,
        root=root,
        base=base,
        key_file=_path(given.key_file, folder),
        key_header=given.key_header.lower() or default_header,
        is_azure=is_azure,
        api_version=given.api_version,
        models=given.models or ((f"{name}/*",) if is_translated else ()),
        aliases=dict(given.aliases),
        fallbacks=given.fallbacks,
        fallback_on=frozenset(given.fallback_on),
        retries=given.retries,
        retry_on=frozenset(given.retry_on),
        retry_longest_s=given.retry_longest_s,
        connect_timeout_s=given.connect_timeout_s or connect_timeout_s,
        first_byte_timeout_s=given.first_byte_timeout_s or idle,
        idle_timeout_s=idle,
        total_timeout_s=given.total_timeout_s,
        max_concurrent=given.max_concurrent,
        max_waiting=given.max_waiting,
        longest_wait_s=given.longest_wait_s,
        circuit_failures=given.circuit_failures,
        circuit_rest_s=given.circuit_rest_s,
        proxy=given.proxy,
        ca_file=_path(given.ca_file, folder),
        warm_connections=given.warm_connections,
        allow_private=given.allow_private,
        socket=socket if is_translated else "",
    )


def addresses(given: UpstreamSettings) -> tuple[str, str, bool]:
    """The address before any /v1, the one that stands for /v1, and whether it is Azure's."""
    if given.protocol == LITELLM:
        return "http://translation", "http://translation/v1", False
    url = given.url.rstrip("/")
    parts = urlsplit(url)
    if given.protocol == OPENAI and (given.api_version or (parts.hostname or "").endswith(_AZURE_HOSTS)):
        root = url.removesuffix("/v1").removesuffix("/openai")
        return root, root + "/openai/v1", True
    if given.protocol == ANTHROPIC or not parts.path:
        root = url.removesuffix("/v1")
        return root, root + "/v1", False
    return url.removesuffix("/v1"), url, False


def variable_of(value: str) -> str:
    """The name in env:NAME; '' when `value` is something else."""
    name = value.removeprefix(_FROM_ENVIRONMENT)
    return name if value.startswith(_FROM_ENVIRONMENT) and _VARIABLE.fullmatch(name) else ""


def proxy_of(upstream: Upstream, environ: Mapping[str, str]) -> str:
    """The address of the HTTP proxy before `upstream`; '' for none."""
    variable = variable_of(upstream.proxy)
    return environ.get(variable, "") if variable else upstream.proxy


def _path(given: str, folder: Path) -> str:
    return str((folder / Path(given).expanduser()).resolve()) if given else ""


def _check_url(url: str, protocol: str) -> None:
    if not url and protocol == LITELLM:
        return
    if not url:
        raise ValueError("url is missing")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"url is {url!r}, not an address like https://api.openai.com/v1")
    if parts.port == 0:  # asking for it already raises ValueError when it is no port at all
        raise ValueError(f"url is {url!r}, and nobody listens on port 0")
    if parts.username is not None:
        raise ValueError("url holds a user name or password; name a key with env:NAME instead")


PUBLIC: Mapping[str, UpstreamSettings] = {
    OPENAI: UpstreamSettings("https://api.openai.com/v1", OPENAI),
    ANTHROPIC: UpstreamSettings("https://api.anthropic.com", ANTHROPIC),
}
"""What an installation without any [upstreams] talks to."""
