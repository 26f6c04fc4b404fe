"""Section [capture]: what is kept of an exchange, how surely, and how long."""

from __future__ import annotations

from dataclasses import dataclass

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

    def __post_init__(self) -> None:
        for name, words in (("durability", DURABILITY), ("on_full", ON_FULL)):
            if getattr(self, name) not in words:
                raise ValueError(f"{name} is {getattr(self, name)!r}, not {' or '.join(words)}")
        for name in ("spool_max_mib", "sync_interval_ms", "max_body_mib"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, not at least 1")

    @property
    def is_strict(self) -> bool:
        """Whether the last byte of an answer waits for the disk."""
        return self.durability == "strict"

    @property
    def rejects_when_full(self) -> bool:
        """Whether a request that cannot be kept is refused."""
        return self.on_full == "reject"
