from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from curate.reviewing.look_alikes import group_of, marks

NODES = st.lists(st.integers(0, 7), min_size=1, max_size=12)
PAIRS = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=12)


def ids(count: int) -> list[str]:
    return [f"ex_{number:026d}" for number in range(count)]


def test_similar_inputs_with_one_answer_have_one_mark_and_other_answers_only_its_group() -> None:
    first, same, other, alone = marks(ids(4), ["a", "a", "b", "a"], [0, 1, 2, 3], [(0, 1), (0, 2)])
    assert first == same != ""
    assert other != first
    assert group_of(other) == group_of(first)
    assert alone == ""


def test_equal_inputs_are_look_alikes_without_being_named_similar() -> None:
    one, two = marks(ids(2), ["a", "a"], [5, 5], [])
    assert one == two != ""


def test_a_chain_of_similar_inputs_is_not_one_group() -> None:
    first, second, third = marks(ids(3), ["a", "a", "a"], [0, 1, 2], [(0, 1), (1, 2)])
    assert first == second != ""
    assert third == ""


def test_the_sides_of_one_question_stay_in_one_group_even_where_another_leads_them() -> None:
    found = marks(ids(4), ["a", "a", "b", "b"], [0, 1, 2, 3], [(0, 1), (2, 3)], same_question=[[1, 2]])
    assert group_of(found[1]) == group_of(found[2]) != ""


def test_a_mark_does_not_name_the_exchange_that_leads_it() -> None:
    (mark, _) = marks(ids(2), ["secret words", "secret words"], [0, 0], [])
    assert ids(1)[0] not in mark
    assert "secret" not in mark


@given(NODES, PAIRS, st.data())
def test_a_mark_is_shared_only_by_equal_answers_to_inputs_that_resemble_one_leader(
    nodes: list[int], similar: list[tuple[int, int]], data: st.DataObject
) -> None:
    said = data.draw(st.lists(st.sampled_from("ab"), min_size=len(nodes), max_size=len(nodes)))
    found = marks(ids(len(nodes)), said, nodes, similar)
    near = {(left, right) for left, right in similar} | {(right, left) for left, right in similar}
    for mark in set(found) - {""}:
        rows = [row for row, other in enumerate(found) if group_of(other) == group_of(mark)]
        assert len({said[row] for row in rows if found[row] == mark}) == 1
        leader = nodes[rows[0]]
        assert all(nodes[row] == leader or (leader, nodes[row]) in near for row in rows)
