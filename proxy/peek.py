"""The relay's one look into a request body: who and what is asked for, without reading the messages.

A body that is not JSON, is nested too deep, or whose fields have unexpected types, is no error here: the upstream will say
what it thinks.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class _Fields(msgspec.Struct):
    model: object = None
    stream: object = None
    user: object = None
    safety_identifier: object = None
    conversation: object = None
    metadata: object = None
    prompt_cache_key: object = None
    litellm_session_id: object = None
    litellm_metadata: object = None
    tags: object = None


class Peek(msgspec.Struct, frozen=True):
    """What a body says about itself; text that is absent or not text is ''."""

    model: str = ""
    is_stream: bool = False
    user: str = ""
    conversation: str = ""
    metadata: Mapping[str, str] = {}
    session: str = ""
    cache_key: str = ""
    labels: tuple[str, ...] = ()
    """Tags without a value."""

    @property
    def names_somebody(self) -> bool:
        """True when it says more than what is asked of which model."""
        return bool(self.user or self.conversation or self.metadata or self.session or self.cache_key or self.labels)


_NOTHING = Peek()
_decode = msgspec.json.Decoder(_Fields).decode
_decode_whole = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def peek(body: bytes) -> Peek:
    """What `body` says about itself; nothing when it is not a JSON object."""
    if body[:1] != b"{" and not body[:64].lstrip().startswith(b"{"):
        return _NOTHING
    try:
        fields = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _NOTHING
    if fields == _Fields(fields.model, fields.stream):  # mostly nobody is named
        return Peek(_text(fields.model), fields.stream is True)
    metadata = fields.metadata if isinstance(fields.metadata, dict) else {}
    labels = _labels(fields.tags) + _labels(metadata.get("tags"))
    if isinstance(fields.litellm_metadata, dict):
        labels += _labels(fields.litellm_metadata.get("tags"))
        metadata = {**metadata, **fields.litellm_metadata}
    named = {key: value for key, value in metadata.items() if isinstance(value, str)}
    conversation = fields.conversation
    if isinstance(conversation, dict):
        conversation = conversation.get("id")
    user = _text(fields.user) or _text(fields.safety_identifier) or named.get("user_id", "")
    session, cache_key = _text(fields.litellm_session_id), _text(fields.prompt_cache_key)
    return Peek(_text(fields.model), fields.stream is True, user, _text(conversation), named, session, cache_key, labels)


def with_model(body: bytes, model: str) -> bytes:
    """`body` with its `model` replaced and every other value byte for byte as it was; ValueError when it is no object."""
    try:
        fields = _decode_whole(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"the body is not a JSON object: {error}") from error
    fields["model"] = msgspec.Raw(msgspec.json.encode(model))
    return msgspec.json.encode(fields)


def _labels(value: object) -> tuple[str, ...]:
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list) else ()


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
