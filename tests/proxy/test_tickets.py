"""Tickets: seeded, diverse, with the blemishes that curation has to find, and learnable."""

from __future__ import annotations

import json
import random
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.ticket_grammar import expand, patterns
from proxy.ticket_teacher import teacher_answer
from proxy.tickets import TASKS, Ticket, make_tickets, task_of, ticket_text

CLOSED = sorted(name for name, task in TASKS.items() if task.labels)


@pytest.fixture(scope="module")
def triage() -> list[Ticket]:
    return make_tickets(11, 3000)


def label_of(ticket: Ticket) -> str:
    return str(json.loads(ticket.gold)[TASKS[ticket.task].key])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**40), count=st.integers(0, 60), task=st.sampled_from(sorted(TASKS)))
def test_the_same_seed_gives_the_same_tickets_and_a_longer_run_begins_with_a_shorter_one(
    seed: int, count: int, task: str
) -> None:
    tickets = make_tickets(seed, count, task)
    assert tickets == make_tickets(seed, count + 7, task)[:count]
    assert len({ticket.id for ticket in tickets}) == count
    for ticket in tickets:
        assert ticket.text and ticket_text(ticket.user_prompt) == ticket.text
        found = task_of(ticket.system_prompt)
        assert found is not None and found.name == task
        assert "[" not in ticket.text and "{" not in ticket.text
        if TASKS[task].labels:
            assert label_of(ticket) in TASKS[task].labels


def test_another_seed_gives_other_tickets(triage: list[Ticket]) -> None:
    others = {ticket.text for ticket in make_tickets(12, 3000) if ticket.kind not in ("emptyish", "foreign")}
    assert len(others & {ticket.text for ticket in triage}) < 15


def test_no_label_of_triage_belongs_to_another_task_and_the_others_have_many() -> None:
    others = [label for name in CLOSED if name != "triage" for label in TASKS[name].labels]
    assert len(set(others)) == len(others) >= 50
    assert not set(others) & set(TASKS["triage"].labels)
    assert len(TASKS["triage"].labels) == 10
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)+", label) for label in TASKS["triage"].labels)


@pytest.mark.parametrize("task", CLOSED)
def test_labels_are_roughly_balanced(task: str) -> None:
    counts = Counter(label_of(ticket) for ticket in make_tickets(5, 1200, task))
    assert set(counts) == set(TASKS[task].labels)
    assert max(counts.values()) <= 3 * min(counts.values())


def test_the_prompts_stay_short(triage: list[Ticket]) -> None:
    assert max(len(ticket.system_prompt.split()) for ticket in triage) <= 50
    lengths = sorted(len(re.findall(r"\w+|[^\w\s]", ticket.user_prompt)) for ticket in triage)
    assert lengths[len(lengths) // 2] <= 45


def test_blemishes_come_in_their_shares(triage: list[Ticket]) -> None:
    share = {kind: count / len(triage) for kind, count in Counter(ticket.kind for ticket in triage).items()}
    assert 0.04 <= share["repeat"] <= 0.08
    assert 0.08 <= share["near_duplicate"] <= 0.12
    assert 0.01 <= share["secret"] <= 0.03
    assert 0.03 <= share["personal"] <= 0.08
    assert 0 < share["emptyish"] <= 0.02
    assert 0 < share["foreign"] <= 0.03


def test_a_repeat_is_an_earlier_prompt_byte_for_byte_and_a_near_duplicate_is_not(triage: list[Ticket]) -> None:
    prompts: set[str] = set()
    texts: set[str] = set()
    for ticket in triage:
        if ticket.kind == "repeat":
            assert ticket.user_prompt in prompts
        if ticket.kind == "near_duplicate":
            assert ticket.user_prompt not in prompts
            words = set(ticket.text.lower().split())
            assert max(len(words & set(text.lower().split())) / len(words) for text in texts) >= 0.5
        prompts.add(ticket.user_prompt)
        texts.add(ticket.text)


def test_tickets_that_are_not_copies_rarely_share_eight_words_in_a_row(triage: list[Ticket]) -> None:
    fresh = [ticket.text for ticket in triage if ticket.kind in ("fresh", "personal", "secret")][:1200]
    seen: Counter[tuple[str, ...]] = Counter()
    runs = []
    for text in fresh:
        words = re.findall(r"\w+", text.lower())
        runs.append({tuple(words[at : at + 8]) for at in range(len(words) - 7)})
        seen.update(runs[-1])
    sharing = sum(any(seen[run] > 1 for run in own) for own in runs)
    assert sharing / len(fresh) < 0.35


def test_made_up_cards_and_accounts_pass_their_checks_and_keys_look_like_keys(triage: list[Ticket]) -> None:
    personal = "\n".join(ticket.text for ticket in triage if ticket.kind == "personal")
    cards = re.findall(r"Card ((?:\d{4} ?){4})", personal)
    accounts = re.findall(r"IBAN is DE(\d{2})(\d{18})", personal)
    assert cards and accounts and "@example.com" in personal and "+49 170" in personal
    for card in cards:
        digits = [int(digit) for digit in card if digit.isdigit()]
        assert (sum(digits[1::2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[::2])) % 10 == 0
    assert all(int(account + "1314" + check) % 97 == 1 for check, account in accounts)
    secrets = [ticket.text for ticket in triage if ticket.kind == "secret"]
    assert all(re.search(r"sk-proj-\w{40}|AKIA[A-Z2-7]{16}", text) for text in secrets)


def test_users_come_from_one_pool_and_a_few_write_often(triage: list[Ticket]) -> None:
    counts = Counter(ticket.user for ticket in triage)
    assert 200 <= len(counts) <= 300
    assert counts.most_common(1)[0][1] / len(triage) > 3 / 300
    assert counts.most_common(1)[0][1] / len(triage) < 0.05
    assert {ticket.user for ticket in make_tickets(99, 500)} & set(counts)
    assert all(ticket.session.startswith(ticket.user) for ticket in triage)


@pytest.mark.parametrize("task", CLOSED)
def test_the_teacher_reads_nearly_every_ticket_right(task: str) -> None:
    tickets = make_tickets(71, 400, task)
    right = sum(teacher_answer(ticket.user_prompt, task, error_share=0.0) == ticket.gold for ticket in tickets)
    assert right / len(tickets) >= 0.985


def test_the_teacher_slips_in_three_of_a_hundred_requests_and_contradicts_itself_on_repeats(triage: list[Ticket]) -> None:
    wrong = sum(teacher_answer(ticket.user_prompt, nonce=number) != ticket.gold for number, ticket in enumerate(triage))
    assert 0.005 <= wrong / len(triage) <= 0.03
    prompt = triage[0].user_prompt
    answers = Counter(teacher_answer(prompt, nonce=nonce) for nonce in range(600))
    assert len(answers) > 2 and answers[triage[0].gold] / 600 > 0.93


@given(nonce=st.text(max_size=8), text=st.text(max_size=200), task=st.sampled_from(sorted(TASKS)))
def test_the_teacher_answers_any_text_in_its_form_and_the_same_way_each_time(nonce: str, text: str, task: str) -> None:
    said = teacher_answer(text, task, nonce)
    assert said == teacher_answer(text, task, nonce)
    spec = TASKS[task]
    assert said if not spec.labels else json.loads(said)[spec.key] in spec.labels


def test_triage_can_be_learnt_from_eight_hundred_tickets() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(C=10, max_iter=300))
    lessons, exam = make_tickets(1, 800), make_tickets(2, 400)
    model.fit([ticket.user_prompt for ticket in lessons], [ticket.gold for ticket in lessons])
    assert model.score([ticket.user_prompt for ticket in exam], [ticket.gold for ticket in exam]) >= 0.95


def test_the_grammar_expands_choices_slots_and_wrapped_lines() -> None:
    found = patterns("\nfirst\n- [a|b]\n  c\n- d\nsecond\n- [[e|e]|e]{number} !\n")
    assert found == {"first": ("[a|b] c", "d"), "second": ("[[e|e]|e]{number} !",)}
    assert {expand(found["first"][0], random.Random(seed)) for seed in range(20)} == {"a c", "b c"}
    assert re.fullmatch(r"e\d{4,5}!", expand(found["second"][0], random.Random(1)))
