from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from curate.cleaning.json_strings import is_json, literals, with_literals

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=40, deadline=None)
@given(values, st.booleans(), st.sampled_from([None, 1]))
def test_putting_back_what_was_found_gives_the_same_text(value: object, is_ascii: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=is_ascii, indent=indent)
    assert with_literals(text, literals(text)) == text


@settings(max_examples=40, deadline=None)
@given(values)
def test_whatever_is_put_in_the_text_stays_json(value: object) -> None:
    text = json.dumps(value)
    changed = with_literals(text, [f'<"{place}\\' for place, _ in enumerate(literals(text))])
    json.loads(changed)
    assert literals(changed) == [f'<"{place}\\' for place, _ in enumerate(literals(text))]


def test_strings_are_decoded_and_only_what_changes_is_written_anew() -> None:
    text = '{"a\\u0062":  "x\\ny", "n": 4.5e3, "t": true}'
    assert literals(text) == ["ab", "x\ny", "n", "4.5e3", "t"]
    assert with_literals(text, ["ab", "z", "n", "<N>", "t"]) == '{"a\\u0062":  "z", "n": "<N>", "t": true}'


def test_only_whole_objects_and_arrays_count_as_json() -> None:
    assert is_json(' {"a": 1}')
    assert is_json("[]")
    assert not any(map(is_json, ['{"a": 1', "7", '"a"', "", "[link](x)"]))
