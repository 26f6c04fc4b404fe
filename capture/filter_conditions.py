"""One term of a filter as a condition in SQL: which column, which comparison, which index can answer it. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from capture import clock
from capture.errors import PotstillError
from capture.feedback_forms import DEFAULT_NAME
from capture.filter_fields import HAS, NUMBER, SUCCESS_SQL, TEXT, Column

Value = str | int | float
Letters = list[tuple[str, bool]]
"""A value letter by letter, with whether the letter stands for any text."""
Bind = Callable[[Value], str]

_MAX_WILDCARDS = 8
_INT64 = 1 << 62
_DURATION_US: Mapping[str, int] = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
}
_TRUTHS: Mapping[str, bool] = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
_VERDICTS: Mapping[str, bool] = {"good": True, "bad": False}
_FAILED_SQL = f"NOT {SUCCESS_SQL}"
_SPARSE = ("user", "session", "variant", "key", "trace")
"""Their indexes leave out the exchanges that have none."""
_MONEY = ("cost", "saved")
_IS_LATER = """later.name = told.name AND later.who = told.who
    AND CASE WHEN later.kind IN ('comment', 'demonstration') THEN later.kind ELSE '' END
        = CASE WHEN told.kind IN ('comment', 'demonstration') THEN told.kind ELSE '' END
    AND (later.created_us > told.created_us OR (later.created_us = told.created_us AND later.number > told.number))"""
_ID_LETTERS = 29  # ex_ and 26 letters


class FilterError(PotstillError):
    """A filter cannot be understood."""


@dataclass(frozen=True, slots=True)
class Spelling:
    """What the two stores write differently: the pairs of a row's tags."""

    tags: str


SQLITE = Spelling("json_each(exchanges.tags) AS pair")
POSTGRESQL = Spelling("json_each_text(CAST(exchanges.tags AS json)) AS pair(key, value)")


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on table exchanges, never NULL. `sql` has the mark {tags} where the stores' spelling goes.

    What `narrow` says follows from it and is answered by an index alone; `index` names one that has all that can match by number.
    """

    sql: str
    narrow: str = ""
    index: str = ""
    is_time: bool = False
    has_tags: bool = False

    def spelled(self, spelling: Spelling) -> str:
        """The condition for one of the stores."""
        return self.sql.replace("{tags}", spelling.tags) if self.has_tags else self.sql

    def negated(self) -> Condition:
        """What it does not hold for."""
        return Condition(f"NOT ({self.sql})", has_tags=self.has_tags)


def condition_of(name: str, key: str, operator: str, alternatives: list[Letters], params: dict[str, Value]) -> Condition | None:
    """The condition of a term; None for an unknown field, FilterError for a value that it cannot have."""

    def bind(value: Value) -> str:
        params[f"f{len(params)}"] = value
        return f":f{len(params) - 1}"

    if key and name not in ("tag", "feedback"):
        return None
    if name in TEXT:
        return _text(name, operator, alternatives, bind)
    if name in NUMBER:
        return _number(name, operator, alternatives, bind)
    if name == "tag":
        return _tags(key, operator, alternatives, bind)
    if name == "feedback":
        return _feedback(key, operator, alternatives, bind)
    if name == "answer":
        return _either([f"LOWER(output_text) LIKE {_anywhere(letters, bind)} ESCAPE '!'" for letters in alternatives], operator)
    values = [plain(letters) for letters in alternatives]
    if name in ("since", "until"):
        return _time(name, operator, values, bind)
    if name in ("stream", "success"):
        return _truth(name, operator, values)
    if name == "has":
        return (
            _told("1 = 1") if (operator, values) == (":", ["feedback"]) else _either([_has(value) for value in values], operator)
        )
    return None


def plain(letters: Letters) -> str:
    """The value as text; a wildcard is dropped."""
    return "".join(letter for letter, is_wildcard in letters if not is_wildcard)


def _text(name: str, operator: str, alternatives: list[Letters], bind: Bind) -> Condition:
    column = TEXT[name]
    exact = [plain(letters) for letters in alternatives if not _has_wildcard(letters)]
    for value in exact if column.words else ():
        _check_word(name, value, column.words)
    found = [_like(column.sql, letters, bind) for letters in alternatives if _has_wildcard(letters)]
    if exact:
        places = ", ".join(bind(value) for value in exact)
        found.append(f"{column.sql} IN ({places})" if len(exact) > 1 else f"{column.sql} = {places}")
    condition = _either(found, operator)
    if operator == "!=":
        return condition
    if len(exact) < len(alternatives):
        return replace(condition, narrow=_id_range(alternatives, bind)) if name == "id" else condition
    if name == "state" and "complete" not in exact:
        return Condition(f"({_FAILED_SQL} AND {condition.sql})", narrow=_FAILED_SQL, index="exchanges_failed")
    if not column.has_index or (name in _SPARSE and not all(exact)):
        return condition
    # Said in so many words, for SQLite uses an index over a part of the rows only where it sees that no other is asked for.
    sql = f"({column.sql} <> '' AND {condition.sql})" if name in _SPARSE else condition.sql
    index = {"task": "exchanges_by_task", "variant": "exchanges_by_variant"}.get(name, "") if len(exact) == 1 else ""
    return replace(condition, sql=sql, narrow=sql, index=index)


def _id_range(alternatives: list[Letters], bind: Bind) -> str:
    """An id's beginning as bounds, for which the index serves."""
    start = plain(alternatives[0]).lower()
    if len(alternatives) > 1 or not start.startswith("ex_") or alternatives[0][:-1] != [(letter, False) for letter in start]:
        return ""
    return f"id >= {bind(start)} AND id <= {bind(start.ljust(_ID_LETTERS, 'z'))}"


def _check_word(name: str, value: str, words: tuple[str, ...]) -> None:
    if value and value not in words:
        close = difflib.get_close_matches(value.lower(), words, n=1, cutoff=0.5)
        known = f"It is one of {', '.join(words)}."
        raise FilterError(f"No {name} is called {value!r}.", f"Did you mean {close[0]}?" if close else known)


def _number(name: str, operator: str, alternatives: list[Letters], bind: Bind) -> Condition:
    column = NUMBER[name]
    sign = {":": "=", "!=": "<>"}.get(operator, operator)
    numbers = [_quantity(name, column, letters) for letters in alternatives]
    compared = " OR ".join(f"{column.sql} {sign} {bind(number)}" for number in numbers).join("()")
    sql = f"({column.sql} IS NOT NULL AND {compared})" if column.is_optional else compared
    if name == "status" and all(_is_outside_2xx(sign, number) for number in numbers):
        return Condition(f"({_FAILED_SQL} AND {sql})", narrow=_FAILED_SQL, index="exchanges_failed")
    return Condition(sql, narrow=compared if column.has_index and sign != "<>" else "")


def _is_outside_2xx(sign: str, number: int) -> bool:
    if sign in ("=", ">=", "<="):
        return (sign != "<=" and number >= 300) or (sign != ">=" and number < 200)
    return (sign == ">" and number >= 299) or (sign == "<" and number <= 200)


def _quantity(name: str, column: Column, letters: Letters) -> int:
    value = "".join(letter for letter, _ in letters)
    match = re.fullmatch(r"(-?[0-9]{1,18}(?:\.[0-9]{1,18})?)(us|ms|s|m|h)?", value)
    is_time = column.sql.endswith("_us")
    if match is None or (match[2] and not is_time):
        raise FilterError(f"{value!r} is not a number for {name}.", f"Write it like {column.example}.")
    factor = _DURATION_US[match[2] or "ms"] if is_time else 1_000_000 if name in _MONEY else 1
    number = int(match[1]) * factor if "." not in match[1] else round(float(match[1]) * factor)
    return max(-_INT64, min(_INT64, number))


def _like(sql: str, letters: Letters, bind: Bind) -> str:
    condition = f"LOWER({sql}) LIKE {_pattern(letters, bind)} ESCAPE '!'"
    return f"({sql} <> '' AND {condition})" if letters == [("*", True)] else condition


def _pattern(letters: Letters, bind: Bind) -> str:
    """A LIKE pattern with escape character !, in lower case as the store itself makes it."""
    if sum(is_wildcard for _, is_wildcard in letters) > _MAX_WILDCARDS:
        raise FilterError(f"A value has more than {_MAX_WILDCARDS} wildcards.", "Take fewer *.")
    spelled = ("%" if is_wildcard else f"!{letter}" if letter in "%_!" else letter for letter, is_wildcard in letters)
    return f"LOWER({bind(''.join(spelled))})"


def _anywhere(letters: Letters, bind: Bind) -> str:
    return _pattern([("%", True), *letters, ("%", True)], bind)


def _has_wildcard(letters: Letters) -> bool:
    return any(is_wildcard for _, is_wildcard in letters)


def _either(conditions: list[str], operator: str) -> Condition:
    if operator not in (":", "=", "!="):
        raise FilterError(f"{operator} compares numbers, not text.", "Use : for text.")
    sql = " OR ".join(conditions).join("()")
    return Condition(f"NOT {sql}" if operator == "!=" else sql)


def _equals(sql: str, letters: Letters, bind: Bind) -> str:
    return _like(sql, letters, bind) if _has_wildcard(letters) else f"{sql} = {bind(plain(letters))}"


def _tags(key: str, operator: str, alternatives: list[Letters], bind: Bind) -> Condition:
    if key:
        compared = [f"pair.key = {bind(key)} AND ({_equals('pair.value', letters, bind)})" for letters in alternatives]
    else:
        compared = [f"{_equals('pair.key', letters, bind)} OR {_equals('pair.value', letters, bind)}" for letters in alternatives]
    exists = [f"(LENGTH(tags) > 2 AND EXISTS (SELECT 1 FROM {{tags}} WHERE {one}))" for one in compared]  # noqa: S608
    return replace(_either(exists, operator), has_tags=True)


def _feedback(key: str, operator: str, alternatives: list[Letters], bind: Bind) -> Condition:
    """What was said about the exchange itself, or about its session as a whole."""
    if not key:
        said = [_feedback_word(letters, bind) for letters in alternatives]
    else:
        name = bind(key)
        said = [f"told.name = {name} AND ({_feedback_value(key, operator, letters, bind)})" for letters in alternatives]
        operator = "!=" if operator == "!=" else ":"
    where = " OR ".join(one.join("()") for one in said).join("()")
    if operator not in (":", "=", "!="):
        raise FilterError(f"{operator} compares numbers, not text.", f"Write it like feedback.score{operator}0.5.")
    condition = _told(where)
    return condition.negated() if operator == "!=" else condition


def _feedback_word(letters: Letters, bind: Bind) -> str:
    either = f"{_equals('told.name', letters, bind)} OR {_equals('told.text', letters, bind)}"
    truth = _VERDICTS.get(plain(letters).lower())
    if truth is None:
        return either
    return f"{either} OR (told.name = {bind(DEFAULT_NAME)} AND {_is_boolean(truth)})"


def _is_boolean(truth: bool) -> str:
    return f"told.kind = 'boolean' AND told.value IS NOT NULL AND told.value = {int(truth)}"


def _feedback_value(key: str, operator: str, letters: Letters, bind: Bind) -> str:
    value = plain(letters)
    is_number = re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,15})?", value) is not None
    if operator in ("<", ">", "<=", ">="):
        if not is_number:
            raise FilterError(f"{value!r} is not a number for feedback.{key}.", f"Write it like feedback.{key}{operator}0.5.")
        return f"told.value IS NOT NULL AND told.value {operator} {bind(float(value))}"
    if letters == [("*", True)]:
        return "1 = 1"
    found = [_equals("told.text", letters, bind)]
    if is_number:
        found.append(f"(told.value IS NOT NULL AND told.value = {bind(float(value))})")
    truth = {**_TRUTHS, **_VERDICTS}.get(value.lower())
    if truth is not None:
        found.append(f"({_is_boolean(truth)})")
    return " OR ".join(found)


def _told(where: str) -> Condition:
    """Of what one person said under one name about the same thing, the newest counts."""
    of_exchange = (
        f"EXISTS (SELECT 1 FROM feedback AS told WHERE told.exchange_id = exchanges.id AND {where} AND NOT EXISTS "  # noqa: S608
        f"(SELECT 1 FROM feedback AS later WHERE later.exchange_id = told.exchange_id AND {_IS_LATER}))"
    )
    of_session = (
        f"EXISTS (SELECT 1 FROM feedback AS told WHERE told.exchange_id = '' AND "  # noqa: S608
        f"told.session_name = exchanges.session_name AND {where} AND NOT EXISTS (SELECT 1 FROM feedback AS later "
        f"WHERE later.session_name = told.session_name AND LENGTH(later.exchange_id) = 0 AND {_IS_LATER}))"
    )
    narrow = (
        "number IN (SELECT number FROM exchanges WHERE id IN "  # noqa: S608
        f"(SELECT told.exchange_id FROM feedback AS told WHERE {where}) "
        "UNION ALL SELECT number FROM exchanges WHERE session_name <> '' AND session_name IN "
        f"(SELECT told.session_name FROM feedback AS told WHERE told.exchange_id = '' AND {where}))"
    )
    return Condition(f"({of_exchange} OR (exchanges.session_name <> '' AND {of_session}))", narrow=narrow)


def _has(value: str) -> str:
    if value == "feedback":
        return _told("1 = 1").sql
    if value not in HAS:
        names = sorted((*HAS, "feedback"))
        close = difflib.get_close_matches(value.lower(), names, n=1, cutoff=0.5)
        raise FilterError(
            f"has: cannot ask for {value!r}.", f"Did you mean {close[0]}?" if close else f"Known: {', '.join(names)}."
        )
    return HAS[value]


def _time(name: str, operator: str, values: list[str], bind: Bind) -> Condition:
    if operator not in (":", "=") or len(values) != 1:
        raise FilterError(f"{name} takes one time, after a colon.", f"Write it like {name}:2d.")
    sql = f"started_us {'>=' if name == 'since' else '<='} {bind(_moment(name, values[0]))}"
    return Condition(sql, narrow=sql, is_time=True)


def _moment(name: str, value: str) -> int:
    match = re.fullmatch(r"([0-9]{1,9})(s|m|h|d|w)", value)
    if match is not None:
        return max(0, clock.now_us() - int(match[1]) * _DURATION_US[match[2]])
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise FilterError(f"{value!r} is not a time for {name}.", "Write it like 2d, 30m or 2026-01-31T12:00.") from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1_000_000)


def _truth(name: str, operator: str, values: list[str]) -> Condition:
    if operator not in (":", "=", "!="):
        raise FilterError(f"{operator} compares numbers, not yes and no.", f"Write {name}:yes or {name}:no.")
    value = values[0].lower()
    if len(values) != 1 or value not in _TRUTHS:
        raise FilterError(f"{','.join(values)!r} is neither yes nor no for {name}.", f"Write {name}:yes or {name}:no.")
    is_true = _TRUTHS[value] != (operator == "!=")
    if name == "stream":
        return Condition(f"is_stream = {int(is_true)}")
    return Condition(SUCCESS_SQL) if is_true else Condition(_FAILED_SQL, narrow=_FAILED_SQL, index="exchanges_failed")
