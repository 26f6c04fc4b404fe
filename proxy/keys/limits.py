"""The arithmetic of limits, pure: buckets that refill evenly, budgets of days and months. Times are UTC microseconds.

A bucket of n a minute is one number, the moment at which it will be full again: n at once, then one each n-th of a minute,
so never more than twice n in any minute.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from capture.spend import DAY_US
from proxy.keys.settings import LimitSettings

MINUTE_US = 60_000_000
REQUESTS, TOKENS, CONCURRENT, DAY, MONTH, HELD = "requests", "tokens", "concurrent", "day", "month", "held"
"""Limits, and `HELD`: a budget that would do, were it not put aside for requests whose cost is not known yet."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a key or a task may use; 0 for no limit. Budgets are micro-dollars."""

    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    concurrent: int = 0
    day_microusd: int = 0
    month_microusd: int = 0

    @property
    def is_any(self) -> bool:
        """Whether anything is limited."""
        return bool(self.requests_per_minute or self.tokens_per_minute or self.concurrent or self.has_budget)

    @property
    def has_budget(self) -> bool:
        """Whether money is limited."""
        return bool(self.day_microusd or self.month_microusd)

    @property
    def needs_settling(self) -> bool:
        """Whether what a request really used matters, not only that it was made."""
        return bool(self.tokens_per_minute or self.has_budget)


NO_LIMITS = Limits()


def limits_of(given: LimitSettings) -> Limits:
    """The limits that a section of potstill.toml says."""
    day, month = round(given.usd_per_day * 1_000_000), round(given.usd_per_month * 1_000_000)
    return Limits(given.requests_per_minute, given.tokens_per_minute, given.concurrent, day, month)


def shared_by(limits: Limits, hosts: int) -> Limits:
    """One host's part of the limits, at least 1 of each; budgets are everybody's."""
    if hosts == 1:
        return limits
    requests, tokens, concurrent = (
        max(1, each // hosts) if each else 0 for each in (limits.requests_per_minute, limits.tokens_per_minute, limits.concurrent)
    )
    return Limits(requests, tokens, concurrent, limits.day_microusd, limits.month_microusd)


def full_again(full_us: int, per_minute: int, amount: int, now_us: int) -> int:
    """When the bucket is full again once `amount` is taken out of it now."""
    return max(full_us, now_us) + amount * MINUTE_US // per_minute


def wait_us(full_us: int, per_minute: int, amount: int, now_us: int) -> int:
    """How long until `amount` may be taken out; 0 when it may be now. More than the bucket holds waits until it is full."""
    least = min(amount, per_minute)
    return max(0, full_again(full_us, per_minute, least, now_us) - MINUTE_US - now_us)


def month_of(now_us: int) -> int:
    """The calendar month (UTC) of a moment, counted since year 0."""
    return _month_of_day(now_us // DAY_US)


@lru_cache(16)
def _month_of_day(day: int) -> int:
    moment = datetime.fromtimestamp(day * DAY_US // 1_000_000, UTC)
    return moment.year * 12 + moment.month - 1


def first_day_of(month: int) -> int:
    """The first day, counted since 1970, of a month as `month_of` counts."""
    return int(datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC).timestamp()) * 1_000_000 // DAY_US


def until_next_day_us(now_us: int) -> int:
    """Time left of the day."""
    return DAY_US - now_us % DAY_US


def until_next_month_us(now_us: int) -> int:
    """Time left of the month."""
    return first_day_of(month_of(now_us) + 1) * DAY_US - now_us


def seconds(wait: int) -> int:
    """Microseconds as the whole seconds of a `retry-after`, which never asks for less."""
    return max(1, -(-wait // 1_000_000))
