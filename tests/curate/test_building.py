"""Builds with a golden set, a mix-in and a limit, through the store."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from capture.errors import NotEnoughError, NotFoundError, SettingsError
from curate.datasets import DatasetVersion, build, get_version, load_split
from curate.golden import pins
from curate.golden_pins import pin_exchange, trained_on, unpin
from curate.likeness.certificate import find_overlap
from curate.likeness.duplicates import Wording
from curate.likeness.wording import normalise
from curate.reviewing import review
from curate.settings import CurateSettings
from curate.tasks.aliases import merge_tasks, remove_alias
from tests.curate.sending import Sent, Traffic, mails

DEFAULTS = CurateSettings()


def test_a_pinned_input_leaves_every_later_version_and_goes_into_its_own_file(traffic: Traffic, tmp_path: Path) -> None:
    traffic.send(mails(60))
    first = build(traffic.database, tmp_path, "mail", DEFAULTS)
    trained = load_split(first, "train")[0]
    pin_exchange(traffic.database, "mail", trained.exchange_id, DEFAULTS, who="ann", grade="hard")
    traffic.send([*mails(20, 60), Sent(f"{trained.messages[1].text} please", "other")])
    version = build(traffic.database, tmp_path, "mail", DEFAULTS)
    everything = [example for split in ("train", "val", "test") for example in load_split(version, split)]
    assert trained.exchange_id not in {example.exchange_id for example in everything}
    assert version.manifest["bill"]["dropped"]["golden"] == 1
    assert version.manifest["golden"] == {"pinned": 1, "answered_otherwise": 0}
    (line,) = (version.folder / "golden.jsonl").read_text("utf-8").splitlines()
    assert (json.loads(line)["exchange_id"], json.loads(line)["grade"]) == (trained.exchange_id, "hard")

    def wordings(texts: list[str]) -> list[Wording]:
        return [Wording(normalise(text), normalise(text), ((), 0)) for text in texts]

    train = wordings([example.messages[1].text for example in load_split(version, "train")])
    assert find_overlap(train, wordings([trained.messages[1].text]), DEFAULTS).rows == frozenset()
    assert build(traffic.database, tmp_path, "mail", DEFAULTS).hash == version.hash


def test_a_damaged_exchange_is_counted_and_the_rest_is_built(traffic: Traffic, tmp_path: Path) -> None:
    traffic.send(mails(60))
    traffic.damage(traffic.ids[5])
    version = build(traffic.database, tmp_path, "mail", DEFAULTS)
    assert version.manifest["bill"]["dropped"]["damaged"] == 1
    assert any("damaged in the store: 1. See potstill verify" in told for told in version.manifest["warnings"])


def test_a_limit_below_what_eval_holds_is_named_when_nothing_is_left_to_train_on(traffic: Traffic, tmp_path: Path) -> None:
    traffic.send(mails(60))
    first = build(traffic.database, tmp_path, "mail", DEFAULTS)
    few = first.val + first.test - 1
    with pytest.raises(NotEnoughError, match="train 0") as told:
        build(traffic.database, tmp_path, "mail", CurateSettings(max_examples=few, minimum_examples=3))
    assert told.value.next_step == f"What eval holds stays, so max_examples = {few} in section [curate] is too few: raise it."


def test_other_tasks_are_mixed_into_train_and_named(traffic: Traffic, tmp_path: Path) -> None:
    traffic.send([*(replace(one, task="chat") for one in mails(40, 100)), *mails(60)])
    with pytest.raises(NotFoundError, match="dataset build chat"):
        build(traffic.database, tmp_path, "mail", CurateSettings(mix_in="chat"))
    other = build(traffic.database, tmp_path, "chat", DEFAULTS)
    version = build(traffic.database, tmp_path, "mail", CurateSettings(mix_in="chat"))
    mixed = [example for example in load_split(version, "train") if example.task == "chat"]
    assert version.manifest["mix_in"]["examples"] == {"chat": len(mixed)} and mixed
    assert {example.exchange_id for example in mixed} <= {example.exchange_id for example in load_split(other, "train")}
    assert version.train == version.manifest["counts"]["train"] == len(load_split(version, "train"))
    assert {example.task for split in ("val", "test") for example in load_split(version, split)} == {"mail"}


def test_answers_that_read_like_a_refusal_earn_a_warning(traffic: Traffic, tmp_path: Path) -> None:
    traffic.send([*mails(60), Sent("Open my neighbour's account.", "I'm sorry, but I can't help with that.")])
    version = build(traffic.database, tmp_path, "mail", DEFAULTS)
    (told,) = (warning for warning in version.manifest["warnings"] if warning.startswith("1 answers read like a refusal"))
    assert told.endswith("potstill review next mail"), "what to do about it"


def as_old(sent: list[Sent]) -> list[Sent]:
    return [replace(one, task="old") for one in sent]


def inputs_of(version: DatasetVersion, split: str) -> set[str]:
    return {example.input_key for example in load_split(version, split)}


def test_what_a_merged_task_knew_holds_for_the_whole(traffic: Traffic, tmp_path: Path) -> None:
    database = traffic.database
    traffic.send([*as_old(mails(60)), *mails(40, 100)])
    old = build(database, tmp_path, "old", DEFAULTS)
    before, after = load_split(old, "train")[:2]
    tested, rejected = inputs_of(old, "test"), load_split(old, "train")[2]
    pin_exchange(database, "old", before.exchange_id, DEFAULTS, who="ann")
    review.record(database, "old", rejected.exchange_id, "reject", reviewer="ann")
    merge_tasks(database, "old", "mail")
    assert [one.exchange_id for one in pins(database, "mail")] == [before.exchange_id]
    made = pin_exchange(database, "mail", after.exchange_id, DEFAULTS, who="ann")
    assert (made.side, made.trained) == ("train", ("old/v1",))
    assert [one.exchange_id for one in review.standing_verdicts(database, "mail")] == [rejected.exchange_id]
    version = build(database, tmp_path, "mail", DEFAULTS)
    assert inputs_of(version, "test") >= tested and tested
    assert {one.input_key for one in (before, after, rejected)}.isdisjoint(inputs_of(version, "train"))
    assert version.manifest["golden"]["pinned"] == 2
    assert get_version(database, "old") == version
    assert build(database, tmp_path, "old", DEFAULTS).id == version.id


def test_a_pin_outlives_the_alias_under_which_it_was_made(traffic: Traffic, tmp_path: Path) -> None:
    database = traffic.database
    ids = traffic.send([*as_old(mails(60)), *mails(40, 100)])
    merge_tasks(database, "old", "mail")
    pinned = pin_exchange(database, "mail", ids[0], DEFAULTS, who="ann").golden.input_key
    build(database, tmp_path, "mail", DEFAULTS)
    remove_alias(database, "old")
    assert pinned in inputs_of(build(database, tmp_path, "old", DEFAULTS), "test")


def test_a_pin_of_an_alias_can_be_taken_back_by_its_tasks_name(traffic: Traffic) -> None:
    (id, _) = traffic.send([*as_old(mails(1)), *mails(1, 100)])
    pin_exchange(traffic.database, "old", id, DEFAULTS, who="ann")
    merge_tasks(traffic.database, "old", "mail")
    unpin(traffic.database, "mail", id)
    assert pins(traffic.database, "mail") == [] == pins(traffic.database, "old")


def test_what_is_pinned_after_its_version_was_frozen_is_not_mixed_in(traffic: Traffic, tmp_path: Path) -> None:
    database, mixing = traffic.database, CurateSettings(mix_in="chat", mix_in_share=0.3)
    traffic.send([*(replace(one, task="chat") for one in mails(40, 100)), *mails(60)])
    build(database, tmp_path, "chat", DEFAULTS)
    first = build(database, tmp_path, "mail", mixing)
    mixed = [example for example in load_split(first, "train") if example.task == "chat"]
    made = pin_exchange(database, "chat", mixed[0].exchange_id, DEFAULTS, who="ann")
    assert made.trained == ("chat/v1", "mail/v1")
    assert trained_on(database, "mail", {mixed[0].input_key}) == ({}, ())
    again = build(database, tmp_path, "mail", mixing)
    assert mixed[0].input_key not in inputs_of(again, "train")
    assert mixed[1].input_key in inputs_of(again, "train")


def test_an_alias_of_the_built_task_is_not_mixed_in(traffic: Traffic, tmp_path: Path) -> None:
    traffic.send([*as_old(mails(3)), *mails(40, 100)])
    merge_tasks(traffic.database, "old", "mail")
    with pytest.raises(SettingsError, match="'mail', the task that is built"):
        build(traffic.database, tmp_path, "mail", CurateSettings(mix_in="old"))
