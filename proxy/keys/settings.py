"""Sections [keys], [limits.TASK] and [cache]: who must show a key, what tasks may use, which answers may be given again."""

from __future__ import annotations

import math
from dataclasses import dataclass

from capture.settings import Settings

_MICRO = 1_000_000
LEAST_USD = 1 / _MICRO
"""The least budget: money is counted in micro-dollars, and a budget of none of them would be no limit."""


@dataclass(frozen=True, slots=True)
class KeysSettings:
    """How virtual keys are checked, and what is reserved for a request whose cost nobody knows beforehand."""

    required: bool = False
    """true: every request must carry a virtual key; false: one without is relayed with the client's own credentials."""
    pepper_file: str = ""
    """File with the secret that keys are hashed with, the same on every host; empty: keys/pepper in the data folder."""
    assumed_tokens_out: int = 1000
    """Tokens of an answer that are reserved for a request that sets no limit itself."""
    assumed_usd: float = 0.01
    """What is reserved, and booked against budgets, for a request to a model without a known price, in US dollars."""
    hosts: int = 1
    """Hosts that share the traffic: each allows its part of the rates and of the concurrency; budgets are everybody's."""

    def __post_init__(self) -> None:
        if self.assumed_tokens_out < 0:
            raise ValueError(f"assumed_tokens_out is {self.assumed_tokens_out}, not at least 0")
        if not 0 <= self.assumed_usd < math.inf:
            raise ValueError(f"assumed_usd is {self.assumed_usd}, not a price")
        if self.hosts < 1:
            raise ValueError(f"hosts is {self.hosts}, not at least 1")

    @property
    def assumed_microusd(self) -> int:
        """`assumed_usd` in micro-dollars."""
        return round(self.assumed_usd * _MICRO)


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """What all requests of one task may use together: section [limits.TASK]; 0 everywhere for no limit."""

    requests_per_minute: int = 0
    """Requests a minute: so many at once, refilled evenly."""
    tokens_per_minute: int = 0
    """Tokens of prompts and answers a minute: estimated at first, corrected once the store has counted them."""
    concurrent: int = 0
    """Requests in flight at the same time."""
    usd_per_day: float = 0.0
    """Budget of a day (UTC) in US dollars."""
    usd_per_month: float = 0.0
    """Budget of a calendar month (UTC) in US dollars."""

    def __post_init__(self) -> None:
        for name in ("requests_per_minute", "tokens_per_minute", "concurrent", "usd_per_day", "usd_per_month"):
            if not 0 <= getattr(self, name) <= 10**9:
                raise ValueError(f"{name} is {getattr(self, name)}, not between 0 and 1000000000")
        for name in ("usd_per_day", "usd_per_month"):
            if 0 < getattr(self, name) < LEAST_USD:
                raise ValueError(f"{name} is {getattr(self, name):g}, less than the least budget, $0.000001; 0 is no limit")


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """Answers that may be given again to the very same request: section [cache]."""

    tasks: tuple[str, ...] = ()
    """Tasks, with * for any text, whose requests may be answered from the cache; without any there is no cache."""
    ttl_s: float = 3600.0
    """How long an answer may be given again."""
    max_mib: int = 64
    """Most memory that the answers may take in each relay worker."""
    max_entry_kib: int = 1024
    """Largest answer that is kept."""

    def __post_init__(self) -> None:
        if not 0 < self.ttl_s < math.inf:
            raise ValueError(f"ttl_s is {self.ttl_s}, not a time")
        for name in ("max_mib", "max_entry_kib"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, not at least 1")


def read_limits(settings: Settings) -> dict[str, LimitSettings]:
    """The limits of tasks by name; SettingsError."""
    return settings.named_sections("limits", LimitSettings)
