"""What Prometheus reads, by its own parser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.counters import Counters
from proxy.metrics import Seen, render

GUIDE = Path(__file__).parents[2] / "docs" / "operations.md"


def counted() -> Counters:
    counters = Counters()
    for latency_us in (4_000, 40_000, 400_000_000):
        counters.began()
        counters.ended("openai.chat", "openai", "candidate", 200, "complete", latency_us, None, 250, 900, 1_200)
    counters.refused('odd "kind"\n')
    counters.fell_back("timeout")
    counters.retried("azure")
    counters.cached("openai")
    return counters


@pytest.fixture(scope="module")
def samples() -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    seen = Seen(
        now_us=1_700_000_010_000_000,
        started_us=1_700_000_000_000_000,
        version="1.2.3",
        is_ready=True,
        counters=counted().snapshot(),
        dropped=2,
        workers=[
            {
                "name": "relay worker 1",
                "in_flight": 3,
                "is_breaker_open": True,
                "is_flags_stale": True,
                "circuits": {"azure": True, "openai": False},
            },
            {"name": "relay worker 2", "in_flight": 1, "is_breaker_open": False, "circuits": {"azure": True, "openai": False}},
            {"name": "relay worker 3", "state": "starting", "keys": {"is_stale": True}},
        ],
        children=[{"name": "store writer", "state": "waiting", "restarts": 4}],
        resident_bytes={"store writer": 50_000_000},
        spool_bytes=4_096,
        writer_full_us=1_700_000_007_500_000,
        reloads={"done": 1},
    )
    families = text_string_to_metric_families(render(seen).decode())
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples}


def value(samples: dict[tuple[str, tuple[tuple[str, str], ...]], float], name: str, **labels: str) -> float:
    return samples[name, tuple(sorted(labels.items()))]


def test_traffic_is_counted_by_how_it_ended(samples: dict) -> None:
    assert value(samples, "potstill_requests_total") == 3
    ended = {"protocol": "openai.chat", "upstream": "openai", "variant": "candidate", "status": "200", "state": "complete"}
    assert value(samples, "potstill_exchanges_total", **ended) == 3
    assert value(samples, "potstill_refusals_total", kind='odd "kind"\n') == 1
    assert value(samples, "potstill_fallbacks_total", reason="timeout") == 1
    assert value(samples, "potstill_retries_total", upstream="azure") == 1
    assert value(samples, "potstill_cache_hits_total", upstream="openai") == 1


def test_histograms_add_up_and_end_with_everything(samples: dict) -> None:
    whom = {"protocol": "openai.chat", "upstream": "openai"}
    assert value(samples, "potstill_exchange_duration_seconds_bucket", le="0.005", **whom) == 1
    assert value(samples, "potstill_exchange_duration_seconds_bucket", le="0.05", **whom) == 2
    assert value(samples, "potstill_exchange_duration_seconds_bucket", le="300.0", **whom) == 2
    assert value(samples, "potstill_exchange_duration_seconds_bucket", le="+Inf", **whom) == 3
    assert value(samples, "potstill_exchange_duration_seconds_count", **whom) == 3
    assert value(samples, "potstill_exchange_duration_seconds_sum", **whom) == pytest.approx(400.044)
    assert value(samples, "potstill_first_byte_seconds_count", **whom) == 0
    assert value(samples, "potstill_overhead_seconds_bucket", le="0.0003", **whom) == 3
    assert value(samples, "potstill_response_bytes_total", **whom) == 3_600


def test_the_house_shows_what_ails(samples: dict) -> None:
    assert value(samples, "potstill_store_lag_seconds") == pytest.approx(2.5)
    assert value(samples, "potstill_spool_bytes") == 4_096
    assert value(samples, "potstill_dropped_total") == 2
    assert value(samples, "potstill_child_up", child="store writer") == 0
    assert value(samples, "potstill_child_restarts_total", child="store writer") == 4
    assert value(samples, "potstill_in_flight", child="relay worker 1") == 3
    assert value(samples, "potstill_circuit_open", upstream="azure") == 2
    assert value(samples, "potstill_circuit_open", upstream="openai") == 0
    assert value(samples, "potstill_circuit_open", upstream="engine") == 1
    assert value(samples, "potstill_flags_stale") == value(samples, "potstill_keys_stale") == 1
    assert value(samples, "potstill_reloads_total", result="refused") == 0


def test_every_name_is_explained_in_the_guide_and_none_is_explained_that_is_not_there() -> None:
    seen = Seen(now_us=2, started_us=1, version="1", is_ready=True, counters=counted().snapshot(), writer_full_us=1)
    given = set(re.findall(r"^# TYPE (\S+)", render(seen).decode(), re.MULTILINE))
    told = set(re.findall(r"^\| `(potstill_\w+)", GUIDE.read_text("utf-8"), re.MULTILINE))
    assert told == given
