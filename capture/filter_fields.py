"""The fields of the filter language: what each means, where it stands in the store, and what help screens say of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from capture.exchange import BASELINE, CANDIDATE, CUT, KEPT, MASKED, OMITTED, PURPOSES, STATES
from capture.messages import ESTIMATED, MISSING, REPORTED


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the language, for help screens: what it means and what a value looks like."""

    name: str
    help: str
    example: str


@dataclass(frozen=True, slots=True)
class Column:
    """A field that compares one expression over table exchanges.

    `has_index`: an index answers the comparison alone. `words` are all values that there can be, where those are few.
    """

    sql: str
    help: str
    example: str
    has_index: bool = False
    words: tuple[str, ...] = ()
    is_optional: bool = False


MODEL_SQL = "COALESCE(NULLIF(model_served, ''), model_asked)"
SUCCESS_SQL = "(state = 'complete' AND status >= 200 AND status < 300)"

TEXT: Mapping[str, Column] = {
    "task": Column("task", "name of the task", "task:triage", has_index=True),
    "model": Column(MODEL_SQL, "model that answered, else the one asked for", "model:gpt-*", has_index=True),
    "asked": Column("model_asked", "model that the client asked for", "asked:gpt-4o"),
    "upstream": Column("upstream", "who answered", "upstream:openai"),
    "variant": Column("variant", "baseline or candidate", "variant:candidate", has_index=True, words=(BASELINE, CANDIDATE)),
    "release": Column("release_id", "release that answered", "release:rel_*"),
    "state": Column("state", "how it ended", "state:truncated,timeout", words=STATES),
    "purpose": Column("purpose", "app, judge, relabel, shadow or eval", "-purpose:judge", words=PURPOSES),
    "user": Column("user_name", "user tag", "user:u17", has_index=True),
    "session": Column("session_name", "session tag", "session:s1", has_index=True),
    "unit": Column("unit", "sticky unit", "unit:u17"),
    "environment": Column("environment", "environment tag", "environment:prod"),
    "protocol": Column("protocol", "openai, anthropic or raw", "protocol:anthropic"),
    "method": Column("method", "HTTP method", "method:POST"),
    "path": Column("path", "path of the request", "path:*/messages"),
    "query": Column("query", "query of the request's address", "query:*beta=true*"),
    "finish": Column("finish_reason", "the provider's finish reason", "finish:length"),
    "error": Column("error_kind", "kind of error", "error:*"),
    "fallback": Column("fallback_reason", "why the teacher stood in", "fallback:*"),
    "usage": Column("usage_source", "who counted the tokens", "usage:estimated", words=(REPORTED, ESTIMATED, MISSING)),
    "content": Column("content", "what is kept of the content", "content:omitted", words=(KEPT, OMITTED, CUT, MASKED)),
    "key": Column("key_id", "virtual key that the client used", "key:7h3k*", has_index=True),
    "trace": Column("trace_id", "W3C trace that the request belongs to", "trace:4bf92f35*", has_index=True),
    "id": Column("id", "id of the exchange", "id:ex_01*", has_index=True),
    "input": Column("input_hash", "content hash of what was asked", "input:b2:*"),
}
NUMBER: Mapping[str, Column] = {
    "status": Column("status", "HTTP status", "status>=400"),
    "latency": Column("latency_us", "time to the last byte", "latency>2s", has_index=True, is_optional=True),
    "first_byte": Column("first_byte_us", "time to the first byte", "first_byte>500ms", is_optional=True),
    "overhead": Column("overhead_us", "time that Potstill added", "overhead>5ms", is_optional=True),
    "tokens_in": Column("tokens_in", "prompt tokens", "tokens_in>1000", is_optional=True),
    "tokens_out": Column("tokens_out", "answer tokens", "tokens_out<5", is_optional=True),
    "tokens_cached": Column("tokens_cached", "prompt tokens read from a cache", "tokens_cached>0"),
    "tokens_cache_written": Column("tokens_cache_written", "prompt tokens put into a cache", "tokens_cache_written>0"),
    "tokens_reasoning": Column("tokens_reasoning", "answer tokens spent on reasoning", "tokens_reasoning>500"),
    "cost": Column("cost_microusd", "cost in US dollars", "cost>0.01", has_index=True, is_optional=True),
    "saved": Column("saved_microusd", "cost in US dollars that the response cache saved", "saved>0"),
    "bytes": Column("body_bytes", "size of both bodies", "bytes>100000"),
    "number": Column("number", "place in the order of storing", "number>1000"),
    "redactions": Column("redactions", "secrets taken out", "redactions>0"),
}
HAS: Mapping[str, str] = {
    "answer": "output_text <> ''",
    "cost": "cost_microusd IS NOT NULL",
    "error": "error_kind <> ''",
    "session": "session_name <> ''",
    "tags": "LENGTH(tags) > 2",
    "task": "task <> ''",
    "user": "user_name <> ''",
}
"""What `has:` can ask besides feedback."""

_OTHER: Mapping[str, tuple[str, str]] = {
    "since": ("not older than", "since:2d"),
    "until": ("not younger than", "until:2026-01-31"),
    "stream": ("streamed or not", "stream:yes"),
    "success": ("whole answer with status 2xx", "success:no"),
    "text": ("words in prompts and answers, as without a field", 'text:"could not"'),
    "answer": ("letters anywhere in the answer", 'answer:"{\\"id\\":"'),
    "tag": ("key or value of a tag", "-tag:internal"),
    "tag.<key>": ("value of a tag", "tag.team:search"),
    "has": (f"there is such a thing: {', '.join(sorted((*HAS, 'feedback')))}", "has:feedback"),
    "feedback": ("feedback: good, bad, a name or a category", "feedback:good"),
    "feedback.<name>": ("value of feedback", "feedback.helpful:yes"),
}
FIELDS: tuple[Field, ...] = (
    *(Field(name, column.help, column.example) for name, column in {**TEXT, **NUMBER}.items()),
    *(Field(name, *spec) for name, spec in _OTHER.items()),
)
ALIASES: Mapping[str, str] = {
    "env": "environment",
    "fallback_reason": "fallback",
    "user_name": "user",
    "session_name": "session",
    "release_id": "release",
    "usage_source": "usage",
    "cached": "tokens_cached",
    "reasoning": "tokens_reasoning",
}
