"""The filter language of lists, counts and exports: text in, a condition with bound parameters out, for either store.

    task:triage status>=400 model:gpt-* -purpose:judge since:2d tag.team:search -tag:internal refund "could not" pay*

Terms are joined by and; `-` negates; a comma means either (`state:timeout,truncated`); `*` stands for any text; quotes keep
spaces together. Words without a field are looked for in prompts and answers, as whole words, whatever their case and accents;
a `*` at the end finds words that begin so.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from capture.filter_conditions import POSTGRESQL, SQLITE, Condition, FilterError, Letters, Value, condition_of, plain
from capture.filter_fields import ALIASES, FIELDS, Field
from capture.fulltext import Phrase, fts5_query, phrase, postgresql_query

__all__ = ["FIELDS", "Field", "Filter", "FilterError", "Words", "parse_filter", "quote"]

_MAX_LETTERS = 10_000
_MAX_VALUES = 200
_WITHIN_TASK = ("exchanges_by_task", "exchanges_by_variant")
_TERM = re.compile(
    r"""(?P<minus>-?)(?:(?P<field>[A-Za-z_]+(?:\.[^\s:<>=!"]+)?)(?P<op>>=|<=|!=|[:=<>]))?(?P<value>(?:"(?:[^"\\]|\\.)*"|[^\s"])+)""",
    re.DOTALL,
)
_FIELD_ALONE = re.compile(r"(?P<field>[A-Za-z_]+(?:\.[^\s:<>=!\"]+)?)(?:>=|<=|!=|[:=<>])")
_NAMES = {field.name.partition(".")[0] for field in FIELDS}


@dataclass(frozen=True, slots=True)
class Words:
    """What the full-text index is asked, in the spelling of either store; matching exchanges are wanted, or unwanted."""

    fts5: str
    tsquery: str
    is_wanted: bool


@dataclass(frozen=True, slots=True)
class Filter:
    """A parsed filter: what was typed, and a condition on table exchanges with the named parameters `params`.

    `sqlite` and `postgresql` spell the part of it that a row answers; `words` is the part for the full-text index. What is in
    `narrow` follows from the condition and is answered by an index alone; `index` holds all that can match by their number.
    `times` and `latest` are all that it says of the time, and what it says of the latest.
    """

    text: str
    params: Mapping[str, Value]
    sqlite: str
    postgresql: str
    words: Words | None = None
    narrow: tuple[str, ...] = ()
    index: str = ""
    times: str = ""
    latest: str = ""

    def where(self, *, is_sqlite: bool) -> str:
        """The whole condition."""
        row = self.sqlite if is_sqlite else self.postgresql
        if self.words is None:
            return row
        found = (
            "SELECT rowid FROM exchange_words WHERE exchange_words MATCH :words_fts5"
            if is_sqlite
            else "SELECT number FROM exchange_words WHERE words @@ CAST(:words_tsquery AS tsquery)"
        )
        return f"({row}) AND exchanges.number {'IN' if self.words.is_wanted else 'NOT IN'} ({found})"


def parse_filter(text: str) -> Filter:
    """`text` in the filter language; empty text is everything. FilterError names the nearest field for an unknown one."""
    _check(text)
    conditions: list[Condition] = []
    wanted: list[list[Phrase]] = []
    unwanted: list[list[Phrase]] = []
    params: dict[str, Value] = {}
    values, position = 0, 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        match = _TERM.match(text, position)
        if match is None:
            raise FilterError(f"The filter cannot be read from {text[position:]!r} on.", 'Close the quotes with ".')
        alternatives = _split(match["value"])
        values += len(alternatives)
        _check_value(match, text)
        name, key = _name(match["field"])
        if name == "text":
            _check_operator(match)
            (unwanted if match["minus"] or match["op"] == "!=" else wanted).append(_phrases(match["value"], alternatives))
        else:
            condition = _condition(match, name, key, alternatives, params)
            conditions.append(condition.negated() if match["minus"] else condition)
        position = match.end()
    if values > _MAX_VALUES:
        raise FilterError(f"The filter has {values:,} values.", f"Take {_MAX_VALUES} at most.")
    return _filter(text.strip(), conditions, _words(wanted, unwanted), params)


def quote(value: str) -> str:
    """`value` as one word of the language, so that `f"task:{quote(name)}"` is right for every name."""
    escaped = re.sub(r'([\\"*,])', r"\\\1", value)
    return f'"{escaped}"'


def _check(text: str) -> None:
    if len(text) > _MAX_LETTERS:
        raise FilterError(f"The filter is {len(text):,} letters long.", f"Take {_MAX_LETTERS:,} at most.")
    odd = re.search("[\x00\ud800-\udfff]", text)
    if odd:
        raise FilterError(f"The filter has the letter {odd[0]!r}, which nothing stored has.", "Leave it out.")


def _name(typed: str | None) -> tuple[str, str]:
    name, _, key = (typed or "text").partition(".")
    name = name.lower()
    return ALIASES.get(name, name), key


def _condition(match: re.Match[str], name: str, key: str, alternatives: list[Letters], params: dict[str, Value]) -> Condition:
    found = condition_of(name, key, match["op"], alternatives, params)
    if found is not None:
        return found
    names = [field.name for field in FIELDS]
    close = difflib.get_close_matches(match["field"].lower(), names, n=1, cutoff=0.5)
    known = f"Known: {', '.join(names)}."
    raise FilterError(
        f"Unknown field {match['field']!r} in the filter.",
        f"{f'Did you mean {close[0]}?' if close else known} Put quotes around it to look for the words.",
    )


def _check_value(match: re.Match[str], text: str) -> None:
    """Refuses a field without its value, which would be looked for as a word."""
    is_cut = not text[match.end() : match.end() + 1].isspace() and match.end() < len(text)
    found = None if match["field"] or is_cut else _FIELD_ALONE.fullmatch(match["value"])
    name = _name(found["field"])[0] if found else ""
    if found and name in _NAMES:
        example = next(field.example for field in FIELDS if field.name.partition(".")[0] == name)
        raise FilterError(
            f"Field {found['field']!r} in the filter has no value.",
            f"Write the value right behind it, as in {example}; put quotes around it to look for the word.",
        )


def _check_operator(match: re.Match[str]) -> None:
    if match["op"] not in (None, ":", "=", "!="):
        raise FilterError(f"{match['op']} compares numbers, not text.", "Use : for text.")


def _split(value: str) -> list[Letters]:
    """The alternatives of a value."""
    alternatives: list[Letters] = [[]]
    is_quoted = is_escaped = False
    for letter in value:
        if is_escaped:
            alternatives[-1].append((letter, False))
            is_escaped = False
        elif letter == "\\" and is_quoted:
            is_escaped = True
        elif letter == '"':
            is_quoted = not is_quoted
        elif letter == "," and not is_quoted:
            alternatives.append([])
        else:
            alternatives[-1].append((letter, letter == "*"))
    return alternatives


def _phrases(value: str, alternatives: list[Letters]) -> list[Phrase]:
    found = []
    for letters in alternatives:
        is_prefix = bool(letters) and letters[-1] == ("*", True)
        one = phrase(plain(letters), is_prefix=is_prefix)
        if ("*", True) in letters[: len(letters) - is_prefix]:
            raise FilterError(f"{value!r} has a * that is not at its end.", 'Look for letters anywhere with answer:"*...".')
        if one is not None:
            found.append(one)
    if not found:
        raise FilterError(f"{value!r} has neither a letter nor a digit to look for.", 'Look for signs with answer:"...".')
    return found


def _words(wanted: list[list[Phrase]], unwanted: list[list[Phrase]]) -> Words | None:
    if wanted:
        return Words(fts5_query(wanted, unwanted), postgresql_query(wanted, unwanted), is_wanted=True)
    if unwanted:
        either = [[one for group in unwanted for one in group]]
        return Words(fts5_query(either), postgresql_query(either), is_wanted=False)
    return None


def _filter(text: str, conditions: list[Condition], words: Words | None, params: dict[str, Value]) -> Filter:
    if words is not None:
        params |= {"words_fts5": words.fts5, "words_tsquery": words.tsquery}
    times = [one.narrow for one in conditions if one.is_time]
    narrow = [one.narrow for one in conditions if one.narrow]
    narrow = _joined(_joined(narrow, times), [one.narrow for one in conditions if one.index in _WITHIN_TASK])
    indexes = {one.index for one in conditions}
    return Filter(
        text,
        params,
        " AND ".join(one.spelled(SQLITE) for one in conditions) or "1 = 1",
        " AND ".join(one.spelled(POSTGRESQL) for one in conditions) or "1 = 1",
        words,
        tuple(narrow),
        _index(indexes),
        " AND ".join(times),
        " AND ".join(time for time in times if "<=" in time),
    )


def _joined(narrow: list[str], together: list[str]) -> list[str]:
    """`narrow` with those of it that one index answers `together` as one."""
    return [*(one for one in narrow if one not in together), *([" AND ".join(together)] if together else [])]


def _index(indexes: set[str]) -> str:
    """The index that leaves the least to walk over; the one by variant has exchanges by their number only within a task."""
    if "exchanges_failed" in indexes:
        return "exchanges_failed"
    if "exchanges_by_task" not in indexes:
        return ""
    return "exchanges_by_variant" if "exchanges_by_variant" in indexes else "exchanges_by_task"
