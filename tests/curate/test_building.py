"""Builds with a golden set, a mix-in and a limit, through the store."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from capture.errors import NotFoundError
from curate.certificate import find_overlap
from curate.datasets import build, load_split
from curate.duplicates import Wording
from curate.golden_pins import pin_exchange
from curate.settings import CurateSettings
from curate.wording import normalise
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
    assert any(warning.startswith("1 answers read like a refusal") for warning in version.manifest["warnings"])
