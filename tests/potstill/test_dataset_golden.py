"""Golden set, contradictions and like examples from the command line, on a dataset built from real traffic."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from capture.database import open_database
from capture.errors import NotFoundError, PotstillError, StoreError
from capture.settings import Settings, load_settings
from curate.datasets import alone, build, load_split
from curate.settings import CurateSettings
from curate.tasks.aliases import add_alias
from potstill.commands import add_noun, dataset_disputes, dataset_golden, dataset_similar
from potstill.output import Output
from tests.curate.sending import SYSTEM, Sent, Traffic, mails

QUESTION = "Where on earth is the parcel of last week?"


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A store in the current folder with 60 mails, one of them contradicted, and a dataset version of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POTSTILL_CONFIG", raising=False)
    settings = load_settings(environ={})
    (settings.data_folder / "spool").mkdir(parents=True)
    database = open_database(settings.database_url, is_checkpointer=True)
    traffic = Traffic(database, settings.data_folder / "spool")
    traffic.send([*mails(60), *(Sent(QUESTION, json.dumps({"queue": queue})) for queue in ("parcel", "parcel", "billing"))])
    build(database, settings.data_folder, "mail", CurateSettings())
    database.close()
    return settings


def run(settings: Settings, *arguments: str, as_json: bool = True) -> None:
    parser = argparse.ArgumentParser()
    verbs = add_noun(parser.add_subparsers(), "dataset", help="curated")
    for module in (dataset_golden, dataset_disputes, dataset_similar):
        module.add_commands(verbs)
    found = parser.parse_args(["dataset", *arguments, *(["--json"] if as_json else [])])
    assert found.run(found, settings, Output(as_json=as_json)) == 0


def said(capsys: pytest.CaptureFixture[str], settings: Settings, *arguments: str) -> Any:
    capsys.readouterr()
    run(settings, *arguments)
    return json.loads(capsys.readouterr().out)


def trained(settings: Settings) -> list[str]:
    from curate.datasets import get_version

    database = open_database(settings.database_url)
    try:
        return [example.exchange_id for example in load_split(get_version(database, "mail"), "train")]
    finally:
        database.close()


def test_a_pin_is_added_listed_and_taken_back(house: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    id = trained(house)[0]
    made = said(capsys, house, "golden", "add", "mail", id, "--answer", '{"queue": "legal"}', "--grade", "hard")
    assert [(one["golden"]["exchange_id"], one["side"], one["trained"]) for one in made["pinned"]] == [(id, "train", ["mail/v1"])]
    (pin,) = said(capsys, house, "golden", "list", "mail")
    assert (pin["golden"]["answer"]["text"], pin["golden"]["grade"], pin["trained"]) == (
        '{"queue": "legal"}',
        "hard",
        ["mail/v1"],
    )
    run(house, "golden", "list", "mail", as_json=False)
    assert "hard" in capsys.readouterr().out
    assert said(capsys, house, "golden", "remove", "mail", id)["exchange_id"] == id
    assert said(capsys, house, "golden", "list", "mail") == []


def test_pinning_what_was_trained_on_is_told_loudly(house: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    run(house, "golden", "add", "mail", trained(house)[0], as_json=False)
    told = capsys.readouterr()
    assert "held out from the next version on" in told.out
    assert "warning: Trained on before: 1 pinned input" in told.err and "mail/v1" in told.err


def test_a_file_of_experts_answers_is_imported_with_bad_lines_told(
    house: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turns = [{"role": "user", "content": "Is it there?"}, {"role": "assistant", "content": "parcel"}]
    (tmp_path / "expert.jsonl").write_text(f"{json.dumps({'messages': turns, 'grade': 'easy'})}\n{{broken\n", "utf-8")
    run(house, "golden", "import", "mail", str(tmp_path / "expert.jsonl"), as_json=False)
    told = capsys.readouterr().out
    assert "1 input of mail pinned" in told and "line 2" in told


def test_columns_of_a_file_may_have_other_names(house: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"utterance": "Is it there?", "label": "parcel"}, {"utterance": "And now?"}]
    (tmp_path / "expert.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    columns = ("--column", "input=utterance", "--column", "answer=label")
    made = said(capsys, house, "golden", "import", "mail", str(tmp_path / "expert.jsonl"), *columns)
    assert [one["golden"]["answer"]["text"] for one in made["pinned"]] == ["parcel"]
    assert [number for number, _ in made["bad"]] == [2]


def test_rows_are_pinned_with_the_system_prompt_and_the_tools_that_are_given(
    house: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "expert.csv").write_text("text,label\nIs it there?,parcel\n", "utf-8")
    (tmp_path / "tools.json").write_text('[{"name": "look", "parameters": {"type": "object", "properties": {}}}]', "utf-8")
    run(house, "golden", "import", "mail", str(tmp_path / "expert.csv"), as_json=False)
    told = capsys.readouterr().err
    assert "1 pinned input has no system prompt" in told and "--system" in told
    given = ("--system", SYSTEM, "--tools", str(tmp_path / "tools.json"))
    (made,) = said(capsys, house, "golden", "import", "mail", str(tmp_path / "expert.csv"), *given)["pinned"]
    assert [message["text"] for message in made["golden"]["messages"]] == [SYSTEM, "Is it there?"]
    assert [tool["name"] for tool in made["golden"]["tools"]] == ["look"]
    run(house, "golden", "import", "mail", str(tmp_path / "expert.csv"), *given, as_json=False)
    assert "system prompt" not in capsys.readouterr().err


def test_an_unknown_task_is_noticed_and_one_without_a_pin_is_known(house: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NotFoundError, match="There is no task 'mial'"):
        run(house, "golden", "list", "mial")
    assert said(capsys, house, "golden", "list", "mail") == []


def test_nothing_is_pinned_while_a_build_is_under_way(house: Settings) -> None:
    id = trained(house)[0]
    with alone(house.data_folder, "mail"), pytest.raises(StoreError, match="'mail' is under way"):
        run(house, "golden", "add", "mail", id)
    run(house, "golden", "add", "mail", id)
    with alone(house.data_folder, "mail"), pytest.raises(StoreError, match="'mail' is under way"):
        run(house, "golden", "remove", "mail", id)


def test_an_alias_is_taken_for_its_task(house: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    id = trained(house)[0]
    database = open_database(house.database_url)
    try:
        add_alias(database, "mail", "post")
    finally:
        database.close()
    (made,) = said(capsys, house, "golden", "add", "post", id)["pinned"]
    assert (made["golden"]["task"], made["trained"]) == ("mail", ["mail/v1"])
    assert said(capsys, house, "golden", "list", "post") == said(capsys, house, "golden", "list", "mail") != []
    assert said(capsys, house, "contradictions", "post") == said(capsys, house, "contradictions", "mail") != []
    assert said(capsys, house, "golden", "remove", "post", id)["exchange_id"] == id


def test_words_for_one_pin_do_not_go_with_all_accepted_ones(house: Settings) -> None:
    with pytest.raises(PotstillError, match="Leave --answer"):
        run(house, "golden", "add", "mail", "--accepted-by", "2", "--grade", "hard")


def test_contradictions_are_shown_with_all_sides(house: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = said(capsys, house, "contradictions", "mail")
    assert (found["asked"], found["kind"], found["decided_by"]) == (QUESTION, "variance", "majority")
    assert [(answer["text"], answer["stands"], len(answer["exchange_ids"])) for answer in found["answers"]] == [
        ('{"queue": "parcel"}', True, 2),
        ('{"queue": "billing"}', False, 1),
    ]
    assert said(capsys, house, "contradictions", "mail", "--kind", "teachers") == []
    run(house, "contradictions", "mail", as_json=False)
    told = capsys.readouterr().out
    assert "keeps" in told and "teacher-1 (2)" in told and "1 contradiction: 1 variance" in told
    assert all(answer["newest_id"] == answer["exchange_ids"][-1] in told for answer in found["answers"]), "ids that verdicts take"


def test_like_examples_are_shown_and_noted_and_nothing_is_deleted(
    house: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from curate.reviewing.review import queue

    ids = trained(house)
    rows = [{"id": id, "vector": [1.0 if place == at else 0.0 for place in range(len(ids))]} for at, id in enumerate(ids)]
    rows[1]["vector"] = rows[0]["vector"]
    rows.append({"id": "ex_unknown", "vector": rows[0]["vector"]})
    (tmp_path / "vectors.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    for _ in range(2):
        found = said(capsys, house, "similar", "mail", "--vectors", str(tmp_path / "vectors.jsonl"), "--note")
    left, right = sorted(ids[:2])
    assert found["pairs"] == [{"left": left, "right": right, "similarity": 1.0}]
    assert (found["compared"], found["unknown"], found["noted"]) == (len(ids), 1, 2)
    database = open_database(house.database_url)
    try:
        notes = {card.exchange_id: card.note for card in queue(database, "mail", 200)}
    finally:
        database.close()
    assert notes[left].count(f"an embedding finds it like {right} (1.00)") == 1
    assert trained(house) == ids
    run(house, "similar", "mail", "--vectors", str(tmp_path / "vectors.jsonl"), as_json=False)
    told = capsys.readouterr().out
    assert "1 pair of" in told and "1 vector of no kept example" in told
