from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from capture.errors import SettingsError
from capture.pricing import PriceSettings, PriceTable, load_price_table
from capture.settings import load_settings

TABLE = PriceTable(
    {
        "gpt": {
            "input_cost_per_token": 1e-6,
            "output_cost_per_token": 2e-6,
            "cache_read_input_token_cost": 5e-7,
            "cache_creation_input_token_cost": 1.25e-6,
        },
        "thinker": {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6, "output_cost_per_reasoning_token": 4e-6},
        "long": {
            "input_cost_per_token": 1e-6,
            "input_cost_per_token_above_200k_tokens": 2e-6,
            "input_cost_per_token_above_200k_tokens_batches": 1e-9,
            "input_cost_per_token_above_512k_tokens": 3e-6,
            "output_cost_per_token": 2e-6,
            "output_cost_per_token_above_200k_tokens": 4e-6,
            "cache_read_input_token_cost": 1e-7,
            "cache_read_input_token_cost_above_200k_tokens": 2e-7,
        },
        "vectors": {"input_cost_per_token": 1e-6, "mode": "embedding"},
        "seller/gpt": {"input_cost_per_token": 3e-6, "output_cost_per_token": 3e-6},
        "free": {"input_cost_per_token": 0, "output_cost_per_token": 0},
        "odd": {"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6, "cache_read_input_token_cost": None},
        "image": {"output_cost_per_image": 0.04},
    },
    student_usd_per_hour=3.6,
)


@pytest.mark.parametrize(
    ("model", "tokens_in", "tokens_out", "cached", "cost"),
    [
        ("gpt", 1000, 100, 0, 1200),
        ("openai/gpt", 1000, 100, 0, 1200),
        ("gpt", 1000, 100, 400, 1000),
        ("gpt", 0, 0, 0, 0),
        ("free", 10, 10, 0, 0),
        ("nobody", 10, 10, 0, None),
        ("image", 10, 10, 0, None),
        ("gpt", None, 10, 0, None),
        ("", 10, 10, 0, None),
    ],
)
def test_a_cost_is_in_micro_dollars_and_unknown_is_not_free(
    model: str, tokens_in: int | None, tokens_out: int | None, cached: int, cost: int | None
) -> None:
    assert TABLE.cost_microusd(model, tokens_in, tokens_out, tokens_cached=cached) == cost


@pytest.mark.parametrize(
    ("model", "counts", "cost"),
    [
        ("gpt", {"tokens_cache_written": 400}, 1300),
        ("gpt", {"tokens_cached": 400, "tokens_cache_written": 400}, 1100),
        ("gpt", {"tokens_cached": 5000, "tokens_cache_written": 5000}, 700),
        ("gpt", {"tokens_reasoning": 60}, 1200),
        ("thinker", {"tokens_reasoning": 60}, 1320),
        ("thinker", {"tokens_reasoning": 600}, 1400),
        ("gpt", {"provider": "seller"}, 3300),
        ("gpt", {"provider": "another"}, 1200),
        ("odd", {"tokens_cached": 400}, 1100),
    ],
)
def test_parts_of_the_tokens_have_prices_of_their_own(model: str, counts: dict[str, Any], cost: int) -> None:
    assert TABLE.cost_microusd(model, 1000, 100, **counts) == cost


@pytest.mark.parametrize(("tokens_in", "cost"), [(200_000, 200_200), (200_001, 400_402), (600_000, 1_800_400)])
def test_a_long_request_pays_the_price_of_its_tier(tokens_in: int, cost: int) -> None:
    assert TABLE.cost_microusd("long", tokens_in, 100) == cost


def test_a_cached_token_of_a_long_request_too() -> None:
    assert TABLE.cost_microusd("long", 300_000, 0, tokens_cached=300_000) == 60_000


def test_embeddings_have_no_output_to_pay() -> None:
    assert TABLE.cost_microusd("vectors", 1000, 0) == 1000


def test_the_students_upper_bound_is_its_share_of_the_machine_rounded_up() -> None:
    assert TABLE.student_cost_microusd(1_000_000) == 1000
    assert TABLE.student_cost_microusd(1) == 1
    assert TABLE.student_cost_microusd(None) is None
    assert PriceTable({}).student_cost_microusd(1_000_000) is None


def test_the_students_cost_follows_from_its_throughput_where_that_is_measured() -> None:
    assert TABLE.student_cost_microusd(1_000_000, 50, 500.0) == 100
    assert TABLE.student_cost_microusd(None, 50, 500.0) == 100
    assert TABLE.student_cost_microusd(1_000_000, 50, None) == 1000
    assert TABLE.student_cost_microusd(1_000_000, 0, 500.0) == 1000
    assert PriceTable({}).student_cost_microusd(1_000_000, 50, 500.0) is None


def test_the_installed_table_knows_common_models() -> None:
    table = load_price_table(PriceSettings())
    assert (table.cost_microusd("gpt-4o-mini", 1_000_000, 0) or 0) > 10_000
    assert (table.cost_microusd("text-embedding-3-small", 1_000_000, 0) or 0) > 1_000
    cheap = table.cost_microusd("claude-sonnet-4-5-20250929", 10_000, 0, tokens_cached=10_000)
    dear = table.cost_microusd("claude-sonnet-4-5-20250929", 10_000, 0)
    assert 0 < (cheap or 0) < (dear or 0)


def test_the_table_is_read_without_importing_litellm() -> None:
    code = "import sys; from capture.pricing import *; load_price_table(PriceSettings()); sys.exit('litellm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0


def test_a_negative_price_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "potstill.toml"
    path.write_text("[prices]\nstudent_usd_per_hour = -1\n")
    with pytest.raises(SettingsError, match="not a price"):
        load_settings(path, {}).section("prices", PriceSettings)
