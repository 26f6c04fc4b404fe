from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from capture.fulltext import MAX_WORD, MAX_WORDS, Phrase, fts5_query, phrase, postgresql_query, searchable, tsvector

HOSTILE = ['"', "'", "\\", "*", "(", ")", ":", "^", "+", "-", "&", "|", "!", "<->", "NEAR(", " AND ", " OR ", " NOT ", "\x00"]
texts = st.one_of(
    st.text(max_size=60),
    st.text(alphabet=st.characters(), max_size=20),
    st.lists(
        st.sampled_from(
            [*HOSTILE, "\ud800", "refund", "Ünïcode", "1e5", "-3.5", "a@b.example", "退款", "が", "한국어", "ﷺ", "x_y"]
        ),
        max_size=12,
    ).map("".join),
)


class Fts5:
    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:")
        self.connection.execute(
            "CREATE VIRTUAL TABLE w USING fts5(words, content='', columnsize=0, tokenize='unicode61 remove_diacritics 2')"
        )
        self.connection.execute("CREATE VIRTUAL TABLE v USING fts5vocab('w', 'instance')")
        self.rows = 0

    def words(self, text: str) -> list[str]:
        self.rows += 1
        self.connection.execute("INSERT INTO w (rowid, words) VALUES (?, ?)", (self.rows, text))
        rows = self.connection.execute("SELECT term FROM v WHERE doc = ? ORDER BY offset", (self.rows,))
        found = [row[0] for row in rows]
        self.connection.rollback()
        return found

    def matches(self, text: str, query: str) -> bool:
        self.connection.execute("INSERT INTO w (rowid, words) VALUES (1, ?)", (text,))
        found = self.connection.execute("SELECT rowid FROM w WHERE w MATCH ?", (query,)).fetchall()
        self.connection.rollback()
        return bool(found)


class Postgresql:
    def __init__(self, url: str) -> None:
        import psycopg

        self.connection = psycopg.connect(url.replace("+psycopg", ""), autocommit=True)

    def words(self, text: str) -> list[str]:
        rows = self.connection.execute(
            "SELECT lexeme FROM unnest(CAST(%s AS tsvector)), unnest(positions) AS place ORDER BY place", (tsvector(text),)
        )
        return [row[0] for row in rows]

    def matches(self, text: str, query: str) -> bool:
        row = self.connection.execute("SELECT %s::tsvector @@ %s::tsquery", (tsvector(text), query)).fetchone()
        return bool(row and row[0])


@pytest.fixture(scope="module")
def fts5() -> Iterator[Fts5]:
    made = Fts5()
    yield made
    made.connection.close()


@pytest.fixture(scope="module")
def postgresql(postgresql_server: Any) -> Iterator[Postgresql]:
    made = Postgresql(postgresql_server.fresh_url())
    yield made
    made.connection.close()


@given(texts)
@settings(max_examples=300)
@example("a\u0301\u0323 İ ſ ß ﬁ ² ｶﾞ か\u3099")
def test_any_text_becomes_plain_words_once_and_for_all(text: str) -> None:
    got = searchable(text)
    assert all(letter == " " or letter.isalnum() for letter in got)
    assert searchable(got).split() == got.split()
    got.encode()


@given(texts)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_both_stores_index_exactly_these_words(fts5: Fts5, postgresql: Postgresql, text: str) -> None:
    words = searchable(text).split()
    assert fts5.words(searchable(text)) == words
    assert postgresql.words(searchable(text)) == words


def test_every_letter_is_the_same_word_in_both_stores(fts5: Fts5, postgresql: Postgresql) -> None:
    letters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    words = [word for letter in letters for word in searchable(letter).split()]
    for start in range(0, len(words), 15_000):
        part = words[start : start + 15_000]
        assert fts5.words(" ".join(part)) == part
        assert postgresql.words(" ".join(part)) == part


@given(texts, st.integers(0, 30), st.integers(1, 5), st.booleans())
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_every_stretch_of_words_is_found_in_both_stores(
    fts5: Fts5, postgresql: Postgresql, text: str, start: int, length: int, is_prefix: bool
) -> None:
    words = searchable(text).split()[start : start + length]
    if words:
        if is_prefix:
            words[-1] = words[-1][:1]
        asked = Phrase(tuple(words), is_prefix)
        assert fts5.matches(searchable(text), fts5_query([[asked]]))
        assert postgresql.matches(searchable(text), postgresql_query([[asked]]))


groups = st.lists(st.lists(st.tuples(texts, st.booleans()), min_size=1, max_size=3), max_size=3)


@given(texts, groups, groups)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_hostile_questions_are_answered_alike_by_both_stores(
    fts5: Fts5, postgresql: Postgresql, text: str, wanted: list[list[tuple[str, bool]]], unwanted: list[list[tuple[str, bool]]]
) -> None:
    with_words, without_words = _phrases(wanted), _phrases(unwanted)
    if with_words:
        there = fts5.matches(searchable(text), fts5_query(with_words, without_words))
        assert there == postgresql.matches(searchable(text), postgresql_query(with_words, without_words))


def _phrases(groups: list[list[tuple[str, bool]]]) -> list[list[Phrase]]:
    found = [[phrase(text, is_prefix=is_prefix) for text, is_prefix in group] for group in groups]
    return [[one for one in group if one] for group in found if any(group)]


@pytest.mark.parametrize(
    ("text", "question", "is_there"),
    [
        ("Refund of order #12345-B, please.", "order 12345", True),
        ("Refund of order #12345-B, please.", "refund order", False),
        ("mail to jane.doe@corp.example", "DOE", True),
        ("it costs -3.50 EUR", "3", True),
        ("see https://example.com/a/b?c=d", "example com", True),
        ("Grüße aus München", "gruesse", False),
        ("Grüße aus München", "munchen", True),
        ("das ist Straße", "STRASSE", True),
        ("退款政策是什么", "政策", True),
        ("退款政策是什么", "策政", False),
        ("환불을 원합니다", "환불", True),
        ("ガス", "ｶﾞｽ", True),
        ("ガス", "カス", False),
        ("1e5 0x1f 12.5.1", "0x1f", True),
    ],
)
def test_words_are_found_as_people_expect(fts5: Fts5, postgresql: Postgresql, text: str, question: str, is_there: bool) -> None:
    asked = phrase(question)
    assert asked is not None
    assert fts5.matches(searchable(text), fts5_query([[asked]])) is is_there
    assert postgresql.matches(searchable(text), postgresql_query([[asked]])) is is_there


def test_what_has_no_word_is_no_question() -> None:
    assert phrase("") is phrase(" \x00 -- ! 👍 \ud800") is None


@pytest.mark.parametrize("part", ["a", "退", "ﷺ", "ab ", "\U0001f600", "\u0301"])
def test_long_texts_and_words_are_cut_to_what_both_stores_take(fts5: Fts5, postgresql: Postgresql, part: str) -> None:
    got = searchable(part * 60_000)
    words = got.split()
    assert len(words) <= MAX_WORDS
    assert all(len(word) <= MAX_WORD for word in words)
    assert fts5.words(got) == words
    assert set(postgresql.words(got)) == set(words)


def test_a_long_word_is_found_by_the_whole_of_it(fts5: Fts5) -> None:
    word = "0123456789abcdef" * 8
    asked = phrase(word)
    assert asked is not None
    assert fts5.matches(searchable(f"hash {word} end"), fts5_query([[asked]]))
