"""The A/B table from exchanges that went through the real spool and store writer, under real flags."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from capture.database import Database
from capture.errors import NotFoundError
from capture.exchange import CANDIDATE
from capture.ids import new_raw_id
from capture.pricing import PriceSettings, load_price_table
from capture.records import Begin, End, Head
from capture.spool import SpoolWriter
from capture.writer import StoreWriter
from serve.experiments import BETTER, SAME, UNSURE, WORSE, compare, word_for
from serve.flag_store import history, read_snapshot, rollback, set_share
from serve.flags import Assignment, assign
from serve.release_store import Release
from serve.window import normalise

Maker = Callable[..., Release]


class Traffic:
    """Plays the relay: assigns under the flags in force and writes the spool; the store writer brings it into the store."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.spool = SpoolWriter(folder)
        self.writer = StoreWriter(database, folder, load_price_table(PriceSettings(student_usd_per_hour=1.0)))

    def send(
        self,
        user: str,
        question: str,
        *,
        teacher: str = '{"label": "refund"}',
        student: str = '{"label":"refund"}',
        status: int = 200,
        fallback: str = "",
        latency_us: int = 100_000,
        purpose: str = "app",
        force: Assignment | None = None,
        model: str = "gpt-4o-mini",
    ) -> Assignment:
        assignment = assign(read_snapshot(self.database), "triage", {"user": user}) if force is None else force
        is_student = assignment.variant == CANDIDATE and not fallback
        served = assignment.engine_model if is_student else model
        raw_id = new_raw_id()
        body = {"model": model, "messages": [{"role": "user", "content": question}]}
        self.spool.begin(
            raw_id,
            Begin(
                "POST", "/v1/chat/completions", "", "openai", task="triage", unit=assignment.unit, purpose=purpose,
                unit_source=assignment.unit_source, user_name=user, model_asked=model, variant=assignment.variant,
                release_id=assignment.release_id, flag_revision=assignment.flag_revision, upstream="openai",
                request_headers={"content-type": "application/json"}, body=json.dumps(body).encode(),
            ),
        )  # fmt: skip
        message = {"role": "assistant", "content": student if is_student else teacher}
        answer = {
            "id": "x",
            "object": "chat.completion",
            "created": 1,
            "model": served,
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 1_000, "completion_tokens": 100, "total_tokens": 1_100},
        }
        payload = json.dumps(answer if status == 200 else {"error": {"message": "no"}}).encode()
        headers = {"content-type": "application/json", "content-length": str(len(payload))}
        self.spool.head(raw_id, Head(status, headers, "openai", served, fallback, latency_us // 2))
        self.spool.part(raw_id, payload)
        self.spool.end(
            raw_id,
            End(
                status,
                "complete",
                latency_us=latency_us,
                first_byte_us=latency_us // 2,
                model_served=served,
                fallback_reason=fallback,
            ),
        )
        return assignment

    def store(self) -> None:
        self.writer.drain()

    def close(self) -> None:
        self.spool.close()
        self.writer.close()


@pytest.fixture
def traffic(database: Database, tmp_path: Path) -> Iterator[Traffic]:
    player = Traffic(database, tmp_path / "spool")
    yield player
    player.close()


def share(database: Database, share_bp: int) -> int:
    """Sets the share, and makes a fresh salt a known one, so that the same users are divided the same way every time."""
    change = set_share(database, "triage", share_bp, unit="user", who="ada", why="")
    known = f"salt-{len({one.salt for one in history(database, 'triage')})}"
    if not change.salt.startswith("salt-"):
        with database.write() as connection:
            connection.execute(
                text("UPDATE flag_changes SET salt = :known WHERE salt = :salt"), {"known": known, "salt": change.salt}
            )
    return change.revision


def test_an_experiment_of_even_variants_is_told_as_it_is(database: Database, traffic: Traffic, ready_release: Maker) -> None:
    release = ready_release(database)
    for number in range(60):
        traffic.send(f"old-{number}", f"question {number % 30}")
    share(database, 3_000)
    seen = [traffic.send(f"user-{number % 200}", f"question {number % 30}", latency_us=200_000 - number) for number in range(600)]
    traffic.store()
    table = compare(database, "triage")
    candidates = sum(one.variant == CANDIDATE for one in seen)
    assert (table.candidate.n, table.baseline.n) == (candidates, 600 - candidates)
    assert (table.release_id, table.release_name, table.is_running) == (release.id, "triage#1", True)
    assert (table.share_set_bp, table.share_expected_bp, table.units) == (3_000, 3_000, 200)
    assert table.share_seen_bp == round(len({one.unit for one in seen if one.variant == CANDIDATE}) / 200 * 10_000)
    assert abs(table.share_z) < 3
    assert table.is_sound and table.sample_ratio_p > 0.001 and table.sticky_violations == 0
    assert table.candidate.success.value == table.candidate.exact_match.value == table.baseline.exact_match.value == 1.0
    assert table.candidate.exact_match.n == candidates
    assert table.candidate.latency_p50_ms == pytest.approx(199.7, abs=0.2)
    assert table.candidate.first_byte_p50_ms == pytest.approx(99.85, abs=0.1)
    # gpt-4o-mini: 1,000 tokens at 0.15 and 100 at 0.60 dollars per million are 210 micro-dollars.
    assert table.baseline.cost_per_1000_microusd == 210_000
    assert table.candidate.cost_per_1000_microusd == pytest.approx(200_000 * 1_000_000 / 3_600_000_000 * 1_000, rel=0.02)
    words = {one.metric: one.word for one in table.differences}
    assert words["latency_p50_ms"] == SAME
    assert words["cost_per_1000_microusd"] == BETTER


def test_a_candidate_that_the_teacher_had_to_replace_failed_although_the_client_got_an_answer(
    database: Database, traffic: Traffic, ready_release: Maker
) -> None:
    ready_release(database)
    share(database, 5_000)
    for number in range(200):
        traffic.send(f"user-{number}", "q", fallback="")
    for number in range(200):
        if assign(read_snapshot(database), "triage", {"user": f"more-{number}"}).variant == CANDIDATE:
            traffic.send(f"more-{number}", "q", fallback="connect_error")
    traffic.store()
    table = compare(database, "triage")
    assert table.candidate.answered == table.candidate.n
    assert table.candidate.fallbacks > 50
    assert table.candidate.success.value == pytest.approx(1 - table.candidate.fallbacks / table.candidate.n)
    assert {one.metric: one.word for one in table.differences}["success"] == WORSE


def test_a_wrong_student_shows_in_the_exact_match_beside_the_teachers_own_ceiling(
    database: Database, traffic: Traffic, ready_release: Maker
) -> None:
    ready_release(database)
    share(database, 5_000)
    for number in range(400):
        moody = "b" if number // 5 % 10 == 0 else "a"
        traffic.send(f"user-{number}", f"question {number % 5}", teacher=moody, student="b")
    traffic.send("fresh", "never asked before", teacher="z", student="z")
    traffic.store()
    table = compare(database, "triage")
    # A tenth of the teacher's answers is b: the student agrees with it that often, the teacher with itself 0.9^2 + 0.1^2.
    assert table.candidate.exact_match.value == pytest.approx(0.1, abs=0.05)
    assert table.baseline.exact_match.value == pytest.approx(0.82, abs=0.08)
    assert table.candidate.exact_match.n + table.baseline.exact_match.n == 400
    assert {one.metric: one.word for one in table.differences}["exact_match"] == WORSE


def test_inputs_that_only_the_student_answered_are_not_compared(
    database: Database, traffic: Traffic, ready_release: Maker
) -> None:
    ready_release(database)
    share(database, 10_000)
    for number in range(20):
        traffic.send(f"user-{number}", f"question {number}")
    traffic.store()
    table = compare(database, "triage")
    assert (table.candidate.n, table.candidate.exact_match.n, table.candidate.exact_match.value) == (20, 0, None)
    assert table.baseline.n == 0
    assert all(one.word == UNSURE for one in table.differences)


def test_unknown_costs_stay_unknown(database: Database, traffic: Traffic, ready_release: Maker) -> None:
    ready_release(database)
    share(database, 5_000)
    for number in range(40):
        traffic.send(f"user-{number}", "q", model="a-model-without-a-price")
    traffic.store()
    table = compare(database, "triage")
    assert (table.baseline.cost_per_1000_microusd, table.baseline.cost_known) == (None, 0)
    cost = next(one for one in table.differences if one.metric == "cost_per_1000_microusd")
    assert (cost.value, cost.word) == (None, UNSURE)


def test_the_window_is_the_last_salt_and_leaves_out_what_came_after_the_rollback(
    database: Database, traffic: Traffic, ready_release: Maker
) -> None:
    ready_release(database)
    share(database, 5_000)
    traffic.send("u1", "first experiment")
    rollback(database, "triage", "ada", "")
    traffic.send("u1", "between")
    share(database, 1_000)
    for number in range(100):
        traffic.send(f"user-{number}", "q")
    share(database, 4_000)
    for number in range(200):
        traffic.send(f"user-{number}", "q")
    back = rollback(database, "triage", "ada", "")
    for number in range(50):
        traffic.send(f"late-{number}", "q")
    traffic.send("user-1", "a judge's", purpose="judge")
    traffic.store()
    table = compare(database, "triage")
    assert table.baseline.n + table.candidate.n == 300
    assert (table.units, table.share_set_bp, table.share_expected_bp) == (200, 4_000, 2_500)
    assert table.sticky_violations == 0 and table.sample_ratio_p > 0.001
    assert (table.is_running, table.ended_us) == (False, back.created_us)


def test_a_unit_on_both_sides_under_one_share_is_a_violation_and_a_lost_arm_breaks_the_ratio(
    database: Database, traffic: Traffic, ready_release: Maker
) -> None:
    release = ready_release(database)
    revision = share(database, 5_000)
    everybody = [assign(read_snapshot(database), "triage", {"user": f"user-{number}"}) for number in range(100)]
    for number, seen in enumerate(everybody):
        if seen.variant != CANDIDATE or number < 20:
            traffic.send(seen.unit, "q")
    there = [seen for seen in everybody if seen.variant != CANDIDATE]
    for seen in there[:3]:
        moved = Assignment(CANDIDATE, release.id, release.engine_model, revision, seen.unit, "user")
        traffic.send(seen.unit, "q", force=moved)
    traffic.store()
    table = compare(database, "triage")
    assert table.sticky_violations == 3
    assert table.sample_ratio_p < 0.001
    assert not table.is_sound


def test_requests_without_a_unit_are_counted_and_left_out(database: Database, traffic: Traffic, ready_release: Maker) -> None:
    ready_release(database)
    share(database, 10_000)
    traffic.send("", "q")
    traffic.send("u", "q")
    traffic.store()
    table = compare(database, "triage")
    assert (table.without_unit, table.baseline.n, table.candidate.n) == (1, 0, 1)
    assert table.sample_ratio_p == 1.0


def test_a_task_without_an_experiment_says_how_to_start_one(database: Database) -> None:
    with pytest.raises(NotFoundError, match=r"no experiment.*potstill flag set triage --share 10%"):
        compare(database, "triage")


def test_answers_are_compared_without_regard_to_the_spacing_of_json() -> None:
    assert normalise(' {"b": 1, "a": "é"}\n') == normalise('{"a":"é","b":1}')
    assert normalise("Label: A ") != normalise("label: A")
    assert normalise("{not json} ") == "{not json}"


def test_words_follow_interval_margin_and_direction() -> None:
    assert word_for((-0.01, 0.015), 0.02, more_is_better=True) == SAME
    assert word_for((-0.01, 0.2), 0.02, more_is_better=True) == UNSURE
    assert word_for((0.01, 0.2), 0.02, more_is_better=True) == BETTER
    assert word_for((0.01, 0.2), 0.02, more_is_better=False) == WORSE
    assert word_for((-9.0, -5.0), 2.0, more_is_better=False) == BETTER
