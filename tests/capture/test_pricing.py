from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from capture.errors import SettingsError
from capture.pricing import PriceSettings, PriceTable, load_price_table
from capture.settings import load_settings

TABLE = PriceTable(
    {
        "gpt": {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6, "cache_read_input_token_cost": 5e-7},
        "free": {"input_cost_per_token": 0, "output_cost_per_token": 0},
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


def test_the_students_cost_is_its_share_of_the_machine_rounded_up() -> None:
    assert TABLE.student_cost_microusd(1_000_000) == 1000
    assert TABLE.student_cost_microusd(1) == 1
    assert TABLE.student_cost_microusd(None) is None
    assert PriceTable({}).student_cost_microusd(1_000_000) is None


def test_the_installed_table_knows_common_models() -> None:
    table = load_price_table(PriceSettings())
    assert (table.cost_microusd("gpt-4o-mini", 1_000_000, 0) or 0) > 10_000


def test_the_table_is_read_without_importing_litellm() -> None:
    code = "import sys; from capture.pricing import *; load_price_table(PriceSettings()); sys.exit('litellm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0


def test_a_negative_price_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "potstill.toml"
    path.write_text("[prices]\nstudent_usd_per_hour = -1\n")
    with pytest.raises(SettingsError, match="not a price"):
        load_settings(path, {}).section("prices", PriceSettings)
