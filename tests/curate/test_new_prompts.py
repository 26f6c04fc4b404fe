"""A prompt that a frozen version never saw is announced; names, dates and what users say are not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from capture.messages import Message
from curate.datasets import DatasetVersion
from curate.examples import Example, to_line
from curate.freeze import hashed
from curate.new_prompts import NewPrompt, new_prompts
from curate.splits import SPLITS
from curate.tasks.aliases import add_alias
from tests.curate.sending import Sent, Traffic, mails

BODY = (
    "You sort the mail of a shop for garden tools.\nToday is {day}, the customer is {name}.\n"
    "Choose one queue: billing, parcel, account.\nReply only with JSON and never explain your choice to the customer."
)
DAYS, NAMES = ("Monday, 3 May", "Friday, 12 June", "Sunday, 1 July"), ("Anna Meyer", "Bert Novak", "Carla van der Rossi", "Dirk")
ESCALATE = "Angry customers always go to the queue escalation, whatever else they write."


def system(number: int, body: str = BODY) -> str:
    return body.format(day=DAYS[number % 3], name=NAMES[number % 4])


def sent(first: int, count: int, body: str = BODY, task: str = "mail") -> list[Sent]:
    return [Sent(mail.question, "x", task=task, system=system(n, body)) for n, mail in enumerate(mails(count, first))]


@pytest.fixture
def freeze(tmp_path: Path) -> Callable[[Sequence[str]], DatasetVersion]:
    """Freezes a version whose examples have these system prompts."""

    def make(systems: Sequence[str]) -> DatasetVersion:
        files = dict.fromkeys((f"{split}.jsonl" for split in SPLITS), "")
        for number, (instructions, mail) in enumerate(zip(systems, mails(len(systems), 5_000), strict=True)):
            asked = (Message("system", instructions), Message("user", mail.question))
            split = SPLITS[min(number % 10, 2)]
            example = Example(f"eg_{number}", f"ex_{number}", "mail", asked, "x", split, f"b2:{number}", "teacher-1", "openai")
            files[f"{split}.jsonl"] += f"{to_line(example)}\n"
        manifest = hashed({"task": "mail", "number": 1}, files)
        folder = tmp_path / "datasets" / "mail" / "v1"
        folder.mkdir(parents=True)
        for name, content in files.items():
            (folder / name).write_text(content, "utf-8")
        return DatasetVersion("dsv_1", "mail", 1, manifest["hash"], len(systems), 0, 0, folder, manifest, 0)

    return make


Freeze = Callable[[Sequence[str]], DatasetVersion]


def found(traffic: Traffic, version: DatasetVersion) -> list[NewPrompt]:
    return new_prompts(traffic.database, "mail", version, newest=100)


def test_a_sentence_that_was_added_is_announced_with_a_diff(both_traffic: Traffic, freeze: Freeze) -> None:
    version = freeze([system(n) for n in range(40)])
    both_traffic.send([*sent(0, 60), *sent(100, 12, f"{BODY}\n{ESCALATE}")])
    (new,) = found(both_traffic, version)
    assert (new.exchanges, round(new.share, 3), new.diff) == (12, 0.167, (f"+ {ESCALATE}",))
    assert new.example_id == both_traffic.ids[-1]
    assert new.first_us > 0


def test_names_dates_and_what_users_say_are_no_news_but_a_new_form_for_them_is(traffic: Traffic, freeze: Freeze) -> None:
    version = freeze([BODY.format(day="Monday, 1 March", name="Zoe Zimmermann")] * 40)
    traffic.send(sent(0, 80))
    assert found(traffic, version) == []
    lost = "My parcel has been lost again, please tell me where it is now:"
    traffic.send([Sent(f"{lost} {mail.question}", "x", system=system(n)) for n, mail in enumerate(mails(8, 300))])
    assert found(traffic, version) == []
    form = "Sort the message between the lines into one of our queues, and say why:"
    traffic.send([Sent(f"{form} {mail.question}", "x", system=system(n)) for n, mail in enumerate(mails(40, 600))])
    assert [(new.exchanges, len(new.diff)) for new in found(traffic, version)] == [(40, 1)]


def test_a_prompt_of_another_kind_is_announced_whatever_its_variables(traffic: Traffic, freeze: Freeze) -> None:
    version = freeze([system(n) for n in range(40)])
    other = "Classify the letter that {name} has written to us on {day} into one of the nine departments of our company."
    add_alias(traffic.database, "mail", "post")
    traffic.send([*sent(0, 20), *sent(100, 30, other, task="post")])
    (new,) = found(traffic, version)
    assert new.exchanges == 30
    gone = [line for line in new.diff if line.startswith("- ")]
    added = [line for line in new.diff if line.startswith("+ ")]
    assert "- Choose one queue: billing, parcel, account." not in added
    assert "- You sort the mail of a shop for garden tools." in gone
    assert len(added) == 1
    assert added[0].startswith("+ classify the letter that {variable} has written to us")


def test_damaged_exchanges_are_passed_over(traffic: Traffic, freeze: Freeze) -> None:
    version = freeze([system(n) for n in range(40)])
    traffic.send([*sent(0, 60), *sent(100, 12, f"{BODY}\n{ESCALATE}")])
    traffic.damage(traffic.ids[3], traffic.ids[-1])
    assert [new.exchanges for new in found(traffic, version)] == [11]


def test_instructions_that_are_gone_are_announced(traffic: Traffic, freeze: Freeze) -> None:
    version = freeze([system(n) for n in range(40)])
    shorter = BODY.partition("\nReply")[0]
    traffic.send([*sent(0, 40), *sent(100, 10, shorter)])
    (new,) = found(traffic, version)
    assert new.exchanges == 10
    assert new.diff == ("- Reply only with JSON and never explain your choice to the customer.",)


def test_a_few_requests_are_not_announced_and_without_traffic_there_is_nothing(traffic: Traffic, freeze: Freeze) -> None:
    version = freeze([system(n) for n in range(40)])
    assert found(traffic, version) == []
    traffic.send([*sent(0, 90), *sent(100, 4, f"{BODY}\n{ESCALATE}")])
    assert found(traffic, version) == []
