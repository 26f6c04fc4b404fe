"""kill -9 under load, a few rounds of what `potstill torture` does for hours if asked to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from capture.errors import SettingsError
from capture.settings import load_settings
from potstill.cli import run_command
from proxy.torture import Torture, run_torture
from proxy.torture_load import answer_to, number_of, request_body


@pytest.mark.faults
@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
def test_f01_no_exchange_that_a_client_received_is_lost_doubled_made_up_or_changed(
    store: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = str(request.getfixturevalue("postgresql_url")) if store == "postgresql" else ""
    stages: list[tuple[str, int, int]] = []
    verdict = run_torture(Torture(5, 11, url), tmp_path / "torture", lambda *stage: stages.append(stage))
    assert verdict.examples == []
    assert verdict.is_clean
    assert verdict.acked > 50
    assert verdict.interrupted > 0, "the kills hit open exchanges"
    assert verdict.stored >= verdict.acked
    assert ("rounds", 5, 5) in stages
    assert stages[-1] == ("compare", 1, 1)
    settings = load_settings(tmp_path / "torture" / "potstill.toml", environ={})
    assert list((settings.data_folder / "spool").glob("sp_*/*.seg")) == []


@pytest.mark.faults
def test_f01_the_command_ends_with_the_four_zeros(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "kept"
    assert run_command(["torture", "--rounds", "2", "--seed", "3", "--keep", str(folder), "--json"]) == 0
    out, err = capsys.readouterr()
    last = json.loads(out.splitlines()[-1])
    assert list(last) == ["rounds", "acked", "lost", "duplicate", "phantom", "corrupt"]
    assert {**last, "acked": 0} == {"rounds": 2, "acked": 0, "lost": 0, "duplicate": 0, "phantom": 0, "corrupt": 0}
    assert last["acked"] > 0
    assert "Nothing was lost" in err
    assert (folder / "ledger.jsonl").stat().st_size > 0


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(SettingsError, match="not empty"):
        run_torture(Torture(1, 1), tmp_path)


def test_the_command_refuses_a_used_folder_before_it_says_anything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").touch()
    for folder in (tmp_path, tmp_path / "mine"):
        assert run_command(["torture", "--rounds", "1", "--keep", str(folder)]) == 1
        told = capsys.readouterr()
        assert (told.out, "Give a new folder" in told.err) == ("", True)


def test_requests_and_answers_follow_from_their_number() -> None:
    assert number_of(request_body(17)) == 17
    assert number_of(b"\xff") is number_of(b"[]") is number_of(b'{"metadata":{}}') is None
    assert answer_to(17) == answer_to(17) != answer_to(18)
    assert [answer_to(number).is_stream for number in range(4)] == [True, False, False, True]
