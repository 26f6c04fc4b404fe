"""What an exchange cost. Prices of hosted models are those of LiteLLM's table, read as data; unknown stays unknown.

Counted are tokens: read from a cache, written to one, reasoned, and the dearer prices of long requests. Left out are batch,
flex and priority tiers, caches kept for an hour, seconds of sound, pictures, and searches: the table's standard price for
text stands for all.
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capture.errors import SettingsError

_FILE = "model_prices_and_context_window_backup.json"
_HOUR_US = 3_600_000_000
_LEAST_TIER, _TIER_END = 32_000, "k_tokens"


@dataclass(frozen=True, slots=True)
class PriceSettings:
    """What your own machines cost: section [prices]."""

    student_usd_per_hour: float = 0.0
    """Price of an hour of the machine under the engine, in US dollars; 0: the student's cost is unknown."""

    def __post_init__(self) -> None:
        if not 0 <= self.student_usd_per_hour < math.inf:
            raise ValueError(f"student_usd_per_hour is {self.student_usd_per_hour}, not a price")


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Prices per token in US dollars by model, and the student's price per hour."""

    models: Mapping[str, Mapping[str, Any]]
    student_usd_per_hour: float = 0.0

    def cost_microusd(
        self,
        model: str,
        tokens_in: int | None,
        tokens_out: int | None,
        *,
        tokens_cached: int = 0,
        tokens_cache_written: int = 0,
        tokens_reasoning: int = 0,
        provider: str = "",
    ) -> int | None:
        """The price in micro-dollars of so many tokens; None when the model or the tokens are unknown.

        `tokens_cached` and `tokens_cache_written` are parts of `tokens_in`, `tokens_reasoning` is a part of `tokens_out`, each
        with a price of its own where the table has one. `provider` finds models that the table knows by their seller, such as
        `mistral/mistral-small-latest`.
        """
        prices = self._prices(model, provider)
        if prices is None or tokens_in is None or tokens_out is None:
            return None
        price_in, price_out = _rate(prices, "input_cost_per_token", tokens_in), _rate(prices, "output_cost_per_token", tokens_in)
        if price_out is None and prices.get("mode") == "embedding":
            price_out = 0.0
        if price_in is None or price_out is None:
            return None
        cached = min(tokens_cached, tokens_in)
        written = min(tokens_cache_written, tokens_in - cached)
        reasoning = min(tokens_reasoning, tokens_out)
        usd = (tokens_in - cached - written) * price_in + (tokens_out - reasoning) * price_out
        usd += cached * _rate_or(price_in, prices, "cache_read_input_token_cost", tokens_in)
        usd += written * _rate_or(price_in, prices, "cache_creation_input_token_cost", tokens_in)
        usd += reasoning * _rate_or(price_out, prices, "output_cost_per_reasoning_token", tokens_in)
        return round(usd * 1_000_000)

    def student_cost_microusd(
        self, latency_us: int | None, tokens_out: int | None = None, tokens_per_second: float | None = None
    ) -> int | None:
        """The student's cost of an exchange in micro-dollars, rounded up.

        With the measured throughput of the machine (`capture.throughput`) it is the share of an hour in which so many tokens
        are made. Without it, or when no token came, it is an upper bound: the whole machine for as long as it was answered.
        """
        if self.student_usd_per_hour <= 0:
            return None
        if tokens_out and tokens_per_second:
            return math.ceil(tokens_out / (tokens_per_second * 3600) * self.student_usd_per_hour * 1_000_000)
        if latency_us is None:
            return None
        return math.ceil(latency_us * self.student_usd_per_hour * 1_000_000 / _HOUR_US)

    def _prices(self, model: str, provider: str) -> Mapping[str, Any] | None:
        """By the seller's name for it, else by full name, else without the provider in front of it."""
        sold = self.models.get(f"{provider}/{model}") if provider else None
        return sold or self.models.get(model) or self.models.get(model.rpartition("/")[2])


def _rate(prices: Mapping[str, Any], name: str, tokens_in: int) -> float | None:
    """US dollars per token; that of the highest tier that a request of `tokens_in` reaches."""
    price = prices.get(name)
    if tokens_in > _LEAST_TIER:
        start = f"{name}_above_"
        reached = [
            (int(size), value)
            for key, value in prices.items()
            if key.startswith(start)
            and key.endswith(_TIER_END)
            and (size := key[len(start) : -len(_TIER_END)]).isdigit()
            and tokens_in > int(size) * 1000
        ]
        price = max(reached)[1] if reached else price
    return float(price) if isinstance(price, int | float) else None


def _rate_or(standard: float, prices: Mapping[str, Any], name: str, tokens_in: int) -> float:
    rate = _rate(prices, name, tokens_in)
    return standard if rate is None else rate


def load_price_table(settings: PriceSettings) -> PriceTable:
    """The table as it was installed with LiteLLM; SettingsError when the installation lacks it."""
    spec = importlib.util.find_spec("litellm")
    if spec is None or spec.origin is None:
        raise SettingsError("The price table is missing: litellm is not installed.", "Run `make install`.")
    path = Path(spec.origin).parent / _FILE
    try:
        models = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"The price table {path} cannot be read: {error}.", "Run `make install`.") from error
    return PriceTable(models, settings.student_usd_per_hour)
