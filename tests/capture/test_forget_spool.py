"""Spools and quarantine lose records, beside relays and store writers that go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from capture import forget_spool, ids, quarantine
from capture.carried import carry, drop_carried, pick_up
from capture.records import Begin, Note
from capture.spool import SpoolWriter
from capture.spooled import SpooledExchange
from capture.subject import Subject

ANN = Subject(user="ann")


def test_a_segment_that_went_away_meanwhile_holds_nothing(tmp_path: Path) -> None:
    notes = forget_spool._Notes(ANN, frozenset(), frozenset())
    assert forget_spool._scrub_segment(tmp_path / "sp_x" / "1.seg", set(), notes) == 0


def test_a_note_of_another_version_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = SpoolWriter(tmp_path, sync_interval_s=60)
    spool.note(ids.new_raw_id(), Note("comment", "note", text="x", who="ann", created_us=1))
    spool.close()
    (record,) = [record for path in tmp_path.glob("sp_*/*.seg") for record in forget_spool._records(path)]
    notes = forget_spool._Notes(ANN, frozenset(), frozenset())
    assert notes.has(record)
    assert not notes.has(record._replace(payload=b"\x93\x01\x02\x03"))


def test_scrubbing_carried_exchanges_leaves_the_unfinished_file_of_the_store_writer_alone(tmp_path: Path) -> None:
    folder = tmp_path / "sp_x"
    folder.mkdir()
    gone, kept = ids.new_raw_id(), ids.new_raw_id()
    begin = Begin("POST", "/v1/x", "", "openai", body=b"slow")
    exchanges = {raw: SpooledExchange(ids.format_id("ex", raw), begin, (1, 0), 1, 0, 0) for raw in (gone, kept)}
    carry(folder, (3, 7), exchanges)
    (folder / ".carried").write_bytes(b"of the store writer")
    assert forget_spool.scrub(tmp_path, ANN, [ids.format_id("ex", gone)], []) == 1
    assert list(pick_up(folder, (3, 7))[0]) == [kept]
    assert (folder / ".carried").read_bytes() == b"of the store writer"
    (folder / ".carried-scrubbed").write_bytes(b"of an erasure that was cut short")
    drop_carried(folder)
    assert list(folder.iterdir()) == []


def test_quarantined_segments_are_found_by_any_id_and_others_stay(tmp_path: Path) -> None:
    root = tmp_path / "spool"
    folder = quarantine.quarantine_of(root) / "sp_old"
    folder.mkdir(parents=True)
    made, imported = ids.new_raw_id(), bytes(range(16))
    for name, data in (("made", b"?" + made + b"?"), ("imported", imported), ("other", ids.new_raw_id() * 3)):
        (folder / f"{name}.seg").write_bytes(data)
    wanted = [ids.format_id("ex", raw) for raw in (made, imported)]
    assert forget_spool.drop_quarantined(root, ANN, wanted) == 2
    assert [path.name for path in folder.iterdir()] == ["other.seg"]
