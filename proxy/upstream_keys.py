"""The keys that we hold for upstreams: read from the environment or a file when they are needed, kept nowhere else.

A key file may be replaced at any time: it is looked at again after a second, so rotation needs no restart.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from capture import clock
from proxy.failures import Failure
from proxy.upstream_settings import LITELLM, OPENAI, Upstream

_TRUST_NS = 1_000_000_000
_LARGEST = 65_536


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
        if upstream.key_variable:
            key, what = self._environ.get(upstream.key_variable, "").strip(), "is not set in the relay"
            source, next_step = (
                f"Environment variable {upstream.key_variable}",
                f"Set {upstream.key_variable} where Potstill starts",
            )
        else:
            key, what = self._read(upstream.key_file)
            source, next_step = "The file of [upstreams] key", "Write the key into it, readable for the relay's user"
        if key and not (key.isascii() and key.isprintable()):
            key, what = "", "holds more than one line, or characters that no key has"
        if not key:
            return Failure(
                401, "missing_key", f"{source}, the key of upstream {upstream.name}, {what}.", f"{next_step}, then try again."
            )
        return key

    def _read(self, path: str) -> tuple[str, str]:
        """The key in a file, and what is wrong when there is none."""
        now = clock.monotonic_ns()
        read_at, key, what = self._files.get(path, (0, "", ""))
        if not read_at or now - read_at > _TRUST_NS:
            key, what = "", "is empty"
            try:
                with Path(path).open("rb") as file:
                    key = file.read(_LARGEST).decode("ascii", "replace").strip()
            except OSError as error:
                what = f"cannot be read: {error.strerror}"
            self._files[path] = (now, key, what)
        return key, what


def missing_from_client(upstream: Upstream) -> Failure:
    """What a client is told that sent no key where its own is wanted."""
    variable = "OPENAI_API_KEY" if upstream.protocol == OPENAI else "ANTHROPIC_API_KEY"
    return Failure(
        401,
        "missing_key",
        f"The request has no API key, and upstream {upstream.name} takes the client's.",
        f'Set {variable} in the app, or key = "env:NAME" in [upstreams.{upstream.name}] of potstill.toml.',
    )
