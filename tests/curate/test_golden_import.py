from __future__ import annotations

import json
from pathlib import Path

import pytest

from capture.errors import NotEnoughError, NotFoundError
from curate.datasets import build
from curate.golden import pins
from curate.golden_import import import_golden
from curate.golden_pins import pin_exchange, unpin
from curate.settings import CurateSettings
from tests.curate.sending import SYSTEM, Traffic, mails

DEFAULTS = CurateSettings()


def chat(question: str, answer: str, **more: str) -> dict[str, object]:
    turns = (("system", SYSTEM), ("user", question), ("assistant", answer))
    return {"messages": [{"role": role, "content": content} for role, content in turns], **more}


def written(path: Path, *rows: object) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), "utf-8")
    return path


def test_good_rows_are_pinned_and_bad_ones_told_by_number(traffic: Traffic, tmp_path: Path) -> None:
    path = written(
        tmp_path / "expert.jsonl",
        chat("Where is the parcel?", "parcel", grade="easy", note="from the handbook"),
        "{broken",
        chat("Call me at ann@example.org", "account"),
        chat("My key is sk-proj-" + "a1B2" * 12, "account"),
        {"messages": [{"role": "user", "content": "no answer"}]},
        {"colour": "blue"},
    )
    made = import_golden(traffic.database, "mail", path, DEFAULTS, who="ann")
    assert [line for line, _ in made.bad] == [2, 4, 5, 6]
    assert "secret" in dict(made.bad)[4] and "colour" in dict(made.bad)[6]
    found = {one.messages[1].text: one for one in pins(traffic.database, "mail")}
    assert set(found) == {"Where is the parcel?", "Call me at <EMAIL_1>"}
    easy = found["Where is the parcel?"]
    assert (easy.answer.text, easy.grade, easy.note, easy.who, easy.exchange_id) == (
        "parcel", "easy", "from the handbook", "ann", "",
    )  # fmt: skip


def test_an_imported_input_is_the_same_as_captured_one(traffic: Traffic, tmp_path: Path) -> None:
    (mail,) = mails(1)
    (id,) = traffic.send([mail])
    pin_exchange(traffic.database, "mail", id, DEFAULTS, who="ann")
    path = written(tmp_path / "expert.jsonl", chat(f"  {mail.question.upper()}!", "legal"))
    made = import_golden(traffic.database, "mail", path, DEFAULTS, who="bob")
    assert [one.side for one in made.pinned] == ["golden"]
    assert [one.answer.text for one in pins(traffic.database, "mail")] == ["legal"]
    (again,) = made.pinned
    assert again.replaced is not None and (again.replaced.answer.text, again.replaced.who) == (mail.answer, "ann")


def test_rows_that_answer_an_input_otherwise_are_bad_ones(traffic: Traffic, tmp_path: Path) -> None:
    path = written(
        tmp_path / "expert.jsonl",
        chat("What is the fee?", "fee"),
        chat("what is the fee", "fee"),
        chat("What is the fee?", "other"),
    )
    made = import_golden(traffic.database, "mail", path, DEFAULTS, who="ann")
    assert made.bad == ((3, "answers its input otherwise than line 1 does"),)
    assert [(one.answer.text, one.who) for one in pins(traffic.database, "mail")] == [("fee", "ann")]


def test_a_row_with_one_answer_that_contradicts_pins_none_of_its_answers(traffic: Traffic, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Is it there?"}, {"role": "assistant", "content": "yes"}]
    again = [{"role": "user", "content": "And now?"}, {"role": "assistant", "content": "yes"}]
    other = [*again[:1], {"role": "assistant", "content": "no"}]
    whole = {"messages": [{"role": "system", "content": "Be brief."}, *turns, *again]}
    last = [*whole["messages"][:-2], *other]
    path = written(
        tmp_path / "expert.jsonl", {"messages": [{**turn, "weight": 0} if turn == turns[1] else turn for turn in last]}, whole
    )
    made = import_golden(traffic.database, "mail", path, DEFAULTS, who="ann")
    assert made.bad == ((2, "answers its input otherwise than line 1 does"),)
    assert [one.answer.text for one in pins(traffic.database, "mail")] == ["no"]


def test_a_file_is_pinned_with_the_prompt_that_it_is_uploaded_with(traffic: Traffic, tmp_path: Path) -> None:
    traffic.send(mails(60))
    build(traffic.database, tmp_path, "mail", DEFAULTS)
    path = written(tmp_path / "expert.jsonl", {"text": mails(1)[0].question, "label": "parcel"})
    (bare,) = import_golden(traffic.database, "mail", path, DEFAULTS, who="ann").without_prompt
    version = build(traffic.database, tmp_path, "mail", DEFAULTS)
    (told,) = (warning for warning in version.manifest["warnings"] if "pinned" in warning)
    assert "--system" in told and f"potstill dataset golden remove mail {bare}" in told, "the way out"
    unpin(traffic.database, "mail", bare)
    made = import_golden(traffic.database, "mail", path, DEFAULTS, who="ann", system=SYSTEM)
    assert [one.side in ("train", "val", "test") for one in made.pinned] == [True], "it is an input of the app's"
    assert made.without_prompt == ()
    version = build(traffic.database, tmp_path, "mail", DEFAULTS)
    assert version.manifest["bill"]["dropped"]["golden"] == 1
    assert not [warning for warning in version.manifest["warnings"] if "pinned" in warning]


def test_tools_and_calls_come_through(traffic: Traffic, tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "book", "parameters": {"type": "object", "properties": {"to": {}}}}}
    call = {"id": "c1", "type": "function", "function": {"name": "book", "arguments": '{"to": "Rome"}'}}
    turns = [{"role": "user", "content": "Rome, please"}, {"role": "assistant", "content": None, "tool_calls": [call]}]
    path = written(tmp_path / "expert.jsonl", {"messages": turns, "tools": [tool]})
    import_golden(traffic.database, "mail", path, DEFAULTS, who="ann")
    (pinned,) = pins(traffic.database, "mail")
    assert [(one.name, one.arguments) for one in pinned.answer.tool_calls] == [("book", '{"to": "Rome"}')]
    assert pinned.tools[0].name == "book"


def test_a_file_without_a_good_row_says_what_is_wrong_with_the_first(traffic: Traffic, tmp_path: Path) -> None:
    with pytest.raises(NotEnoughError, match="Line 1"):
        import_golden(traffic.database, "mail", written(tmp_path / "bad.jsonl", {"colour": "blue"}), DEFAULTS, who="ann")
    with pytest.raises(NotFoundError):
        import_golden(traffic.database, "mail", tmp_path / "missing.jsonl", DEFAULTS, who="ann")
