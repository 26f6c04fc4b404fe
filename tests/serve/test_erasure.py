"""Somebody is forgotten: a marker is planted in everything that Potstill keeps, and looked for afterwards in every byte of it."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import text

from capture import export, exported, forget, ids
from capture.database import Database, open_database
from capture.errors import NotFoundError, StoreError, TrainingError, UpstreamError
from capture.filters import parse_filter
from capture.otel_send import Collector, Patience
from capture.records import Begin, Note
from capture.settings import Settings, load_settings
from capture.spool import SpoolWriter
from capture.subject import Subject
from capture.verify import verify
from curate import datasets
from curate.damage import find_damage
from curate.formats import exporting
from curate.freeze import version_folder
from curate.golden_pins import pin_exchange
from curate.reviewing import review
from curate.settings import CurateSettings
from curate.tasks.aliases import add_alias
from serve.erasure import Receipt, erase, receipts
from tests.capture.planting import MARK, answer, chat, drain, everything, raw_bytes, write
from tests.curate.sending import SYSTEM, mails
from tests.serve.conftest import make_release, until
from train import runs
from train.recipe import load_recipe

ROOT = Path(__file__).parents[2]

USER = f"user-{MARK}"
CURATE = CurateSettings(minimum_examples=3)
DATASET_FORMATS = ("openai", "csv", "hf", "argilla")
"""One of lines, one of cells, one of columns, one of records."""


@dataclass
class House:
    """A store with its data folder."""

    database: Database
    settings: Settings

    @property
    def spool_root(self) -> Path:
        return self.settings.data_folder / "spool"

    def forget(self, **subject: str) -> Receipt:
        return erase(self.database, self.settings, Subject(**subject), who="tester")

    def bytes(self) -> bytes:
        """Every byte on disk, without what PostgreSQL keeps."""
        return raw_bytes(self.settings.folder)

    def scalar(self, sql: str) -> int:
        with self.database.read() as connection:
            return int(connection.execute(text(sql)).scalar_one())


@pytest.fixture
def house(database_url: str, tmp_path: Path) -> Iterator[House]:
    """A house whose SQLite file lies in its data folder."""
    path = tmp_path / "potstill.toml"
    lines = ["[store]", 'data_folder = "data"', *([f'database_url = "{database_url}"'] if "sqlite" not in database_url else [])]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    settings = load_settings(path, environ={})
    database = open_database(settings.database_url)
    yield House(database, settings)
    database.close()


def fill(house: House, count: int = 90) -> list[str]:
    """Mails of many users; those of `USER` hold the marker. Returns the ids of his."""
    spool = SpoolWriter(house.spool_root, sync_interval_s=60)
    own = []
    for number, mail in enumerate(mails(count)):
        is_own = number % 30 == 7
        question = f"{mail.question} {MARK}q{number}" if is_own else mail.question
        said = f"{MARK}a{number}" if is_own else mail.answer
        user = USER if is_own else f"u{1000 + number}"
        id = write(spool, chat(question, SYSTEM), answer(said), task="mail", user_name=user, session_name=f"s{number}")
        own += [id] if is_own else []
    spool.close()
    drain(house.database, house.spool_root)
    return own


@pytest.fixture(autouse=True)
def nothing_is_broken(house: House) -> Iterator[None]:
    """After every test the store verifies, and so do the files of datasets."""
    yield
    assert verify(house.database).faults == [] and list(find_damage(house.database)) == []


def tables_of_postgresql(house: House) -> bytes:
    """Every byte of the tables and indexes of the store's database, as the server has written them."""
    with house.database.engine.connect() as connection:
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.exec_driver_sql("CHECKPOINT")
        folder = connection.exec_driver_sql("SHOW data_directory").scalar_one()
        oid = connection.exec_driver_sql("SELECT oid FROM pg_database WHERE datname = current_database()").scalar_one()
    return b"".join(path.read_bytes() for path in (Path(str(folder)) / "base" / str(oid)).iterdir() if path.is_file())


def test_a_forgotten_user_leaves_no_byte_in_postgresqls_tables_and_indexes(house: House) -> None:
    if house.database.is_sqlite:
        pytest.skip("SQLite's file is searched with the data folder")
    fill(house)
    assert MARK.encode() in tables_of_postgresql(house)
    receipt = house.forget(user=USER)
    left = tables_of_postgresql(house)
    assert MARK.encode() not in left and MARK.lower().encode() not in left
    assert any("recycled" in line for line in receipt.left)


def test_a_forgotten_user_leaves_no_byte_in_the_store(house: House) -> None:
    own = fill(house)
    before = everything(house.database)
    assert MARK in before
    receipt = house.forget(user=USER)
    assert receipt.places["exchanges"] == len(own) == 3
    assert MARK not in everything(house.database) and MARK.encode() not in house.bytes()
    assert house.scalar("SELECT COUNT(*) FROM exchanges") == 87
    assert house.scalar("SELECT COUNT(*) FROM erasures") == 1
    assert all(id not in everything(house.database) and id.encode() not in house.bytes() for id in own)
    assert MARK not in repr(receipt) and receipts(house.database)[0]["id"] == receipt.id


def test_forgetting_again_does_nothing_and_says_so(house: House) -> None:
    fill(house)
    first, second = house.forget(user=USER), house.forget(user=USER)
    assert second.id != first.id and second.subject == first.subject
    assert not any(second.places.values()) and second.versions == () and second.left == ()
    assert [each["id"] for each in receipts(house.database)] == [second.id, first.id]


def test_what_comes_later_is_captured_again(house: House) -> None:
    fill(house, 10)
    house.forget(user=USER)
    spool = SpoolWriter(house.spool_root, sync_interval_s=60)
    write(spool, chat("again"), answer("yes"), user_name=USER)
    spool.close()
    drain(house.database, house.spool_root)
    assert house.scalar(f"SELECT COUNT(*) FROM exchanges WHERE user_name = '{USER}'") == 1


def test_one_exchange_is_forgotten_and_later_turns_are_named(house: House) -> None:
    spool = SpoolWriter(house.spool_root, sync_interval_s=60)
    first = {"role": "user", "content": f"{MARK}, and some more words so that it is a piece of its own, and long enough"}
    id = write(spool, json.dumps({"messages": [first]}).encode(), answer("yes"), session_name="s")
    turns = [first, {"role": "assistant", "content": "yes"}, {"role": "user", "content": "go on"}]
    write(spool, json.dumps({"messages": turns}).encode(), answer("more"), session_name="s")
    spool.close()
    drain(house.database, house.spool_root)
    receipt = house.forget(exchange_id=id)
    assert receipt.places["exchanges"] == 1 and "1 other exchanges repeat" in " ".join(receipt.left)
    assert MARK in everything(house.database)
    assert house.forget(session="s").places["exchanges"] == 1
    assert MARK not in everything(house.database) and MARK.encode() not in house.bytes()


def test_a_living_spool_dead_letters_and_feedback_are_cleaned(house: House) -> None:
    spool = SpoolWriter(house.spool_root)
    write(spool, chat("before"), answer("fine"), user_name="other")
    own = [write(spool, chat(f"{MARK}{number}"), answer(MARK), user_name=USER, session_name="s7") for number in range(3)]
    letter = write(spool, chat(f"{MARK} refused"), answer(MARK), user_name=USER, status=2**63)
    spool.note(ids.new_raw_id(), Note("comment", "note", text=MARK, exchange_id=own[0], created_us=1))
    spool.note(ids.new_raw_id(), Note("comment", "note", text=MARK, who=USER, created_us=1))
    spool.note(ids.new_raw_id(), Note("comment", "note", text=MARK, session_name="s7", created_us=1))
    under_way = ids.new_raw_id()
    spool.begin(under_way, Begin("POST", "/v1/x", "", "openai", user_name="other", body=b"slow"))
    drain(house.database, house.spool_root)
    assert house.scalar("SELECT COUNT(*) FROM dead_letters") == 1 and house.scalar("SELECT COUNT(*) FROM feedback") == 3
    receipt = house.forget(user=USER)
    assert receipt.places["dead_letters"] == 1 and receipt.places["exchanges"] == 3 and receipt.places["spool"] >= 12
    assert MARK not in everything(house.database) and MARK.encode() not in house.bytes()
    assert house.scalar("SELECT COUNT(*) FROM feedback") == 0 and letter not in everything(house.database)
    write(spool, chat("after"), answer("fine"), user_name="other")
    spool.close()
    drain(house.database, house.spool_root)
    assert house.scalar("SELECT COUNT(*) FROM exchanges") == 3
    assert house.scalar("SELECT COUNT(*) FROM gaps") == 0


def test_one_session_of_a_user_takes_only_the_feedback_that_belongs_to_it(house: House) -> None:
    spool = SpoolWriter(house.spool_root, sync_interval_s=60)
    other = write(spool, chat("kept"), answer("fine"), user_name=USER, session_name="s8")
    own = write(spool, chat("gone"), answer("fine"), user_name=USER, session_name="s7")
    write(spool, chat("of somebody else"), answer("fine"), user_name="bob", session_name="s7")
    kept = [("s8", ""), ("", other), ("s7", other), ("", "")]
    for session, id in (*kept, ("s7", ""), ("", own)):
        note = Note("comment", "note", text="said", who=USER, created_us=1, session_name=session, exchange_id=id)
        spool.note(ids.new_raw_id(), note)
    spool.note(ids.new_raw_id(), Note("comment", "note", text="of bob", who="bob", session_name="s7", created_us=1))
    drain(house.database, house.spool_root)
    receipt = house.forget(user=USER, session="s7")
    assert (receipt.places["exchanges"], receipt.places["feedback"]) == (1, 1)
    with house.database.write() as connection:
        rows = connection.execute(text("SELECT who, session_name, exchange_id FROM feedback ORDER BY number")).all()
        connection.execute(text("DELETE FROM feedback"))
        connection.execute(text("DELETE FROM spools"))
    said = [(USER, *names) for names in kept] + [("bob", "s7", "")]
    assert [tuple(row) for row in rows] == said
    spool.close()
    drain(house.database, house.spool_root)
    assert house.scalar("SELECT COUNT(*) FROM feedback") == len(said), "the spool holds the same"


def test_an_exchange_that_is_only_a_dead_letter_is_found_by_its_id_and_erased(house: House) -> None:
    spool = SpoolWriter(house.spool_root, sync_interval_s=60)
    stored = write(spool, chat("fine"), answer("fine"))
    letter = write(spool, chat(MARK), answer(MARK), status=2**63)
    spool.close()
    drain(house.database, house.spool_root)
    assert forget.find_exchange_id(house.database, letter[:28]) == letter
    assert forget.find_exchange_id(house.database, stored[3:]) == stored
    for start, what in ((stored[:5], "More than one"), ("ex_zzz", "There is no"), ("", "More than one")):
        with pytest.raises(NotFoundError, match=what):
            forget.find_exchange_id(house.database, start)
    receipt = house.forget(exchange_id=letter)
    assert (receipt.places["exchanges"], receipt.places["dead_letters"]) == (0, 1)
    assert MARK not in everything(house.database) and MARK.encode() not in house.bytes()


def test_what_is_damaged_is_forgotten_and_the_receipt_says_what_nobody_can_tell(house: House) -> None:
    own = fill(house)
    with house.database.write() as connection:
        sql = text("UPDATE contents SET zstd = :bytes WHERE number = (SELECT number FROM exchanges WHERE id = :id)")
        connection.execute(sql, {"bytes": b"\0\xffdamaged", "id": own[0]})
    receipt = house.forget(exchange_id=own[0])
    assert receipt.places["exchanges"] == 1
    assert receipt.left[0] == "What 1 exchanges said cannot be read, so nobody can tell whether later turns repeat it."
    assert f"{MARK}q7".encode() not in house.bytes()


def test_what_is_under_way_is_named(house: House) -> None:
    spool = SpoolWriter(house.spool_root)
    spool.begin(ids.new_raw_id(), Begin("POST", "/v1/x", "", "openai", user_name=USER, body=MARK.encode()))
    receipt = house.forget(user=USER)
    assert receipt.left == ("1 exchanges are under way and not erased: run potstill forget again when they are over.",)
    spool.close()
    assert house.forget(user=USER).places["exchanges"] == 1 and MARK.encode() not in house.bytes()


def test_datasets_exports_and_runs_lose_the_rows_and_stay_loadable(house: House) -> None:
    own = fill(house, 300)
    folder = house.settings.data_folder
    first = datasets.build(house.database, folder, "mail", CURATE)
    kept = [example for split in ("train", "val", "test") for example in datasets.load_split(first, split)]
    taught = [example.id for example in kept if example.exchange_id in own]
    assert taught
    another = next(example for example in kept if example.exchange_id not in own)
    review.record(house.database, "mail", another.exchange_id, review.ACCEPT)
    card = next(card for card in review.queue(house.database, "mail", 1000) if card.exchange_id in own)
    review.record(house.database, "mail", card.exchange_id, review.EDIT, target=f"{MARK} better", note=MARK)
    out = house.settings.folder / "out"
    for format in DATASET_FORMATS:
        exporting.export(house.database, first, out / format, format)
    files = [house.settings.folder / name for name in ("all.jsonl", "raw.jsonl", "spans.jsonl")]
    for file, format in zip(files, (export.JSONL, export.JSONL, export.OTLP), strict=True):
        wanted = export.Wanted(parse_filter("task:mail"), format, with_raw=file.name.startswith("raw"))
        export.to_file(house.database, wanted, file, lambda *_: None)
    exported.remember(house.database, house.settings.folder / "gone.jsonl", exported.JSONL, f"user:{USER}")
    assert MARK.encode() in raw_bytes(out)

    with (first.folder.parent / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="A build of dataset 'mail'"):
            house.forget(user=USER)
    planned = erase(house.database, house.settings, Subject(user=USER), is_dry_run=True)
    assert [version.number for version in planned.versions] == [1] and MARK.encode() in house.bytes()
    receipt = house.forget(user=USER)
    assert MARK.encode() not in house.bytes() and MARK not in everything(house.database)
    assert [(version.number, version.examples) for version in receipt.versions] == [(1, len(taught))]
    assert receipt.places["reviews"] == 1 and receipt.places["exports"] == 3 * len(own) + len(DATASET_FORMATS) * len(taught)
    assert [len(file.read_bytes().splitlines()) for file in files[:2]] == [300 - len(own)] * 2
    spans = json.loads(files[2].read_text("utf-8").splitlines()[0])["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert 0 < len(spans) <= 300 - len(own)

    again = datasets.get_version(house.database, "mail", 1)
    left = [example for split in ("train", "val", "test") for example in datasets.load_split(again, split)]
    assert [example.id for example in left] == [example.id for example in kept if example.id not in taught]
    assert again.hash != first.hash and again.train + again.val + again.test == len(left)
    bill = again.manifest["bill"]
    assert bill["kept"] == len(left) and bill["selected"] == bill["kept"] + sum(bill["dropped"].values())
    assert again.manifest["erasures"][0]["hash_before"] == first.hash
    assert "Erased after it was frozen" in (again.folder / "card.md").read_text("utf-8")
    following = datasets.build(house.database, folder, "mail", CURATE)
    assert following.number == 2 and following.train + following.val + following.test == len(left)


def test_the_side_of_an_input_stays_while_somebody_else_sent_it_and_goes_with_the_last_sender(house: House) -> None:
    fill(house)
    spool = SpoolWriter(house.spool_root, sync_interval_s=60)
    for user, question in (("ann", "Where is my parcel?"), ("bob", "WHERE is my parcel"), ("cid", "where is my parcel??")):
        write(spool, chat(question, SYSTEM), answer("parcel"), task="mail", user_name=user)
    spool.close()
    drain(house.database, house.spool_root)
    datasets.build(house.database, house.settings.data_folder, "mail", CURATE)
    later = SpoolWriter(house.spool_root, sync_interval_s=60)
    write(later, chat("where is my parcel??", SYSTEM), answer("parcel"), task="mail", user_name="after")
    later.close()
    drain(house.database, house.spool_root)
    before = house.scalar(splits := "SELECT COUNT(*) FROM splits")
    users = ("ann", "bob", "cid", "after")
    assert [house.forget(user=user).places["split_keys"] for user in users] == [0, 0, 0, 1]
    assert house.scalar(splits) == before - 1


def test_runs_adapters_and_releases_are_named_and_predictions_go(house: House, adapter_row: Callable[..., str]) -> None:
    own = fill(house, 300)
    version = datasets.build(house.database, house.settings.data_folder, "mail", CURATE)
    recipe = load_recipe("sft-lora", {"minimum_examples": 50})
    run = runs.create_run(house.database, version, recipe, "base", house.settings.data_folder)
    examples = [example for split in ("train", "val", "test") for example in datasets.load_split(version, split)]
    lines = [json.dumps({"id": one.id, "prompt": [], "student": one.target, "target": one.target}) for one in examples]
    (run.folder / "predictions.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    (run.folder / "output.txt").write_text(f"cannot format {MARK}\n", "utf-8")
    under_way = erase(house.database, house.settings, Subject(user=USER), is_dry_run=True)
    assert under_way.runs[0].is_under_way
    with pytest.raises(TrainingError, match="Run 1 is queued"):
        house.forget(user=USER)
    with house.database.write() as connection:
        runs.end_run(connection, run.id, runs.DONE)
    adapter = adapter_row(house.database, "mail", house.settings.folder / "adapter", "base", run.id)
    with house.database.write() as connection:
        connection.execute(text("UPDATE adapters SET dataset_version_id = :id"), {"id": version.id})
    make_release(house.database, "mail", adapter_id=adapter)
    make_release(house.database, "other")
    receipt = house.forget(user=USER)
    taught = [one.id for one in examples if one.exchange_id in own]
    assert [(one.number, one.predictions, one.is_under_way) for one in receipt.runs] == [(1, len(taught), False)]
    assert receipt.adapters == (adapter,) and receipt.releases == ("mail#1 (ready)",)
    assert "still hold what they learnt" in " ".join(receipt.left)
    assert MARK.encode() not in house.bytes()
    left = [json.loads(line)["id"] for line in (run.folder / "predictions.jsonl").read_text("utf-8").splitlines()]
    assert left == [one.id for one in examples if one.id not in taught]


def test_copies_that_evaluations_made_go_too(house: House) -> None:
    spool = SpoolWriter(house.spool_root, sync_interval_s=60)
    id = write(spool, chat(MARK), answer(MARK), user_name=USER)
    write(spool, chat(MARK), answer(MARK), user_name="", purpose="eval")
    write(spool, chat(f"{MARK} edited"), answer(MARK), user_name="", purpose="eval", tags={"exchange": id})
    write(spool, chat("another"), answer("yes"), user_name="", purpose="eval", tags={"exchange": "ex_other"})
    spool.close()
    drain(house.database, house.spool_root)
    assert house.forget(user=USER).places["exchanges"] == 3
    assert MARK not in everything(house.database) and house.scalar("SELECT COUNT(*) FROM exchanges") == 1


def test_a_store_writer_at_work_helps(house: House) -> None:
    assert house.settings.path is not None
    command = [sys.executable, "-m", "capture.writer", "--config", str(house.settings.path)]
    spool = SpoolWriter(house.spool_root)
    write(spool, chat("before"), answer("fine"), user_name="other")
    spool.begin(ids.new_raw_id(), Begin("POST", "/v1/x", "", "openai", user_name="other", body=b"slow"))
    first = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        until(lambda: house.scalar("SELECT COUNT(*) FROM exchanges") == 1, 30)
        for number in range(3):
            write(spool, chat(f"{MARK}{number}"), answer(MARK), user_name=USER)
        receipt = house.forget(user=USER)
        assert (
            receipt.places["exchanges"] == 3
            and receipt.places["spool"] == 12
            and len(receipt.left) == (not house.database.is_sqlite)
        )
        assert MARK.encode() not in house.bytes() and MARK not in everything(house.database)
    finally:
        first.kill()  # so that the next one reads again from where the slow exchange began
        first.wait()
    second = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        write(spool, chat("after"), answer("fine"), user_name="other")
        until(lambda: house.scalar("SELECT COUNT(*) FROM exchanges") == 2, 30)
        assert house.scalar("SELECT COUNT(*) FROM gaps") == 0 and MARK not in everything(house.database)
    finally:
        second.terminate()
        second.wait()
        spool.close()


def test_a_quarantined_segment_that_names_them_is_removed(house: House) -> None:
    spool = SpoolWriter(house.spool_root, sync_interval_s=60)
    write(spool, chat(MARK), answer(MARK), user_name=USER)
    spool.close()
    (segment,) = house.spool_root.glob("sp_*/*.seg")
    for name in ("theirs.seg", "others.seg"):
        place = house.settings.data_folder / "quarantine" / "sp_old" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(segment.read_bytes()[:-9] if name == "theirs.seg" else b"unreadable")
    drain(house.database, house.spool_root)
    assert house.forget(user=USER).places["quarantine"] == 1 and MARK.encode() not in house.bytes()
    assert (house.settings.data_folder / "quarantine" / "sp_old" / "others.seg").exists()


def test_an_erasure_that_was_cut_short_is_finished(house: House) -> None:
    own = fill(house)
    with house.database.write() as connection:
        forget.begin_erasure(connection, "er_cut", forget.Begun(own))
    receipt = house.forget(user="nobody")
    assert receipt.places["exchanges"] == 3 and MARK.encode() not in house.bytes()
    assert house.scalar("SELECT COUNT(*) FROM meta WHERE name LIKE 'erasure:%'") == 0


@pytest.mark.parametrize("stage", ["search exported files", "rewrite datasets", "remove exchanges", "rewrite the index"])
def test_an_erasure_that_was_cut_short_anywhere_tells_all_that_it_touched(
    house: House, adapter_row: Callable[..., str], stage: str
) -> None:
    own = fill(house, 300)
    first = datasets.build(house.database, house.settings.data_folder, "mail", CURATE)
    exporting.export(house.database, first, house.settings.folder / "out")
    taught = [one for split in ("train", "val", "test") for one in datasets.load_split(first, split) if one.exchange_id in own]
    run = runs.create_run(
        house.database, first, load_recipe("sft-lora", {"minimum_examples": 50}), "base", house.settings.data_folder
    )
    with house.database.write() as connection:
        runs.end_run(connection, run.id, runs.DONE)
    adapter = adapter_row(house.database, "mail", house.settings.folder / "adapter", "base", run.id)
    with house.database.write() as connection:
        connection.execute(text("UPDATE adapters SET dataset_version_id = :id"), {"id": first.id})
    make_release(house.database, "mail", adapter_id=adapter)

    def cut(reached: str, _done: int, _total: int) -> None:
        if reached == stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        erase(house.database, house.settings, Subject(user=USER), on_progress=cut)
    assert receipts(house.database) == []
    receipt = house.forget(user=USER)
    again = datasets.get_version(house.database, "mail", 1)
    assert [(one.id, one.examples, one.hash_before, one.hash) for one in receipt.versions] == [
        (first.id, len(taught), first.hash, again.hash)
    ]
    assert [one.id for one in receipt.runs] == [run.id]
    assert receipt.adapters == (adapter,) and receipt.releases == ("mail#1 (ready)",)
    assert MARK.encode() not in house.bytes() and MARK not in everything(house.database)
    assert [each["examples"] for each in again.manifest["erasures"]] == [len(taught)]
    assert again.train + again.val + again.test == first.train + first.val + first.test - len(taught)
    assert house.scalar("SELECT COUNT(*) FROM meta WHERE name LIKE 'erasure:%'") == 0
    assert not house.forget(user=USER).versions


def test_a_version_whose_rewriting_was_cut_short_between_its_files_and_the_store_is_finished(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = fill(house, 300)
    first = datasets.build(house.database, house.settings.data_folder, "mail", CURATE)
    taught = [one for split in ("train", "val", "test") for one in datasets.load_split(first, split) if one.exchange_id in own]

    def power_cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("curate.forget._update", power_cut)
        house.forget(user=USER)
    (version,) = house.forget(user=USER).versions
    again = datasets.get_version(house.database, "mail", 1)
    assert (version.examples, version.hash_before, version.hash) == (len(taught), first.hash, again.hash)
    assert again.train + again.val + again.test == first.train + first.val + first.test - len(taught)


def test_an_exported_file_that_cannot_be_rewritten_stands_on_the_receipt_with_the_reason(house: House) -> None:
    fill(house)
    path = house.settings.folder / "changed.csv"
    path.write_bytes(b"\xff\xfe mine")
    exported.remember(house.database, path, f"{exported.DATASET}:csv", "mail/v1")
    told = next(told for told in house.forget(user=USER).left if str(path) in told)
    assert told.startswith(f"Exported file {path} cannot be rewritten (UnicodeDecodeError)") and told.endswith(" Delete it.")


def test_collectors_that_exchanges_were_sent_to_stand_on_the_receipt(house: House) -> None:
    fill(house, 10)
    address = "http://name:password@127.0.0.1:9/v1/traces?key=1"
    with Collector(address, {}, Patience(tries=1)) as collector, pytest.raises(UpstreamError):
        export.to_collector(house.database, export.Wanted(parse_filter(""), export.OTLP), collector, lambda *_: None)
    assert exported.exported(house.database) == []
    told = "What was sent to collectors is not reached: delete it there (http://127.0.0.1:9/v1/traces)."
    assert told in house.forget(user=USER).left and told in receipts(house.database)[0]["left"]
    assert told not in house.forget(user=USER).left, "nothing was found"


def test_a_log_that_could_not_be_emptied_stands_on_the_kept_receipt(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    if not house.database.is_sqlite:
        return
    fill(house, 10)
    monkeypatch.setattr(forget, "_WAL_WAIT_S", 0.1)
    with house.database.read() as connection:
        connection.exec_driver_sql("BEGIN")
        connection.execute(text("SELECT COUNT(*) FROM exchanges")).scalar_one()
        receipt = house.forget(user=USER)
    assert "The write-ahead log is not empty" in receipt.left[-1]
    assert receipts(house.database)[0]["left"] == list(receipt.left)


def test_a_subject_that_is_nobody_is_refused() -> None:
    with pytest.raises(NotFoundError, match="Nobody is named"):
        Subject()


def test_a_build_under_the_tasks_other_name_is_waited_for(house: House) -> None:
    fill(house, 10)
    add_alias(house.database, "post", "mail")
    with (
        datasets.alone(house.settings.data_folder, "post"),
        pytest.raises(StoreError, match="A build of dataset 'post' is under way"),
    ):
        house.forget(user=USER)
    house.forget(user=USER)
    assert MARK not in everything(house.database)


def test_a_forgotten_pin_leaves_no_key_under_any_name_of_its_task(house: House) -> None:
    own = fill(house, 10)
    add_alias(house.database, "post", "mail")
    pin_exchange(house.database, "post", own[0], CURATE, who="ann")
    assert house.scalar("SELECT count(*) FROM splits") == 2
    assert house.forget(user=USER).places["golden"] == 1
    assert house.scalar("SELECT count(*) FROM splits") == 0


def test_what_broken_off_builds_of_any_task_left_goes_too(house: House) -> None:
    fill(house, 10)
    for task in ("mail", "mixed/with mail"):
        left = version_folder(house.settings.data_folder, task, 1).parent / ".v1.draft"
        left.mkdir(parents=True)
        (left / "train.jsonl").write_text(f'{{"prompt": "{MARK}"}}', "utf-8")
    with (
        datasets.alone(house.settings.data_folder, "mixed/with mail"),
        pytest.raises(StoreError, match="A build of dataset 'mixed/with mail' is under way"),
    ):
        house.forget(user=USER)
    house.forget(user=USER)
    assert MARK.encode() not in b"".join(path.read_bytes() for path in house.settings.data_folder.rglob("*.jsonl"))
