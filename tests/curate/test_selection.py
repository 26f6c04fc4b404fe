from __future__ import annotations

from dataclasses import replace

import pytest

from capture.errors import NotFoundError
from capture.filters import FilterError
from capture.messages import Message
from curate.selection import DAMAGED, Selection, input_key, require_task, select
from curate.settings import CurateSettings
from tests.curate.sending import Sent, Traffic, mails


def selected(traffic: Traffic, task: str = "mail", settings: CurateSettings | None = None) -> Selection:
    return select(traffic.database, (task,), {}, settings or CurateSettings(), lambda stage, done, total: None)


def test_only_what_an_app_asked_and_the_teacher_answered_is_selected(both_traffic: Traffic) -> None:
    one = Sent("Where is it?", "parcel")
    ids = both_traffic.send([
        one,
        replace(one, variant="baseline"),
        replace(one, status=500),
        replace(one, purpose="judge"),
        replace(one, purpose="eval"),
        replace(one, task="other"),
        replace(one, variant="candidate", release_id="rel_1", upstream="engine"),
        replace(one, variant="candidate", release_id="rel_1"),
    ])  # fmt: skip
    found = selected(both_traffic)
    assert [candidate.exchange_id for candidate in found.candidates] == ids[:2]
    assert found.dropped == {ids[2]: "failed"}
    assert found.by_student == 2


def test_a_damaged_exchange_is_dropped_with_a_reason_of_its_own(both_traffic: Traffic) -> None:
    ids = both_traffic.send(mails(12))
    both_traffic.damage(ids[0], ids[7])
    found = selected(both_traffic)
    assert [candidate.exchange_id for candidate in found.candidates] == [*ids[1:7], *ids[8:]]
    assert found.dropped == {ids[0]: DAMAGED, ids[7]: DAMAGED}


def test_a_filter_narrows_the_selection(traffic: Traffic) -> None:
    one = Sent("Where is it?", "parcel")
    ids = traffic.send([replace(one, session="a"), replace(one, session="b")])
    found = selected(traffic, settings=CurateSettings(filter="session:b"))
    assert [candidate.exchange_id for candidate in found.candidates] == [ids[1]]
    with pytest.raises(FilterError):
        selected(traffic, settings=CurateSettings(filter="sesion:b"))


def test_more_exchanges_than_a_batch_are_all_read_and_progress_ends_at_the_total(traffic: Traffic) -> None:
    traffic.send(mails(1_201))
    told: list[tuple[int, int]] = []
    found = select(traffic.database, ("mail",), {}, CurateSettings(), lambda stage, done, total: told.append((done, total)))
    assert len(found.candidates) == 1_201
    assert told == [(0, 1_201), (500, 1_201), (1_000, 1_201), (1_201, 1_201)]


@pytest.mark.parametrize("name", ['we "quote" *', "a,b", "-x", "späti", "task:y"])
def test_any_task_name_is_found(name: str, traffic: Traffic) -> None:
    traffic.send([Sent("Where?", "parcel", task=name), Sent("Where?", "parcel", task="other")])
    assert len(selected(traffic, name).candidates) == 1


def test_an_unknown_task_is_refused_with_those_that_exist(traffic: Traffic) -> None:
    with pytest.raises(NotFoundError, match="none yet"):
        require_task(traffic.database, "mail", ("mail",))
    traffic.send([Sent("Where?", "parcel", task="triage"), Sent("Where?", "x", task="")])
    with pytest.raises(NotFoundError, match=r"'mail'.*triage"):
        require_task(traffic.database, "mail", ("mail",))
    with pytest.raises(NotFoundError):
        require_task(traffic.database, "", ("",))


def test_the_input_key_ignores_volatile_parts_and_sees_words_and_roles() -> None:
    key = input_key((Message("system", "At 2026-03-14T10:20:33Z"), Message("user", "Where is it?")))
    assert key == input_key((Message("system", "At 2026-03-15T11:20:33Z"), Message("user", "where is IT")))
    assert key != input_key((Message("system", "At 2026-03-14T10:20:33Z"), Message("user", "Where was it?")))
    assert key != input_key((Message("user", "At 2026-03-14T10:20:33Z"), Message("user", "Where is it?")))
