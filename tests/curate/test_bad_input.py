"""What nobody hopes for as input gives a clear message or a correct result, from the store to the frozen files."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from capture.database import Database
from capture.errors import GateError, NotEnoughError, PotstillError, StoreError
from capture.messages import Message
from curate.damage import find_damage
from curate.datasets import DatasetVersion, build, get_version, load_split, versions
from curate.draft import History, make_draft
from curate.forget import erase_from_version, touched_versions
from curate.formats.exporting import export
from curate.freeze import hashed, to_json, write_folder
from curate.incremental import check_rows
from curate.selection import Candidate, input_key
from curate.settings import CurateSettings
from curate.splits import SPLITS
from curate.version_diff import compare_versions
from tests.curate.sending import Sent, Traffic, mails
from train.readiness import check_files, check_sizes
from train.recipe import Recipe

DEFAULTS = CurateSettings()
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "route", "arguments": '{"queue": "parcel"}'}}
ONLY_CALLS = {"role": "assistant", "content": None, "tool_calls": [CALL]}
OF_FORMAT_ONE = {
    "bill", "certificate", "clusters", "contradictions", "counts", "files", "format", "hash", "number", "personal_data",
    "protocols", "selection", "settings", "task", "teachers", "template", "warnings",
}  # fmt: skip
FILES_OF_FORMAT_ONE = ("dropped.jsonl", "template.json", "test.jsonl", "train.jsonl", "val.jsonl")
SETTINGS_OF_FORMAT_ONE = (
    "contradiction_threshold", "filter", "max_input_characters", "max_input_tokens", "max_target_characters",
    "minimum_examples", "near_threshold", "ngram_share", "per_unit_cap_share", "personal_data", "salt",
    "session_join_share", "split_threshold", "test_share", "val_share",
)  # fmt: skip


@pytest.fixture
def version(traffic: Traffic, tmp_path: Path) -> DatasetVersion:
    """A version of 60 mails."""
    traffic.send(mails(60))
    return build(traffic.database, tmp_path, "mail", DEFAULTS)


def silent(stage: str, done: int, total: int) -> None:
    pass


def dropped(version: DatasetVersion) -> dict[str, int]:
    counts: dict[str, int] = version.manifest["bill"]["dropped"]
    return counts


def test_an_empty_selection_says_so_and_what_to_do(traffic: Traffic, tmp_path: Path) -> None:
    traffic.send(mails(3))
    with pytest.raises(NotEnoughError, match="no examples: 0 exchanges selected") as caught:
        build(traffic.database, tmp_path, "mail", replace(DEFAULTS, filter="status:404"))
    assert "widen filter" in caught.value.next_step
    assert versions(traffic.database) == []


def test_a_label_with_one_row_stays(traffic: Traffic, tmp_path: Path) -> None:
    (lonely,) = traffic.send([replace(mails(1, 900)[0], answer='{"queue": "legal"}')])
    traffic.send(mails(90))
    version = build(traffic.database, tmp_path, "mail", DEFAULTS)
    assert lonely in {example.exchange_id for split in SPLITS for example in load_split(version, split)}
    assert version.manifest["doubts"] == {"poisoned": {}, "wrong_answers": 0}


def test_ten_thousand_identical_inputs_with_300_targets_are_one_example_with_the_commonest() -> None:
    asked = (Message("system", "Sort the mail."), Message("user", "where is my parcel"))
    key = input_key(asked)
    targets = [f"queue {number % 300}" if number % 3 else "parcel" for number in range(10_000)]
    rows = [
        Candidate(f"ex_{number:026d}", number, "openai", "t", "", "", asked, target, key, {}, False)
        for number, target in enumerate(targets)
    ]
    draft = make_draft(rows, History(), DEFAULTS, silent)
    (kept,) = draft.splits
    assert targets[int(kept[3:])] == "parcel"
    assert Counter(drop.reason for drop in draft.dropped.values()) == {
        "contradiction": 10_000 - targets.count("parcel"), "exact_duplicate": targets.count("parcel") - 1,
    }  # fmt: skip
    (found,) = draft.contradictions
    assert len(found.sides) == len(set(targets))


def test_answers_of_nothing_but_calls_are_examples_but_nothing_that_recipes_learn(traffic: Traffic, tmp_path: Path) -> None:
    traffic.send([replace(one, answer_message=ONLY_CALLS) for one in mails(60)])
    version = build(traffic.database, tmp_path, "mail", DEFAULTS)
    examples = load_split(version, "train")
    assert {(example.target, example.calls[0].name) for example in examples} == {("", "route")}
    with pytest.raises(NotEnoughError, match=rf"0 training examples beside {len(examples)} with tools"):
        check_sizes(version, Recipe("small", minimum_examples=10))
    with pytest.raises(GateError, match="cannot carry 60 of the 60"):
        export(traffic.database, version, tmp_path / "out", "alpaca")
    assert not (tmp_path / "out").exists()
    assert export(traffic.database, version, tmp_path / "out", "openai").rows == 60


def test_images_are_on_the_bill(traffic: Traffic, tmp_path: Path) -> None:
    shown = [
        Sent("", "A cat.", messages=({"role": "user", "content": [{"type": "text", "text": f"What is {n}?"}, IMAGE]},))
        for n in range(3)
    ]
    traffic.send(shown)
    with pytest.raises(NotEnoughError, match="0 kept, dropped: 3 has_media"):
        build(traffic.database, tmp_path, "mail", DEFAULTS)
    traffic.send(mails(40))
    assert dropped(build(traffic.database, tmp_path, "mail", DEFAULTS)) == {"has_media": 3}


def test_a_prompt_of_200k_tokens_is_on_the_bill(traffic: Traffic, tmp_path: Path) -> None:
    traffic.send([Sent("word " * 200_000, "Yes."), *mails(40)])
    assert dropped(build(traffic.database, tmp_path, "mail", DEFAULTS)) == {"over_long": 1}


def test_long_prompts_that_a_team_wants_are_compared_too(traffic: Traffic, tmp_path: Path) -> None:
    wide = replace(DEFAULTS, max_input_tokens=0, max_input_characters=2_000_000)
    long = " ".join(f"word{number}" for number in range(20_000))
    traffic.send([Sent(long, "Yes."), Sent(f"{long} ", "Yes."), *mails(40)])
    assert dropped(build(traffic.database, tmp_path, "mail", wide)) == {"exact_duplicate": 1}


def _edit(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text("utf-8").replace('"kept": 60', '"kept": 99'), "utf-8")


def _garble(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"format": 2,', "utf-8")


@pytest.mark.parametrize("spoil", [_edit, _garble])
def test_a_manifest_that_was_edited_by_hand_is_refused_everywhere_until_it_is_built_again(
    spoil: Callable[[Path], None], version: DatasetVersion, traffic: Traffic, tmp_path: Path
) -> None:
    before = {path.name: path.read_bytes() for path in version.folder.iterdir()}
    spoil(version.folder)
    with pytest.raises(StoreError, match=r"manifest\.json was changed after it was frozen") as caught:
        get_version(traffic.database, "mail")
    assert "build the dataset again" in caught.value.next_step
    with pytest.raises(GateError, match=r"manifest\.json was changed"):
        check_files(version)
    assert [found.version for found in find_damage(traffic.database)] == ["mail/v1"]
    again = build(traffic.database, tmp_path, "mail", DEFAULTS)
    assert {path.name: path.read_bytes() for path in again.folder.iterdir()} == before
    assert get_version(traffic.database, "mail") == again


def test_a_changed_file_of_rows_is_put_back_by_a_build(version: DatasetVersion, traffic: Traffic, tmp_path: Path) -> None:
    (version.folder / "train.jsonl").write_text("{}\n")
    with pytest.raises(StoreError, match="changed"):
        load_split(version, "train")
    assert len(load_split(build(traffic.database, tmp_path, "mail", DEFAULTS), "train")) == version.train


def test_a_lost_folder_is_named_and_put_back_by_a_build(version: DatasetVersion, traffic: Traffic, tmp_path: Path) -> None:
    shutil.rmtree(version.folder)
    question = ((Message("user", "Hello?"),), ())
    attempts: list[Callable[[], Any]] = [
        lambda: load_split(version, "train"),
        lambda: export(traffic.database, version, tmp_path / "out"),
        lambda: compare_versions(version, version),
        lambda: check_rows(version, [question]),
        lambda: check_files(version),
    ]
    for attempt in attempts:
        with pytest.raises(PotstillError, match=r"mail/v1/.* missing") as caught:
            attempt()
        assert "uild the dataset again" in caught.value.next_step
    assert {damage.version for damage in find_damage(traffic.database)} == {"mail/v1"}
    again = build(traffic.database, tmp_path, "mail", DEFAULTS)
    assert (again.number, again.hash, list(find_damage(traffic.database))) == (1, version.hash, [])


def as_format_one(database: Database, version: DatasetVersion) -> DatasetVersion:
    """`version` as it was frozen before there were targets, terms, pins and keys: fewer files, and less in manifest and rows."""
    files: dict[str, str | bytes] = {name: (version.folder / name).read_text("utf-8") for name in FILES_OF_FORMAT_ONE}
    for split in SPLITS:
        rows = [json.loads(line) for line in str(files[f"{split}.jsonl"]).splitlines()]
        files[f"{split}.jsonl"] = "".join(f"{json.dumps({k: v for k, v in row.items() if k != 'terms'})}\n" for row in rows)
    told = {name: value for name, value in version.manifest.items() if name in OF_FORMAT_ONE - {"hash"}} | {"format": 1}
    told["settings"] = {name: told["settings"][name] for name in SETTINGS_OF_FORMAT_ONE}
    told["contradictions"] = {"inputs": 0, "dropped": 0, "first": []}
    told["template"] = {name: value for name, value in told["template"].items() if name != "version"}
    manifest = hashed(told, files)
    write_folder(version.folder, manifest, files)
    with database.write() as connection:
        values = {"id": version.id, "hash": manifest["hash"], "manifest": to_json(manifest)}
        connection.execute(text("UPDATE dataset_versions SET hash = :hash, manifest = :manifest WHERE id = :id"), values)
        connection.execute(text("DELETE FROM task_templates"))
    return get_version(database, version.task)


def test_a_version_of_the_first_format_is_still_read_compared_checked_exported_and_erased(
    version: DatasetVersion, traffic: Traffic, tmp_path: Path
) -> None:
    old = as_format_one(traffic.database, version)
    assert set(old.manifest) == OF_FORMAT_ONE
    check_files(old)
    examples = load_split(old, "train")
    assert [one.target_source for one in examples] == ["answer"] * old.train
    (match,) = check_rows(old, [(examples[0].messages, ())])
    assert match is not None and (match.kind, match.exchange_id) == ("exact", examples[0].exchange_id)
    assert export(traffic.database, old, tmp_path / "out").rows == 60
    new = build(traffic.database, tmp_path, "mail", DEFAULTS)
    assert (new.number, compare_versions(old, new).same) == (2, 60)
    gone = examples[0].exchange_id
    for each in touched_versions(traffic.database, [gone]):
        assert erase_from_version(traffic.database, each, [gone]).examples == 1
    assert [get_version(traffic.database, "mail", number).train for number in (1, 2)] == [old.train - 1] * 2
    assert list(find_damage(traffic.database)) == []
