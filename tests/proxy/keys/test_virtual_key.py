"""Virtual keys: their shape, where they are looked for, what they match."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from proxy.credentials import find_key, is_virtual
from proxy.keys.virtual_key import VirtualKey, allows, hash_key, matches, new_key

PEPPER = b"p" * 32


def test_a_new_key_has_the_promised_shape() -> None:
    key, id = new_key()
    assert re.fullmatch(r"ps-[0-9a-z]{12}-[A-Za-z0-9_-]{43}", key)
    assert key.startswith(f"ps-{id}-")


@pytest.mark.parametrize("header", ["Authorization", "x-api-key", "api-key", "x-goog-api-key"])
@pytest.mark.parametrize("form", ["{}", "Bearer {}", " bearer  {} "])
def test_a_key_is_found_wherever_an_sdk_puts_it(header: str, form: str) -> None:
    key, id = new_key()
    assert find_key(CIMultiDict({header: form.format(key)})) == (key, id)


def test_a_key_beside_one_of_a_provider_is_found() -> None:
    key, id = new_key()
    assert find_key(CIMultiDict({"Authorization": "Bearer sk-proj-abc", "x-api-key": key})) == (key, id)


@given(st.text(max_size=80))
def test_what_is_no_key_is_never_taken_for_one(text: str) -> None:
    if not re.fullmatch(r"\s*([Bb]earer +)?ps-[0-9a-z]{12}-[A-Za-z0-9_-]{43}\s*", text):
        assert find_key(CIMultiDict({"x-api-key": text})) == ("", "")
        assert not is_virtual(text)


def test_only_the_very_same_key_under_the_same_pepper_matches_and_the_one_before_for_a_while() -> None:
    (key, id), (before, _) = new_key(), new_key()
    known = VirtualKey(id, "a", hash_key(PEPPER, key), previous_hash=hash_key(PEPPER, before), previous_until_us=100)
    assert matches(PEPPER, key, known, 1_000)
    assert not matches(b"q" * 32, key, known, 1_000)
    assert not matches(PEPPER, key[:-1] + ("a" if key[-1] != "a" else "b"), known, 0)
    assert (matches(PEPPER, before, known, 99), matches(PEPPER, before, known, 100)) == (True, False)
    assert not matches(PEPPER, before, VirtualKey(id, "a", hash_key(PEPPER, key)), 0)


@pytest.mark.parametrize(
    ("patterns", "name", "is_allowed"),
    [
        ((), "gpt-4o", True),
        (("gpt-4o*",), "gpt-4o-mini", True),
        (("gpt-?", "[a]"), "gpt-4", False),
        (("[a]",), "[a]", True),
        (("a",), "", False),
    ],
)
def test_a_list_allows_what_it_names_with_stars_for_any_text(patterns: tuple[str, ...], name: str, is_allowed: bool) -> None:
    assert allows(patterns, name) is is_allowed
