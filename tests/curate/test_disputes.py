from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from capture.errors import NotFoundError
from curate.datasets import build
from curate.disputes import disputes
from curate.golden_pins import pin_exchange
from curate.reviewing import review
from curate.settings import CurateSettings
from tests.curate.sending import Sent, Traffic, mails

QUESTION = Sent("Where on earth is the parcel of last week?", '{"queue": "parcel"}')
OTHER = replace(QUESTION, answer='{"queue": "billing"}')


def silent(stage: str, done: int, total: int) -> None:
    pass


def test_all_answers_to_an_input_are_shown_together_with_what_decides(traffic: Traffic) -> None:
    ids = traffic.send([*mails(30), QUESTION, QUESTION, OTHER])
    (found,) = disputes(traffic.database, "mail", CurateSettings(), silent)
    assert (found.asked, found.kind, found.decided_by, found.wordings) == (QUESTION.question, "variance", "majority", 1)
    assert [(one.text, one.stands, one.exchange_ids) for one in found.answers] == [
        (QUESTION.answer, True, tuple(ids[30:32])),
        (OTHER.answer, False, (ids[32],)),
    ]
    assert found.answers[0].teachers == {"teacher-1": 2}
    (waiting,) = disputes(traffic.database, "mail", CurateSettings(contradictions="person"), silent)
    assert not any(one.stands for one in waiting.answers) and waiting.decided_by == "person"


def test_a_verdict_decides_and_a_rejected_side_is_gone(
    traffic: Traffic, tmp_path_factory: pytest.TempPathFactory, new_traffic: Callable[[str], Traffic]
) -> None:
    ids = traffic.send([*mails(40), QUESTION, QUESTION, OTHER])
    build(traffic.database, tmp_path_factory.mktemp("data"), "mail", CurateSettings())
    review.record(traffic.database, "mail", ids[42], "accept", reviewer="ann")
    (found,) = disputes(traffic.database, "mail", CurateSettings(contradictions="drop"), silent)
    assert (found.decided_by, found.answers[0].text, found.answers[0].is_reviewed) == ("review", OTHER.answer, True)
    review.record(traffic.database, "mail", ids[42], "reject", reviewer="ann")
    assert disputes(traffic.database, "mail", CurateSettings(), silent) == []
    with pytest.raises(NotFoundError, match="nothing"):
        disputes(new_traffic("empty").database, "nothing", CurateSettings(), silent)


def test_contradictions_are_those_that_the_next_build_finds(traffic: Traffic, tmp_path: Path) -> None:
    asked = [replace(QUESTION, question=f"Where on earth is the {thing} of last week?") for thing in ("sofa", "lamp", "bottle")]
    ids = traffic.send(
        [*mails(60), *(replace(one, answer=answer) for one in asked for answer in (QUESTION.answer, OTHER.answer))]
    )
    settings = CurateSettings()
    build(traffic.database, tmp_path, "mail", settings)
    assert len(disputes(traffic.database, "mail", settings, silent)) == 3
    pin_exchange(traffic.database, "mail", ids[60], settings, who="ann")
    for reviewer, verdict in (("ann", "accept"), ("bob", "reject")):
        review.record(traffic.database, "mail", ids[62], verdict, reviewer=reviewer)
    (found,) = disputes(traffic.database, "mail", settings, silent)
    assert {key for answer in found.answers for key in answer.exchange_ids} == set(ids[64:66])
    manifest = build(traffic.database, tmp_path, "mail", settings).manifest["contradictions"]
    assert (manifest["inputs"], manifest["first"][0]["decided_by"]) == (1, found.decided_by)
