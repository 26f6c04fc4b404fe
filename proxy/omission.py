"""Whether the content of an exchange is stored, or its figures alone: by task, by client key, by a header of the request.

The operator's lists win over any header; our own header wins over those of other products.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from hashlib import sha256

from capture.capture_settings import CaptureSettings
from capture.records import OMIT
from proxy.headers import CREDENTIALS
from proxy.identify import PREFIX
from proxy.reading import MOST_KNOWN, Asked

HEADER = PREFIX + "store"
_YES = "yes"
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")
_ALIASES: Mapping[str, tuple[str, ...]] = {
    "helicone-omit-request": _TRUE,
    "helicone-omit-response": _TRUE,
    "x-litellm-enable-message-redaction": _TRUE,
    "x-bf-disable-content-logging": _TRUE,
    "cf-aig-collect-log": _FALSE,
    "x-portkey-debug": _FALSE,
}
"""Headers of other products with the values that ask for the same."""
_NAMES = (HEADER, *_ALIASES)
_CONTENT = "content"


class Omission:
    """The tasks and client keys whose content is not stored."""

    def __init__(self, settings: CaptureSettings) -> None:
        patterns = [".*".join(map(re.escape, name.split("*"))) for name in settings.omit_content_tasks]
        self._tasks = re.compile("|".join(patterns)) if patterns else None
        self._keys = frozenset(settings.omit_content_keys)

    def content_of(self, asked: Asked) -> str:
        """`OMIT`, or '' where the content is stored. A refused request whose task is unknown counts as one of the tasks."""
        if asked.failure is not None and self._tasks is not None:
            return OMIT
        place = (_CONTENT, asked.identity.task)
        found: str | None = asked.known.get(place)
        if found is None:
            found = OMIT if self.omits(asked.identity.task, asked.headers) else ""
            if len(asked.known) < MOST_KNOWN:
                asked.known[place] = found
        return found

    def omits(self, task: str, headers: Mapping[str, str]) -> bool:
        """Whether what came with these headers for `task` is stored without its content."""
        if self._tasks is not None and self._tasks.fullmatch(task):
            return True
        if self._keys and not self._keys.isdisjoint(_key_hashes(headers)):
            return True
        return any(name in headers for name in _NAMES) and asks_to_omit(headers.items())


def asks_to_omit(headers: Iterable[tuple[str, str]]) -> bool:
    """Whether the headers of a request ask that its content is not stored; a malformed wish of ours counts as one."""
    given = [(name.lower(), value.strip().lower()) for name, value in headers]
    if ours := {value for name, value in given if name == HEADER and value}:
        return ours != {_YES}
    return any(value in _ALIASES.get(name, ()) for name, value in given)


def hash_of_key(key: str) -> str:
    """What `omit_content_keys` holds of a client key: hex SHA-256."""
    return sha256(key.strip().encode("utf-8", "surrogateescape")).hexdigest()


def _key_hashes(headers: Mapping[str, str]) -> set[str]:
    given = [headers[name] for name in CREDENTIALS if name in headers]
    return {hash_of_key(re.sub(r"(?i)\Abearer\s+", "", value.strip())) for value in given}
