"""Real data sets and recorded exchanges become versions whose bills, contradictions and sides are true.

What these tests hold fast was wrong once, on these data.
"""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from capture.errors import NotEnoughError
from capture.pricing import PriceTable
from capture.records import Begin, End, Head
from capture.spool import SpoolWriter
from capture.writer import StoreWriter
from curate.datasets import DatasetVersion, build, load_split
from curate.disputes import disputes
from curate.settings import CurateSettings
from curate.splits import SPLITS
from curate.uploads import Upload, import_dataset
from tests import cassettes
from tests.curate.sending import Traffic, raw_id
from tests.proxy.conformance.recorded import SUFFIXES, read_recorded

DATA = cassettes.FOLDER / "datasets"
PRICES = PriceTable({}, 0.0)
DEFAULTS = CurateSettings()


def silent(stage: str, done: int, total: int) -> None:
    pass


def shared(name: str) -> Path:
    """A file of the shared data; skips where it is not laid out."""
    if not (DATA / name).is_file():
        pytest.skip(f"{name} is not in ../shared/data")
    return DATA / name


def imported(traffic: Traffic, path: Path, **wishes: Any) -> int:
    return import_dataset(traffic.database, PRICES, [path], Upload("real", **wishes)).exchanges.stored


def dropped(version: DatasetVersion) -> dict[str, int]:
    bill = version.manifest["bill"]
    counts: dict[str, int] = bill["dropped"]
    assert bill["selected"] == bill["kept"] + sum(counts.values())
    assert version.manifest["certificate"] == {"exact": 0, "near": 0, "ngram8": 0}
    return counts


@pytest.fixture
def tau(traffic: Traffic, tmp_path: Path) -> list[dict[str, Any]]:
    """Four trials each of eight tasks, imported; their trajectories."""
    lines = shared("tau_airline_gpt4o.jsonl").read_text("utf-8").splitlines()
    by_task: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        each = json.loads(line)
        by_task[each["task_id"]].append(each)
    chosen = [each for task in sorted(by_task)[:8] for each in by_task[task]]
    file = tmp_path / "tau.jsonl"
    file.write_text("".join(f"{json.dumps(each)}\n" for each in chosen), "utf-8")
    answers = sum(turn["role"] == "assistant" for each in chosen for turn in each["traj"])
    assert imported(traffic, file, teacher="gpt-4o") == answers
    return chosen


def test_turns_of_an_agent_are_neither_duplicates_nor_contradictions_of_each_other(
    tau: list[dict[str, Any]], traffic: Traffic, tmp_path: Path
) -> None:
    counts = dropped(build(traffic.database, tmp_path, "real", DEFAULTS))
    assert len(tau) == 32
    of_all = sum(turn["role"] == "assistant" for each in tau for turn in each["traj"])
    assert counts.get("contradiction", 0) <= 0.01 * of_all  # 14 % were, when every look-up seemed the answer to one question


def test_each_conversation_of_an_agent_has_one_side_and_its_calls_and_results(
    tau: list[dict[str, Any]], traffic: Traffic, tmp_path: Path
) -> None:
    version = build(traffic.database, tmp_path, "real", DEFAULTS)
    dropped(version)
    sides: dict[str, set[str]] = defaultdict(set)
    for split in SPLITS:
        for example in load_split(version, split):
            opening = [message.text for message in example.messages if message.role == "user"][:2]
            if len(opening) == 2:
                sides["\n".join(opening)].add(split)
            assert {message.role for message in example.messages} <= {"system", "user", "assistant", "tool"}
    assert len(sides) >= 25
    assert all(len(found) == 1 for found in sides.values())
    assert version.manifest["with_tools"]["train"] > 0.5 * version.train
    assert not any("sessions" in warning for warning in version.manifest["warnings"])


def test_rewards_choose_what_is_learnt_and_a_few_conversations_are_no_version(
    tau: list[dict[str, Any]], traffic: Traffic, tmp_path: Path
) -> None:
    failed = sum(turn["role"] == "assistant" for each in tau if each["reward"] < 0.5 for turn in each["traj"])
    wanted = CurateSettings(score_name="reward", minimum_score=0.5)
    with pytest.raises(NotEnoughError, match=rf"val 0, test 0.* {failed} low_score") as caught:
        build(traffic.database, tmp_path, "real", wanted)
    assert "send more traffic" in caught.value.next_step and "val_share" in caught.value.next_step


def test_labels_that_differ_for_one_question_are_found_in_banking77(traffic: Traffic, tmp_path: Path) -> None:
    rows = []
    for name in ("train", "test"):
        with shared(f"banking77/{name}.csv").open(encoding="utf-8", newline="") as file:
            rows += list(csv.DictReader(file))
    labels = ("lost_or_stolen_card", "lost_or_stolen_phone", "pending_top_up", "top_up_reverted", "card_linking", "age_limit")
    chosen = [row for row in rows if row["category"] in labels]
    with (tmp_path / "banking.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["text", "category"])
        writer.writeheader()
        writer.writerows(chosen)
    stored = imported(traffic, tmp_path / "banking.csv")
    version = build(traffic.database, tmp_path, "real", DEFAULTS)
    counts = dropped(version)
    assert version.manifest["bill"]["selected"] == stored
    assert 0.05 * stored < counts["near_duplicate"] < 0.4 * stored
    found = disputes(traffic.database, "real", DEFAULTS, silent)
    stolen = [
        dispute
        for dispute in found
        if {"lost_or_stolen_card", "lost_or_stolen_phone"} == {answer.text for answer in dispute.answers}
    ]
    assert stolen, "'Someone stole my card!' and 'Someone stole my cards!' have two labels"
    assert counts["contradiction"] == sum(
        len(answer.exchange_ids) for dispute in found for answer in dispute.answers if not answer.stands
    )


def test_clinc150_is_split_without_overlap_and_its_labels_are_held_in_all_sides(traffic: Traffic, tmp_path: Path) -> None:
    whole = json.loads(shared("clinc150/data_full.json").read_text("utf-8"))
    labels = sorted({label for _, label in whole["train"]})[:8]
    few = [row for rows in whole.values() for row in rows if row[1] in labels]
    (tmp_path / "clinc.json").write_text(json.dumps({"train": few}), "utf-8")
    imported(traffic, tmp_path / "clinc.json")
    version = build(traffic.database, tmp_path, "real", DEFAULTS)
    counts = dropped(version)
    assert counts["near_duplicate"] > counts.get("exact_duplicate", 0)
    held = {split: {example.target for example in load_split(version, split)} for split in SPLITS}
    assert held["train"] == held["val"] == held["test"] == set(labels)
    assert version.manifest["doubts"]["poisoned"] == {}, "no phrase of real questions is a backdoor"


def test_calls_of_bfcl_are_compared_by_their_arguments_and_tools(traffic: Traffic, tmp_path: Path) -> None:
    name = "BFCL_v4_multiple.json"
    files = [shared(f"bfcl/{name}"), shared(f"bfcl/possible_answer/{name}")]
    report = import_dataset(traffic.database, PRICES, files, Upload("real"))
    version = build(traffic.database, tmp_path, "real", DEFAULTS)
    counts = dropped(version)
    assert report.exchanges.stored == version.manifest["bill"]["selected"] == 200
    assert counts.get("broken_tool_arguments", 0) == 0
    for split in SPLITS:
        for example in load_split(version, split):
            assert {call.name for call in example.calls} <= {tool.name for tool in example.tools}


def test_recorded_exchanges_of_many_providers_are_kept_or_have_a_true_reason(traffic: Traffic, tmp_path: Path) -> None:
    rows = [each for each in read_recorded(("groq", "together", "openrouter", "deepseek", "anthropic")) if each.suffix]
    spool = SpoolWriter(traffic.spool_root, sync_interval_s=60)
    for number, one in enumerate(rows):
        raw, protocol = raw_id(number), SUFFIXES[one.suffix]
        headers = {"content-type": one.content_type, **({"content-encoding": one.encoding} if one.encoding else {})}
        spool.begin(raw, Begin("POST", one.path, one.query, protocol, task="real", upstream=protocol, body=one.request))
        spool.head(raw, Head(one.status, headers, protocol, ""))
        spool.part(raw, one.response)
        spool.end(raw, End(one.status, "complete", latency_us=900, upstream=protocol))
    spool.close()
    writer = StoreWriter(traffic.database, traffic.spool_root, PRICES)
    assert writer.drain() == len(rows)
    writer.close()
    version = build(traffic.database, tmp_path, "real", DEFAULTS)
    counts = dropped(version)
    assert version.manifest["bill"]["selected"] == len(rows)
    assert counts["failed"] <= sum(one.status >= 400 for one in rows) + 5
    assert min(counts["has_media"], counts["provider_only"], counts["exact_duplicate"]) > 5
    assert Counter(version.manifest["protocols"]).keys() == {"anthropic", "openai"}
    assert not any(example.target.startswith("<think><think>") for split in SPLITS for example in load_split(version, split))
