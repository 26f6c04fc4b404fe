"""Section [train]: how runs use this machine and where the teacher is asked again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """What belongs to this machine; what belongs to the training itself stands in the recipe."""

    relay_url: str = "http://127.0.0.1:8484"
    """The relay through which the teacher is asked again (purpose eval), without /v1; not set: the one of [relay]."""
    device: str = "auto"
    """auto (a GPU when there is one), cpu, or a torch device such as cuda:1."""
    threads: int = 1
    """Threads on the CPU; more than one gets in the way of a relay on the same machine. 0: all cores."""
    heartbeat_s: float = 2.0
    """Seconds between two signs of life of a run."""
    teacher_threads: int = 4
    """Questions to the teacher at the same time."""
    teacher_timeout_s: float = 60.0
    """Seconds that one answer of the teacher may take."""

    def __post_init__(self) -> None:
        if self.threads < 0:
            raise ValueError(f"threads is {self.threads}, below 0")
        if self.heartbeat_s <= 0 or self.teacher_timeout_s <= 0:
            raise ValueError("heartbeat_s and teacher_timeout_s must be above 0")
        if not 1 <= self.teacher_threads <= 64:
            raise ValueError(f"teacher_threads is {self.teacher_threads}, not between 1 and 64")
