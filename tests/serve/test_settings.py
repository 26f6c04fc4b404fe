"""Section [engine]."""

from __future__ import annotations

from pathlib import Path

import pytest

from capture.errors import SettingsError
from capture.settings import Settings
from serve.settings import EngineSettings


@pytest.mark.parametrize("port", [-1, 65_536])
def test_a_port_that_cannot_be_is_refused_by_name(port: int) -> None:
    with pytest.raises(SettingsError, match=rf"\[engine\]: port is {port}, not between 0 and 65535"):
        Settings(None, Path(), {"engine": {"port": port}}).section("engine", EngineSettings)
