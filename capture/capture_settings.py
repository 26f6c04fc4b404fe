"""Section [capture]: what is kept of an exchange, how surely, and how long."""

from __future__ import annotations

import re
from dataclasses import dataclass

KEEP, MASK, PSEUDONYMS = "keep", "mask", "pseudonyms"
PERSONAL_DATA = (KEEP, MASK, PSEUDONYMS)
_KEY_HASH = re.compile("[0-9a-f]{64}")
DURABILITY = ("default", "strict")
ON_FULL = ("drop", "reject")


@dataclass(frozen=True, slots=True)
class CaptureSettings:
    """How surely capture keeps exchanges. MiB and milliseconds where a name says so."""

    durability: str = "default"
    """default: safe from a crash at once, from a power cut after sync_interval_ms; strict: from both before the last byte."""
    on_full: str = "drop"
    """When the spool is full, drop: answer all the same, count the loss; reject: answer new requests with 503."""
    spool_max_mib: int = 2048
    """Most that may wait for the store in each worker's spool; never more than a tenth of the disk space free at the start."""
    sync_interval_ms: int = 100
    """How often the spool is made safe from a power cut while something is written."""
    max_body_mib: int = 64
    """Most that is kept of one body; the relay passes on the rest, and the exchange says that it was cut."""
    omit_content_tasks: tuple[str, ...] = ()
    """Tasks of whose exchanges only figures are stored, neither bodies nor texts; * stands for any letters."""
    omit_content_keys: tuple[str, ...] = ()
    """Client keys of whose exchanges only figures are stored, as `potstill privacy hash-key` writes them."""
    personal_data: str = "keep"
    """Email, IP and MAC addresses, phone and card numbers, IBANs, US social security numbers and dates of birth in bodies: keep;
    mask as [email]; or pseudonyms."""
    personal_data_key_env: str = "POTSTILL_PERSONAL_DATA_KEY"
    """Environment variable with the key that makes pseudonyms, and alone turns them back."""
    retention_days: int = 0
    """Days that an exchange is kept; 0: for ever. What a dataset holds stays. Taking over a fifth at first asks for --force."""
    retention_gib: float = 0.0
    """Most that the store may take on disk; the oldest exchanges go first; 0: no limit."""
    retention_exchanges: int = 0
    """Most exchanges that are kept; the oldest go first; 0: no limit."""

    def __post_init__(self) -> None:
        for name, words in (("durability", DURABILITY), ("on_full", ON_FULL)):
            if getattr(self, name) not in words:
                raise ValueError(f"{name} is {getattr(self, name)!r}, not {' or '.join(words)}")
        for name in ("spool_max_mib", "sync_interval_ms", "max_body_mib"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, not at least 1")
        if self.personal_data not in PERSONAL_DATA:
            raise ValueError(f"personal_data is {self.personal_data!r}, not one of {', '.join(PERSONAL_DATA)}")
        if not all(map(_KEY_HASH.fullmatch, self.omit_content_keys)):
            raise ValueError("omit_content_keys holds something else than the output of `potstill privacy hash-key`")
        for name in ("retention_days", "retention_gib", "retention_exchanges"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, not at least 0")

    @property
    def is_strict(self) -> bool:
        """Whether the last byte of an answer waits for the disk."""
        return self.durability == "strict"

    @property
    def rejects_when_full(self) -> bool:
        """Whether a request that cannot be kept is refused."""
        return self.on_full == "reject"
