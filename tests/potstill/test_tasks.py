"""`potstill tasks` and its verbs, from the command line."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from capture.database import open_database
from capture.messages import Message
from capture.settings import load_settings
from curate.likeness.templates import MINED_SHARE, mine, read_input
from potstill.cli import run_command
from tests.curate.keeping import settled
from tests.curate.sending import SYSTEM, Sent, Traffic, mails

Run = Callable[..., str]


@pytest.fixture
def traffic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Traffic]:
    """The store of the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POTSTILL_CONFIG", raising=False)
    with closing(open_database(load_settings(environ={}).database_url)) as database:
        yield Traffic(database, tmp_path / "data" / "spool")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line and gives what it printed."""

    def execute(*words: str, code: int = 0) -> str:
        assert run_command(["tasks", *words]) == code
        said = capsys.readouterr()
        return said.err if code else said.out

    return execute


def as_json(text: str) -> Any:
    return json.loads(text)


def test_untagged_traffic_is_suggested_named_and_unnamed(traffic: Traffic, run: Run) -> None:
    assert "No exchange is stored yet" in run()
    assert "No exchange is stored yet" in run("suggest")
    traffic.send([*(Sent(mail.question, "x", task="") for mail in mails(7)), Sent("hi", "x", task="triage")])
    (suggestion,) = as_json(run("suggest", "--json"))["suggestions"]
    mark = suggestion["fingerprint"]
    shown = run("suggest")
    assert f"potstill tasks name {mark} sort-mail-choose" in shown
    assert suggestion["example_id"] in shown
    assert as_json(run("name", mark, "triage", "--json"))["given"] == {"triage": 7}
    (task,) = as_json(run("--json"))
    assert (task["task"], task["exchanges"], task["named_templates"]) == ("triage", 8, [mark])
    assert mark in run()
    traffic.send([Sent(mail.question, "x", task="") for mail in mails(5, 90)])
    assert "triage (named)" in (again := run("suggest"))
    assert "potstill tasks name --apply" in again
    assert run("name", "--apply") == "5 exchanges now of task triage.\n"
    assert run("suggest") == "Every exchange of an app has a task.\n"
    assert run("name", "--apply") == "Nothing new has a template with a name.\n"
    assert run("unname", mark) == "12 exchanges no longer of task triage.\n"
    assert "potstill tasks suggest" in run()
    assert "Give a template and a task" in run("name", mark, code=1)
    assert "Give a template and a task" in run("name", code=1)


def test_tasks_are_merged_and_parted_again(traffic: Traffic, run: Run) -> None:
    traffic.send([Sent("a", "x", task="old"), Sent("b", "x", task="new")])
    assert "What is tagged old (1 exchange of apps) counts as new" in run("merge", "old", "new")
    assert {row["task"]: row["aliases"] for row in as_json(run("--json"))} == {"new": ["old"], "old": []}
    assert "would be a circle" in run("alias", "old", "new", code=1)
    assert "counts as new" in run("alias", "new", "newer")
    assert as_json(run("unalias", "old", "--json")) == {"task": "new", "alias": "old"}
    assert "There is no task 'odl'" in run("merge", "odl", "new", code=1)


def test_what_no_app_sent_is_told_apart_and_not_merged(traffic: Traffic, run: Run) -> None:
    own = [Sent("b", "x", task="old", purpose="relabel"), Sent("c", "x", task="old", purpose="judge")]
    traffic.send([Sent("a", "x", task="old"), *own, Sent("d", "x", task="new"), Sent("e", "x", task="", purpose="judge")])
    shown = run()
    assert "3 exchanges more that no app sent" in shown
    assert "tasks suggest" not in shown
    assert {row["task"]: (row["exchanges"], row["from_apps"]) for row in as_json(run("--json"))} == {
        "": (1, 0),
        "new": (1, 1),
        "old": (3, 1),
    }
    assert as_json(run("merge", "old", "new", "--json"))["exchanges"] == 1


def test_an_alias_is_of_a_known_task_and_a_tag_that_an_app_can_send(traffic: Traffic, run: Run) -> None:
    traffic.send([Sent("a", "x", task="triage"), Sent("b", "x", task="mail")])
    unknown = run("alias", "triaeg", "post", code=1)
    assert "There is no task 'triaeg'" in unknown and "mail, triage" in unknown
    assert "'has space' cannot be the name of a task" in run("alias", "triage", "has space", code=1)
    assert "counts as triage" in run("alias", "triage", "post")
    assert "'post' is itself another name of task 'triage'" in run("alias", "post", "letter", code=1)


def test_an_account_without_a_login_name_can_give_names(traffic: Traffic, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_name() -> str:
        raise KeyError("getpwuid(): uid not found: 54321")

    monkeypatch.setattr(getpass, "getuser", no_name)
    traffic.send([*(Sent(mail.question, "x", task="") for mail in mails(7)), Sent("a", "x", task="old"), Sent("b", "x")])
    (suggestion,) = as_json(run("suggest", "--json"))["suggestions"]
    assert "7 exchanges now of task triage" in run("name", suggestion["fingerprint"], "triage")
    assert "counts as mail" in run("alias", "mail", "post")
    assert "counts as mail" in run("merge", "old", "mail")


def test_a_template_is_shown_with_marks_and_hostile_text_stays_text(traffic: Traffic, run: Run) -> None:
    hostile = "\x1b[2J[bold]You sort mail[/bold] for the shop, and nothing else at all."
    questions = [f"Mail:\n{mail.question}\nOne word only, please." for mail in mails(30)]
    asked = [read_input((Message("system", hostile), Message("user", question))) for question in questions]
    changed = [read_input((Message("system", SYSTEM), Message("user", question))) for question in questions]
    assert "has no template yet" in run("template", "mail", code=1)
    for version in (asked, changed):
        (template,) = mine(version, [str(n) for n in range(30)], MINED_SHARE)
        settled(traffic.database, "mail", template, version)
    traffic.send([Sent(questions[0], "x", system=hostile)])
    shown = run("template", "mail", "--version", "1")
    assert "Mail:\n{variable}\nOne word only, please." in shown
    assert "\\x1b[2J[bold]You sort mail[/bold]" in shown
    assert "\x1b" not in shown
    assert mails(1)[0].question not in shown
    difference = run("template", "mail", "--diff")
    assert f"+ message (system): {SYSTEM}" in difference
    assert "- message (system): \\x1b[2J[bold]" in difference
    told = as_json(run("template", "mail", "--diff", "2..1", "--json"))
    assert (told["before"], told["after"], told["removed"]) == (2, 1, [f"message (system): {SYSTEM}"])
    assert run("template", "mail", "--diff", "1..1").endswith("Nothing changed.\n")
    assert "names no two versions" in run("template", "mail", "--diff", "1-2", code=1)
    assert as_json(run("template", "mail", "--json"))["number"] == 2
