from __future__ import annotations

from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.likeness.buckets import LIMIT, code, decode, distinct, edges


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=30))
def test_edges_are_the_pairs_of_rows_that_agree_in_a_column(rows: list[tuple[int, int]]) -> None:
    keys = np.array([(left, 10 + right) for left, right in rows], dtype=np.uint64)
    codes, crowded = edges(keys)
    a, b = decode(codes)
    wanted = [(one, other) for one, other in combinations(range(len(rows)), 2) if (keys[one] == keys[other]).any()]
    assert list(zip(a.tolist(), b.tolist(), strict=True)) == wanted
    assert code(b, a).tolist() == codes.tolist()
    assert crowded == 0


def test_a_crowded_bucket_is_counted_and_chained_but_not_paired_all_with_all() -> None:
    codes, crowded = edges(np.zeros((5 * LIMIT, 1), np.uint64))
    a, b = decode(codes)
    assert crowded == 1
    assert len(codes) < 5 * LIMIT * LIMIT
    assert set(zip(range(5 * LIMIT - 1), range(1, 5 * LIMIT), strict=True)) <= set(zip(a.tolist(), b.tolist(), strict=True))


@given(st.lists(st.integers(0, 9)))
def test_distinct_codes_are_each_once_and_in_order(codes: list[int]) -> None:
    assert distinct(np.array(codes, np.int64)).tolist() == sorted(set(codes))
