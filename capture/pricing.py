"""What an exchange cost. Prices of hosted models are those of LiteLLM's table, read as data; unknown stays unknown."""

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
        self, model: str, tokens_in: int | None, tokens_out: int | None, *, tokens_cached: int = 0, tokens_cache_written: int = 0
    ) -> int | None:
        """The price in micro-dollars of so many tokens; None when the model or the tokens are unknown.

        `tokens_cached` and `tokens_cache_written` are parts of `tokens_in` with prices of their own.
        """
        prices = self._prices(model)
        if prices is None or tokens_in is None or tokens_out is None:
            return None
        price_in, price_out = prices.get("input_cost_per_token"), prices.get("output_cost_per_token")
        if not isinstance(price_in, int | float) or not isinstance(price_out, int | float):
            return None
        cached, written = min(tokens_cached, tokens_in), min(tokens_cache_written, tokens_in)
        usd = float(
            max(0, tokens_in - cached - written) * price_in
            + cached * prices.get("cache_read_input_token_cost", price_in)
            + written * prices.get("cache_creation_input_token_cost", price_in)
            + tokens_out * price_out
        )
        return round(usd * 1_000_000)

    def student_cost_microusd(self, latency_us: int | None) -> int | None:
        """An upper bound, in micro-dollars: the exchange pays for the whole machine while it is answered."""
        if latency_us is None or self.student_usd_per_hour <= 0:
            return None
        return math.ceil(latency_us * self.student_usd_per_hour * 1_000_000 / _HOUR_US)

    def _prices(self, model: str) -> Mapping[str, Any] | None:
        """By full name, else without the provider in front of it."""
        return self.models.get(model) or self.models.get(model.rpartition("/")[2])


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
