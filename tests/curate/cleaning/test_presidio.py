from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from capture.errors import SettingsError
from curate.cleaning import presidio
from curate.settings import CurateSettings

WITH, WITHOUT = CurateSettings(presidio=True), CurateSettings()


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    pytest.importorskip("presidio_analyzer", reason="the extra presidio is not installed")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("Presidio asks the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_without_the_setting_only_our_own_forms_are_found() -> None:
    assert presidio.personal(["passport 912803456, mail a@b.org"], WITHOUT) == (
        ["passport 912803456, mail <EMAIL_1>"],
        {"email": 1},
    )


def test_with_presidio_more_kinds_get_tokens_and_ours_stay_as_they_are() -> None:
    texts = ["my US passport number is 912803456, mail a@b.org", json.dumps({"passport": "912803456", "to": "A@b.org"})]
    out, counts = presidio.personal(texts, WITH)
    assert out[0] == "my US passport number is <PASSPORT_1>, mail <EMAIL_1>"
    assert json.loads(out[1]) == {"passport": "<PASSPORT_1>", "to": "<EMAIL_1>"}
    assert counts == {"email": 1, "passport": 1}


def test_ordinary_numbers_and_addresses_of_pages_are_no_personal_data() -> None:
    texts = ["Order 4711 of 2026-03-14 costs 1,299.00, see https://www.example.org/help", "version 10.2.3, ticket 88245"]
    assert presidio.personal(texts, WITH) == (texts, {})


def test_tokens_are_not_looked_at_again() -> None:
    once, _ = presidio.personal(["call +1 212 555 0175 or mail a@b.org, SSN 849-66-3189"], WITH)
    assert presidio.personal(once, WITH) == (once, {})


def test_a_long_text_is_read_to_its_end_and_cut_at_white_space() -> None:
    text = f"{'word ' * 30_000}card 4111 1111 1111 1111 {'x' * 60_000} a@b.org"
    (found,) = presidio.find([text])
    assert {(one.kind, text[one.start : one.end]) for one in found} == {("card", "4111 1111 1111 1111"), ("email", "a@b.org")}


def test_the_manifest_can_say_what_looked() -> None:
    assert presidio.described().startswith("presidio-analyzer 2.")


def test_without_the_package_the_error_says_how_to_install_it() -> None:
    program = """
import sys
sys.modules["presidio_analyzer"] = None
from curate.cleaning import presidio
from curate.settings import CurateSettings
presidio.personal(["a"], CurateSettings(presidio=True))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert done.returncode == 1
    assert SettingsError.__name__ in done.stderr and "pip install 'potstill[presidio]'" in done.stderr
