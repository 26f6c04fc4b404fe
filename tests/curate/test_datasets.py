from __future__ import annotations

import json
import multiprocessing
import re
import resource
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from capture.errors import NotEnoughError, NotFoundError, StoreError
from curate.datasets import DatasetVersion, build, get_version, load_split, versions
from curate.freeze import write_folder
from curate.likeness.certificate import find_overlap
from curate.likeness.duplicates import Wording
from curate.likeness.wording import normalise
from curate.reviewing import review
from curate.settings import CurateSettings
from curate.splits import SPLITS
from proxy.tickets import make_tickets, ticket_text
from tests.curate.sending import Sent, Traffic, mails

DEFAULTS = CurateSettings()


def tickets(count: int, first: int = 0) -> list[Sent]:
    """Support tickets with repeats, near duplicates, secrets and personal data; every 25th is answered wrongly."""
    made = make_tickets(11, first + count)[first:]
    return [
        Sent(
            ticket.user_prompt, '{"queue": "general_question"}' if number % 25 == 0 else ticket.gold, task="triage",
            system=ticket.system_prompt, user=ticket.user, unit=ticket.user, session=ticket.session,
        )
        for number, ticket in enumerate(made, first)
    ]  # fmt: skip


def files_of(version: DatasetVersion) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in version.folder.iterdir()}


def test_a_version_has_a_bill_that_adds_up_and_a_certificate(both_traffic: Traffic, tmp_path: Path) -> None:
    both_traffic.send(
        [*mails(60), *mails(10), Sent("Where?", status=500), replace(mails(1)[0], variant="candidate", release_id="r")]
    )
    stages: list[str] = []
    version = build(
        both_traffic.database, tmp_path, "mail", DEFAULTS, on_progress=lambda stage, done, total: stages.append(stage)
    )
    assert version.manifest["bill"] == {"selected": 71, "kept": 60, "dropped": {"exact_duplicate": 10, "failed": 1}}
    assert version.manifest["selection"] == {"answered_by_student": 1}
    assert version.manifest["certificate"] == {"exact": 0, "near": 0, "ngram8": 0}
    assert version.train + version.val + version.test == 60
    assert version.folder == tmp_path / "datasets" / "mail" / "v1"
    assert list(dict.fromkeys(stages)) == [
        "read exchanges", "find the template", "compare inputs", "doubt targets", "predict labels", "sample", "split", "certify",
        "prefer", "write",
    ]  # fmt: skip
    assert get_version(both_traffic.database, "mail") == version


def test_the_files_hold_what_was_captured(traffic: Traffic, tmp_path: Path) -> None:
    sent = mails(60)
    ids = traffic.send(sent)
    version = build(traffic.database, tmp_path, "mail", DEFAULTS)
    examples = [example for split in SPLITS for example in load_split(version, split)]
    by_id = {example.exchange_id: example for example in examples}
    assert set(by_id) == set(ids)
    for one, exchange_id in zip(sent, ids, strict=True):
        example = by_id[exchange_id]
        assert [message.text for message in example.messages] == [one.system, one.question]
        assert (example.target, example.teacher_model, example.protocol) == (one.answer, "teacher-1", "openai")
        assert example.id == exchange_id.replace("ex_", "eg_")
    line = json.loads((version.folder / "train.jsonl").read_text("utf-8").splitlines()[0])
    assert list(line) == ["id", "exchange_id", "prompt", "completion", "input_key", "teacher_model", "protocol", "terms"]
    assert line["completion"] == [{"role": "assistant", "content": by_id[line["exchange_id"]].target}]


def test_realistic_tickets_come_out_clean(traffic: Traffic, tmp_path: Path) -> None:
    traffic.send(tickets(1_200))
    version = build(traffic.database, tmp_path, "triage", DEFAULTS)
    bill = version.manifest["bill"]
    assert bill["selected"] == 1_200 == bill["kept"] + sum(bill["dropped"].values())
    assert min(bill["dropped"].get(reason, 0) for reason in ("exact_duplicate", "near_duplicate", "secret", "contradiction")) > 5
    assert bill["kept"] > 850
    assert abs(version.val - 0.1 * bill["kept"]) < 0.05 * bill["kept"]
    assert abs(version.test - 0.1 * bill["kept"]) < 0.05 * bill["kept"]
    text = "".join((version.folder / f"{split}.jsonl").read_text("utf-8") for split in SPLITS)
    assert not re.search(r"sk-proj-|AKIA|@example\.com|\[redacted", text)
    assert "<EMAIL_1>" in text
    assert version.manifest["personal_data"]["found"].keys() >= {"email", "phone", "card", "iban"}
    assert version.manifest["template"]["frames"] == ["ticket"]
    assert len(version.manifest["contradictions"]["first"]) <= 20
    assert "Contradictions" in (version.folder / "card.md").read_text("utf-8")


def test_no_ticket_of_eval_is_in_train_in_other_words(traffic: Traffic, tmp_path: Path) -> None:
    """Judged on what the customer wrote, which the generator knows and the template miner has to find out."""
    traffic.send(tickets(900))
    version = build(traffic.database, tmp_path, "triage", DEFAULTS)

    def written(split: str) -> list[Wording]:
        texts = [normalise(ticket_text(example.messages[1].text)) for example in load_split(version, split)]
        return [Wording(text, text, ((), 0)) for text in texts]

    strict = CurateSettings(overlap_threshold=0.7, split_threshold=0.7, near_threshold=0.7, ngram_share=0.9)
    assert find_overlap(written("train"), written("val") + written("test"), strict).counts() == {
        "exact": 0,
        "near": 0,
        "ngram8": 0,
    }


def test_the_same_exchanges_and_settings_give_the_same_bytes(new_traffic: Callable[[str], Traffic], tmp_path: Path) -> None:
    built = []
    for name in ("one", "two"):
        traffic = new_traffic(name)
        traffic.send(tickets(300))
        built.append(build(traffic.database, tmp_path / name, "triage", DEFAULTS))
    assert files_of(built[0]) == files_of(built[1])
    assert built[0].hash == built[1].hash


def test_a_second_build_of_the_same_traffic_is_the_same_version(both_traffic: Traffic, tmp_path: Path) -> None:
    both_traffic.send(tickets(300))
    first = build(both_traffic.database, tmp_path, "triage", DEFAULTS)
    files = files_of(first)
    shutil.rmtree(first.folder)
    again = build(both_traffic.database, tmp_path, "triage", DEFAULTS)
    assert again == first and (first.is_new, again.is_new) == (True, False)
    assert files_of(again) == files
    assert len(versions(both_traffic.database)) == 1


def test_a_second_build_is_the_same_version_with_a_sample_and_hard_eval_too(traffic: Traffic, tmp_path: Path) -> None:
    said = [one.question for one in mails(600)]
    passages = [f"{said[number]} {said[number + 1]}" for number in range(0, 160, 2)]
    traffic.send([
        Sent(f"{passage} {said[200 + 3 * number + turn]}", '{"queue": "parcel"}')
        for number, passage in enumerate(passages) for turn in range(3)
    ])  # fmt: skip
    strict = {"split_threshold": 0.9, "near_threshold": 0.9, "contradiction_threshold": 0.9, "overlap_threshold": 0.8}
    chosen = CurateSettings(max_examples=200, eval_selection="hard", val_share=0.2, test_share=0.2, **strict)
    first = build(traffic.database, tmp_path, "mail", chosen)
    assert {"overlap", "not_sampled"} <= first.manifest["bill"]["dropped"].keys(), "neither must come back as fresh"
    for _ in range(3):
        assert build(traffic.database, tmp_path, "mail", chosen) == first


def test_what_an_earlier_version_held_out_keeps_what_resembles_it_out_of_train(traffic: Traffic, tmp_path: Path) -> None:
    ids = traffic.send([*mails(60), *(replace(one, user="gone") for one in mails(60, 60))])
    first = build(traffic.database, tmp_path, "mail", DEFAULTS)
    held_out = {one.exchange_id for split in ("val", "test") for one in load_split(first, split)} & set(ids[60:])
    asked = [one for one, exchange_id in zip(mails(60, 60), ids[60:], strict=True) if exchange_id in held_out]
    again = traffic.send([replace(one, question=f"{one.question} pls") for one in asked])
    without = CurateSettings(filter="-user:gone")
    version = build(traffic.database, tmp_path, "mail", without)
    examples = {one.exchange_id: one.split for split in SPLITS for one in load_split(version, split)}
    assert len(again) > 5 and not held_out & examples.keys()
    assert {examples[exchange_id] for exchange_id in again} == {"val", "test"}
    assert "held out" not in "".join(version.manifest["warnings"])
    (first.folder / "val.jsonl").unlink()
    told = build(traffic.database, tmp_path, "mail", replace(without, salt="another")).manifest["warnings"]
    assert any("inputs that were held out before only a hash is left" in warning for warning in told)


def test_growth_makes_a_new_version_and_moves_nothing(traffic: Traffic, tmp_path: Path) -> None:
    sides: dict[str, str] = {}
    for number in range(4):
        traffic.send(tickets(200, 200 * number))
        version = build(traffic.database, tmp_path, "triage", DEFAULTS)
        assert version.number == number + 1
        for split in SPLITS:
            for example in load_split(version, split):
                assert sides.setdefault(example.exchange_id, split) == split
    assert [one.number for one in versions(traffic.database, "triage")] == [1, 2, 3, 4]
    assert get_version(traffic.database, "triage", 2).number == 2
    assert load_split(get_version(traffic.database, "triage", 1), "test")


def test_an_unknown_task_leaves_nothing_behind(traffic: Traffic, tmp_path: Path) -> None:
    traffic.send(mails(3))
    with pytest.raises(NotFoundError, match="mail"):
        build(traffic.database, tmp_path, "../../evil", DEFAULTS)
    assert not (tmp_path / "datasets").exists()


def test_too_few_examples_are_refused_with_the_bill_and_a_next_step(traffic: Traffic, tmp_path: Path) -> None:
    traffic.send([*mails(12), *mails(2), Sent("Where?", status=500)])
    with pytest.raises(
        NotEnoughError, match=r"12 examples .*15 exchanges selected, 12 kept.*2 exact_duplicate.*1 failed"
    ) as caught:
        build(traffic.database, tmp_path, "mail", DEFAULTS)
    assert "minimum_examples" in caught.value.next_step
    assert versions(traffic.database) == []
    assert review.queue(traffic.database, "mail") == []


def test_a_task_of_failures_only_is_refused_with_the_bill(traffic: Traffic, tmp_path: Path) -> None:
    traffic.send([Sent("Where?", status=503)] * 4)
    with pytest.raises(NotEnoughError, match="no examples: 4 exchanges selected, 0 kept, dropped: 4 failed"):
        build(traffic.database, tmp_path, "mail", DEFAULTS)


def test_one_exchange_and_all_duplicates_are_not_enough(traffic: Traffic, tmp_path: Path, small: CurateSettings) -> None:
    traffic.send(mails(1))
    with pytest.raises(NotEnoughError, match="1 examples"):
        build(traffic.database, tmp_path, "mail", small)
    traffic.send(mails(1) * 500)
    with pytest.raises(NotEnoughError, match="500 exact_duplicate"):
        build(traffic.database, tmp_path, "mail", small)


def test_an_input_that_is_most_of_the_traffic_earns_a_warning(traffic: Traffic, tmp_path: Path) -> None:
    traffic.send([*mails(60), *(mails(1) * 40)])
    version = build(traffic.database, tmp_path, "mail", DEFAULTS)
    assert version.manifest["clusters"]["largest"] == 41
    assert any("holds 41 of 100" in warning for warning in version.manifest["warnings"])


def test_any_task_name_gives_a_safe_folder(traffic: Traffic, tmp_path: Path) -> None:
    for name in ("../up", ".hidden", "a/b c"):
        traffic.send([replace(one, task=name) for one in mails(40)])
        version = build(traffic.database, tmp_path, name, DEFAULTS)
        assert version.folder.parent.parent == tmp_path / "datasets"
        assert len(load_split(version, "train")) == version.train


def test_reviews_shape_the_next_version(both_traffic: Traffic, tmp_path: Path) -> None:
    ids = both_traffic.send(mails(60))
    database = both_traffic.database
    first = build(database, tmp_path, "mail", DEFAULTS)
    review.record(database, "mail", ids[0], "reject", reviewer="ann")
    review.record(database, "mail", ids[1], "edit", '{"queue": "legal"}', reviewer="ann")
    review.record(database, "mail", ids[2], "reject", reviewer="ann")
    review.record(database, "mail", ids[2], "accept", reviewer="bob")  # one for, one against: it waits for a third
    version = build(database, tmp_path, "mail", DEFAULTS)
    assert version.number == 2 and version.hash != first.hash
    assert version.manifest["bill"]["dropped"] == {"rejected_in_review": 1, "disputed_in_review": 1}
    examples = {example.exchange_id: example for split in SPLITS for example in load_split(version, split)}
    assert not {ids[0], ids[2]} & examples.keys()
    assert examples[ids[1]].target == '{"queue": "legal"}'


def test_an_accepted_answer_wins_over_the_majority(traffic: Traffic, tmp_path: Path) -> None:
    question = Sent("Where on earth is the parcel from last week?", '{"queue": "parcel"}')
    ids = traffic.send([*mails(60), question, question, replace(question, answer='{"queue": "billing"}')])
    version = build(traffic.database, tmp_path, "mail", DEFAULTS)
    assert version.manifest["contradictions"] == {
        "compared_as": {"kind": "json", "answers": 63, "odd": 0},
        "inputs": 1,
        "dropped": 1,
        "kinds": {"variance": 1},
        "decided_by": {"majority": 1},
        "first": [
            {
                "kept": ids[61],
                "dropped": [ids[62]],
                "answers": [['{"queue": "parcel"}', 2], ['{"queue": "billing"}', 1]],
                "decided_by": "majority",
                "kind": "variance",
            }
        ],
    }
    review.record(traffic.database, "mail", ids[62], "accept")
    version = build(traffic.database, tmp_path, "mail", DEFAULTS)
    assert version.manifest["contradictions"]["first"][0]["kept"] == ids[62]


def test_a_changed_file_is_noticed(traffic: Traffic, tmp_path: Path) -> None:
    traffic.send(mails(60))
    version = build(traffic.database, tmp_path, "mail", DEFAULTS)
    with (version.folder / "test.jsonl").open("a") as file:
        file.write("{}\n")
    with pytest.raises(StoreError, match="changed"):
        load_split(version, "test")
    (version.folder / "val.jsonl").unlink()
    with pytest.raises(StoreError, match="missing"):
        load_split(version, "val")
    with pytest.raises(NotFoundError, match="train, val, test"):
        load_split(version, "dev")


def test_what_a_crashed_build_left_is_replaced(traffic: Traffic, tmp_path: Path) -> None:
    traffic.send(mails(60))
    for name in ("v1", ".v1.draft"):
        leftover = tmp_path / "datasets" / "mail" / name
        leftover.mkdir(parents=True)
        (leftover / "junk").write_text("x")
    version = build(traffic.database, tmp_path, "mail", DEFAULTS)
    assert version.number == 1
    assert sorted(files_of(version)) == [
        "card.md", "dropped.jsonl", "golden.jsonl", "keys.npy", "manifest.json", "preferences.jsonl", "template.json",
        "test.jsonl", "train.jsonl", "val.jsonl",
    ]  # fmt: skip


def test_a_full_disk_is_told_and_what_stood_there_stays(traffic: Traffic, tmp_path: Path) -> None:
    traffic.send(mails(60))
    version = build(traffic.database, tmp_path, "mail", DEFAULTS)
    files = files_of(version)
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, most[1]))
    try:
        with pytest.raises(StoreError, match=r"File too large.*make room"):
            write_folder(version.folder, version.manifest, files)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
    assert files_of(version) == files
    assert sorted(path.name for path in version.folder.parent.iterdir()) == [".lock", "v1"]


def _hold(path: str, held: multiprocessing.synchronize.Event, done: multiprocessing.synchronize.Event) -> None:
    import fcntl

    with Path(path).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        held.set()
        done.wait(30)


def test_two_builds_of_a_task_do_not_run_at_once(traffic: Traffic, tmp_path: Path) -> None:
    traffic.send(mails(60))
    folder = tmp_path / "datasets" / "mail"
    folder.mkdir(parents=True)
    context = multiprocessing.get_context("spawn")
    held, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(str(folder / ".lock"), held, done))
    other.start()
    try:
        assert held.wait(30)
        with pytest.raises(StoreError, match="under way"):
            build(traffic.database, tmp_path, "mail", DEFAULTS)
    finally:
        done.set()
        other.join(30)
    assert build(traffic.database, tmp_path, "mail", DEFAULTS).number == 1


def test_a_missing_dataset_is_refused_with_the_next_step(traffic: Traffic, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="dataset build mail"):
        get_version(traffic.database, "mail")
    traffic.send(mails(60))
    build(traffic.database, tmp_path, "mail", DEFAULTS)
    with pytest.raises(NotFoundError, match=r"version 7.*v1"):
        get_version(traffic.database, "mail", 7)
    with pytest.raises(NotFoundError, match="mail"):
        get_version(traffic.database, "other")
