"""The filter language of lists, counts and exports: text in, a SQL condition with bound parameters out.

    task:triage status>=400 model:gpt-* -purpose:judge since:2d variant:candidate tag.team:search "could not"

Terms are joined by and; `-` negates; a comma means either (`state:timeout,truncated`); `*` stands for any text; quotes keep
spaces together; words without a field are looked for in the answer.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from capture import clock
from capture.errors import PotstillError

Value = str | int


class FilterError(PotstillError):
    """A filter cannot be understood."""


@dataclass(frozen=True, slots=True)
class Filter:
    """A parsed filter: `where` is a condition on table exchanges with the named parameters `params`; `text` is what was typed."""

    text: str
    where: str
    params: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the language, for help screens: what it means and what a value looks like."""

    name: str
    help: str
    example: str


_TEXT: Mapping[str, tuple[str, str, str]] = {
    "task": ("task", "name of the task", "task:triage"),
    "model": ("model_served", "model that answered, else the one asked for", "model:gpt-*"),
    "asked": ("model_asked", "model that the client asked for", "asked:gpt-4o"),
    "upstream": ("upstream", "who answered", "upstream:openai"),
    "variant": ("variant", "baseline or candidate", "variant:candidate"),
    "release": ("release_id", "release that answered", "release:rel_*"),
    "state": ("state", "how it ended", "state:truncated,timeout"),
    "purpose": ("purpose", "app, judge, relabel, shadow or eval", "-purpose:judge"),
    "user": ("user_name", "user tag", "user:u17"),
    "session": ("session_name", "session tag", "session:s1"),
    "unit": ("unit", "sticky unit", "unit:u17"),
    "environment": ("environment", "environment tag", "environment:prod"),
    "protocol": ("protocol", "openai, anthropic or raw", "protocol:anthropic"),
    "method": ("method", "HTTP method", "method:POST"),
    "path": ("path", "path of the request", "path:*/messages"),
    "finish": ("finish_reason", "the provider's finish reason", "finish:length"),
    "error": ("error_kind", "kind of error", "error:*"),
    "fallback": ("fallback_reason", "why the teacher stood in", "fallback:*"),
    "id": ("id", "id of the exchange", "id:ex_01*"),
    "input": ("input_hash", "content hash of what was asked", "input:b2:*"),
}
_NUMBER: Mapping[str, tuple[str, str, str]] = {
    "status": ("status", "HTTP status", "status>=400"),
    "latency": ("latency_us", "time to the last byte", "latency>2s"),
    "first_byte": ("first_byte_us", "time to the first byte", "first_byte>500ms"),
    "overhead": ("overhead_us", "time that Potstill added", "overhead>5ms"),
    "tokens_in": ("tokens_in", "prompt tokens", "tokens_in>1000"),
    "tokens_out": ("tokens_out", "answer tokens", "tokens_out<5"),
    "cost": ("cost_microusd", "cost in US dollars", "cost>0.01"),
    "redactions": ("redactions", "secrets taken out", "redactions>0"),
}
_OTHER: Mapping[str, tuple[str, str]] = {
    "since": ("not older than", "since:2d"),
    "until": ("not younger than", "until:2026-01-31"),
    "stream": ("streamed or not", "stream:yes"),
    "success": ("whole answer with status 2xx", "success:no"),
    "text": ("words in the answer", 'text:"could not"'),
}
FIELDS: tuple[Field, ...] = (
    *(Field(name, spec[1], spec[2]) for name, spec in {**_TEXT, **_NUMBER}.items()),
    *(Field(name, *spec) for name, spec in _OTHER.items()),
    Field("tag.<key>", "value of a tag", "tag.team:search"),
)
_ALIASES = {
    "env": "environment",
    "fallback_reason": "fallback",
    "user_name": "user",
    "session_name": "session",
    "release_id": "release",
}
_TERM = re.compile(
    r"""(?P<minus>-?)(?:(?P<field>[A-Za-z_]+(?:\.[^\s:<>=!"]+)?)(?P<op>>=|<=|!=|[:=<>]))?(?P<value>(?:"(?:[^"\\]|\\.)*"|[^\s"])+)"""
)
_DURATION_US = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
}
_SUCCESS = "(state = 'complete' AND status >= 200 AND status < 300)"


def parse_filter(text: str) -> Filter:
    """`text` in the filter language; empty text is everything. FilterError names the nearest field for an unknown one."""
    conditions: list[str] = []
    params: dict[str, Value] = {}
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        match = _TERM.match(text, position)
        if match is None:
            raise FilterError(f"The filter cannot be read from {text[position:]!r} on.", 'Close the quotes with ".')
        condition = _condition(match, _binder(params))
        conditions.append(f"NOT ({condition})" if match["minus"] else condition)
        position = match.end()
    return Filter(text.strip(), " AND ".join(conditions) or "1 = 1", params)


def quote(value: str) -> str:
    """`value` as one word of the language, so that `f"task:{quote(name)}"` is right for every name."""
    escaped = re.sub(r'([\\"*,])', r"\\\1", value)
    return f'"{escaped}"'


def _binder(params: dict[str, Value]) -> Callable[[Value], str]:
    def bind(value: Value) -> str:
        name = f"f{len(params)}"
        params[name] = value
        return f":{name}"

    return bind


def _condition(match: re.Match[str], bind: Callable[[Value], str]) -> str:
    if match["field"] is None:
        return _words(match["value"], bind)
    name, _, key = match["field"].partition(".")
    name = _ALIASES.get(name.lower(), name.lower())
    operator, values = match["op"], _split(match["value"])
    if name == "tag" and key:
        return _either([_tag(key, value, bind) for value in values], operator)
    if name in _TEXT:
        column = "COALESCE(NULLIF(model_served, ''), model_asked)" if name == "model" else _TEXT[name][0]
        return _either([_like(column, value, bind) for value in values], operator)
    if name in _NUMBER:
        return " OR ".join(_compare(name, operator, _plain(value), bind) for value in values).join("()")
    if name in ("since", "until"):
        moment = bind(_moment(name, _plain(values[0])))
        return f"started_us {'>=' if name == 'since' else '<='} {moment}"
    if name == "stream":
        return f"is_stream = {int(_truth(name, values[0]))}"
    if name == "success":
        return _SUCCESS if _truth(name, values[0]) else f"NOT {_SUCCESS}"
    if name == "text":
        return _words(match["value"], bind)
    close = difflib.get_close_matches(name, [field.name for field in FIELDS], n=1, cutoff=0.5)
    known = ", ".join(field.name for field in FIELDS)
    raise FilterError(
        f"Unknown field {match['field']!r} in the filter.", f"Did you mean {close[0]}?" if close else f"Known: {known}."
    )


def _split(value: str) -> list[list[tuple[str, bool]]]:
    """The alternatives of a value, each a list of letters with whether the letter may act as a wildcard."""
    alternatives: list[list[tuple[str, bool]]] = [[]]
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
            alternatives[-1].append((letter, True))
    return alternatives


def _plain(letters: list[tuple[str, bool]]) -> str:
    return "".join(letter for letter, _ in letters)


def _pattern(letters: list[tuple[str, bool]]) -> str:
    """`letters` as a LIKE pattern with escape character !."""
    return "".join("%" if may and letter == "*" else f"!{letter}" if letter in "%_!" else letter for letter, may in letters)


def _like(column: str, letters: list[tuple[str, bool]], bind: Callable[[Value], str]) -> str:
    if ("*", True) not in letters:
        return f"{column} = {bind(_plain(letters))}"
    condition = f"LOWER({column}) LIKE {bind(_pattern(letters).lower())} ESCAPE '!'"
    return f"({column} <> '' AND {condition})" if letters == [("*", True)] else condition


def _tag(key: str, letters: list[tuple[str, bool]], bind: Callable[[Value], str]) -> str:
    """Tags are compact JSON of text to text, so a pair is found by its spelling, alike in every store."""
    start = json.dumps(key, ensure_ascii=False) + ":"
    value = [(part, may) for letter, may in letters for part in json.dumps(letter, ensure_ascii=False)[1:-1]]
    around = [("%", True)], [('"', False)]
    pattern = "%" + _pattern([(c, False) for c in start] + around[1] + value + around[1]) + "%"
    return f"tags LIKE {bind(pattern)} ESCAPE '!'"


def _words(value: str, bind: Callable[[Value], str]) -> str:
    letters = [letter for alternative in _split(value) for letter in [*alternative, (",", False)]][:-1]
    return f"LOWER(output_text) LIKE {bind('%' + _pattern(letters).lower() + '%')} ESCAPE '!'"


def _either(conditions: list[str], operator: str) -> str:
    if operator not in (":", "=", "!="):
        raise FilterError(f"{operator} compares numbers, not text.", "Use : for text.")
    condition = " OR ".join(conditions).join("()")
    return f"NOT {condition}" if operator == "!=" else condition


def _compare(name: str, operator: str, value: str, bind: Callable[[Value], str]) -> str:
    column, _, example = _NUMBER[name]
    match = re.fullmatch(r"(-?\d+(?:\.\d+)?)(us|ms|s|m|h)?", value)
    is_time = column.endswith("_us")
    if match is None or (match[2] and not is_time):
        raise FilterError(f"{value!r} is not a number for {name}.", f"Write it like {example}.")
    factor = _DURATION_US[match[2] or "ms"] if is_time else 1_000_000 if name == "cost" else 1
    sign = {":": "=", "!=": "<>"}.get(operator, operator)
    return f"{column} {sign} {bind(round(float(match[1]) * factor))}"


def _moment(name: str, value: str) -> int:
    match = re.fullmatch(r"(\d+)(s|m|h|d|w)", value)
    if match is not None:
        return clock.now_us() - int(match[1]) * _DURATION_US[match[2]]
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise FilterError(f"{value!r} is not a time for {name}.", "Write it like 2d, 30m or 2026-01-31T12:00.") from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1_000_000)


def _truth(name: str, letters: list[tuple[str, bool]]) -> bool:
    value = _plain(letters).lower()
    if value not in ("yes", "no", "true", "false", "1", "0"):
        raise FilterError(f"{value!r} is neither yes nor no for {name}.", f"Write {name}:yes or {name}:no.")
    return value in ("yes", "true", "1")
