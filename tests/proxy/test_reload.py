"""What a changed configuration means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from capture.settings import Settings
from proxy.reload import ENGINE, TRACES, TRANSLATION, WRITER, accepted, compare


def having(**sections: Any) -> Settings:
    return Settings(Path("/etc/potstill.toml"), Path("/etc"), sections)


BEFORE = having(
    store={"data_folder": "data"},
    relay={"port": 8484, "workers": 2, "idle_timeout_s": 60},
    upstreams={"openai": {"url": "https://api.openai.com/v1"}},
    capture={"retain_days": 30},
)


def test_nothing_changed_means_nothing_to_do() -> None:
    change = compare(BEFORE, having(**BEFORE.sections))
    assert (change.changed, change.fixed) == ((), ())
    assert not any(change.concerns(process) for process in (WRITER, ENGINE, TRANSLATION, TRACES))


def test_a_change_concerns_only_who_reads_it() -> None:
    change = compare(BEFORE, having(**{**BEFORE.sections, "capture": {"retain_days": 31}}))
    assert change.changed == ("capture.retain_days",)
    assert change.concerns(WRITER)
    assert not change.concerns(ENGINE)
    change = compare(BEFORE, having(**{**BEFORE.sections, "upstreams": {"openai": {"url": "https://a.example"}}}))
    assert change.changed == ("upstreams.openai.url",)
    assert change.concerns(TRANSLATION)
    assert not change.concerns(WRITER)


def test_what_needs_a_restart_is_named_and_stays_for_whoever_starts_meanwhile() -> None:
    relay = {"port": 9000, "admin_port": 1, "workers": 3, "hosts": ["a"]}
    new = having(**{**BEFORE.sections, "relay": relay, "store": {"database_url": "x"}})
    change = compare(BEFORE, new)
    assert change.fixed == ("relay.admin_port", "relay.port", "store.data_folder", "store.database_url")
    assert change.changed == ("relay.hosts", "relay.idle_timeout_s", "relay.workers")
    kept = accepted(BEFORE, new)
    assert kept.sections["relay"] == {"port": 8484, "workers": 3, "hosts": ["a"]}
    assert kept.sections["store"] == {"data_folder": "data"}
    assert compare(BEFORE, kept).fixed == ()
    assert new.sections["relay"]["port"] == 9000, "what was given is left as it is"


def test_the_engine_stays_where_the_relay_looks_for_it_until_a_restart() -> None:
    before = having(**BEFORE.sections, engine={"port": 8000, "threads": 1})
    new = having(**BEFORE.sections, engine={"port": 8001, "threads": 2, "url": "http://10.0.0.1:8000"})
    change = compare(before, new)
    assert change.fixed == ("engine.port", "engine.url")
    assert change.changed == ("engine.threads",)
    assert change.concerns(ENGINE)
    assert accepted(before, new).sections["engine"] == {"port": 8000, "threads": 2}
