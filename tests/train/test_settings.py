from __future__ import annotations

import pytest

from train.settings import TrainSettings


def test_the_defaults_are_kind_to_a_relay_on_the_same_machine() -> None:
    settings = TrainSettings()
    assert (settings.threads, settings.device) == (1, "auto")
    assert settings.relay_url == "http://127.0.0.1:8484"


@pytest.mark.parametrize(
    ("name", "value"),
    [("threads", -1), ("heartbeat_s", 0.0), ("teacher_timeout_s", -1.0), ("teacher_threads", 0), ("teacher_threads", 65)],
)
def test_a_value_that_cannot_work_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        TrainSettings(**{name: value})  # type: ignore[arg-type]
