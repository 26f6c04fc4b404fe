"""Which headers go where: to an upstream, to the student, to the client, into the store. Pure functions.

Hop-by-hop headers (RFC 9110 7.6.1) and those that `Connection` names stay on their hop. Our headers and the aliases of
other products never leave. The store gets an allow-list, so credentials cannot reach it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from multidict import CIMultiDict

from capture.encoding import DECODABLE
from proxy.credentials import is_virtual
from proxy.identify import PREFIX
from proxy.kept_headers import LONGEST_KEPT, is_kept
from proxy.upstream_settings import AUTHORIZATION, KEY_FROM_CLIENT, Upstream
from proxy.wire.call import encode_lines

_HOP_BY_HOP = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "trailers",
        "transfer-encoding",
        "upgrade",
    )
)
_NOT_SENT_UP = _HOP_BY_HOP | {
    *("host", "content-length", "expect", "forwarded", "via", "x-real-ip", "accept-encoding"),
    *("x-bf-disable-content-logging", "cf-aig-collect-log"),
}
_NOT_SENT_UP_PREFIXES = (
    *(PREFIX, "helicone-", "x-litellm-", "x-portkey-", "x-inference-", "langfuse-", "langfuse_", "x-langfuse-"),
    *("proxy-", "x-forwarded-"),
)
_SAY_SOMETHING = ("content-length", "content-type", "content-encoding", "x-accel-buffering", "cache-control")
CREDENTIALS = frozenset(("authorization", "x-api-key", "api-key", "x-goog-api-key"))
_KEY_HEADERS = {AUTHORIZATION: "Authorization"}
_CLIENT_ACCOUNT = CREDENTIALS | {"cookie", "openai-organization", "openai-project"}


@dataclass(frozen=True, slots=True)
class Sent:
    """Headers as an upstream gets them, and the same as lines of a request; not to be changed, as they serve many requests."""

    headers: CIMultiDict[str]
    lines: bytes

    @classmethod
    def of(cls, headers: CIMultiDict[str]) -> Sent:
        """Ready to be sent."""
        return cls(headers, encode_lines(headers.items()))


def for_upstream(headers: Mapping[str, str], upstream: Upstream, key: str) -> CIMultiDict[str] | None:
    """The client's headers as `upstream` gets them, with our `key` for it ('' for none); None when it wants the client's key
    and there is none."""
    if upstream.key == KEY_FROM_CLIENT:
        given = [(name, value) for name in CREDENTIALS if (value := headers.get(name)) is not None]
        ours = frozenset(name for name, value in given if is_virtual(value))
        return _sent_up(headers, ours) if any(_has_value(value) for name, value in given if name not in ours) else None
    sent = _sent_up(headers, _CLIENT_ACCOUNT)
    if key:
        sent[_KEY_HEADERS.get(upstream.key_header, upstream.key_header)] = (
            f"Bearer {key}" if upstream.key_header == AUTHORIZATION else key
        )
    return sent


def for_student(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """The client's headers as the engine gets them: nothing of the client's account with a provider."""
    return _sent_up(headers, _CLIENT_ACCOUNT)


def for_client(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """An upstream's headers as the client gets them."""
    named = _named_by_connection(headers)
    kept = _without([each for each in headers.items() if not _stays_here(each[0])], named)
    if "transfer-encoding" in headers:
        kept.popall("content-length", None)
    return kept


@dataclass(slots=True)
class Passed:
    """The headers of an answer on their way: `lines` as the client gets them, `stored` as they are kept, and what they say."""

    lines: bytes
    stored: dict[str, str]
    has_length: bool = False
    is_stream: bool = False
    """True for server-sent events."""
    is_encoded: bool = False


def pass_on(pairs: Sequence[tuple[bytes, bytes]]) -> Passed:
    """What becomes of an upstream's headers; as `for_client` and `for_store`, for the many answers there are."""
    lines: list[bytes] = []
    passed = Passed(b"", {})
    named: frozenset[str] = frozenset()
    is_chunked = has_accel = has_cache = False
    for name, value in pairs:
        lower, is_hop, is_kept, says_something = _rule(name)
        if is_kept:
            passed.stored[lower] = value.decode("utf-8", "surrogateescape")[:LONGEST_KEPT]
        if is_hop:
            is_chunked |= lower == "transfer-encoding"
            if lower == "connection":
                named |= _listed(value.decode("latin-1"))
            continue
        lines += (name, b": ", value, b"\r\n")
        if says_something:
            passed.has_length |= lower == "content-length"
            passed.is_encoded |= lower == "content-encoding"
            has_accel |= lower == "x-accel-buffering"
            has_cache |= lower == "cache-control"
            if lower == "content-type":
                passed.is_stream = value.startswith(b"text/event-stream")
    if named or (is_chunked and passed.has_length):
        named |= {"content-length"} if is_chunked else frozenset()
        passed.has_length &= "content-length" not in named
        lines = [
            each
            for at in range(0, len(lines), 4)
            if lines[at].decode("latin-1").lower() not in named
            for each in lines[at : at + 4]
        ]
    if passed.is_stream:
        lines += (b"" if has_accel else b"X-Accel-Buffering: no\r\n", b"" if has_cache else b"Cache-Control: no-cache\r\n")
    passed.lines = b"".join(lines)
    return passed


def _has_value(credential: str) -> bool:
    """False for what an SDK sends for an empty key."""
    return credential.strip().lower() not in ("", "bearer")


def _sent_up(headers: Mapping[str, str], withheld: frozenset[str]) -> CIMultiDict[str]:
    named = _named_by_connection(headers) | withheld
    sent = CIMultiDict(
        [(name, value) for name, value in headers.items() if not _stays_with_us(name) and name.lower() not in named]
    )
    if "accept-encoding" in headers:
        sent["Accept-Encoding"] = _accept_encoding(",".join(v for k, v in headers.items() if k.lower() == "accept-encoding"))
    return sent


def _without(headers: list[tuple[str, str]], named: frozenset[str]) -> CIMultiDict[str]:
    return CIMultiDict([each for each in headers if each[0].lower() not in named] if named else headers)


@lru_cache(256)
def _accept_encoding(asked: str) -> str:
    """What the client accepts and the store writer can undo, in the client's order and weights."""
    kept = [each.strip() for each in asked.split(",") if each.partition(";")[0].strip().lower() in DECODABLE]
    return ", ".join(kept) or "identity"


def _named_by_connection(headers: Mapping[str, str]) -> frozenset[str]:
    value = headers.get("connection")
    return frozenset() if value is None else _listed(value)


def _listed(value: str) -> frozenset[str]:
    """The headers that a Connection header names."""
    if value.lower() in ("keep-alive", "close"):
        return frozenset()
    return frozenset(each.strip().lower() for each in value.split(","))


@lru_cache(1024)
def _rule(name: bytes) -> tuple[str, bool, bool, bool]:
    """A header's name in lower case, whether it stays on its hop (or is one of ours), whether it is kept, and whether its
    being there says something to `pass_on`."""
    text = name.decode("latin-1")
    return text.lower(), _stays_here(text), is_kept(text), text.lower() in _SAY_SOMETHING


@lru_cache(1024)
def _stays_with_us(name: str) -> bool:
    name = name.lower()
    return name in _NOT_SENT_UP or name.startswith(_NOT_SENT_UP_PREFIXES)


@lru_cache(1024)
def _stays_here(name: str) -> bool:
    name = name.lower()
    return name in _HOP_BY_HOP or name.startswith(PREFIX)
