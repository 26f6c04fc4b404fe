"""The keys that we hold for upstreams: read from the environment or a file when they are needed, kept nowhere else.

A key file may be replaced at any time: it is looked at again after a second, so rotation needs no restart. Where it lies is
told in the log alone, never to a client.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from capture import clock
from proxy.failures import Failure
from proxy.upstream_settings import LITELLM, OPENAI, Upstream

_TRUST_NS = 1_000_000_000
_LARGEST = 65_536
_OURS_MISSING = "missing_upstream_key"
_log = logging.getLogger(__name__)


class UpstreamKeys:
    """The keys of upstreams, from `environ` and from files."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._files: dict[str, tuple[int, str, str]] = {}

    def of(self, upstream: Upstream) -> str | Failure:
        """The key to send to `upstream`; '' when it gets none of ours; why it cannot be had.

        The process that translates reads its keys itself.
        """
        if upstream.protocol == LITELLM or not (upstream.key_variable or upstream.key_file):
            return ""
        key, what = _in_environment(upstream, self._environ) if upstream.key_variable else self._read(upstream)
        return key or _missing(upstream, what)

    def _read(self, upstream: Upstream) -> tuple[str, str]:
        """The key in the file of `upstream`, and what is wrong when there is none."""
        now, path = clock.monotonic_ns(), upstream.key_file
        read_at, key, before = self._files.get(path, (0, "", ""))
        what = before
        if not read_at or now - read_at > _TRUST_NS:
            key, what = _in_file(upstream)
            if not key and what != before:
                _log.warning("the key of [upstreams.%s] in %s %s", upstream.name, path, what)
            self._files[path] = (now, key, what)
        return key, what


def look_for_key(upstream: Upstream, environ: Mapping[str, str]) -> str | Failure:
    """As `UpstreamKeys.of` as it stands this moment, also for an upstream that we translate for; nothing is logged."""
    if not (upstream.key_variable or upstream.key_file):
        return ""
    key, what = _in_environment(upstream, environ) if upstream.key_variable else _in_file(upstream)
    return key or _missing(upstream, what)


def _in_environment(upstream: Upstream, environ: Mapping[str, str]) -> tuple[str, str]:
    return _usable(environ.get(upstream.key_variable, ""), "is not set in the relay")


def _in_file(upstream: Upstream) -> tuple[str, str]:
    try:
        with Path(upstream.key_file).open("rb") as file:
            return _usable(file.read(_LARGEST).decode("ascii", "replace"), "is empty")
    except OSError as error:
        return "", f"cannot be read: {error.strerror}"


def _missing(upstream: Upstream, what: str) -> Failure:
    source, next_step = f"The file in key of [upstreams.{upstream.name}]", "Write the key into it, readable for the relay"
    if upstream.key_variable:
        source, next_step = f"Environment variable {upstream.key_variable}", f"Set {upstream.key_variable} where Potstill starts"
    what = f"{source}, the key of upstream {upstream.name}, {what}."
    return Failure(503, _OURS_MISSING, what, f"{next_step}, then try again.")


def _usable(text: str, when_empty: str) -> tuple[str, str]:
    """The key in `text` and '', or '' and what is wrong."""
    key = text.strip()
    if key and not (key.isascii() and key.isprintable()):
        return "", "holds more than one line, or characters that no key has"
    return key, "" if key else when_empty


def is_ours_to_mend(failure: Failure) -> bool:
    """True when the key that is missing is one of ours, and not the client's."""
    return failure.kind == _OURS_MISSING


def missing_from_client(upstream: Upstream) -> Failure:
    """What a client is told that sent no key where its own is wanted."""
    variable = "OPENAI_API_KEY" if upstream.protocol == OPENAI else "ANTHROPIC_API_KEY"
    return Failure(
        401,
        "missing_key",
        f"The request has no API key, and upstream {upstream.name} takes the client's.",
        f'Set {variable} in the app, or key = "env:NAME" in [upstreams.{upstream.name}] of potstill.toml.',
    )
