"""Who asks, for which task: a pure function of headers, path and body, the same on every endpoint.

The most explicit source wins: our header, then the path prefix, then an alias that other products' users already send,
then the body. A malformed tag of ours is refused with the reason, never dropped; an empty one counts as absent. Aliases and
bodies belong to others, so what comes from them is cleaned and cut to size, or left out, and never refused.

A coding agent's session is the unit of its requests: a model may not change under a session that is at work.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import unquote

import msgspec

from capture.exchange import PURPOSES
from proxy.peek import Peek
from serve.flags import UNITS

PREFIX = "x-potstill-"
"""Our request and response headers; they never reach an upstream."""

_TASK, _USER, _SESSION, _ENVIRONMENT, _PURPOSE = "task", "user", "session", "environment", "purpose"
_STORE, _STORE_WORDS = "store", ("yes", "no")
_CONVERSATION, _TAG, _METADATA, _CSV, _UNKNOWN = "conversation", "tag", "metadata", "csv", "unknown"
_TRACE, _BAGGAGE, _AGENTS_USER = "trace", "baggage", "agents_user"
_OURS = (_TASK, _USER, _SESSION, _CONVERSATION, _ENVIRONMENT, _PURPOSE, _STORE)
_TAG_PREFIX = PREFIX + "tag-"

_ALIASES: Mapping[str, str] = {
    "helicone-prompt-id": _TASK,
    "helicone-user-id": _USER,
    "helicone-session-id": _SESSION,
    "helicone-session-name": _TAG,
    "helicone-session-path": _TAG,
    "x-litellm-customer-id": _USER,
    "x-litellm-end-user-id": _USER,
    "x-litellm-session-id": _SESSION,
    "x-litellm-trace-id": _SESSION,
    "x-litellm-tags": _CSV,
    "x-litellm-spend-logs-metadata": _METADATA,
    "x-portkey-trace-id": _SESSION,
    "x-portkey-metadata": _METADATA,
    "x-inference-task-id": _TASK,
    "x-inference-environment": _ENVIRONMENT,
    "langfuse-user-id": _USER,
    "langfuse-trace-user-id": _USER,
    "langfuse-session-id": _SESSION,
    "langfuse-environment": _ENVIRONMENT,
    "langfuse-tags": _CSV,
    "langfuse-metadata": _METADATA,
    "langfuse-trace-name": _TAG,
    "traceparent": _TRACE,
    "baggage": _BAGGAGE,
    "x-claude-code-session-id": _SESSION,
    "x-claude-code-agent-id": _TAG,
    "session-id": _SESSION,
    "x-openai-subagent": _TAG,
    "x-title": _TAG,
    "x-openrouter-title": _TAG,
}
"""With `-` for `_`. Those of Claude Code, Codex (session-id, x-openai-subagent) and Aider (x-title) are the providers' too."""
_TAG_NAMES: Mapping[str, str] = {
    "helicone-session-name": "session_name",
    "helicone-session-path": "session_path",
    "langfuse-trace-name": "trace_name",
    "x-claude-code-agent-id": "agent",
    "x-openai-subagent": "agent",
    "x-title": "app",
    "x-openrouter-title": "app",
}
_ALIAS_TAG_PREFIXES = ("helicone-property-", "x-inference-metadata-")
_ALIAS_FIELDS = {"_user": _USER, "_environment": _ENVIRONMENT, "_prompt": _TASK}
_CARRIED: Mapping[str, str] = {
    "langfuse_user_id": _USER,
    "user.id": _USER,
    "langfuse_session_id": _SESSION,
    "session.id": _SESSION,
    "langfuse_environment": _ENVIRONMENT,
    "gen_ai.conversation.id": _CONVERSATION,
}
"""Names in `baggage`, by Langfuse's SDKs and OpenTelemetry's conventions."""
_CARRIED_TAG = "langfuse_metadata_"
_IN_BODY: Mapping[str, str] = {
    "langfuse_user_id": _USER,
    "user.id": _USER,
    "langfuse_session_id": _SESSION,
    "session_id": _SESSION,
    "gen_ai.conversation.id": _CONVERSATION,
    "wandb.thread_id": _CONVERSATION,
    "prompt_id": _TASK,
}
"""Names in a body's `metadata` that say who asks; the other ones are tags."""

TASK_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_TAG_KEY = re.compile(r"[a-z0-9_][a-z0-9_.-]{0,63}")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_AGENT_USER = re.compile(r"(user_[0-9A-Za-z]+)_account_(.*)_session_([0-9A-Za-z-]+)")
_MAX_VALUE, _MAX_KEY, _MAX_TAGS, _MAX_BODY_TAGS = 512, 64, 64, 16


class BadTagError(ValueError):
    """A tag of the request is malformed; the text says which, how, and what would be right."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asked and what for; '' for what is unknown.

    `units` holds the sticky units that the request has, by kind: conversation, user, session. `trace_id` is the W3C trace
    that the request belongs to, 32 hex digits.
    """

    task: str = ""
    user: str = ""
    session: str = ""
    environment: str = ""
    purpose: str = PURPOSES[0]
    tags: Mapping[str, str] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    trace_id: str = ""

    @property
    def unit(self) -> tuple[str, str]:
        """The first sticky unit and its kind; ('', '') when the request has none."""
        for kind in UNITS:
            if value := self.units.get(kind, ""):
                return value, kind
        return "", ""


def identify(headers: Iterable[tuple[str, str]], path_task: str, peeked: Peek) -> Identity:
    """The identity of a request from its headers, the task of its path prefix and its body; BadTagError."""
    ours: dict[str, str] = {}
    aliases: dict[str, str] = {}
    tags: dict[str, str] = {}
    alias_tags: dict[str, str] = {}
    for name, raw in headers:
        rule = _rule(name)
        if rule is None or not (value := raw.strip()):
            continue
        is_ours, kind, key = rule
        if is_ours:
            _take_ours(name, kind, key, value, ours, tags)
        else:
            _take_alias(kind, key, value, aliases, alias_tags)
    if path_task:
        _check_task("the path prefix /task/", path_task)
    if len(tags) > _MAX_TAGS:
        raise BadTagError(f"the request has {len(tags)} tags; at most {_MAX_TAGS} are kept.")
    body, body_tags = _read_body(peeked)
    user = ours.get(_USER) or aliases.get(_USER) or body.get(_USER, "")
    session = ours.get(_SESSION) or aliases.get(_SESSION) or body.get(_SESSION, "")
    conversation = ours.get(_CONVERSATION) or aliases.get(_CONVERSATION) or body.get(_CONVERSATION, "")
    return Identity(
        task=ours.get(_TASK) or path_task or aliases.get(_TASK) or body.get(_TASK, ""),
        user=user or body.get(_AGENTS_USER, ""),
        session=session,
        environment=ours.get(_ENVIRONMENT) or aliases.get(_ENVIRONMENT, ""),
        purpose=ours.get(_PURPOSE, PURPOSES[0]),
        tags=_first_tags(tags, alias_tags, body_tags) if tags or alias_tags or body_tags else {},
        units={kind: unit for kind, unit in zip(UNITS, (conversation, user, session), strict=True) if unit},
        trace_id=aliases.get(_TRACE, ""),
    )


@lru_cache(1024)
def _rule(name: str) -> tuple[bool, str, str] | None:
    """(is it ours, which field, which tag key) of a header; None for a header that says nothing about identity."""
    name = name.lower()
    if name.startswith(_TAG_PREFIX):
        return True, _TAG, name.removeprefix(_TAG_PREFIX)
    if name.startswith(PREFIX):
        kind = name.removeprefix(PREFIX)
        return (True, kind, "") if kind in _OURS else (True, _UNKNOWN, name)
    known = name.replace("_", "-")
    if kind := _ALIASES.get(known, ""):
        return False, kind, _TAG_NAMES.get(known, "")
    for prefix in _ALIAS_TAG_PREFIXES:
        if name.startswith(prefix):
            return False, _TAG, name.removeprefix(prefix)
    return None


def _take_ours(name: str, kind: str, key: str, value: str, fields: dict[str, str], tags: dict[str, str]) -> None:
    if kind == _UNKNOWN:
        close = difflib.get_close_matches(name, [PREFIX + each for each in _OURS], n=1, cutoff=0.5)
        raise BadTagError(f"header {name} is unknown." + (f" Did you mean {close[0]}?" if close else ""))
    _check_value(name, value)
    if kind == _TAG:
        _check_key(name, key)
        fields, kind = tags, key
    elif kind == _TASK:
        _check_task(f"header {name}", value)
    elif kind == _PURPOSE and value not in PURPOSES:
        raise BadTagError(f"header {name} is {value!r}; it must be one of {', '.join(PURPOSES)}.")
    elif kind == _STORE and value not in _STORE_WORDS:
        raise BadTagError(f"header {name} is {value!r}; it must be {' or '.join(_STORE_WORDS)}.")
    if fields.setdefault(kind, value) != value:
        raise BadTagError(f"header {name} is given twice with different values.")


def _take_alias(kind: str, key: str, value: str, fields: dict[str, str], tags: dict[str, str]) -> None:
    if kind == _METADATA:
        for inner, text in _metadata(value).items():
            if field_name := _ALIAS_FIELDS.get(inner, ""):
                fields.setdefault(field_name, _slug(text) if field_name == _TASK else text)
            else:
                tags.setdefault(inner, text)
    elif kind == _CSV:
        tags.update(_labelled(value.split(",")))
    elif kind == _TRACE:
        if found := _TRACEPARENT.fullmatch(value):
            fields.setdefault(_TRACE, found[1])
    elif kind == _BAGGAGE:
        _take_baggage(value, fields, tags)
    elif kind == _TAG:
        if _TAG_KEY.fullmatch(key):
            tags.setdefault(key, _clean(value))
    else:
        fields.setdefault(kind, _slug(value) if kind == _TASK else _clean(value))


def _take_baggage(value: str, fields: dict[str, str], tags: dict[str, str]) -> None:
    for member in value.split(",")[:_MAX_TAGS]:
        key, _, given = member.partition(";")[0].partition("=")
        key, text = unquote(key.strip()), _clean(unquote(given.strip()))
        if not text:
            continue
        if field_name := _CARRIED.get(key, ""):
            fields.setdefault(field_name, text)
        elif key.startswith(_CARRIED_TAG) and _TAG_KEY.fullmatch(tag := key.removeprefix(_CARRIED_TAG).lower()):
            tags.setdefault(tag, text)


def _labelled(labels: Iterable[str]) -> dict[str, str]:
    """Tags without a value, as Langfuse and LiteLLM have them."""
    return {_slug(each.strip()).lower()[:_MAX_KEY]: "true" for each in labels if each.strip()}


def _metadata(value: str) -> dict[str, str]:
    """The JSON object of an alias header with usable names; empty when it is none."""
    try:
        given = msgspec.json.decode(value.encode(), type=dict[str, object])
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return {}
    texts = {key.lower(): each if isinstance(each, str) else msgspec.json.encode(each).decode() for key, each in given.items()}
    return {key: _clean(text) for key, text in texts.items() if _TAG_KEY.fullmatch(key)}


def _first_tags(*sources: Mapping[str, str]) -> dict[str, str]:
    """The tags of all sources; the first source wins, and the last ones lose what is beyond the most that is kept."""
    found: dict[str, str] = {}
    for source in sources:
        for key, value in source.items():
            if len(found) < _MAX_TAGS:
                found.setdefault(key, value)
    return found


def _read_body(peeked: Peek) -> tuple[dict[str, str], dict[str, str]]:
    """What the body says of who asks, and its tags."""
    fields: dict[str, str] = {}
    tags: dict[str, str] = {}
    for key, value in peeked.metadata.items():
        key = key.lower()
        if kind := _IN_BODY.get(key, ""):
            fields.setdefault(kind, _slug(value) if kind == _TASK else _clean(value))
        elif key != "user_id" and len(tags) < _MAX_BODY_TAGS and _TAG_KEY.fullmatch(key):
            tags[key] = _clean(value)
    if peeked.labels:
        tags = {**tags, **_labelled(peeked.labels[:_MAX_TAGS])}
    if peeked.user and not _take_agent(peeked.user, fields):
        fields[_USER] = _clean(peeked.user)
    if peeked.conversation:
        fields[_CONVERSATION] = _clean(peeked.conversation)
    if peeked.session:
        fields[_SESSION] = _clean(peeked.session)
    if peeked.cache_key:  # made for one session by Codex and others, for a whole app by most
        if _UUID.search(peeked.cache_key):
            fields.setdefault(_SESSION, _clean(peeked.cache_key))
        else:
            tags.setdefault("prompt_cache_key", _clean(peeked.cache_key))
    return fields, tags


def _take_agent(user: str, fields: dict[str, str]) -> bool:
    """Whether `user` is what Claude Code writes into metadata.user_id, which names account, device and session in one."""
    if user.startswith("user_") and (found := _AGENT_USER.fullmatch(user[:_MAX_VALUE])):
        device, account, session = found.groups()
    elif user.startswith("{"):
        given = _metadata(user)
        device, account, session = (given.get(name, "") for name in ("device_id", "account_uuid", "session_id"))
        if not session:
            return False
    else:
        return False
    fields[_AGENTS_USER] = _clean(account or device)
    fields.setdefault(_SESSION, _clean(session))
    return True


def _check_task(where: str, value: str) -> None:
    if not TASK_PATTERN.fullmatch(value):
        raise BadTagError(f"{where} is {value[:100]!r}; a task name has 1 to 100 of A-Z a-z 0-9 . _ - and no dot in front.")


def _check_key(where: str, key: str) -> None:
    if not _TAG_KEY.fullmatch(key):
        raise BadTagError(f"{where}: the tag's name must have 1 to 64 of a-z 0-9 . _ -")


def _check_value(where: str, value: str) -> None:
    if len(value) > _MAX_VALUE:
        raise BadTagError(f"{where} has {len(value)} characters; at most {_MAX_VALUE} are kept.")
    if not value.isprintable() and _UNPRINTABLE.search(value):
        raise BadTagError(f"{where} has control characters, or is not UTF-8.")


def _slug(value: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", value).strip("-.")[:100] or "_"


def _clean(value: str) -> str:
    return value if value.isprintable() and len(value) <= _MAX_VALUE else _UNPRINTABLE.sub("�", value)[:_MAX_VALUE]
