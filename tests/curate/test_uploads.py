"""A team's own data sets become exchanges, and versions can be frozen of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from capture import feed, feedback
from capture.database import Database
from capture.errors import NotEnoughError, SettingsError
from capture.exchange import Conversation, Exchange
from capture.filters import parse_filter
from capture.pricing import PriceTable
from curate.datasets import build, load_split
from curate.formats.exporting import export
from curate.settings import CurateSettings
from curate.terms import terms_of
from curate.uploads import Upload, UploadReport, import_dataset
from tests.curate.formats.making import WEATHER, example, frozen, mixed, preference
from tests.curate.sending import Traffic, mails

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "datasets"
PRICES = PriceTable({}, 0.0)
CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}


def upload(database: Database | None, *files: Path, **wishes: Any) -> UploadReport:
    return import_dataset(database, PRICES, files, Upload(**{"task": "mail", **wishes}))


def lines(path: Path, rows: Sequence[object]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8")
    return path


def stored(database: Database, words: str = "task:mail") -> list[tuple[Exchange, Conversation]]:
    found = feed.with_content(database, parse_filter(words))
    return [(exchange, feed.conversation_of(exchange, content)) for exchange, content in found]


def part(source: Path, target: Path, count: int) -> Path:
    """The first `count` lines of a file of the shared data; skips where it is not laid out."""
    if not source.is_file():
        pytest.skip(f"{source.name} is not in ../shared/data")
    with source.open(encoding="utf-8") as file:
        target.write_text("".join(islice(file, count)), "utf-8")
    return target


def test_rows_become_exchanges_with_teacher_split_terms_and_scores(traffic: Traffic, tmp_path: Path) -> None:
    rows = [{**CHAT, "id": "r1", "reward": 0.5, "terms": "own"}, {**CHAT, "id": "r2", "split": "dev"}]
    file = lines(tmp_path / "test.jsonl", rows)
    report = upload(traffic.database, file, teacher="gpt-4o", terms="allowed: contract", system="Be brief.")
    assert (report.exchanges.stored, report.scores, report.pairs) == (2, 1, 0)
    found = {exchange.tags["row"]: (exchange, said) for exchange, said in stored(traffic.database)}
    first, said = found["r1"]
    assert (first.upstream, first.model_served, first.purpose) == ("import:dataset", "import:gpt-4o", "app")
    assert [(turn.role, turn.text) for turn in said.asked] == [("system", "Be brief."), ("user", "Hi")]
    assert said.answer is not None and said.answer.text == "Hello"
    assert [(row.tags["split"], row.tags["terms"]) for row, _ in (found["r1"], found["r2"])] == [
        ("test", "own"), ("val", "allowed: contract"),
    ]  # fmt: skip
    (score,) = feedback.of_exchange(traffic.database, first.id)
    assert (score.name, score.value, score.source) == ("reward", 0.5, "import")


def test_a_row_counts_as_often_as_a_file_says_it_and_a_second_import_adds_nothing(traffic: Traffic, tmp_path: Path) -> None:
    file = lines(tmp_path / "a.jsonl", [CHAT, {**CHAT, "reward": 1}])
    first = upload(traffic.database, file)
    assert (first.exchanges.stored, first.exchanges.known) == (2, 0)
    assert upload(traffic.database, file).exchanges.known == 2
    trl = {"prompt": CHAT["messages"][:1], "completion": CHAT["messages"][1:]}
    again = upload(traffic.database, lines(tmp_path / "b.jsonl", [trl]), teacher="other")
    assert (again.exchanges.stored, again.exchanges.known) == (0, 1)
    assert upload(traffic.database, tmp_path / "b.jsonl", task="other").exchanges.stored == 1
    exchanges = [exchange for exchange, _ in stored(traffic.database)]
    assert sorted(len(feedback.of_exchange(traffic.database, exchange.id)) for exchange in exchanges) == [0, 1]


def test_a_majority_of_equal_rows_decides(traffic: Traffic, tmp_path: Path) -> None:
    words = ("parcel", "invoice", "login", "refund", "address", "colour", "voucher", "delay", "size", "password", "table", "lamp")
    rows = [
        {"messages": [{"role": "user", "content": f"{word} {other}"}, {"role": "assistant", "content": said}]}
        for word in words for other in ("is lost today", "came broken again", "shall be another one please")
        for said in ("no", "yes", "no")
    ]  # fmt: skip
    upload(traffic.database, lines(tmp_path / "votes.jsonl", rows))
    version = build(
        traffic.database, tmp_path, "mail", CurateSettings(minimum_examples=3, near_threshold=1, contradiction_threshold=1)
    )
    assert {each.target for split in ("train", "val", "test") for each in load_split(version, split)} == {"no"}


def test_rows_that_are_known_keep_their_terms_and_that_is_told(both_traffic: Traffic, tmp_path: Path) -> None:
    database = both_traffic.database
    file = lines(tmp_path / "a.jsonl", [{**CHAT, "id": "r1"}, {**CHAT, "id": "r2"}])
    assert upload(database, file, teacher="acme").other_terms == {}
    assert upload(database, file, terms="allowed: contract").other_terms == {"import:acme": 2}
    assert upload(database, file).other_terms == {}, "nothing was said about terms"
    assert upload(None, file, terms="allowed: contract").other_terms == {}
    assert upload(database, file, task="other", terms="allowed: contract").other_terms == {}
    assert upload(database, file, task="other", terms="allowed: contract").other_terms == {}, "they have these"
    assert terms_of("import:acme", teacher_terms={"import:acme": "allowed: why"}).verdict == "allowed"


def test_bad_rows_are_told_by_number_and_good_ones_kept(traffic: Traffic, tmp_path: Path) -> None:
    file = lines(tmp_path / "rows.jsonl", [CHAT, "{broken", {"messages": []}, "[1]", {"messages": CHAT["messages"][:1]}])
    report = upload(traffic.database, file).exchanges
    assert (report.stored, report.bad) == (1, 4)
    assert [problem.line for problem in report.problems] == [2, 3, 4, 5]
    assert "is not JSON" in report.problems[0].reason and "to be learnt" in report.problems[3].reason


def test_a_dry_run_counts_and_stores_nothing(traffic: Traffic, tmp_path: Path) -> None:
    report = upload(None, lines(tmp_path / "rows.jsonl", [CHAT]))
    assert report.exchanges.is_dry_run and report.exchanges.read == 1
    assert stored(traffic.database) == []


@pytest.mark.parametrize(
    ("text", "wishes", "error", "told"),
    [
        ("", {}, SettingsError, "it has no rows"),
        ('{"a": 1}\n', {}, SettingsError, "line 1 has the columns a"),
        ("text,label\nx,y\n", {"format": "xml"}, SettingsError, "There is no format 'xml'"),
        ("text,label\nx,y\n", {"task": "a b"}, SettingsError, "'a b' is no name for a task"),
        ("text,label\nx,y\n", {"columns": {"input": "words"}}, SettingsError, "has no column 'words'"),
        ("text,label\nx,\n", {}, NotEnoughError, "line 2: its answer is empty"),
    ],
)
def test_what_cannot_be_read_at_all_says_why(
    text: str, wishes: dict[str, Any], error: type[Exception], told: str, traffic: Traffic, tmp_path: Path
) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(text, "utf-8")
    with pytest.raises(error, match=told):
        upload(traffic.database, file, **wishes)


def test_columns_are_read_under_other_names(traffic: Traffic, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("input,intent,words\nnoise,hello,Hi\n", "utf-8")
    upload(traffic.database, file, columns={"input": "words", "answer": "intent"})
    ((_, said),) = stored(traffic.database)
    assert said.asked[0].text == "Hi" and said.answer is not None and said.answer.text == "hello"


def test_tools_of_the_upload_are_offered_where_a_row_offers_none(traffic: Traffic, tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}}
    own = {**CHAT, "id": "own", "tools": [{**tool, "function": {"name": "mine"}}]}
    upload(traffic.database, lines(tmp_path / "rows.jsonl", [CHAT, own]), tools=(tool,))
    bodies = [content.request_body for _, content in feed.with_content(traffic.database, parse_filter("task:mail"))]
    assert sorted(json.loads(body)["tools"][0]["function"]["name"] for body in bodies) == ["clock", "mine"]


def test_of_two_answers_the_worse_is_the_exchange_and_the_better_its_demonstration(traffic: Traffic, tmp_path: Path) -> None:
    export(traffic.database, frozen(tmp_path / "v1", mixed(), [preference(1, (WEATHER,))]), tmp_path / "out", "openai-preference")
    report = upload(traffic.database, tmp_path / "out" / "preferences.jsonl")
    assert (report.exchanges.stored, report.pairs) == (1, 1)
    ((exchange, said),) = stored(traffic.database)
    assert exchange.tags["preference"] == "rejected" and said.answer is not None and said.answer.text == "worse 1"
    assert feedback.demonstrations(traffic.database, [exchange.id])[exchange.id].text == "better 1"
    assert [(each.kind, each.name, each.value) for each in feedback.of_exchange(traffic.database, exchange.id)] == [
        ("boolean", "preference", 0.0), ("demonstration", "preference", None),
    ]  # fmt: skip
    assert upload(traffic.database, tmp_path / "out" / "preferences.jsonl").exchanges.stored == 0
    assert len(feedback.of_exchange(traffic.database, exchange.id)) == 2


@pytest.mark.parametrize("format", ["openai", "trl", "csv", "hf"])
def test_an_exported_version_gives_the_same_examples_in_another_store(
    format: str, traffic: Traffic, new_traffic: Any, tmp_path: Path
) -> None:
    traffic.send(mails(36))
    version = build(traffic.database, tmp_path / "one", "mail", CurateSettings())
    export(traffic.database, version, tmp_path / "out", format)
    other = new_traffic("other").database
    assert upload(other, tmp_path / "out").exchanges.stored == version.train + version.val + version.test
    again = build(other, tmp_path / "two", "mail", CurateSettings())

    def taught(frozen_version: Any) -> set[tuple[Any, ...]]:
        splits = [load_split(frozen_version, split) for split in ("train", "val", "test")]
        return {(each.messages, each.target, each.calls, each.tools) for split in splits for each in split}

    assert taught(again) == taught(version)


def test_examples_with_tools_survive_export_and_import(traffic: Traffic, tmp_path: Path) -> None:
    given = example(3, mixed()[2].messages, "", mixed()[2].calls, mixed()[2].tools)
    export(traffic.database, frozen(tmp_path / "v1", [given]), tmp_path / "out", "parquet")
    upload(traffic.database, tmp_path / "out" / "train.parquet")
    ((exchange, content),) = feed.with_content(traffic.database, parse_filter("task:mail"))
    said = feed.conversation_of(exchange, content)
    assert said.asked == given.messages and said.answer is not None
    assert [(call.name, call.arguments) for call in said.answer.tool_calls] == [("weather", '{"city":"Bonn"}')]


def test_banking77_is_imported_and_frozen(traffic: Traffic, tmp_path: Path) -> None:
    file = part(DATA / "banking77" / "test.csv", tmp_path / "test.csv", 161)
    assert upload(traffic.database, file, system="Name the intent.").exchanges.stored == 160
    version = build(traffic.database, tmp_path, "mail", CurateSettings())
    assert version.manifest["bill"]["selected"] == 160 and version.manifest["bill"]["kept"] >= 100
    assert {each.target for each in load_split(version, "train")} >= {"card_arrival", "card_linking"}


def test_clinc150_is_imported_with_its_splits(traffic: Traffic, tmp_path: Path) -> None:
    source = DATA / "clinc150" / "data_full.json"
    if not source.is_file():
        pytest.skip("clinc150 is not in ../shared/data")
    few = {split: rows[::100] for split, rows in json.loads(source.read_text("utf-8")).items()}
    (tmp_path / "clinc.json").write_text(json.dumps(few, indent=4), "utf-8")
    report = upload(traffic.database, tmp_path / "clinc.json")
    assert (report.exchanges.stored, report.exchanges.bad) == (sum(map(len, few.values())), 0)
    found = Counter(exchange.tags["split"] for exchange, _ in stored(traffic.database))
    assert found == {"train": 151, "val": 31, "test": 55}


def test_tau_bench_is_imported_turn_by_turn_with_rewards_and_frozen(traffic: Traffic, tmp_path: Path) -> None:
    file = part(DATA / "tau_airline_gpt4o.jsonl", tmp_path / "tau.jsonl", 24)
    trajectories = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    turns = sum(turn["role"] == "assistant" for each in trajectories for turn in each["traj"])
    report = upload(traffic.database, file, teacher="gpt-4o")
    assert (report.exchanges.stored, report.scores, report.exchanges.bad) == (turns, turns, 0)
    found = stored(traffic.database)
    assert len({exchange.session_name for exchange, _ in found}) == len(trajectories)
    assert {exchange.unit for exchange, _ in found} == {""}, "a conversation of a data set is no noisy user"
    rewards = {f"{each['task_id']}/{each['trial']}": each["reward"] for each in trajectories}
    for exchange, _ in found[::20]:
        (score,) = feedback.of_exchange(traffic.database, exchange.id)
        assert score.value == rewards[exchange.tags["row"]]
    version = build(traffic.database, tmp_path, "mail", CurateSettings())
    kept = [each for split in ("train", "val", "test") for each in load_split(version, split)]
    assert any(each.calls for each in kept) and any(each.messages[-1].role == "tool" for each in kept)
    assert version.manifest["bill"]["selected"] == turns and "unit_cap" not in version.manifest["bill"]["dropped"]


def test_bfcl_questions_are_joined_with_their_gold_calls_and_frozen(traffic: Traffic, tmp_path: Path) -> None:
    name = "BFCL_v4_live_simple.json"
    questions = part(DATA / "bfcl" / name, tmp_path / name, 120)
    with pytest.raises(NotEnoughError, match="name the file in possible_answer too"):
        upload(traffic.database, questions)
    gold = part(DATA / "bfcl" / "possible_answer" / name, tmp_path / "gold.json", 120)
    report = upload(traffic.database, questions, gold).exchanges
    assert (report.stored, report.bad) == (120, 0)
    version = build(traffic.database, tmp_path, "mail", CurateSettings())
    first = next(each for each in load_split(version, "train") if each.calls)
    assert first.target == "" and first.calls[0].name in {tool.name for tool in first.tools}
